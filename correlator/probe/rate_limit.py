"""Keeps the alert log bounded under a flood: so many lines in any second, then a count of the rest.

Pure: time is an argument. Exact: a line is admitted when fewer than `limit` were in the second before
it. Memory is one number a line of the limit, whatever the flood.
"""

from __future__ import annotations

from correlator.model import SECOND, Micros


class RateLimit:
    """Admits at most `limit` lines (at least one) in any second; `now` must not go backwards."""

    def __init__(self, limit: int) -> None:
        self.limit = max(1, limit)
        self._stamps = [-SECOND] * self.limit
        """When the last `limit` lines were admitted; a ring, `_oldest` is the next to go."""
        self._oldest = 0
        self._replaced = -SECOND
        """The stamp that the newest one took the place of."""
        self._left_out = 0
        self._due: Micros = 0

    def admits(self, now: Micros) -> bool:
        """True where one more line may be written now; counts it as written, or else as left out."""
        if now - self._stamps[self._oldest] >= SECOND:
            self._replaced = self._stamps[self._oldest]
            self._stamps[self._oldest] = now
            self._oldest = (self._oldest + 1) % self.limit
            return True
        if not self._left_out:
            self._due = now + SECOND
        self._left_out += 1
        return False

    def give_back(self) -> None:
        """Undo the last `admits`, which was true: no line came of it."""
        self._oldest = (self._oldest - 1) % self.limit
        self._stamps[self._oldest] = self._replaced

    def next_due(self) -> Micros | None:
        """Return when the line about left-out probes is to be written; None while nothing was left out."""
        return self._due if self._left_out else None

    def take_left_out(self, now: Micros) -> int:
        """Return how many were left out, once their second is over, and start again; else 0."""
        if not self._left_out or now < self._due:
            return 0
        count, self._left_out = self._left_out, 0
        return count
