"""The lines that strikes were read from, kept as long as there is room, and strikes packed into a few bytes.

A window may hold a million strikes, and each came from a line of up to thousands of characters. The lines of
all jails lie in one bounded book, oldest first; a strike holds its line's number there, and once the book had
to let the line go it counts on without it. Whoever decides shows the lines that are left. Pure.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from struct import Struct
from typing import NamedTuple

from correlator.counting.spans import Row
from correlator.model import Evidence, Micros, Source, Strike, parse_prefix, parse_source

_MOST_LINES = 50_000
_MOST_CHARACTERS = 10_000_000
_NUMBERS = 1 << 32
_MOST_KINDS = 30_000
_FIXED = Struct("<IHH")
_MAPPED = bytes(10) + b"\xff\xff"
_HALF = 8
_Kind = tuple[str, str | None, bool, bool]  # pattern, protocol, whether spoofable, whether there is a port


class EvidenceBook:
    """The latest lines that counted, of all jails."""

    def __init__(self, *, most_lines: int = _MOST_LINES, most_characters: int = _MOST_CHARACTERS) -> None:
        self._most_lines = most_lines
        self._most_characters = most_characters
        self._lines: deque[Evidence] = deque()
        self._characters = 0
        self._first = 0
        """The number of the oldest line that is left."""

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def next_number(self) -> int:
        """The number of the line that is kept next, from 0 to 2**32 - 1 and round again."""
        return (self._first + len(self._lines)) % _NUMBERS

    def keep(self, evidence: Evidence) -> int:
        """Keep a line and return its number; several jails that count one line keep it once."""
        lines = self._lines
        if lines and lines[-1] is evidence:
            return (self._first + len(lines) - 1) % _NUMBERS
        number = (self._first + len(lines)) % _NUMBERS
        lines.append(evidence)
        self._characters += len(evidence.line)
        while len(lines) > self._most_lines or self._characters > self._most_characters:
            self._characters -= len(lines.popleft().line)
            self._first += 1
        return number

    def is_before(self, number: int, other: int) -> bool:
        """Whether a line was kept before another, by their numbers."""
        return (number - other) % _NUMBERS >= _NUMBERS // 2

    def find(self, number: int, at: Micros) -> Evidence | None:
        """Return the line of a number and time; None where it has left."""
        place = (number - self._first) % _NUMBERS
        if place >= len(self._lines):
            return None
        found = self._lines[place]
        return found if found.at == at else None


class Struck(NamedTuple):
    """What is left of a strike in a window."""

    at: Micros
    amount: int
    """What it adds to the sum; 1 where different values count."""
    source: Source
    port: int | None
    protocol: str | None
    is_spoofable: bool
    pattern: str
    number: int
    """Of its line in the book."""


class StrikePacker:
    """Packs the strikes of one jail into 8 to 25 bytes and back.

    `is_keyed_by_source`: a strike's key tells its source's address, or the prefix that it lies in.
    """

    def __init__(self, book: EvidenceBook, *, is_keyed_by_source: bool) -> None:
        self._book = book
        self._is_keyed_by_source = is_keyed_by_source
        self._kinds: dict[_Kind, int] = {}
        self._known: list[_Kind] = []

    def pack(self, strike: Strike) -> bytes:
        """Return a strike as bytes, its line kept in the book."""
        kind = (strike.pattern, strike.protocol, strike.is_spoofable, strike.port is not None)
        number = self._kinds.get(kind)
        if number is None:
            number = self._note_kind(kind)
        line = self._book.keep(strike.evidence)
        return _FIXED.pack(line, number, strike.port or 0) + self._pack_source(strike)

    def unpack(self, key: str, row: Row, amount: int) -> Struck:
        """Return what `pack` packed, from the row of the same key."""
        line, number, port = _FIXED.unpack_from(row.item)
        pattern, protocol, is_spoofable, has_port = self._known[number]
        source = _unpack_source(key, row.item[_FIXED.size :])
        return Struck(
            row.at, amount, source, port if has_port else None, protocol, is_spoofable, pattern, line
        )

    def _note_kind(self, kind: _Kind) -> int:
        pattern, _protocol, is_spoofable, has_port = kind
        if (
            len(self._known) >= _MOST_KINDS
        ):  # a pattern takes any word for a protocol, and strangers choose it
            kind = (pattern, None, is_spoofable, has_port)
            if kind in self._kinds:
                return self._kinds[kind]
        self._known.append(kind)
        self._kinds[kind] = len(self._known) - 1
        return len(self._known) - 1

    def _pack_source(self, strike: Strike) -> bytes:
        """Return what the key does not tell of the source, of one length for all strikes of a key."""
        if self._is_keyed_by_source and "/" not in strike.key:
            return b""
        source = strike.source
        packed = source.packed
        length = bytes((source.network.prefixlen,))  # Fail2ban's filters may name a whole prefix
        if not self._is_keyed_by_source:
            return (packed if len(packed) == 16 else _MAPPED + packed) + length
        key_length = int(strike.key.rpartition("/")[2])
        return (packed[_HALF:] if len(packed) == 16 and key_length >= 8 * _HALF else packed) + length


def _unpack_source(key: str, packed: bytes) -> Source:
    if not packed:
        return parse_source(key)
    packed, length = packed[:-1], packed[-1]
    if len(packed) == _HALF:
        packed = parse_prefix(key).packed[:_HALF] + packed
    packed = packed.removeprefix(_MAPPED)
    return Source(ipaddress.ip_network((packed, length)))
