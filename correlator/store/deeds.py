"""What each action of a block has come to, beside the rows of `blocks`; same database, same transactions.

A block that only the kernel's own set carries out has no deed here: its row says it all. Every other action
has one, written before it runs, so that a process killed at any moment knows what may have been done.

Life of a deed: asked -> running -> done | exists | failed (tried again, later and later) | unknown; when its
block is over: done -> ending -> gone. What was never done, or is not ours to undo, is forgotten at once. What
may have been done before a death is asked for with `tries`, and where that fails for later (`next_try`).
"""

from __future__ import annotations

import enum
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from correlator.model import Micros
from correlator.store.database import transaction

DEEDS_SCHEMA = """
CREATE TABLE deeds (
    block    INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    action   TEXT NOT NULL,
    state    TEXT NOT NULL
             CHECK (state IN ('asked', 'running', 'done', 'exists', 'failed', 'unknown', 'ending')),
    detail   TEXT NOT NULL DEFAULT '',
    tries    INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (block, action)
) STRICT, WITHOUT ROWID;
CREATE INDEX deeds_due ON deeds (next_try, block, place) WHERE state IN ('asked', 'failed', 'ending');
CREATE INDEX deeds_running ON deeds (block) WHERE state = 'running'
"""
_COLUMNS = "block, place, action, state, detail, tries, next_try"


class DeedState(enum.Enum):
    """Where in its life a deed stands."""

    ASKED = "asked"
    RUNNING = "running"
    DONE = "done"
    EXISTS = "exists"
    FAILED = "failed"
    UNKNOWN = "unknown"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class DeedRow:
    """One action of one block; `place` is its place in the block's list of actions."""

    block: int
    place: int
    action: str
    state: DeedState
    detail: str = ""
    tries: int = 0
    next_try: Micros = 0

    @property
    def may_stand(self) -> bool:
        """True where what the action does may have been done, and not yet undone."""
        return self.state in (DeedState.DONE, DeedState.RUNNING, DeedState.ENDING) or (
            self.state is DeedState.ASKED and self.tries > 0
        )

    @property
    def has_failed(self) -> bool:
        """True where it is tried again later, though what it did before may stand."""
        return self.state is DeedState.FAILED or (self.state is DeedState.ASKED and self.next_try > 0)


