"""Remembers whether one way out of our lines works, and what is to be said about it.

Pure: time is an argument. A failure is said once, and its end once. A way that fails and works in turns
(a full queue under a flood) is said at most once a minute: the complaint must not become the flood.
"""

from __future__ import annotations

from correlator.model import SECOND, Micros

_QUIET = 60 * SECOND


class Trouble:
    """The state of one way out, `name` in sentences. Times are monotonic."""

    def __init__(self, name: str) -> None:
        self.failures = 0
        """Lines lost since the start."""
        self.is_failing = False
        self._name = name
        self._unsaid = 0
        self._is_said = False
        self._quiet_until: Micros | None = None

    def failed(self, reason: str, now: Micros) -> str | None:
        """Count a lost line; return the sentence about it where it is to be said."""
        self.failures += 1
        self._unsaid += 1
        self.is_failing = True
        if self._is_said or (self._quiet_until is not None and now < self._quiet_until):
            return None
        self._is_said = True
        self._quiet_until = now + _QUIET
        return f"adminalert: ERROR: Cannot write to {self._name}: {reason}"

    def worked(self) -> str | None:
        """Note a line that went out; return what is to be said of the end of a failure that was said."""
        if not self.is_failing:
            return None
        self.is_failing = False
        if not self._is_said:
            return None
        self._is_said = False
        lost, self._unsaid = self._unsaid, 0
        return f"adminalert: {self._name} works again, {lost} lines were lost"
