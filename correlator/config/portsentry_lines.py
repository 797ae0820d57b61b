"""Finds the directives of a portsentry.conf as PortSentry finds them; what it passes over becomes a fault.

PortSentry reads pieces of at most 1023 bytes. A directive is its name in capitals from the first column, with
`=` or a space behind it; its value goes from the next double quote to the one after it, or to the first
byte that is not printable ASCII. The first line of a name counts, also where its value cannot be read. Any
other line is passed over without a word, and people run for years without the option that they believe
to have set: here each such line is said. Pure: bytes in, values and faults out; nothing raises.

Source: PortSentry 1.2 of Debian, as run with such files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from correlator.errors import Fault
from correlator.model import printable

DIRECTIVES = (
    *("TCP_PORTS", "UDP_PORTS", "ADVANCED_PORTS_TCP", "ADVANCED_PORTS_UDP"),
    *("ADVANCED_EXCLUDE_TCP", "ADVANCED_EXCLUDE_UDP", "IGNORE_FILE", "HISTORY_FILE", "BLOCKED_FILE"),
    *("RESOLVE_HOST", "BLOCK_TCP", "BLOCK_UDP", "KILL_ROUTE", "KILL_HOSTS_DENY", "KILL_RUN_CMD"),
    *("KILL_RUN_CMD_FIRST", "SCAN_TRIGGER", "PORT_BANNER"),
)
"""Every directive of PortSentry 1.2; those of 2.x are the same without ADVANCED_*."""

LONGEST_LINE = 1023
"""Bytes of a line that PortSentry reads at once; it takes the rest for a line of its own."""

_MOST_FAULTS = 200
_SHOWN = 60
_MARK = b"\xef\xbb\xbf"
_SEEN = re.compile(rb"([A-Z_]+)[= ]")
_NAME = re.compile(rb"(?P<front>\s*)(?P<export>export\s+)?(?P<name>[A-Za-z0-9_]+)")
_BEFORE_VALUE = re.compile(rb"[ \t]*=?[ \t]*")
_VALUE = re.compile(rb"[ !#-~]*")


@dataclass(frozen=True, slots=True)
class Directive:
    """A directive that PortSentry sees."""

    line: int
    text: str | None
    """Its value, printable ASCII without a double quote; None where it stands without quotes."""


class Faults:
    """Collects the faults of one file up to a bound and counts the rest: a hostile file drowns nobody."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[int, Fault]] = []
        self._left_out = 0

    @property
    def is_full(self) -> bool:
        """True when a further fault is only counted."""
        return len(self._found) >= _MOST_FAULTS

    def add(self, line: int | None, key: str, got: str, expected: str) -> None:
        """Note a fault; `line` is None where the file as a whole is meant."""
        if self.is_full:
            self._left_out += 1
            return
        where = f"{self.file}:{line}" if line else self.file
        self._found.append((line or 0, Fault(where, key, got, expected)))

    def all(self) -> tuple[Fault, ...]:
        """Return the faults in the order of the file's lines, and one that says how many more there are."""
        found = tuple(fault for _, fault in sorted(self._found, key=lambda item: item[0]))
        if not self._left_out:
            return found
        more = Fault(self.file, "file", f"{self._left_out} more faults", "PortSentry's configuration file")
        return (*found, more)


def find_directives(data: bytes, faults: Faults) -> dict[str, Directive]:
    """Return the directives that count, by name."""
    found: dict[str, Directive] = {}
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        faults.add(None, "file", "UTF-16 text", "ASCII, Latin-1 or UTF-8; PortSentry sees no directive in it")
        return found
    for number, whole in enumerate(data.split(b"\n"), start=1):
        line = whole
        if len(line) > LONGEST_LINE:
            expected = (
                f"at most {LONGEST_LINE} bytes; PortSentry takes what follows them for a line of its own"
            )
            faults.add(number, "line", f"{len(line)} bytes", expected)
            line = line[:LONGEST_LINE]
        if not (bare := line.removeprefix(_MARK).strip()) or bare.startswith(b"#"):
            continue
        seen = _SEEN.match(line)
        name = seen.group(1).decode() if seen else ""
        if name not in DIRECTIVES:
            _say_unseen(line, number, faults)
        elif name in found:
            first = found[name].line
            faults.add(number, name, "a second value", f"one; the first, in line {first}, counts")
        else:
            found[name] = Directive(number, _value(line[len(name) :], name, number, faults))
    return found


def _value(rest: bytes, name: str, number: int, faults: Faults) -> str | None:
    """Return what PortSentry takes for the value, from all that stands behind the name."""
    before, quote, after = rest.partition(b'"')
    if not quote or b"\0" in before:
        faults.add(number, name, _shown(rest), f'{name}="VALUE"; without double quotes PortSentry skips it')
        return None
    if not _BEFORE_VALUE.fullmatch(before):
        faults.add(number, name, _shown(before), 'only = before the value; PortSentry looks for the next "')
    value = _VALUE.match(after)
    text = value.group() if value else b""
    tail = after[len(text) :]
    if tail.startswith(b'"'):
        behind = tail[1:].strip()
        if behind and not behind.startswith(b"#"):
            expected = "nothing but a comment behind the second double quote, where PortSentry ends the value"
            faults.add(number, name, _shown(behind), expected)
    elif not tail.strip():
        faults.add(number, name, _shown(after), "a double quote at the end; PortSentry takes the whole line")
    else:
        expected = "printable ASCII; PortSentry ends the value before any other byte"
        faults.add(number, name, f"byte 0x{tail[0]:02x} behind {_shown(text)}", expected)
    return text.decode("ascii")


def _say_unseen(line: bytes, number: int, faults: Faults) -> None:
    """Note a line that PortSentry passes over, with the first reason why it does."""
    if faults.is_full:  # looking for the nearest name costs time
        faults.add(number, "line", "", "")
        return
    bare = line.removeprefix(_MARK)
    found = _NAME.match(bare)
    if found is None:
        faults.add(number, "line", _shown(line), 'a comment or NAME="VALUE"; PortSentry passes over it')
        return
    written = found.group("name").decode()
    name = written.upper()
    if name not in DIRECTIVES:
        import difflib

        near = difflib.get_close_matches(name[:_SHOWN], DIRECTIVES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        expected = f"no such directive{hint}; PortSentry passes over it"
        faults.add(number, written[:_SHOWN], _shown(bare), expected)
        return
    if bare != line:
        reason = "without a byte order mark before it"
    elif found.group("export"):
        reason = "without export before it"
    elif found.group("front"):
        reason = "from the first column"
    elif written != name:
        reason = "in capitals"
    else:
        reason = "with = or a space right behind the name"
    faults.add(number, name, _shown(line), f'{name}="VALUE" {reason}; PortSentry does not see this line')


def _shown(text: bytes) -> str:
    shown = printable(text[: _SHOWN + 1].decode("latin-1").rstrip(" \r"))
    return repr(shown if len(text) <= _SHOWN else shown[:_SHOWN] + "...").replace("\\\\", "\\")
