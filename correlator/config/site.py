"""Reads a site's whole configuration: portward.toml, jails.d, the filters of the vendor and of the site.

`load_site` always returns what can be run beside all the faults it found: a fault in portward.toml
should stop a start, one in a filter or a jail only takes that filter or jail out (`is_fatal`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from correlator.config.definitions import load_filter, read_jail
from correlator.config.reader import File, Table
from correlator.errors import Fault
from correlator.engine import Engine
from correlator.filters import Filter, FilterDefinition
from correlator.jails import Jail, JailDefinition
from correlator.model import SECOND, Source
from correlator.settings import CorrelatorSettings, EnforcerSettings, Paths, ProbeSettings

ETC = Path("/etc/portward")
SETTINGS_FILE = "portward.toml"
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Site:
    """The effective configuration, and what is wrong with it."""

    where: Path
    """The settings file that was read."""
    paths: Paths
    probe: ProbeSettings
    enforcer: EnforcerSettings
    correlator: CorrelatorSettings
    filters: dict[str, FilterDefinition]
    jails: dict[str, JailDefinition]
    faults: tuple[Fault, ...]

    @property
    def fatal(self) -> tuple[Fault, ...]:
        """The faults that should stop a start: those in the settings file itself."""
        return tuple(fault for fault in self.faults if fault.where.startswith(str(self.where)))


def vendor_folder(kind: str) -> Path:
    """Return where Portward's own `filters` or `actions` are: in a checkout, a wheel, or Debian's package."""
    candidates = (
        _PACKAGE.parent / kind,
        Path(sys.prefix) / "share/portward" / kind,
        Path("/usr/share/portward") / kind,
    )
    return next((folder for folder in candidates if folder.is_dir()), candidates[-1])


def settings_file(folder: Path | None) -> Path:
    """Return the settings file of `folder`, else of /etc/portward, else the one we ship."""
    if folder is not None:
        return folder / SETTINGS_FILE
    etc = ETC / SETTINGS_FILE
    return etc if etc.exists() else Path(__file__).with_name(SETTINGS_FILE)


def load_site(folder: Path | None = None, *, mode: str | None = None) -> Site:
    """Read everything below `folder`; `mode` (`observe` or `block`) overrules what the files say."""
    where = settings_file(folder)
    faults: list[Fault] = []
    table = File(where, faults).table()
    written_mode = table.text("mode", "observe", choices=("observe", "block"))
    is_blocking = (mode or written_mode) == "block"
    paths = _paths(table.table("paths"), where.parent)
    probe = _probe(table.table("probe"), paths)
    enforcer = _enforcer(table.table("enforcer"), paths)
    correlator = _correlator(table.table("correlator"), paths)
    jail_tables = table.named_tables("jail")
    table.finish()
    for path in sorted((where.parent / "jails.d").glob("*.toml")):
        more = File(path, faults).table()
        jail_tables |= more.named_tables("jail")
        more.finish()
    jails = {
        name: read_jail(name, jail_table, is_blocking=is_blocking) for name, jail_table in jail_tables.items()
    }
    if mode is not None:
        jails = {name: replace(jail, is_blocking=is_blocking) for name, jail in jails.items()}
    filters = _filters(where.parent / "filters", jails, paths, faults)
    jails = _sound_jails(jails, filters, faults)
    return Site(
        where=where,
        paths=paths,
        probe=probe,
        enforcer=replace(enforcer, is_enforcing=any(jail.is_blocking for jail in jails.values())),
        correlator=replace(correlator, is_blocking=is_blocking),
        filters=filters,
        jails=jails,
        faults=tuple(faults),
    )


def build_engine(site: Site, *, ignored_by: Callable[[Source], str | None]) -> Engine:
    """Return an engine with this site's filters and jails, each file routed to the filters that read it."""
    routes: dict[str, list[str]] = {}
    for name, definition in site.filters.items():
        for file in definition.files:
            routes.setdefault(file, []).append(name)
    return Engine(
        [Filter(definition, timeout=site.correlator.pattern_timeout) for definition in site.filters.values()],
        [Jail(jail, max_sources=site.correlator.max_sources) for jail in site.jails.values()],
        routes=routes,
        ignored_by=ignored_by,
        max_line=site.correlator.max_line,
    )


