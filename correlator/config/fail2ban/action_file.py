"""Reads an action of Fail2ban, an action.d file with its parameters, into our own frozen definition.

Its commands are shell scripts and stay what they are. What is known of a block when they run, an address or
a number, is put into them as our tokens; text that a stranger chose never is: it waits in a variable of the
environment, `$f2bV_matches`, in quotes wherever the script has none. Python actions are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from correlator.actions import ActionDefinition, Commands
from correlator.config.fail2ban.references import Reference
from correlator.config.fail2ban.resolver import Resolver
from correlator.config.fail2ban.sections import load_sections
from correlator.config.fail2ban.times import parse_time
from correlator.errors import Fault
from correlator.model import SECOND

_COMMANDS = ("actionstart", "actionstop", "actionflush", "actioncheck", "actionban", "actionunban")
_OPTIONS = (*_COMMANDS, "timeout", "norestored")
FAMILIES = {4: "inet4", 6: "inet6"}
_SHELL = ("/bin/sh", "-c")
_TIMEOUT = 60 * SECOND
_LONGEST_TIMEOUT = 600 * SECOND
_TAG = re.compile(r"<([A-Za-z][\w.-]*)>")
_TOKENS = {
    "ip": "$TARGET$",
    "fid": "$TARGET$",
    "ip-rev": "$REVERSED$",
    "failures": "$STRIKES$",
    "ipfailures": "$STRIKES$",
    "ipjailfailures": "$STRIKES$",
    "time": "$CREATED$",
    "bantime": "$BANTIME$",
    "bancount": "1",
    "restored": "0",
    "br": "\n",
    "sp": " ",
    "jail.name": "$JAIL$",
    "jail.banned": "0",
    "jail.banned_total": "0",
    "jail.found": "0",
    "jail.found_total": "0",
}
"""Tags whose values can only be an address, a number or the name of a jail."""
_VARIABLES = {
    "matches": "matches",
    "ipmatches": "matches",
    "ipjailmatches": "matches",
    "ip-host": "host",
    "fq-hostname": "hostname",
    "sh-hostname": "hostname",
    "raw-ticket": "matches",
}
"""Tags whose values may be text of a stranger, or of nobody; and what an order calls them."""
_DYNAMIC = frozenset({"matches", "ipmatches", "ipjailmatches", "timeout", "bantime"})
"""Tags that mean the block even where an option has their name; any other is the option first."""


def read_action(
    path: Path, reference: Reference, *, name: str, faults: list[Fault]
) -> tuple[ActionDefinition | None, tuple[Path, ...]]:
    """Return the action that a file with these parameters is, under a name of ours, and what to watch.

    None where it has faults.
    """
    if path.suffix == ".py":
        expected = "an action of commands: one written in Python runs only inside Fail2ban"
        faults.append(Fault(str(path), "action", "Python", expected))
        return None, ()
    before = len(faults)
    sections = load_sections(path.with_suffix(""), faults)
    if sections is None:
        faults.append(Fault(str(path), "file", "no such file", "an action of Fail2ban"))
        return None, (path,)
    parameters = {"actname": path.stem, "name": path.stem, **reference.parameters}
    resolver = Resolver(sections, _OPTIONS, parameters, variables={}, faults=faults, dynamic=_DYNAMIC)
    variables: dict[str, str] = {}
    families = {
        version: resolver.resolve(family if resolver.is_family_dependent else "")
        for version, family in FAMILIES.items()
    }
    commands = {
        version: _commands(options, family=FAMILIES[version], variables=variables)
        for version, options in families.items()
    }
    if not commands[4].block:
        faults.append(Fault(sections.where, "[Definition] actionban", "nothing", "a command"))
    if len(faults) > before:
        return None, tuple(sections.files)
    definition = ActionDefinition(
        name=name,
        where=sections.where,
        description=f"{path.name} of Fail2ban",
        denies=bool(commands[4].release),
        commands=commands,
        timeout=_timeout(families[4]),
        variables=variables,
    )
    return definition, tuple(sections.files)


def _timeout(options: Mapping[str, str]) -> int:
    given = parse_time(options.get("timeout", "")) or _TIMEOUT
    return min(max(given, SECOND), _LONGEST_TIMEOUT)


def _commands(options: Mapping[str, str], *, family: str, variables: dict[str, str]) -> Commands:
    """Return the commands for one family; what they start with is only done where their check fails."""
    script = {
        name: put_in_values(options.get(name, ""), family=family, variables=variables).strip()
        for name in _COMMANDS
    }
    start, check = script["actionstart"], script["actioncheck"]
    if start and check:
        start = f"( {check}\n) >/dev/null 2>&1 || {{ {start}\n}}"
    commands = Commands(
        start=_argvs(start),
        block=_argvs(script["actionban"]),
        release=_argvs(script["actionunban"]),
    )
    return replace(commands, stop=_argvs(script["actionstop"]), flush=_argvs(script["actionflush"]))


def _argvs(script: str) -> tuple[tuple[str, ...], ...]:
    return ((*_SHELL, script),) if script else ()


def put_in_values(script: str, *, family: str, variables: dict[str, str]) -> str:
    """Return a script with its dynamic tags replaced: by our tokens, or by variables, noted in `variables`.

    Tags that nobody knows stay as they are: `<x>` is a redirection to the shell.
    """
    pieces: list[str] = []
    position = 0
    for found in _TAG.finditer(script):
        tag = found[1]
        value = _TOKENS.get(tag)
        if tag == "family":
            value = family
        elif value is None:
            variable = _variable(tag)
            if variable is None:
                continue
            variables[variable[0]] = variable[1]
            value = _quoted(variable[0], _quote_at(script, found.start()))
        pieces += [script[position : found.start()], value]
        position = found.end()
    return "".join(pieces) + script[position:]


def _variable(tag: str) -> tuple[str, str] | None:
    """Return the name of a tag's variable, and what an order calls its value."""
    if tag.startswith("F-"):
        return "f2bV_F_" + re.sub(r"\W", "_", tag[2:]), "field"
    if tag not in _VARIABLES:
        return None
    return "f2bV_" + re.sub(r"\W", "_", tag), _VARIABLES[tag]


def _quoted(variable: str, quote: str) -> str:
    """Return the variable so that it is one word, whatever stands in it."""
    if quote == '"':
        return f"${{{variable}}}"
    if quote == "'":
        return f"'\"${{{variable}}}\"'"
    return f'"${{{variable}}}"'


def _quote_at(script: str, end: int) -> str:
    """Return the quote that is open at a place of a script; empty where none is."""
    quote = ""
    at = 0
    while at < end:
        character = script[at]
        if quote != "'" and character == "\\":
            at += 1
        elif not quote and character in "\"'":
            quote = character
        elif character == quote:
            quote = ""
        at += 1
    return quote
