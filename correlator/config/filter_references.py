"""Opens a filter by what people write for one: a path of ours, or one of Fail2ban's with its options.

/etc/portward/filters/sshd.toml
/etc/fail2ban/filter.d/sshd.conf[mode=aggressive]
fail2ban:/etc/fail2ban/filter.d/sshd.conf[mode=aggressive]

What reads Fail2ban's files is imported where one is opened: most sites have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from correlator.config.filters import load_filter
from correlator.errors import Fault
from correlator.matching.filter_definition import FilterDefinition

if TYPE_CHECKING:
    from correlator.config.fail2ban.filter_file import Fail2banFilter

FAIL2BAN = "fail2ban:"
_OF_FAIL2BAN = (".conf", ".local")
_EXPECTED = "a path of a filter.d file, with options perhaps: /etc/fail2ban/filter.d/sshd.conf[mode=ddos]"


def is_path(reference: str) -> bool:
    """Whether a reference names a file, and not a filter on the shelf."""
    if reference.startswith(FAIL2BAN) or "/" in reference:
        return True
    return reference.partition("[")[0].endswith((*_OF_FAIL2BAN, ".toml"))


def open_filter(
    reference: str, options: Mapping[str, str] | None = None, *, is_journal: bool = False
) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter that a path means, or None with its faults; its name is the reference.

    `options` overrule the variables of a filter of ours, or the parameters of one of Fail2ban and those in
    the reference; `is_journal`: its lines come from the journal.
    """
    if reference.endswith(".toml") and not reference.startswith(FAIL2BAN):
        return load_filter(Path(reference), options=options or {})
    from correlator.config.fail2ban.filter_file import read_options
    from correlator.config.fail2ban.jail_file import JAIL_FILE
    from correlator.config.fail2ban.references import BadReferenceError, parse_reference

    try:
        parsed = parse_reference(reference.removeprefix(FAIL2BAN))
    except BadReferenceError as exc:
        return None, [Fault(reference, "filter", str(exc), _EXPECTED)]
    path = Path(parsed.name)
    if path.suffix not in _OF_FAIL2BAN:
        return None, [Fault(reference, "filter", parsed.name, _EXPECTED)]
    faults: list[Fault] = []
    if path.name == JAIL_FILE:
        return _open_of_jail(reference, path, parsed.parameters)
    parameters = {**parsed.parameters, **(options or {})}
    read = read_options(path.with_suffix(""), parameters, is_journal=is_journal, faults=faults)
    if read is None:
        return None, faults
    return _define(reference, read, faults)


def _open_of_jail(
    reference: str, path: Path, parameters: Mapping[str, str]
) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter of one jail, with the expressions that the jail itself has."""
    from correlator.config.fail2ban.jail_file import load_fail2ban

    name = parameters.get("jail", "")
    site = load_fail2ban(path.parent, only=name) if name else None
    faults = [] if site is None else list(site.faults)
    if site is None or not site.jails:
        expected = f"a jail of {path} that can be read, as in {FAIL2BAN}{path}[jail=sshd]"
        return None, faults or [Fault(reference, "filter", repr(name), expected)]
    return _define(reference, site.jails[0].filter_options, faults)


def _define(
    reference: str, read: Fail2banFilter, faults: list[Fault]
) -> tuple[FilterDefinition | None, list[Fault]]:
    from correlator.config.fail2ban.filter_file import define_filter
    from correlator.matching.patterns import PatternError
    from correlator.matching.whole_line_filters import run_filter

    definition = define_filter(reference, read, faults)
    if definition is None:
        return None, faults
    try:
        run_filter(definition)
    except PatternError as exc:
        return None, [Fault(definition.where, "regex", str(exc), "expressions that compile")]
    return definition, faults
