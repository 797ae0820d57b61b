"""PortSentry's files, kept off the way between a request and its block.

The history gets every block that was carried out, in order, a twentieth of a second later. That the lines
are on the disk is waited for in a quiet moment, and written down only then; after a crash the ones in doubt
are looked for before they are written again. The blocked file is rewritten whole, when changes have
settled or a second after the first: five times a second at most, and no more than a twentieth of the time.

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
from correlator.store.history import TAIL_BYTES, append, append_once, format_history_line, sync

MOST_UNSYNCED = 400
"""History lines in doubt at most; with the longest possible line still less than `TAIL_BYTES`."""

_HISTORY_PAUSE = 0.05
_QUIET_SECONDS = 0.5
"""So long without a block is a quiet moment."""
_LEAST_PAUSE = 0.2
_SETTLE_SECONDS = 0.05
_LONGEST_STALE = 1.0
_PAUSE_FACTOR = 20.0
_RETRY_PAUSE = 5.0
_LONGEST_LINE = 160 + 253
assert MOST_UNSYNCED * _LONGEST_LINE < TAIL_BYTES  # noqa: S101 -- one constant bounds the other


class Records:
    """The history and blocked files of one enforcer; `clock` counts seconds, only for pauses."""

    def __init__(
        self,
        paths: Paths,
        store: BlockStore,
        say: Callable[[str], None],
        *,
        blocked_modes: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._blocked_modes = blocked_modes
        self._store = store
        self._say = say
        self._clock = clock
        self._waiting: list[tuple[int, str]] = []
        self._unsynced: list[int] = []
        self._write_at = 0.0
        self._quiet_at: float | None = None
        self._is_stale = False
        self._stale_since = 0.0
        self._changed_at = 0.0
        self._not_before = 0.0
        self._retry_at: float | None = None
        self._told: dict[str, str] = {}

    def note_block(self, number: int, line: str) -> None:
        """Remember the history line of a block just carried out."""
        now = self._clock()
        if not self._waiting:
            self._write_at = now + _HISTORY_PAUSE
        self._quiet_at = now + _QUIET_SECONDS
        self._waiting.append((number, line))
        if len(self._waiting) + len(self._unsynced) >= MOST_UNSYNCED:
            self.write_history()
            self.sync_history()

    def note_change(self) -> None:
        """Remember that the blocked file says something else than is in force."""
        now = self._clock()
        if not self._is_stale:
            self._stale_since = now
        self._is_stale = True
        self._changed_at = now

    def write_history(self) -> None:
        """Write the lines that wait."""
        if self._waiting and self._retry_at is None:
            text = "".join(line for _, line in self._waiting)
            if self._try("history", lambda: append(self._paths.history, text)):
                self._unsynced += [number for number, _ in self._waiting]
        self._waiting.clear()  # while the file fails, the database remembers what is missing

    def sync_history(self) -> None:
        """Wait until the lines written are on the disk, and write down that they are."""
        if self._unsynced and self._retry_at is None:
            self._try("history", self._sync)
        self._unsynced.clear()

    def recover_history(self) -> None:
        """Write the lines that the database misses, after looking whether they are there."""
        self._waiting.clear()
        self._unsynced.clear()
        if self._try("history", self._append_unwritten):
            self._retry_at = None

    def write_blocked(self, lines: Iterable[tuple[str, str]]) -> None:
        """Write the blocked file now."""
        started = self._clock()
        self._is_stale = not self._try("blocked", lambda: self._write_blocked(lines))
        took = self._clock() - started
        pause = _RETRY_PAUSE if self._is_stale else max(_LEAST_PAUSE, _PAUSE_FACTOR * took)
        self._not_before = self._clock() + pause

    def close(self, lines: Iterable[tuple[str, str]]) -> None:
        """Write everything, as at the end of a life."""
        self.write_history()
        self.sync_history()
        self.write_blocked(lines)

    def tend(self, lines: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """Do what is due: lines that wait, lines that failed before, the disk, a stale blocked file."""
        now = self._clock()
        if self._waiting and now >= self._write_at:
            self.write_history()
        if self._is_stale and now >= self._due_blocked():
            self.write_blocked(lines())
        if self._quiet_at is not None and now >= self._quiet_at:
            self._quiet_at = None
            self.sync_history()
            self._try("database", self._store.checkpoint)
        if self._retry_at is not None and now >= self._retry_at:
            self.recover_history()

    def pause(self) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        due = [at for at in (self._quiet_at, self._retry_at) if at is not None]
        if self._waiting:
            due.append(self._write_at)
        if self._is_stale:
            due.append(self._due_blocked())
        return max(0.0, min(due) - self._clock()) if due else None

    def _due_blocked(self) -> float:
        settled = min(self._changed_at + _SETTLE_SECONDS, self._stale_since + _LONGEST_STALE)
        return max(self._not_before, settled)

    def _write_blocked(self, lines: Iterable[tuple[str, str]]) -> None:
        """Write one file, or as PortSentry one a mode; what no mode of ours saw stands in the plain one."""
        found: dict[str, list[str]] = {mode: [] for mode in ("", *self._blocked_modes)}
        for mode, line in lines:
            found[mode if mode in found else ""].append(line)
        for mode, chosen in found.items():
            path = self._paths.blocked
            if mode:
                path = path.with_name(f"{path.name}.{mode}")
            elif self._blocked_modes and not chosen and not path.exists():
                continue
            write_blocked_file(path, chosen)

    def _sync(self) -> None:
        sync(self._paths.history)
        self._store.mark_written(self._unsynced)

    def _append_unwritten(self) -> None:
        while rows := self._store.unwritten(MOST_UNSYNCED):
            append_once(self._paths.history, "".join(map(history_line, rows)))
            self._store.mark_written(row.number for row in rows)

    def _try(self, what: str, write: Callable[[], object]) -> bool:
        try:
            write()
        except (OSError, sqlite3.Error, PermissionDeniedError) as exc:
            if what == "history":
                self._retry_at = self._clock() + _RETRY_PAUSE
            fault = f"the {what} file cannot be written: {exc}"
            if self._told.get(what) != fault:
                self._told[what] = fault
                self._say(fault)
            return False
        if self._told.pop(what, None) is not None:
            self._say(f"the {what} file is written again")
        return True


def history_line(row: BlockRow | NewBlock) -> str:
    """Return the line that a block has in the history and, while it is in force, in the blocked file."""
    return format_history_line(row.created, row.source, row.port, row.protocol, row.name)
