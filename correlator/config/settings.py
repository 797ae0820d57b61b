"""Reads portward.toml and jails.d: what each process is told, and the jails; no filter is looked at.

All three processes start with this, and the probe and the enforcer with no more: it imports nothing that
matches lines. Every fault is noted, none stops the reading.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from correlator.actions import ActionDefinition
from correlator.config.jails import is_jail_name, read_jail
from correlator.config.reader import File, Table, parse_ports
from correlator.config.tripwire import fit_tripwire, read_tripwire
from correlator.config.vendor import ETC, settings_file
from correlator.counting.jail_definition import JailDefinition
from correlator.errors import Fault
from correlator.model import SECOND
from correlator.settings import (
    ECHOES,
    HIGHEST_TRIGGER,
    LONGEST_BANNER,
    PROBE_MODES,
    CorrelatorSettings,
    EnforcerSettings,
    Paths,
    ProbeSettings,
)

_MOST_GROUPS = 16
Recommend = Callable[[str], Mapping[str, Any]]
"""What a filter recommends for a jail of its name; raises UnknownFilterError where there is none."""
_MOST_INTERFACES = 256
_LONGEST_LINGER = 86_400 * SECOND
_NOWHERE = Path()
_INTERFACE = re.compile(r"[!-.0-~]{1,15}")  # dev_valid_name of the kernel: no slash, no space


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What the settings files say, and what is wrong with them."""

    where: Path
    """The settings file that was read."""
    paths: Paths
    probe: ProbeSettings
    enforcer: EnforcerSettings
    correlator: CorrelatorSettings
    jails: dict[str, JailDefinition]
    faults: tuple[Fault, ...]
    actions: Mapping[str, ActionDefinition] = field(default_factory=dict)
    """Those that the settings files define themselves."""
    watched: tuple[Path, ...] = ()
    """Foreign files that this was made from: when one changes, it is read anew."""
    notes: tuple[str, ...] = ()
    """What is not done, or done otherwise than a foreign file asks for; no faults."""

    @property
    def fatal(self) -> tuple[Fault, ...]:
        """The faults that should stop a start: those in the settings file itself."""
        return tuple(fault for fault in self.faults if fault.where.startswith(str(self.where)))

    def in_mode(self, mode: str) -> SiteSettings:
        """Return the same with every jail observing, or every jail blocking."""
        is_blocking = mode == "block"
        jails = {name: replace(jail, is_blocking=is_blocking) for name, jail in self.jails.items()}
        return replace(
            self,
            enforcer=replace(
                self.enforcer,
                is_enforcing=needs_table(jails),
                tripwire=fit_tripwire(self.enforcer.tripwire, self.probe, jails),
            ),
            correlator=replace(self.correlator, is_blocking=is_blocking),
            jails=jails,
        )


def needs_table(jails: Mapping[str, JailDefinition]) -> bool:
    """True where any of these jails has the kernel deny somebody."""
    return any(jail.is_blocking and "nftables" in jail.actions for jail in jails.values())


def is_fail2ban(folder: Path) -> bool:
    """Whether a folder holds Fail2ban's configuration."""
    # a folder that keeps us out is none: who reads its settings says so, with the file's name
    return any(os.path.isfile(folder / name) for name in ("jail.conf", "jail.local"))


class UnknownFilterError(ValueError):
    """There is no filter of that name; says which there are."""


def load_settings(
    folder: Path | None = None,
    *,
    mode: str | None = None,
    probe_modes: tuple[str, ...] | None = None,
    recommend: Recommend | None = None,
    instead: Path | None = None,
) -> SiteSettings:
    """Read everything below `folder` but filters; `mode` (`observe`, `block`) overrules the files.

    So do `probe_modes`, for what the probe watches.
    Without `recommend` the jails that `enabled` names have our defaults instead of their filters': who only
    asks whether anything blocks need not read them. In the place of a folder a portsentry.conf may be given,
    or Fail2ban's folder: they are run as they stand. `instead` is read in the place of the folder's own
    portward.toml.
    """
    if folder is not None and folder.is_file():
        from correlator.config.portsentry_settings import load_portsentry

        _conf, settings, gaps = load_portsentry(folder, modes=probe_modes)
        settings = replace(settings, notes=tuple(map(str, gaps)))
        return settings if mode is None else settings.in_mode(mode)
    below = settings_file(folder).parent
    where = instead or settings_file(folder)
    if folder is not None and not os.path.exists(where) and is_fail2ban(folder):
        from correlator.config.fail2ban.jail_settings import load_fail2ban_settings

        settings, gaps, _disabled = load_fail2ban_settings(folder)
        settings = replace(settings, notes=tuple(map(str, gaps)))
        return settings if mode is None else settings.in_mode(mode)
    faults: list[Fault] = []
    table = File(where, faults).table()
    written_mode = table.text("mode", "observe", choices=("observe", "block"))
    is_blocking = (mode or written_mode) == "block"
    paths = _paths(table.table("paths"), below)
    probe = _probe(table.table("probe"), paths, probe_modes)
    enforcer = _enforcer(table.table("enforcer"), paths)
    correlator = _correlator(table.table("correlator"), paths)
    tripwire = read_tripwire(table.table("tripwire"))
    files = [table, *(File(path, faults).table() for path in _jail_files(below / "jails.d", faults))]
    foreign = _foreign(table, is_blocking=is_blocking)
    own_jails = _jails(files, is_blocking=is_blocking, recommend=recommend or (lambda _name: {}))
    jails = {**foreign.jails, **own_jails} if foreign else own_jails
    actions = _actions(files)
    for file_table in files:
        file_table.finish()
    settings = SiteSettings(
        where=where,
        paths=paths,
        probe=probe,
        enforcer=replace(
            enforcer, is_enforcing=needs_table(jails), tripwire=fit_tripwire(tripwire, probe, jails)
        ),
        correlator=replace(correlator, is_blocking=is_blocking),
        jails=jails,
        faults=(*faults, *(foreign.faults if foreign else ())),
        actions=actions,
        watched=foreign.watched if foreign else (),
        notes=foreign.notes if foreign else (),
    )
    return settings if mode is None else settings.in_mode(mode)


