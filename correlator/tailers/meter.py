"""How many lines a minute: an exact count of the last minute, in steps of two seconds."""

from __future__ import annotations

from collections import deque

from correlator.model import SECOND, Micros

_MINUTE: Micros = 60 * SECOND
_STEP: Micros = 2 * SECOND


class Meter:
    """Counts what came within the last minute; its memory is bounded by the steps of a minute."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, int]] = deque()
        self._sum = 0

    def note(self, now: Micros, count: int) -> None:
        """Take what came now; a clock that was set back counts into the newest step."""
        step = now // _STEP
        if self._steps and step <= self._steps[-1][0]:
            step, before = self._steps.pop()
            count_of_step = before + count
        else:
            count_of_step = count
        self._steps.append((step, count_of_step))
        self._sum += count
        self._forget(now)

    def a_minute(self, now: Micros) -> int:
        """Return how many came since a minute ago."""
        self._forget(now)
        return self._sum

    def _forget(self, now: Micros) -> None:
        oldest = (now - _MINUTE) // _STEP
        while self._steps and self._steps[0][0] <= oldest:
            self._sum -= self._steps.popleft()[1]
