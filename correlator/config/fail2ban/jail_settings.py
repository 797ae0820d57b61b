"""Says what an installation of Fail2ban means in our own settings, and where that is less or other.

Each enabled jail becomes one of ours with the same logs, threshold, times and ignore list; its filter is read
from its own file, unmodified. A ban action that one of ours does as well is ours, any other is run as it is.
What has no place in our settings is a `Gap`, never dropped in silence.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field
from pathlib import Path

from correlator.config.fail2ban.bans import escalation, find_action, lets_in
from correlator.config.fail2ban.ignore_list import read_ignore_list
from correlator.config.fail2ban.jail_file import (
    JAIL_FILE,
    SHARED,
    Fail2banJail,
    Fail2banSite,
    is_true,
    load_fail2ban,
)
from correlator.config.fail2ban.references import Reference
from correlator.config.fail2ban.sections import SubstitutionError, load_sections
from correlator.config.fail2ban.times import parse_time
from correlator.config.gaps import Gap
from correlator.config.settings import SiteSettings, needs_table
from correlator.counting.jail_definition import JailDefinition
from correlator.errors import Fault
from correlator.lines.zones import find_zone
from correlator.model import SECOND, Micros
from correlator.settings import CorrelatorSettings, EnforcerSettings, Paths, ProbeSettings

PREFIX = "fail2ban:"
_SETTINGS_FILE = "fail2ban.conf"
"""Faults in jail.conf only take their jails out; where nothing can be read at all, this file is named."""
_DEFAULT_REMEMBER = JailDefinition(name="", where="", filters=()).remember
_RECIDIVE = "recidive"
"""The filter that reads Fail2ban's own log."""
_OF_OURS = {"asterisk": "asterisk", "mysqld-auth": "mysqld", "murmur": "murmur", "proftpd": "proftpd"}
"""By filters that what their services really wrote has fooled, ours of the same service; docs/fail2ban.md."""
_JAIL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_ACTIONS = 8
_ENCODINGS = frozenset({"", "auto", "utf-8", "utf8", "ascii"})
_ALL_PORTS = frozenset({"", "0:65535", "1:65535", "all", "any"})
_FIREWALLS = frozenset({"nftables", "iptables", "ipset", "ufw", "firewalld", "shorewall", "pf", "ipfw"})
_FAR: Micros = 365 * 86_400 * SECOND


@dataclass(slots=True)
class _Mapping:
    site: Fail2banSite
    gaps: list[Gap] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    widened: dict[str, list[str]] = field(default_factory=dict)
    """By action of ours, the jails that deny single ports with Fail2ban."""

    def gap(self, jail: Fail2banJail, option: str, note: str, *, is_lost: bool = True) -> None:
        """Note something that a jail asks for and does not get as it is."""
        self.gaps.append(Gap(jail.where, f"[{jail.name}] {option}", note, is_lost))


def load_fail2ban_settings(folder: Path) -> tuple[SiteSettings, tuple[Gap, ...], tuple[str, ...]]:
    """Read an installation; return settings that do what it does, what they cannot do, its disabled jails."""
    site = load_fail2ban(folder)
    if site is None:
        fault = Fault(
            str(folder / _SETTINGS_FILE), "file", "no such file", "an /etc/fail2ban with a jail.conf"
        )
        return _settings(folder / _SETTINGS_FILE, {}, (fault,), ()), (), ()
    mapping = _Mapping(site)
    remember = _remember(mapping)
    jails = {}
    for jail in site.jails:
        definition = _jail(mapping, jail, remember)
        if definition is not None:
            jails[definition.name] = definition
    for ours, names in mapping.widened.items():
        note = (
            f"{ours} denies all that a source sends, not single ports alone; in {', '.join(sorted({*names}))}"
        )
        mapping.gaps.append(Gap(str(folder / JAIL_FILE), "action", note, is_lost=False))
    if any(jail.options.get("usedns", "warn").strip().lower() in ("yes", "warn") for jail in site.jails):
        note = "names are never resolved: a failure whose line names no address is shown and not counted"
        mapping.gaps.append(Gap(str(folder / JAIL_FILE), "usedns", note, is_lost=False))
    faults = (*site.faults, *mapping.faults)
    watched = (*site.files, *mapping.files)
    return _settings(folder / _SETTINGS_FILE, jails, faults, watched), tuple(mapping.gaps), site.disabled


