"""Keeps lines about logins as they came, until a line asks who is logged in.

Every host logs logins all day, and few of their accounts ever fail at what asks for them (`logins`): to read
each would cost more than all other lines together. So the prefilter finds them, and they are read in their
order before the next line that one of their filters reads for a failure, or when they are many. What is
understood is the same as if none were kept: what tells of logins is read for nothing else by such a filter.

Pure; bounded: so many lines or bytes of an origin and of all, and one chunk's more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from correlator.matching.filters import Filter
from correlator.matching.prefilter import Span
from correlator.model import Chunk

_MOST_LINES = 32_768
_MOST_BYTES = 4 << 20
_MOST_IN_ALL = 4  # times as much: a log host has the logs of hundreds of others


@dataclass(slots=True)
class Room:
    """What all origins keep together."""

    lines: int = 0
    bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether whoever keeps more must read what he has kept."""
        return self.lines >= _MOST_IN_ALL * _MOST_LINES or self.bytes >= _MOST_IN_ALL * _MOST_BYTES

    def add(self, lines: int, size: int) -> None:
        """Count what is kept, or with negative numbers what is not any more."""
        self.lines += lines
        self.bytes += size


class Postponed:
    """The lines about logins of one origin, for all filters that read it."""

    def __init__(self, filters: Iterable[Filter], room: Room) -> None:
        self.filters = frozenset(one for one in filters if one.definition.logins)
        """Those that are told of logins."""
        self._kept: deque[tuple[Chunk, list[Span], list[bytes]]] = deque()
        """Of each chunk, itself without data, where its lines stand in it, and the lines."""
        self._count = self._bytes = 0
        self._room = room
        self._chunk: Chunk | None = None
        """The one that is being read."""
        self._told: list[Span] = []
        """Its lines about logins that are not kept yet."""

    def __len__(self) -> int:
        """How many lines are kept, without those of the chunk that is being read."""
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether they must be read before more come."""
        is_full = self._count >= _MOST_LINES or self._bytes >= _MOST_BYTES
        return is_full or (self._room.is_full and self._count > 0)

    def begin(self, chunk: Chunk) -> list[Span] | None:
        """Return a list for the lines about logins of a chunk, which are kept as they are put there.

        None where it can hold none: bodies alone name no process, by which a login could be known.
        """
        self.end()
        if chunk.identifier:
            return None
        self._chunk, self._told = chunk, []
        return self._told

    def end(self) -> None:
        """Need the chunk no more: its lines are kept without it."""
        if self._chunk is not None and self._told:
            data = self._chunk.data
            lines = [data[start:end] for start, end in self._told]
            self._kept.append((replace(self._chunk, data=b""), self._told, lines))
            self._add(len(lines), sum(map(len, lines)))
        self._chunk, self._told = None, []

    def take(self, before: int | None = None) -> Iterator[tuple[Chunk, int, bytes]]:
        """Yield those that were kept, in their order, each with its chunk and place, and keep them no more.

        `before`: of the chunk that is being read only those that begin before this place in it.
        """
        while self._kept:
            chunk, spans, lines = self._kept.popleft()
            self._add(-len(lines), -sum(map(len, lines)))
            for (start, _end), line in zip(spans, lines, strict=True):
                yield chunk, chunk.offset + start, line
        if self._chunk is not None:
            chunk, told = self._chunk, self._told
            count = len(told) if before is None else bisect_left(told, (before, 0))
            taken, told[:] = told[:count], told[count:]
            for start, end in taken:
                yield chunk, chunk.offset + start, chunk.data[start:end]

    def _add(self, lines: int, size: int) -> None:
        self._count += lines
        self._bytes += size
        self._room.add(lines, size)