def _foreign(table: Table, *, is_blocking: bool) -> SiteSettings | None:
    """Return what Fail2ban's folder means that the settings name, its jails in this site's mode."""
    folder = table.path_at("fail2ban", _NOWHERE)
    if folder == _NOWHERE:
        return None
    from correlator.config.fail2ban.jail_settings import load_fail2ban_settings

    settings, gaps, _disabled = load_fail2ban_settings(folder)
    settings = replace(settings, notes=tuple(map(str, gaps)))
    return settings if is_blocking else settings.in_mode("observe")


def _jails(files: list[Table], *, is_blocking: bool, recommend: Recommend) -> dict[str, JailDefinition]:
    """Return the jails of all files: the tables `[jail.NAME]`, and one for each filter in `enabled`.

    An enabled jail is the filter's recommendation, overlaid key by key with a `[jail.NAME]` table.
    """
    tables: dict[str, Table] = {}
    enabled: dict[str, Table] = {}
    for file_table in files:
        enabled |= dict.fromkeys(file_table.texts("enabled"), file_table)
        tables |= file_table.named_tables("jail")
    for name, file_table in enabled.items():
        try:
            recommended = recommend(name)
        except UnknownFilterError as exc:
            file_table.fault("enabled", name, str(exc))
            continue
        own = tables.get(name) or Table(file_table.file, f"jail.{name}", {})
        tables[name] = own.over({**recommended, "filters": [name]})
    return {
        name: read_jail(name, table, is_blocking=is_blocking)
        for name, table in tables.items()
        if is_jail_name(name, table)
    }


def _actions(files: list[Table]) -> dict[str, ActionDefinition]:
    """Return the actions of the tables `[action.NAME]`, read only where there are any."""
    tables: dict[str, Table] = {}
    for file_table in files:
        tables |= file_table.named_tables("action")
    if not tables:
        return {}
    from correlator.config.actions import faults_of_owner, read_action

    for file in {table.file.path: table.file for table in tables.values()}.values():
        file.faults += faults_of_owner(file.path)
    actions = {name: read_action(name, table) for name, table in tables.items()}
    for table in tables.values():
        table.finish()
    return actions


def _jail_files(folder: Path, faults: list[Fault]) -> list[Path]:
    """Return the files of jails.d; one that may not be read is a fault, one that is not there is none."""
    if not os.path.lexists(folder):
        return []
    try:
        names = sorted(os.listdir(folder))
    except OSError as exc:
        faults.append(Fault(str(folder), "folder", exc.strerror or str(exc), "a folder we may read"))
        return []
    return [folder / name for name in names if name.endswith(".toml")]


def _paths(table: Table, folder: Path) -> Paths:
    default = Paths()
    state = table.path_at("state", default.state)
    alert_log = table.path_at("alert_log", default.alert_log)
    found = Paths(
        alert_log=alert_log,
        packet_log=table.path_at("packet_log", alert_log.with_name(default.packet_log.name)),
        state=state,
        run=table.path_at("run", default.run),
        history=table.path_at("history", state / "portward.history"),
        blocked=table.path_at("blocked", state / "portward.blocked"),
        ignore=table.path_at(
            "ignore", (ETC if folder == Path(__file__).parent else folder) / "portward.ignore"
        ),
        syslog=table.path_at("syslog", default.syslog),
    )
    table.finish()
    return found


