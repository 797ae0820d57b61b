"""Keeps lines about logins as they came, until a line asks who is logged in.

Every host logs logins all day, and few of their accounts ever fail at what asks for them (`logins`): to read
each would cost more than all other lines together. So they are found by their text alone, and read in their
order before the next line that one of their filters reads for a failure, or when they are many. What is
understood is the same as if none were kept: what tells of logins is read for nothing else by such a filter.

Pure; bounded: so many lines or bytes, and one chunk's more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from correlator.matching.filters import Filter
from correlator.matching.line_expressions import fewest_texts
from correlator.matching.prefilter import lines_with
from correlator.model import Chunk

_MOST_LINES = 32_768
_MOST_BYTES = 4 << 20


class Postponed:
    """The lines about logins of one origin, for all filters that read it."""

    def __init__(self, filters: Iterable[Filter]) -> None:
        self.filters = tuple(one for one in filters if one.definition.logins)
        """Those that are told of logins."""
        self._texts = fewest_texts(need for one in self.filters for need in one.needs_of_logins())
        self._kept: deque[tuple[Chunk, deque[tuple[int, bytes]]]] = deque()
        """Of each chunk, itself without data, and where its lines begin in their log."""
        self._count = self._bytes = 0
        self._is_of_last = False
        """Whether the chunk that came last has lines among them, or had."""

    def __len__(self) -> int:
        """How many lines are kept."""
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether they must be read before more come."""
        return self._count >= _MOST_LINES or self._bytes >= _MOST_BYTES

    def keep(self, chunk: Chunk) -> None:
        """Keep what a chunk says of logins."""
        data, offset = chunk.data, chunk.offset
        self._is_of_last = False
        if chunk.identifier:
            return  # bodies alone name no process, by which a login could be known
        lines = [
            (offset + start, data[start:end]) for text in self._texts for start, end in lines_with(data, text)
        ]
        if lines:
            self._is_of_last = True
            lines.sort()
            self._kept.append((replace(chunk, data=b""), deque(lines)))
            self._count += len(lines)
            self._bytes += sum(len(line) for _start, line in lines)

    def take(self, before: int | None = None) -> Iterator[tuple[Chunk, int, bytes]]:
        """Yield those that were kept, in their order, each with its chunk and place, and keep them no more.

        `before`: of the chunk that came last only those that begin before this place in their log.
        """
        while self._kept:
            chunk, lines = self._kept[0]
            end = before if self._is_of_last and len(self._kept) == 1 else None
            while lines and (end is None or lines[0][0] < end):
                start, line = lines.popleft()
                self._count -= 1
                self._bytes -= len(line)
                yield chunk, start, line
            if lines:
                return
            self._kept.popleft()
