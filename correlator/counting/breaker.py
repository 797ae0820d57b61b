"""The breaker: how many blocks on evidence that anybody could have forged a jail may ask for in a minute.

A flood of forged sources could otherwise have us deny anybody, and fill the rule set. What it keeps back is
only not carried out: it goes on being counted. Reads no clock.
"""

from __future__ import annotations

from collections import deque

from correlator.model import SECOND, Micros

MINUTE: Micros = 60 * SECOND


class Breaker:
    """Admits at most `limit` blocks on spoofable evidence in any minute of the strikes' own time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: deque[Micros] = deque(maxlen=max(limit, 1))
        self._is_open = False
        self.has_just_opened = False
        self.reason = f"breaker open: {limit} blocks on spoofable evidence within a minute"

    def admit(self, at: Micros) -> bool:
        """Whether one more block may follow at this time."""
        while self._admitted and self._admitted[0] <= at - MINUTE:
            self._admitted.popleft()
        if len(self._admitted) < self._limit:
            self._admitted.append(at)
            self._is_open = self.has_just_opened = False
            return True
        self.has_just_opened = not self._is_open
        self._is_open = True
        return False
