"""How much of a source is handed out at once: as much as is worked off in a few hundredths of a second.

Between two pieces the alert log is looked at, and whether we are told to end. A log in which every line
counts takes a hundred times as long as one in which none does, so what a piece cost decides how large the
next is.
"""

from __future__ import annotations

from correlator.model import SECOND, Micros

_ENOUGH: Micros = SECOND // 100
_TOO_LONG: Micros = SECOND // 25


class Piece:
    """The size of the next piece, from `least` to `most`; it begins with `first`.

    The least is no more than a line or two: each may take a pattern up to its time limit.
    """

    def __init__(self, least: int, first: int, most: int) -> None:
        self.size = first
        self._least, self._most = least, most

    def note(self, took: Micros) -> None:
        """Learn how long the last one took whoever got it."""
        if took > _TOO_LONG:
            self.size = max(self._least, self.size * _TOO_LONG // (2 * took))
        elif took < _ENOUGH:
            self.size = min(self._most, self.size * 2)