def _settings(
    where: Path, jails: dict[str, JailDefinition], faults: tuple[Fault, ...], watched: tuple[Path, ...]
) -> SiteSettings:
    paths = Paths()
    return SiteSettings(
        where=where,
        paths=paths,
        probe=ProbeSettings(paths=paths),
        enforcer=EnforcerSettings(paths=paths, is_enforcing=needs_table(jails)),
        correlator=CorrelatorSettings(paths=paths, is_blocking=bool(jails)),
        jails=jails,
        faults=faults,
        watched=watched,
    )


def _remember(mapping: _Mapping) -> Micros:
    """Return how long Fail2ban's database remembers a ban, which its increments need."""
    base = mapping.site.folder / "fail2ban"
    sections = load_sections(base, mapping.faults)
    text = ""
    if sections is not None:
        mapping.files += sections.files
        try:
            text = sections.read("Definition", "dbpurgeage", {}) or ""
        except SubstitutionError as exc:
            mapping.faults.append(Fault(sections.where, "dbpurgeage", str(exc), "a length of time"))
    return parse_time(text) or 86_400 * SECOND


def _jail(mapping: _Mapping, jail: Fail2banJail, remember: Micros) -> JailDefinition | None:
    options = jail.options
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", jail.name)[:64]
    if not _JAIL_NAME.fullmatch(name):
        mapping.gap(jail, "name", "no name for a jail of ours: letters, digits and `_.-`")
        return None
    if name != jail.name:
        mapping.gap(jail, "name", f"is {name} here", is_lost=False)
    ban = _time(mapping, jail, "bantime", 600 * SECOND)
    escalate, lost = escalation(options, ban)
    for text in lost:
        option, _, note = text.partition(": ")
        mapping.gap(jail, option, note)
    for option in ("ignorecommand", "logencoding"):
        _note_option(mapping, jail, option)
    ignored = read_ignore_list(options.get("ignoreip", ""))
    mapping.files += ignored.files
    for other in ignored.others:
        mapping.gap(jail, "ignoreip", f"{other[:80]!r} is no address, and names are never resolved")
    if not is_true(options.get("ignoreself", "true")):
        mapping.gap(jail, "ignoreself", "this host's own addresses are never blocked")
    is_recidive = jail.filter is not None and jail.filter.name == _RECIDIVE
    if is_recidive:
        note = "counts the decisions that we announce ourselves, by our filter `portward`"
        mapping.gap(jail, "filter", note, is_lost=False)
    if jail.filter is not None and (ours := _OF_OURS.get(jail.filter.name)):
        note = (
            f'believes lines that a stranger wrote into a user name; our own does not: filters = ["{ours}"]'
        )
        mapping.gap(jail, "filter", note, is_lost=False)
    if any(lets_in(reference) for reference in jail.actions):
        mapping.gap(jail, "action", "lets sources in and keeps all others out; we only ever deny")
        return None
    files = () if is_recidive else _files(mapping, jail)
    if files is None:
        return None
    return JailDefinition(
        name=name,
        where=jail.where,
        filters=("portward",) if is_recidive else (_filter(mapping, jail),),
        threshold=_threshold(mapping, jail),
        span=_time(mapping, jail, "findtime", 600 * SECOND),
        prefix6=128,
        block_for=None if ban < 0 else ban,
        escalate=escalate,
        remember=remember if escalate else _DEFAULT_REMEMBER,
        actions=_actions(mapping, jail),
        is_blocking=True,
        files=files,
        zone=_zone(mapping, jail),
        ignore=ignored.sources,
    )


def _time(mapping: _Mapping, jail: Fail2banJail, option: str, default: Micros) -> Micros:
    text = jail.options.get(option, "").strip()
    if not text:
        return default
    found = parse_time(text)
    if found is None or found == 0 or (found < 0 and option != "bantime"):
        key = f"[{jail.name}] {option}"
        mapping.faults.append(
            Fault(jail.where, key, repr(text[:40]), "a length of time such as 600, 10m or 1d12h")
        )
        return default
    return found


def _threshold(mapping: _Mapping, jail: Fail2banJail) -> int:
    text = jail.options.get("maxretry", "5").strip()
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 100_000:
        return int(text)
    key = f"[{jail.name}] maxretry"
    mapping.faults.append(Fault(jail.where, key, repr(text[:40]), "a number from 1 to 100000"))
    return 5


def _note_option(mapping: _Mapping, jail: Fail2banJail, option: str) -> None:
    text = jail.options.get(option, "").strip()
    if option == "ignorecommand" and text:
        mapping.gap(jail, option, "no program is asked whom to ignore; list the addresses in ignoreip")
    if option == "logencoding" and text.lower() not in _ENCODINGS:
        mapping.gap(jail, option, f"logs are read as UTF-8, not as {text[:40]}")


