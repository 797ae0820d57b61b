"""Keeps the alert log bounded under a flood: so many lines in any second, then a count of the rest.

Pure: time is an argument. Exact: a line is admitted when fewer than `limit` were in the second before
it. Memory is one entry a line of the limit, whatever the flood.

A shared limit keeps a quarter of its places for sources that have had few: one host that floods, blocked
or not, cannot hide what another does. Only lines that were admitted are counted, so that packets in
somebody else's name take nothing from him but by lines that name him.
"""

from __future__ import annotations

from collections import deque

from correlator.model import SECOND, Micros

_KEPT_SHARE = 4
"""One place of so many is kept for those who have had few."""
_FEW_SHARE = 40
"""Few: less than one place of so many; so ten hosts must flood together to take the kept places too."""
_PREFIX_BYTES = 8
"""Of an IPv6 address: whoever has one has the /64 around it."""


class RateLimit:
    """Admits at most `limit` lines (at least one) in any second; `now` must not go backwards."""

    def __init__(self, limit: int, *, is_shared: bool = False) -> None:
        self.limit = max(1, limit)
        self._for_all = self.limit - (self.limit // _KEPT_SHARE if is_shared else 0)
        self._few = max(1, self.limit // _FEW_SHARE)
        self._admitted: deque[tuple[Micros, bytes]] = deque()
        """The lines of the last second."""
        self._counts: dict[bytes, int] = {}
        """How many of them each source has."""
        self._left_out = 0
        self._due: Micros = 0

    def admits(self, now: Micros, source: bytes = b"") -> bool:
        """True where one more line may be written now; counts it as written, or else as left out.

        `source` is the packed address that the line is about, where the limit is shared.
        """
        admitted = self._admitted
        while admitted and now - admitted[0][0] >= SECOND:
            self._forget(admitted.popleft()[1])
        source = source if len(source) <= _PREFIX_BYTES else source[:_PREFIX_BYTES]
        taken, had = len(admitted), self._counts.get(source, 0)
        if taken < self._for_all or (taken < self.limit and had < self._few):
            admitted.append((now, source))
            self._counts[source] = had + 1
            return True
        if not self._left_out:
            self._due = now + SECOND
        self._left_out += 1
        return False

    def give_back(self) -> None:
        """Undo the last `admits`, which was true: no line came of it."""
        self._forget(self._admitted.pop()[1])

    def next_due(self) -> Micros | None:
        """Return when the line about left-out probes is to be written; None while nothing was left out."""
        return self._due if self._left_out else None

    def take_left_out(self, now: Micros) -> int:
        """Return how many were left out, once their second is over, and start again; else 0."""
        if not self._left_out or now < self._due:
            return 0
        count, self._left_out = self._left_out, 0
        return count

    def _forget(self, source: bytes) -> None:
        left = self._counts[source] - 1
        if left:
            self._counts[source] = left
        else:
            del self._counts[source]
