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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from correlator.model import SECOND, Micros, Source, json_ready, printable

Argv = tuple[str, ...]

KINDS = ("nftables", "hosts-deny", "command", "record")
"""`nftables` and `hosts-deny` are native, `record` writes the block down and does nothing else."""
WAYS = ("", "route", "wrappers", "command", "nothing")
"""As what PortSentry's log tells of it: a dropped route, TCP wrappers, an external command, no response."""
TOKENS = (
    *("TARGET", "PORT", "MODE", "PROTOCOL", "FAMILY", "VERSION"),
    *("JAIL", "REQUEST", "UNTIL", "SECONDS", "TIMEOUT", "CREATED", "BANTIME", "STRIKES", "REVERSED"),
)
RIGHTS = ("firewall", "root")
"""CAP_NET_ADMIN is enough; or all that root may, as for a mail server that becomes another user."""
EVIDENCE = ("json", "text")
"""One object on one line, for programs; a line for each field, for people."""
VARIABLES = ("matches", "host", "hostname", "field")
"""What a command may find in its environment: the last line, the source's name, this host's, nothing."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_WIDTH = 68
_SHOWN_SCRIPT = 120
_UNSAFE = re.compile(r"^-|[^\w:/.@%+,=-]", re.ASCII)
"""What a shell could take for more than a word, or a program for an option: a correlator names requests."""
_LONGEST_TIMEOUT = 2_147_483
"""Seconds, of an entry of ipset; what lasts longer is put in again when it is found to be missing."""
_TOKEN = re.compile(r"\$([A-Z]+)\$")
_REASON = re.compile(r"(?P<strikes>\d{1,9}) (?:strikes|points) in \S+(?:, last: (?P<line>.*))?", re.DOTALL)


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
    evidence: str = ""
    """One of `EVIDENCE`: in which form `block` gets the order on its standard input; empty: not at all."""
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What `block` and `release` find in their environment: the variable, and which of `VARIABLES` it holds.

    The only way for text of a stranger into a command, beside the evidence: as a value, never as an argument.
    """
    rights: str = "root"
    """One of `RIGHTS`: what its commands need."""
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


def show(argv: Argv) -> str:
    """Return a command as a line of ours tells it: a script of several lines on one, cut."""
    text = spell(argv)
    if "\n" not in text:
        return text
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_SCRIPT else f"{text[: _SHOWN_SCRIPT - 4]} ..."


def encode_evidence(order: Order, form: str) -> bytes:
    """Return the order for the standard input of a command, in a form of `EVIDENCE`; nothing for none.

    Either is plain ASCII. Text keeps within lines that any mail server takes (78 bytes; RFC 5322 section
    2.1.1 allows 998), none begins with what a stranger chose, and none is a dot alone.
    """
    if form == "json":
        return json.dumps(json_ready(order), ensure_ascii=True).encode() + b"\n"
    if form == "text":
        return "".join(_spell_fields(order)).encode()
    return b""


def _spell_fields(order: Order) -> Iterator[str]:
    """Yield each field that says something, on one line or more."""
    fields = {
        "source": str(order.source),
        "name": order.name,
        "jail": order.jail,
        "blocked": _spell_time(order.created),
        "until": "it is released" if order.until is None else _spell_time(order.until),
        "port": f"{order.port} {order.protocol}".strip() if order.port else order.protocol,
        "mode": order.mode,
        "reason": order.reason,
        "request": order.request,
    }
    for name, value in fields.items():
        text = printable(value).encode("ascii", "backslashreplace").decode()
        for start in range(0, len(text), _TEXT_WIDTH):
            yield f"{'' if start else name:<9}{text[start : start + _TEXT_WIDTH]}\n"


def _spell_time(at: Micros) -> str:
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%d %H:%M:%S UTC")


def _values(order: Order, now: Micros) -> dict[str, str]:
    until = "0" if order.until is None else str(order.until // SECOND)
    told = _REASON.fullmatch(order.reason)
    left = "0" if order.until is None else str(max(1, (order.until - now) // SECOND))
    return {
        "TARGET": str(order.source),
        "PORT": str(order.port),
        "MODE": order.mode or order.jail,
        "PROTOCOL": _UNSAFE.sub("_", (order.protocol or "any").lower()),
        "FAMILY": f"ipv{order.source.version}",
        "JAIL": order.jail,
        "REQUEST": _UNSAFE.sub("_", order.request),
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