def _zone(mapping: _Mapping, jail: Fail2banJail) -> str:
    text = jail.options.get("logtimezone", "").strip()
    if text and find_zone(text) is None:
        key = f"[{jail.name}] logtimezone"
        mapping.faults.append(Fault(jail.where, key, repr(text[:40]), "a zone such as UTC or UTC+0100"))
        return ""
    return text


def _files(mapping: _Mapping, jail: Fail2banJail) -> tuple[str, ...] | None:
    """Return the logs of a jail; none where it reads the journal; None where it has nothing to read."""
    backend = jail.options.get("backend", "auto").strip().lower()
    if backend.startswith("systemd"):
        if "[" in backend:
            mapping.gap(jail, "backend", "the journal of this host is read, whatever its parameters say")
        return ()
    found = []
    for line in jail.options.get("logpath", "").splitlines():
        path, _, position = line.strip().rpartition(" ")
        if position not in ("head", "tail"):
            path = line.strip()
        if path.startswith("/"):
            found.append(path.strip())
        elif path:
            mapping.gap(jail, "logpath", f"{path[:80]!r} is no absolute path")
    if not found:
        mapping.gap(jail, "logpath", "nothing to read: neither a log nor the journal")
        return None
    has_journal = jail.filter_options.options.get("journalmatch", "").strip() != ""
    if backend == "auto" and has_journal and not any(glob.glob(path) for path in found):
        note = f"none of {', '.join(found)} is there: the journal is read, as newer Fail2ban does"
        mapping.gap(jail, "logpath", note, is_lost=False)
        return ()
    return tuple(dict.fromkeys(found))


def _filter(mapping: _Mapping, jail: Fail2banJail) -> str:
    """Return the reference to a jail's filter; through the jail where that says more than the filter."""
    if jail.filter is None or jail.has_own_options:
        return f"{PREFIX}{mapping.site.folder / JAIL_FILE}[jail={jail.name}]"
    base = mapping.site.folder
    path = (
        base / jail.filter.name if jail.filter.name.startswith("./") else base / "filter.d" / jail.filter.name
    )
    return PREFIX + spell_reference(Reference(f"{path}.conf", jail.filter.parameters))


def _actions(mapping: _Mapping, jail: Fail2banJail) -> tuple[str, ...]:
    """Return what a jail does to a source: our actions where they do the same, else its own."""
    found: dict[str, None] = {}
    for reference in jail.actions:
        ours = find_action(reference)
        if ours is None:
            _own_action(mapping, jail, reference, found)
            continue
        found[ours] = None
        ports = reference.parameters.get("port", "").replace(" ", "")
        if ours in _FIREWALLS and "allports" not in reference.name and ports not in _ALL_PORTS:
            mapping.widened.setdefault(ours, []).append(jail.name)
    if len(found) > _MOST_ACTIONS:
        mapping.gap(jail, "action", f"only the first {_MOST_ACTIONS} of {len(found)} actions")
    return tuple(found)[:_MOST_ACTIONS] or ("record",)


def _own_action(mapping: _Mapping, jail: Fail2banJail, reference: Reference, found: dict[str, None]) -> None:
    folder = mapping.site.folder / "action.d"
    if reference.name.endswith(".py") or (folder / f"{reference.name}.py").exists():
        note = "is written in Python for Fail2ban's own process, and cannot run elsewhere"
        mapping.gap(jail, f"action {reference.name}", note)
        return
    found[PREFIX + spell_reference(complete_action(reference, jail, folder))] = None


def complete_action(reference: Reference, jail: Fail2banJail, folder: Path) -> Reference:
    """Return an action's reference with its file, and with what it takes from its jail unasked.

    An option of the action that a jail has too, such as `logpath`, is the jail's.
    """
    sections = load_sections(folder / reference.name, [])
    own = () if sections is None else (*sections.names("Init"), *sections.names("Definition"))
    shared = {name: text for name in own if (text := jail.options.get(name)) is not None and name in SHARED}
    parameters = {"name": jail.name, **shared, **reference.parameters}
    return Reference(f"{folder / reference.name}.conf", parameters)


def spell_reference(reference: Reference) -> str:
    """Return a reference as it is written; raises ValueError for a value that no quotes can hold."""
    return reference.name + "".join(f"[{name}={_quote(text)}]" for name, text in reference.parameters.items())


def _quote(text: str) -> str:
    if re.fullmatch(r"[\w.:/@<>%+-]+", text):
        return text
    quote = '"' if '"' not in text else "'"
    if quote in text:
        raise ValueError(f"no quotes can hold {text[:60]!r}")
    return f"{quote}{text}{quote}"
