"""Reads jail.conf and all that belongs to it: each jail with its options, final, its filter and its actions.

What a jail says itself comes first, then [DEFAULT]; `%(known/x)s` is what its filter says. A jail whose
filter or actions cannot be read is left out and said; the others count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from correlator.config.fail2ban.filter_file import OPTIONS, Fail2banFilter, read_options
from correlator.config.fail2ban.references import (
    BadReferenceError,
    Reference,
    parse_reference,
    split_references,
)
from correlator.config.fail2ban.sections import Option, Sections, SubstitutionError, load_sections
from correlator.errors import Fault

JAIL_FILE = "jail.conf"
VERSION = "1.0.2"
"""Of the Fail2ban whose files we read: what `%(fail2ban_version)s` says."""
_TRUE = frozenset({"1", "on", "true", "yes"})
SHARED = (
    *("backend", "maxretry", "maxmatches", "findtime", "bantime", "ignorecommand", "ignoreself", "ignoreip"),
    *("logencoding", "logtimezone", "logpath", "usedns"),
)
"""Options of a jail that are put in the place of an action's own of the same name."""
_JAIL_OPTIONS = (
    *SHARED,
    *("bantime.increment", "bantime.factor", "bantime.formula", "bantime.multipliers", "bantime.maxtime"),
    *("bantime.rndtime", "bantime.overalljails"),
)


@dataclass(frozen=True, slots=True)
class Fail2banJail:
    """What is said of one jail, every `%(...)s` put in."""

    name: str
    where: str
    options: Mapping[str, str]
    """Those of `_JAIL_OPTIONS` that are said anywhere, as text."""
    filter: Reference | None
    """None: it has expressions of its own alone."""
    filter_options: Fail2banFilter
    """What the filter says, with the jail's own expressions in their place."""
    actions: tuple[Reference, ...]
    has_own_options: bool = False
    """Whether the jail itself says something in the place of what its filter says."""


@dataclass(frozen=True, slots=True)
class Fail2banSite:
    """An installation of Fail2ban, as its files describe it."""

    folder: Path
    jails: tuple[Fail2banJail, ...]
    disabled: tuple[str, ...]
    faults: tuple[Fault, ...]
    files: tuple[Path, ...]
    """What to watch: every file that was read, or would be if it were there."""


@dataclass(slots=True)
class _Reading:
    sections: Sections
    folder: Path
    faults: list[Fault]
    files: dict[Path, None] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)


def load_fail2ban(folder: Path, *, takes_disabled: bool = False, only: str = "") -> Fail2banSite | None:
    """Return what the files in a folder such as /etc/fail2ban say; None where there is no jail.conf.

    `only`: the one jail that is wanted, enabled or not.
    """
    faults: list[Fault] = []
    folder = folder.absolute()
    sections = load_sections(folder / "jail", faults)
    if sections is None:
        return None
    reading = _Reading(sections, folder, faults, dict.fromkeys(sections.files))
    jails = tuple(_jails(reading, takes_disabled=takes_disabled, only=only))
    return Fail2banSite(folder, jails, tuple(reading.disabled), tuple(faults), tuple(reading.files))


def is_true(text: str) -> bool:
    """Whether Fail2ban takes a text for yes."""
    return text.strip().lower() in _TRUE


def _jails(reading: _Reading, *, takes_disabled: bool, only: str) -> Iterator[Fail2banJail]:
    ready = {"fail2ban_version": VERSION, "fail2ban_confpath": str(reading.folder)}
    for name, text in ready.items():
        reading.sections.defaults.setdefault(name, Option(text.replace("%", "%%"), ""))
    for name in list(reading.sections.sections):
        if only and name != only:
            continue
        enabled = _option(reading, name, "enabled")
        if enabled is None and any(fault.key == f"[{name}] enabled" for fault in reading.faults):
            continue
        if not is_true(enabled or "") and not (takes_disabled or only):
            reading.disabled.append(name)
            continue
        jail = _jail(reading, name)
        if jail is not None:
            yield jail


def _jail(reading: _Reading, name: str) -> Fail2banJail | None:
    before = len(reading.faults)
    sections = reading.sections
    reference = _filter_reference(reading, name)
    backend = _option(reading, name, "backend") or "auto"
    if len(reading.faults) > before:
        return None
    read = Fail2banFilter(sections.where_is(name, "failregex"), {}, ())
    if reference is not None:
        found = read_options(
            _filter_base(reading.folder, reference.name),
            reference.parameters,
            is_journal=backend.strip().lower().startswith("systemd"),
            faults=reading.faults,
            jail={"enabled": "True", "backend": backend, "filter": _option(reading, name, "filter") or ""},
        )
        if found is None:
            return None
        read = found
        reading.files |= dict.fromkeys(found.files)
        _make_known(sections, name, read)
    own = {option: _option(reading, name, option) for option in OPTIONS if sections.has_own(name, option)}
    options = {
        option: text for option in _JAIL_OPTIONS if (text := _option(reading, name, option)) is not None
    }
    actions = tuple(_actions(reading, name))
    if len(reading.faults) > before:
        return None
    given = {option: text for option, text in own.items() if text is not None}
    return Fail2banJail(
        name=name,
        where=_where(sections, name),
        options=options,
        filter=reference,
        filter_options=Fail2banFilter(read.where, {**read.options, **given}, read.files),
        actions=actions,
        has_own_options=bool(given),
    )


def _where(sections: Sections, name: str) -> str:
    """Return the last file that says anything of a jail."""
    return next((option.where for option in reversed(sections.sections[name].values())), sections.where)


def _filter_reference(reading: _Reading, name: str) -> Reference | None:
    text = _option(reading, name, "filter")
    if not text or not text.strip():
        return None
    try:
        return parse_reference(text)
    except BadReferenceError as exc:
        where = reading.sections.where_is(name, "filter")
        reading.faults.append(Fault(where, f"[{name}] filter", str(exc), "NAME[option=value, ...]"))
        return None


def _filter_base(folder: Path, name: str) -> Path:
    """Return where a filter is; `./name` is a path of its own."""
    return folder / name if name.startswith("./") else folder / "filter.d" / name


def _make_known(sections: Sections, name: str, read: Fail2banFilter) -> None:
    """Let `%(known/x)s` in the jail mean what its filter says."""
    known = sections.known.setdefault(name, {})
    for option, text in read.options.items():
        known[option] = Option(text.replace("%", "%%"), read.where)


def _actions(reading: _Reading, name: str) -> Iterator[Reference]:
    text = _option(reading, name, "action")
    try:
        yield from split_references(text or "")
    except BadReferenceError as exc:
        where = reading.sections.where_is(name, "action")
        reading.faults.append(Fault(where, f"[{name}] action", str(exc), "NAME[option=value, ...] ..."))


def _option(reading: _Reading, section: str, option: str) -> str | None:
    try:
        return reading.sections.read(section, option, {})
    except SubstitutionError as exc:
        where = reading.sections.where_is(section, option)
        reading.faults.append(
            Fault(where, f"[{section}] {option}", str(exc), "a value that can be put together")
        )
        return None
