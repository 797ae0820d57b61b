"""Actions: ways to deny a source or to tell somebody of it, as frozen definitions, and what they are told.

A command is a list of arguments; it never passes through a shell unless its author wrote one into it. The
tokens of PortSentry (`$TARGET$ $PORT$ $MODE$`) and ours stand for values that can only be an address, a
number or a word: no text that a stranger chose can get into an argument. Who needs the evidence gets it as
JSON on standard input. Pure.

Source: PortSentry 1.2, portsentry.conf(5); tokens anywhere in an argument, any number of times.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from correlator.model import SECOND, Micros, Source, json_ready

Argv = tuple[str, ...]

KINDS = ("nftables", "hosts-deny", "command", "record")
"""`nftables` and `hosts-deny` are native, `record` writes the block down and does nothing else."""
WAYS = ("", "route", "wrappers", "command", "nothing")
"""As what PortSentry's log tells of it: a dropped route, TCP wrappers, an external command, no response."""
TOKENS = (
    *("TARGET", "PORT", "MODE", "PROTOCOL", "FAMILY", "VERSION"),
    *("JAIL", "REQUEST", "UNTIL", "SECONDS", "TIMEOUT", "CREATED", "BANTIME", "STRIKES", "REVERSED"),
)
VARIABLES = ("matches", "host", "hostname", "field")
"""What a command may find in its environment: the last line, the source's name, this host's, nothing."""

_LONGEST_TIMEOUT = 2_147_483
"""Seconds, of an entry of ipset; what lasts longer is put in again when it is found to be missing."""
_TOKEN = re.compile(r"\$([A-Z]+)\$")
_REASON = re.compile(r"(?P<strikes>\d{1,9}) strikes in \S+(?:, last: (?P<line>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Order:
    """What an action is told of one block; only `reason` and `name` hold text that a stranger chose."""

    request: str
    source: Source
    jail: str
    created: Micros
    until: Micros | None
    """None: until it is released."""
    port: int = 0
    protocol: str = ""
    mode: str = ""
    """Of PortSentry's modes, the one that saw it; empty where no probe did."""
    name: str = ""
    """What the address resolved to, cleaned; empty where that is not known."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of an action for one version of IP; each a list of argument lists, run one by one."""

    check: tuple[Argv, ...] = ()
    """Exit status 0 each: the action can work on this host."""
    start: tuple[Argv, ...] = ()
    """Prepares the host; run before the first block and after somebody cleared what it had prepared."""
    block: tuple[Argv, ...] = ()
    release: tuple[Argv, ...] = ()
    flush: tuple[Argv, ...] = ()
    """Releases all that it denies at once; for who takes the action away."""
    stop: tuple[Argv, ...] = ()
    """Takes away what `start` prepared, whether or not it is there; run when everything is lifted."""
    present: tuple[Argv, ...] = ()
    """Exit status 0: this source is denied by this action already."""
    list: tuple[Argv, ...] = ()
    """Prints what is denied; see `ActionDefinition.list_pattern`."""
    restore: tuple[Argv, ...] = ()
    """Denies many at once: reads `restore_head`, a `restore_line` for each source, and `restore_tail`."""
    restore_head: str = ""
    restore_line: str = ""
    restore_tail: str = ""


@dataclass(frozen=True, slots=True)
class ActionDefinition:
    """An action as its author wrote it."""

    name: str
    where: str
    kind: str = "command"
    description: str = ""
    denies: bool = True
    """False for what tells somebody or runs something, and has nothing to undo."""
    says: str = ""
    """One of `WAYS`."""
    commands: Mapping[int, Commands] = field(default_factory=lambda: MappingProxyType({}))
    """By version of IP; a version that is missing is not served."""
    list_pattern: str = ""
    """Expression with a group `source`; finds each source that `list` printed."""
    owns: bool = False
    """True: whatever `list` prints is ours, and what should not be there is released."""
    expires_by_itself: bool = False
    """True: `block` gets the time left, and nothing of ours must run for a block to end."""
    wants_evidence: bool = False
    """True: `block` gets the order as JSON on its standard input."""
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What `block` and `release` find in their environment: the variable, and which of `VARIABLES` it holds.

    The only way for text of a stranger into a command, beside the evidence: as a value, never as an argument.
    """
    timeout: Micros = 10 * SECOND
    """How long one command may take before it is killed."""
    package: str = ""
    """Debian's package that has its programs."""
    trial: tuple[Argv, ...] = ()
    """What prepares throw-away ground for trying it: never run elsewhere."""
    file: str = "/etc/hosts.deny"
    line: str = "ALL: $TARGET$"
    """With `hosts-deny`: what is appended to `file`."""


def expand(text: str, order: Order, now: Micros) -> str:
    """Return `text` with its tokens replaced; what is no token of ours stays as it is."""
    values = _values(order, now)
    return _TOKEN.sub(lambda found: values.get(found[1], found[0]), text)


def expand_argv(argv: Argv, order: Order, now: Micros) -> Argv:
    """Return a command with the tokens in each of its arguments replaced."""
    return tuple(expand(argument, order, now) for argument in argv)


def environment_for(variables: Mapping[str, str], order: Order, *, hostname: str) -> dict[str, str]:
    """Return the variables of a command about one block; `hostname` is this host's."""
    told = _REASON.fullmatch(order.reason)
    values = {
        "matches": (told["line"] or "") if told else order.reason,
        "host": order.name or str(order.source),
        "hostname": hostname,
        "field": "",
    }
    return {variable: values[kind].replace("\0", "") for variable, kind in variables.items()}


def unknown_tokens(text: str) -> tuple[str, ...]:
    """Return what looks like a token in `text` and is none."""
    return tuple(found for found in _TOKEN.findall(text) if found not in TOKENS)


def spell(argv: Argv) -> str:
    """Return a command as a person would type it; of one that runs a shell, what it tells the shell."""
    is_shell = len(argv) == 3 and argv[:2] == ("/bin/sh", "-c")
    return argv[2] if is_shell else shlex.join(argv)


def encode_evidence(order: Order) -> bytes:
    """Return the order as one line of JSON, for the standard input of a command."""
    return json.dumps(json_ready(order), ensure_ascii=True).encode() + b"\n"


def _values(order: Order, now: Micros) -> dict[str, str]:
    until = "0" if order.until is None else str(order.until // SECOND)
    told = _REASON.fullmatch(order.reason)
    left = "0" if order.until is None else str(max(1, (order.until - now) // SECOND))
    return {
        "TARGET": str(order.source),
        "PORT": str(order.port),
        "MODE": order.mode or order.jail,
        "PROTOCOL": (order.protocol or "any").lower(),
        "FAMILY": f"ipv{order.source.version}",
        "JAIL": order.jail,
        "REQUEST": order.request,
        "VERSION": str(order.source.version),
        "UNTIL": until,
        "SECONDS": left,
        "CREATED": str(order.created // SECOND),
        "BANTIME": "-1" if order.until is None else str(max(1, (order.until - order.created) // SECOND)),
        "STRIKES": told["strikes"] if told else "1",
        "REVERSED": _reversed(order.source),
        "TIMEOUT": "0" if order.until is None else str(min(int(left), _LONGEST_TIMEOUT)),
    }


def _reversed(source: Source) -> str:
    """Return the address as the name of a DNS zone begins: `5.113.0.203.`, or an IPv6 address's nibbles."""
    pointer = source.network.network_address.reverse_pointer
    return pointer.removesuffix("in-addr.arpa").removesuffix("ip6.arpa")