def _paths(table: Table, folder: Path) -> Paths:
    default = Paths()
    state = table.path_at("state", default.state)
    found = Paths(
        alert_log=table.path_at("alert_log", default.alert_log),
        state=state,
        run=table.path_at("run", default.run),
        history=table.path_at("history", state / "portward.history"),
        blocked=table.path_at("blocked", state / "portward.blocked"),
        ignore=table.path_at(
            "ignore", ETC / "portward.ignore" if folder == _PACKAGE / "config" else folder / "portward.ignore"
        ),
        syslog=table.path_at("syslog", default.syslog),
    )
    table.finish()
    return found


def _probe(table: Table, paths: Paths) -> ProbeSettings:
    default = ProbeSettings()
    found = ProbeSettings(
        paths=paths,
        tcp_ports=table.ports("tcp_ports", default.tcp_ports),
        udp_ports=table.ports("udp_ports", default.udp_ports),
        exclude_tcp=_port_set(table, "exclude_tcp", default.exclude_tcp),
        exclude_udp=_port_set(table, "exclude_udp", default.exclude_udp),
        lines_a_second=table.number("lines_a_second", default.lines_a_second, least=1, most=1_000_000),
        linger=table.duration("linger", default.linger, least=0),
        to_syslog=table.truth("syslog", default=default.to_syslog),
    )
    table.finish()
    return found


def _port_set(table: Table, key: str, default: frozenset[int]) -> frozenset[int]:
    if not table.has(key):
        return default
    return frozenset(port for low, high in table.ports(key, ()) for port in range(low, high + 1))


def _enforcer(table: Table, paths: Paths) -> EnforcerSettings:
    default = EnforcerSettings()
    found = EnforcerSettings(
        paths=paths,
        allowed_users=frozenset(table.texts("allowed_users", tuple(default.allowed_users))),
        never_block=table.sources("never_block"),
        sync_every=table.duration("sync_every", default.sync_every, least=SECOND),
    )
    table.finish()
    return found


def _correlator(table: Table, paths: Paths) -> CorrelatorSettings:
    default = CorrelatorSettings()
    found = CorrelatorSettings(
        paths=paths,
        max_sources=table.number("max_sources", default.max_sources, least=1, most=10_000_000),
        max_line=table.number("max_line", default.max_line, least=256, most=1 << 20),
        pattern_timeout=table.duration("pattern_timeout", default.pattern_timeout),
    )
    table.finish()
    return found


def _filters(
    site_folder: Path, jails: dict[str, JailDefinition], paths: Paths, faults: list[Fault]
) -> dict[str, FilterDefinition]:
    """Load the filters that any jail names; a site's file of the same name wins whole."""
    found: dict[str, FilterDefinition] = {}
    vendor = vendor_folder("filters")
    for name in sorted({name for jail in jails.values() for name in jail.filters}):
        path = next(
            (
                folder / f"{name}.toml"
                for folder in (site_folder, vendor)
                if (folder / f"{name}.toml").exists()
            ),
            None,
        )
        if path is None:
            continue
        definition, wrong = load_filter(path, alert_log=paths.alert_log)
        faults += wrong
        if definition is not None:
            found[name] = definition
    return found


def _sound_jails(
    jails: dict[str, JailDefinition], filters: dict[str, FilterDefinition], faults: list[Fault]
) -> dict[str, JailDefinition]:
    """Return the jails that can run; a filter or action that is not there is a fault of the jail."""
    known_filters = sorted(path.stem for path in vendor_folder("filters").glob("*.toml"))
    known_actions = sorted(path.stem for path in vendor_folder("actions").glob("*.toml"))
    sound = {}
    for name, jail in jails.items():
        present = tuple(filter_ for filter_ in jail.filters if filter_ in filters)
        for filter_ in sorted(set(jail.filters) - set(present)):
            faults.append(
                Fault(
                    jail.where,
                    f"jail.{name}.filters",
                    f"{filter_!r}, which is not there or has faults",
                    "one of " + ", ".join(sorted({*known_filters, *filters})),
                )
            )
        for action in sorted(set(jail.actions) - set(known_actions)):
            faults.append(
                Fault(jail.where, f"jail.{name}.actions", repr(action), "one of " + ", ".join(known_actions))
            )
        if present:
            sound[name] = replace(jail, filters=present)
    return sound