class DeedStore:
    """The table of deeds. Raises (all methods): sqlite3.Error where the disk or the file fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def take(self, connection: sqlite3.Connection) -> None:
        """Go on with another connection to the same file."""
        self._connection = connection

    def put(self, deeds: Iterable[DeedRow]) -> None:
        """Write these deeds down, in the place of what was there."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO deeds (block, place, action, state, detail, tries, next_try)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    deed.block,
                    deed.place,
                    deed.action,
                    deed.state.value,
                    deed.detail,
                    deed.tries,
                    deed.next_try,
                )
                for deed in deeds
            ),
        )

    def delete(self, block: int, action: str) -> None:
        """Forget one deed."""
        self._connection.execute("DELETE FROM deeds WHERE block = ? AND action = ?", (block, action))

    def of(self, block: int) -> tuple[DeedRow, ...]:
        """Return the deeds of a block, in the order of its actions."""
        return self._rows("WHERE block = ? ORDER BY place", block)

    def states(self, first: int, last: int) -> dict[tuple[int, str], DeedState]:
        """Return the states of the deeds of these blocks, by block and action."""
        found = self._rows("WHERE block BETWEEN ? AND ?", first, last)
        return {
            (deed.block, deed.action): DeedState.FAILED if deed.has_failed else deed.state for deed in found
        }

    def due(self, now: Micros, limit: int, without: Sequence[str] = ()) -> tuple[DeedRow, ...]:
        """Return deeds to be carried out, tried again or undone by `now`: of each block its first.

        None by the actions `without`.
        """
        return self._rows(
            "AS one WHERE state IN ('asked', 'failed', 'ending') AND next_try <= ?"
            " AND (state != 'asked' OR NOT EXISTS (SELECT 1 FROM deeds AS other WHERE other.block = one.block"
            " AND other.place < one.place"
            " AND (other.state = 'running' OR (other.state = 'asked' AND other.next_try = 0))))"
            " AND action NOT IN (SELECT value FROM json_each(?)) ORDER BY next_try, block, place LIMIT ?",
            now,
            json.dumps(without),
            limit,
        )

    def next_due(self) -> Micros | None:
        """Return when the next deed is due, or None."""
        found = self._connection.execute(
            "SELECT min(next_try) FROM deeds WHERE state IN ('asked', 'failed', 'ending')"
        ).fetchone()[0]
        return None if found is None else int(found)

    def interrupted(self) -> tuple[DeedRow, ...]:
        """Return the deeds that ran when the process before this one died."""
        return self._rows("WHERE state = 'running' ORDER BY block, place")

    def done_by(self, action: str) -> tuple[DeedRow, ...]:
        """Return what an action has done and not undone."""
        return self._rows("WHERE action = ? AND state = 'done' ORDER BY block", action)

    def rivals(self, block: int, action: str) -> tuple[DeedRow, ...]:
        """Return the deeds by the same action of other blocks of the same source."""
        return self._rows(
            "WHERE action = ? AND block != ? AND block IN"
            " (SELECT number FROM blocks WHERE source = (SELECT source FROM blocks WHERE number = ?))",
            action,
            block,
            block,
        )

    def is_open(self, block: int) -> bool:
        """True while an action of a block is still to be carried out, or is at it."""
        found = self._connection.execute(
            "SELECT count(*) FROM deeds WHERE block = ?"
            " AND (state = 'running' OR (state = 'asked' AND next_try = 0))",
            (block,),
        )
        return bool(found.fetchone()[0])

    def move(self, old: int, new: int, actions: Sequence[str], which: Sequence[str]) -> tuple[str, ...]:
        """Make what block `old` has done the deeds of block `new`, whose list is `actions`; return which."""
        kept = [
            deed
            for deed in self.of(old)
            if deed.action in which and deed.state in (DeedState.DONE, DeedState.EXISTS)
        ]
        with transaction(self._connection):
            for deed in kept:
                self._connection.execute(
                    "UPDATE OR REPLACE deeds SET block = ?, place = ? WHERE block = ? AND action = ?",
                    (new, actions.index(deed.action), old, deed.action),
                )
        return tuple(deed.action for deed in kept)

    def end(self, blocks: Iterable[int], now: Micros) -> None:
        """Have undone what these blocks' actions did; a deed that runs is ended when it has run.

        What is asked for again may have been done before a death: it is undone as well.
        """
        numbers = [(number,) for number in blocks]
        with transaction(self._connection):
            self._connection.executemany(
                "DELETE FROM deeds WHERE block = ? AND state NOT IN ('done', 'running', 'ending')"
                " AND NOT (state = 'asked' AND tries > 0)",
                numbers,
            )
            self._connection.executemany(
                "UPDATE deeds SET state = 'ending', tries = 0, next_try = ?"
                " WHERE block = ? AND state IN ('done', 'asked')",
                [(now, number) for (number,) in numbers],
            )

    def end_orphans(self, now: Micros) -> None:
        """The same for blocks that ended without it: we were killed between the two."""
        orphans = self._connection.execute(
            "SELECT DISTINCT block FROM deeds WHERE state != 'ending' AND block NOT IN"
            " (SELECT number FROM blocks WHERE state IN ('requested', 'done'))"
        )
        self.end([number for (number,) in orphans], now)

    def failing(self, limit: int) -> tuple[DeedRow, ...]:
        """Return deeds that failed or cannot be undone, the latest first."""
        return self._rows(
            "WHERE state = 'failed' OR (state = 'asked' AND next_try > 0) OR (state = 'ending' AND tries > 0)"
            " ORDER BY next_try DESC LIMIT ?",
            limit,
        )

    def _rows(self, where: str, *values: object) -> tuple[DeedRow, ...]:
        query = f"SELECT {_COLUMNS} FROM deeds {where}"  # noqa: S608 -- both are literals of this module
        return tuple(
            DeedRow(block, place, action, DeedState(state), detail, tries, next_try)
            for block, place, action, state, detail, tries, next_try in self._connection.execute(
                query, values
            )
        )
