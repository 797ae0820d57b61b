"""PortSentry's files, kept off the way between a request and its block.

The history gets every block that was carried out, in order, a twentieth of a second later, with one
fsync for all that waited; which lines are there is written down only afterwards, and after a crash the
ones in doubt are looked for before they are written again. The blocked file is rewritten whole, some time
after a change: five times a second at most, and seldom enough that writing it takes no more than a
twentieth of the time.

A file that cannot be written stops no block: it is said once, and tried again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable

from correlator.errors import PermissionDeniedError
from correlator.settings import Paths
from correlator.store.blocked import write_blocked_file
from correlator.store.blocks import BlockRow, BlockStore, NewBlock
from correlator.store.history import TAIL_BYTES, append, append_once, format_history_line

BATCH_LINES = 400
"""History lines that wait at most; with the longest possible line still less than `TAIL_BYTES`."""

_HISTORY_PAUSE = 0.05
_LEAST_PAUSE = 0.2
_PAUSE_FACTOR = 20.0
_RETRY_PAUSE = 5.0
_LONGEST_LINE = 160
assert BATCH_LINES * _LONGEST_LINE < TAIL_BYTES  # noqa: S101 -- one constant bounds the other


class Records:
    """The history and blocked files of one enforcer; `clock` counts seconds, only for pauses."""

    def __init__(
        self,
        paths: Paths,
        store: BlockStore,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._store = store
        self._say = say
        self._clock = clock
        self._waiting: list[tuple[int, str]] = []
        self._flush_at = 0.0
        self._is_stale = False
        self._not_before = 0.0
        self._retry_at: float | None = None
        self._told: dict[str, str] = {}

    def note_block(self, number: int, line: str) -> None:
        """Remember the history line of a block just carried out."""
        if not self._waiting:
            self._flush_at = self._clock() + _HISTORY_PAUSE
        self._waiting.append((number, line))
        if len(self._waiting) >= BATCH_LINES:
            self.write_history()

    def note_change(self) -> None:
        """Remember that the blocked file says something else than is in force."""
        self._is_stale = True

    def write_history(self) -> None:
        """Write the lines that wait."""
        if self._waiting and self._retry_at is None:
            numbers = [number for number, _ in self._waiting]
            text = "".join(line for _, line in self._waiting)
            if not self._try("history", lambda: self._append(numbers, text)):
                self._retry_at = self._clock() + _RETRY_PAUSE
        self._waiting.clear()  # while the file fails, the database remembers what is missing

    def recover_history(self) -> None:
        """Write the lines that the database misses, after looking whether they are there."""
        if self._try("history", self._append_unwritten):
            self._retry_at = None
        else:
            self._retry_at = self._clock() + _RETRY_PAUSE

    def write_blocked(self, lines: Iterable[str]) -> None:
        """Write the blocked file now."""
        started = self._clock()
        self._is_stale = not self._try("blocked", lambda: write_blocked_file(self._paths.blocked, lines))
        took = self._clock() - started
        pause = _RETRY_PAUSE if self._is_stale else max(_LEAST_PAUSE, _PAUSE_FACTOR * took)
        self._not_before = self._clock() + pause

    def tend(self, lines: Callable[[], Iterable[str]]) -> None:
        """Do what is due: history lines that wait, or that failed before, and a stale blocked file."""
        if self._waiting and self._clock() >= self._flush_at:
            self.write_history()
        if self._is_stale and self._clock() >= self._not_before:
            self.write_blocked(lines())
        if self._retry_at is not None and self._clock() >= self._retry_at:
            self._waiting.clear()
            self.recover_history()

    def pause(self) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        due = [self._not_before] if self._is_stale else []
        if self._waiting:
            due.append(self._flush_at)
        if self._retry_at is not None:
            due.append(self._retry_at)
        return max(0.0, min(due) - self._clock()) if due else None

    def _append(self, numbers: list[int], text: str) -> None:
        append(self._paths.history, text)
        self._store.mark_written(numbers)

    def _append_unwritten(self) -> None:
        while rows := self._store.unwritten(BATCH_LINES):
            append_once(self._paths.history, "".join(map(history_line, rows)))
            self._store.mark_written(row.number for row in rows)

    def _try(self, what: str, write: Callable[[], object]) -> bool:
        try:
            write()
        except (OSError, sqlite3.Error, PermissionDeniedError) as exc:
            path = self._paths.history if what == "history" else self._paths.blocked
            fault = f"{path}: cannot be written: {exc}"
            if self._told.get(what) != fault:
                self._told[what] = fault
                self._say(fault)
            return False
        if self._told.pop(what, None) is not None:
            self._say(f"{what} file is written again")
        return True


def history_line(row: BlockRow | NewBlock) -> str:
    """Return the line that a block has in the history and, while it is in force, in the blocked file."""
    return format_history_line(row.created, row.source, row.port, row.protocol)
