"""How far files were read that are followed no longer, for when they turn up under another name.

A pattern may mean what a log is renamed to (Samba's `log.smbd.old`, or `a.log.1` while nobody writes a new
`a.log`): its lines were handed out under its first name, and are not a second time. A file is known by its
inode and by how it begins. Bounded: of too many, those let go first are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from correlator.tailers.globs import may_mean
from correlator.tailers.opened import OpenFile, Position, read_position

_MOST = 1000
_ORIGIN = "origin"


class LetGo:
    """The files that were let go, each with the name under which it was read."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, int], tuple[str, Position]] = OrderedDict()

    def note(self, origin: str, positions: Iterable[Position]) -> None:
        """Keep how far files of a name were read."""
        for position in positions:
            key = (position.device, position.inode)
            _origin, known = self._files.get(key, ("", position))
            is_older = known.offset > position.offset and known.head.startswith(position.head)
            if position.head and not is_older:
                self._files[key] = (origin, position)
                self._files.move_to_end(key)
        while len(self._files) > _MOST:
            self._files.popitem(last=False)

    def find(self, file: OpenFile) -> Position | None:
        """Return how far a file was read; None for one that is not known, or is another with its inode."""
        _origin, position = self._files.get((file.device, file.inode), ("", None))
        return position if position is not None and file.holds(position.head, position.offset) else None

    def rows(self, pattern: str) -> list[dict[str, Any]]:
        """Return what is known of the files that a pattern meant, as what can be written as JSON."""
        return [
            {_ORIGIN: origin, **position.as_row()}
            for origin, position in self._files.values()
            if may_mean(pattern, origin)
        ]

    def load(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take what `rows` returned."""
        for row in rows:
            if _ORIGIN in row:
                self.note(row[_ORIGIN], [read_position(row)])