def _probe(table: Table, paths: Paths, modes: tuple[str, ...] | None) -> ProbeSettings:
    default = ProbeSettings()
    written = _modes(table, default.modes)
    found = ProbeSettings(
        paths=paths,
        modes=modes or written,
        tcp_ports=table.ports("tcp_ports", default.tcp_ports),
        udp_ports=table.ports("udp_ports", default.udp_ports),
        exclude_tcp=_port_list(table, "exclude_tcp", default.exclude_tcp),
        exclude_udp=_port_list(table, "exclude_udp", default.exclude_udp),
        tcp_list=_port_list(table, "tcp_list", default.tcp_list),
        udp_list=_port_list(table, "udp_list", default.udp_list),
        interfaces=_interfaces(table, default.interfaces),
        banner=_banner(table, default.banner),
        hidden_scans=table.truth("hidden_scans", default=default.hidden_scans),
        compat=table.truth("compat", default=default.compat),
        scan_trigger=table.number("scan_trigger", default.scan_trigger, least=0, most=HIGHEST_TRIGGER),
        resolve_names=table.truth("resolve_names", default=default.resolve_names),
        nflog=_groups(table),
        lines_a_second=table.number("lines_a_second", default.lines_a_second, least=1, most=1_000_000),
        linger=table.duration("linger", default.linger, least=0, most=_LONGEST_LINGER),
        to_syslog=table.truth("syslog", default=default.to_syslog),
        echo=table.text("echo", default.echo, choices=ECHOES),
    )
    for mode in found.modes:
        key = f"{mode[-3:]}_ports" if mode.startswith("a") else f"{mode[-3:]}_list"
        if not getattr(found, key):
            table.fault(key, "no ports", f"ports, which mode {mode} needs")
    table.finish()
    return found


def _modes(table: Table, default: tuple[str, ...]) -> tuple[str, ...]:
    modes = table.texts("modes", default)
    if not modes or not set(modes) <= set(PROBE_MODES):
        table.fault("modes", list(modes), "one or more of " + ", ".join(map(repr, PROBE_MODES)))
        return default
    return tuple(dict.fromkeys(modes))


def _groups(table: Table) -> tuple[int, ...]:
    """Return the groups that packets are logged to, each once."""
    written = table.any_value("nflog")
    found = parse_ports([] if written is None else written)
    if found is None or not isinstance(written, list | None) or len(found) > _MOST_GROUPS:
        table.fault("nflog", written, f"up to {_MOST_GROUPS} groups from 0 to 65535, such as [5]")
        return ()
    if any(low != high for low, high in found):
        table.fault("nflog", written, "single groups, such as [5, 6]")
        return ()
    return tuple(dict.fromkeys(low for low, _high in found))


def _interfaces(table: Table, default: tuple[str, ...]) -> tuple[str, ...]:
    names = table.texts("interfaces", default)
    if len(names) > _MOST_INTERFACES or not all(_INTERFACE.fullmatch(name) for name in names):
        expected = f"at most {_MOST_INTERFACES} names of devices, of 1 to 15 bytes, such as eth0"
        table.fault("interfaces", list(names), expected)
        return default
    return names


def _banner(table: Table, default: str) -> str:
    banner = table.text("banner", default)
    if len(banner.encode()) > LONGEST_BANNER:
        table.fault("banner", banner, f"text of at most {LONGEST_BANNER} bytes")
        return default
    return banner


def _port_list(table: Table, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return single ports in the order in which they stand; the start lines follow it."""
    ranges = table.ports(key, tuple((port, port) for port in default))
    return tuple(port for low, high in ranges for port in range(low, high + 1))


def _enforcer(table: Table, paths: Paths) -> EnforcerSettings:
    default = EnforcerSettings()
    found = EnforcerSettings(
        paths=paths,
        allowed_users=frozenset(table.texts("allowed_users", tuple(default.allowed_users))),
        never_block=table.sources("never_block"),
        widest_prefix4=table.number("widest_prefix4", default.widest_prefix4, least=1, most=32),
        widest_prefix6=table.number("widest_prefix6", default.widest_prefix6, least=1, most=128),
        sync_every=table.duration("sync_every", default.sync_every, least=SECOND),
        blocked_modes=_blocked_modes(table),
    )
    table.finish()
    return found


def _blocked_modes(table: Table) -> tuple[str, ...]:
    modes = table.texts("blocked_modes")
    if not set(modes) <= set(PROBE_MODES):
        table.fault("blocked_modes", list(modes), "some of " + ", ".join(map(repr, PROBE_MODES)))
        return ()
    return modes


def _journal(table: Table) -> tuple[bool, Path | None]:
    """Return whether the journal shall be read, and in which folder; None: this host's own."""
    text = table.text("journal", "auto")
    if text not in ("auto", "off") and not text.startswith("/"):
        table.fault("journal", text, '"auto", "off", or the absolute path of a folder')
        return True, None
    return text != "off", Path(text) if text.startswith("/") else None


def _correlator(table: Table, paths: Paths) -> CorrelatorSettings:
    default = CorrelatorSettings()
    follows_journal, journal_folder = _journal(table)
    found = CorrelatorSettings(
        paths=paths,
        follows_journal=follows_journal,
        journal_folder=journal_folder,
        max_sources=table.number("max_sources", default.max_sources, least=1, most=10_000_000),
        max_line=table.number("max_line", default.max_line, least=256, most=1 << 20),
        pattern_timeout=table.duration("pattern_timeout", default.pattern_timeout),
        response_lines=table.truth("response_lines", default=default.response_lines),
    )
    table.finish()
    return found
