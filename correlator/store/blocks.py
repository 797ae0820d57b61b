"""The enforcer's belief: which blocks were asked for, which are in force, and what became of the rest.

A row is written before the kernel is asked (`requested`) and again after it answered, so that a process
killed at any moment knows what it may have left undone. At most one row of a source is in force: the
database itself refuses a second one. Ended rows stay for `history`, up to a bound.

Life of a row: requested -> done -> expired | released, or requested -> failed, or refused at once.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from correlator.model import Micros, Source, parse_prefix
from correlator.store.database import is_alone, open_database, transaction
from correlator.store.deeds import DEEDS_SCHEMA, DeedStore

ENDED_KEPT = 100_000
"""Ended rows kept; the oldest leave first."""

_VERSION = 2
_PRUNE_EVERY = 1_000
_JOURNAL_PAGES = 8_000
"""Pages of journal (32 MiB) after which SQLite no longer waits for a quiet moment of ours."""
_SCHEMA = """
CREATE TABLE blocks (
    number        INTEGER PRIMARY KEY,
    request       TEXT NOT NULL UNIQUE,
    source        TEXT NOT NULL,
    jail          TEXT NOT NULL,
    created       INTEGER NOT NULL,
    until         INTEGER,
    state         TEXT NOT NULL
                  CHECK (state IN ('requested', 'done', 'failed', 'refused', 'expired', 'released')),
    port          INTEGER NOT NULL,
    protocol      TEXT NOT NULL,
    reason        TEXT NOT NULL,
    actions       TEXT NOT NULL,
    detail        TEXT NOT NULL DEFAULT '',
    ended         INTEGER,
    is_in_history INTEGER NOT NULL DEFAULT 0,
    mode          TEXT NOT NULL DEFAULT '',
    name          TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX one_in_force ON blocks (source) WHERE state = 'done';
CREATE INDEX due ON blocks (until) WHERE state = 'done';
CREATE INDEX undecided ON blocks (number) WHERE state = 'requested';
CREATE INDEX unwritten ON blocks (number)
    WHERE is_in_history = 0 AND state IN ('done', 'expired', 'released');
CREATE INDEX by_source ON blocks (source);
CREATE INDEX ended ON blocks (number) WHERE state NOT IN ('requested', 'done')
"""
COLUMNS = (
    "number, request, source, jail, created, until, state, port, protocol, reason, actions, detail, ended,"
    " is_in_history, mode, name"
)


class BlockState(enum.Enum):
    """Where in its life a block stands."""

    REQUESTED = "requested"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class NewBlock:
    """What is written down of a request before anything is done about it."""

    request: str
    source: Source
    jail: str
    created: Micros
    until: Micros | None
    port: int
    protocol: str
    reason: str
    actions: tuple[str, ...] = ()
    mode: str = ""
    """Of PortSentry's modes, the one that saw it; empty where no probe did."""
    name: str = ""
    """What the address resolved to, cleaned; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One row; `ended` is None until the block is over, `until` None for one that only a release ends."""

    number: int
    request: str
    source: Source
    jail: str
    created: Micros
    until: Micros | None
    state: BlockState
    port: int
    protocol: str
    reason: str
    actions: tuple[str, ...]
    detail: str
    ended: Micros | None
    is_in_history: bool
    mode: str = ""
    name: str = ""


class BlockStore:
    """The table of blocks. Every method that changes something is one transaction.

    Raises (all methods): sqlite3.Error where the disk or the file fails.
    """

    def __init__(self, connection: sqlite3.Connection, *, ended_kept: int = ENDED_KEPT) -> None:
        self._connection = connection
        self._alone_at: Path | None = None
        """Where we have the file for us alone, its path: on a full disk there is no room for sharing it."""
        self.deeds = DeedStore(connection)
        self._ended_kept = ended_kept
        self._since_prune = 0
        self.is_begun_anew = False
        """True where the file was damaged or emptied, and this one took its place."""

    @classmethod
    def open(cls, path: Path) -> BlockStore:
        """Return the store in the file `path`, made where it is not there."""
        was_there = path.exists()
        connection = _open(path)
        store = cls(connection)
        store._alone_at = path if is_alone(connection) else None
        is_fresh = bool(connection.execute("PRAGMA application_id").fetchone()[0])
        store.is_begun_anew = is_fresh and was_there
        if is_fresh and not was_there:
            store.mark_adopted()
        return store

    def mark_adopted(self) -> None:
        """Write down that this file is not begun anew any more: what there was to take over is in it."""
        self._connection.execute("PRAGMA application_id = 0")

    def share(self) -> None:
        """Let others read again, where we had the file for us alone. Raises: DatabaseError as `open` does."""
        if self._alone_at is None:
            return
        self._connection.close()
        self._connection = _open(self._alone_at)
        self.deeds.take(self._connection)
        if not is_alone(self._connection):
            self._alone_at = None

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def request(self, block: NewBlock) -> int:
        """Write down, ahead of everything else, what shall be done; return the row's number.

        Raises: sqlite3.IntegrityError where the request's name is known already.
        """
        return self._insert(block, BlockState.REQUESTED, "", None)

    def refuse(self, block: NewBlock, detail: str) -> int:
        """Write down a request that was not carried out, and why; return the row's number."""
        return self._insert(block, BlockState.REFUSED, detail, block.created)

    def mark_done(self, number: int, *, now: Micros, replaced: Iterable[tuple[int, str]] = ()) -> None:
        """Put row `number` in force; `replaced` are the rows it takes the place of, and why they end."""
        ended = tuple(replaced)
        put_in_force = "UPDATE blocks SET state = 'done' WHERE number = ?"
        if not ended:
            self._connection.execute(put_in_force, (number,))
            return
        with transaction(self._connection):
            for other, detail in ended:
                self._end(other, BlockState.RELEASED, now, detail)
            self._connection.execute(put_in_force, (number,))

    def mark_failed(self, number: int, detail: str, *, now: Micros) -> None:
        """Write down that row `number` could not be carried out; it may be requested again."""
        with transaction(self._connection):
            self._end(number, BlockState.FAILED, now, detail)

    def request_again(self, number: int, block: NewBlock | BlockRow) -> None:
        """Make the failed or open row `number` a fresh request, with the new terms."""
        self._connection.execute(
            "UPDATE blocks SET state = 'requested', source = ?, jail = ?, created = ?, until = ?, port = ?,"
            " protocol = ?, reason = ?, actions = ?, mode = ?, name = ?, detail = '', ended = NULL"
            " WHERE number = ?",
            (*_terms(block), number),
        )

    def release(
        self, rows: Iterable[tuple[int, str]], *, now: Micros, given_up: Iterable[tuple[int, str]] = ()
    ) -> None:
        """End these rows, by number, before their time, each with why; `given_up` never were in force."""
        with transaction(self._connection):
            for number, detail in rows:
                self._end(number, BlockState.RELEASED, now, detail)
            for number, detail in given_up:
                self._end(number, BlockState.FAILED, now, detail)

    def add_ended(
        self, block: NewBlock, number: int | None, state: BlockState, detail: str, ended: Micros
    ) -> int:
        """Write down a block that was carried out and is over; `number` where it has a row. Return that."""
        with transaction(self._connection):
            if number is None:
                return self._insert(block, state, detail, ended)
            self.request_again(number, block)
            self._end(number, state, ended, detail)
        return number

    def over(self, now: Micros) -> tuple[BlockRow, ...]:
        """Return the rows in force whose time is over."""
        return tuple(self._rows("WHERE state = 'done' AND until <= ? ORDER BY until", now))

    def expire_due(self, now: Micros) -> tuple[BlockRow, ...]:
        """End every block in force whose time is over, and return them as they are now."""
        due = self.over(now)
        if not due:
            return ()
        with transaction(self._connection):
            for row in due:
                self._end(row.number, BlockState.EXPIRED, row.until if row.until is not None else now, "")
        return tuple(replace(row, state=BlockState.EXPIRED, ended=row.until) for row in due)

    def next_expiry(self) -> Micros | None:
        """Return when the next block in force is over, or None."""
        found = self._connection.execute(
            "SELECT min(until) FROM blocks WHERE state = 'done' AND until IS NOT NULL"
        ).fetchone()[0]
        return None if found is None else int(found)

    def mark_written(self, numbers: Iterable[int]) -> None:
        """Write down that these rows' history lines are on the disk."""
        with transaction(self._connection):
            self._connection.executemany(
                "UPDATE blocks SET is_in_history = 1 WHERE number = ?", ((number,) for number in numbers)
            )

    def checkpoint(self) -> None:
        """Carry the journal over into the file, for a quiet moment: that waits for the disk."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def get(self, number: int) -> BlockRow | None:
        """Return one row, or None where it was pruned."""
        return next(iter(self._rows("WHERE number = ?", number)), None)

    def find_request(self, request: str) -> BlockRow | None:
        """Return the row of a request's name, or None."""
        return next(iter(self._rows("WHERE request = ?", request)), None)

    def find(self, source: Source) -> tuple[BlockRow, ...]:
        """Return every row of exactly this source, newest first."""
        return tuple(self._rows("WHERE source = ? ORDER BY number DESC", str(source)))

    def in_force(self) -> Iterator[BlockRow]:
        """Yield the rows in force, oldest first."""
        return self._iterate("WHERE state = 'done' ORDER BY number")

    def in_force_after(self, number: int, limit: int) -> tuple[BlockRow, ...]:
        """Return the oldest rows in force that are younger than row `number`."""
        return tuple(self._rows("WHERE state = 'done' AND number > ? ORDER BY number LIMIT ?", number, limit))

    def carried_out_by(self, action: str) -> Iterator[BlockRow]:
        """Yield the rows in force that an action other than the kernel's own set has carried out."""
        return self._iterate(
            "WHERE state = 'done'"
            " AND number IN (SELECT block FROM deeds WHERE action = ? AND state = 'done')",
            action,
        )

    def sources_of(self, action: str) -> frozenset[Source]:
        """Return every source that an action is to deny, denies, or is still to let go."""
        return frozenset(
            row.source
            for row in self._iterate("WHERE number IN (SELECT block FROM deeds WHERE action = ?)", action)
        )

    def still_done(self, action: str, requests: Iterable[str]) -> dict[str, int]:
        """Return those of `requests` in force whose deed by `action` stands as done, with their numbers."""
        found = {row.request: row.number for row in self.carried_out_by(action)}
        return {request: found[request] for request in requests if request in found}

    def undecided(self) -> tuple[BlockRow, ...]:
        """Return the rows that were written ahead and never answered: what a killed process left."""
        return tuple(self._rows("WHERE state = 'requested' ORDER BY number"))

    def unwritten(self, limit: int) -> tuple[BlockRow, ...]:
        """Return at most `limit` rows that were carried out and have no history line yet, oldest first."""
        return tuple(
            self._rows(
                "WHERE is_in_history = 0 AND state IN ('done', 'expired', 'released')"
                " ORDER BY number LIMIT ?",
                limit,
            )
        )

    def since(self, at: Micros, limit: int = ENDED_KEPT) -> tuple[BlockRow, ...]:
        """Return the rows created at or after `at`, newest first, at most `limit`."""
        return tuple(self._rows("WHERE created >= ? ORDER BY number DESC LIMIT ?", at, limit))

    def count(self) -> dict[BlockState, int]:
        """Return how many rows stand in each state; states without a row are left out."""
        found = self._connection.execute("SELECT state, count(*) FROM blocks GROUP BY state")
        return {BlockState(state): number for state, number in found}

    def prune(self) -> int:
        """Forget the oldest ended rows beyond the bound; return how many."""
        self._since_prune = 0
        return self._connection.execute(
            "DELETE FROM blocks WHERE number IN (SELECT number FROM blocks"
            " WHERE state NOT IN ('requested', 'done') ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (self._ended_kept,),
        ).rowcount

    def _insert(self, block: NewBlock, state: BlockState, detail: str, ended: Micros | None) -> int:
        cursor = self._connection.execute(
            "INSERT INTO blocks (request, source, jail, created, until, port, protocol, reason, actions,"
            " mode, name, state, detail, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (block.request, *_terms(block), state.value, detail, ended),
        )
        self._since_prune += 1
        if self._since_prune >= _PRUNE_EVERY:
            self.prune()
        number = cursor.lastrowid
        assert number is not None  # noqa: S101 -- an INSERT always has one; told to mypy
        return number

    def _end(self, number: int, state: BlockState, now: Micros, detail: str) -> None:
        self._connection.execute(
            "UPDATE blocks SET state = ?, ended = ?, detail = ? WHERE number = ?",
            (state.value, now, detail, number),
        )

    def _rows(self, where: str, *values: object) -> list[BlockRow]:
        return list(self._iterate(where, *values))

    def _iterate(self, where: str, *values: object) -> Iterator[BlockRow]:
        query = f"SELECT {COLUMNS} FROM blocks {where}"  # noqa: S608 -- both are literals of this module
        return map(read_row, self._connection.execute(query, values))


def _open(path: Path) -> sqlite3.Connection:
    # Marked until it is known that there is nothing to take over, or that is done: see `is_begun_anew`.
    schema = f"{_SCHEMA};{DEEDS_SCHEMA}; PRAGMA application_id = 1"
    connection = open_database(path, schema=schema, version=_VERSION)
    connection.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_PAGES}")
    return connection


def _terms(block: NewBlock | BlockRow) -> tuple[object, ...]:
    """Return what a request asks for, as it is written down."""
    return (
        str(block.source),
        block.jail,
        block.created,
        block.until,
        block.port,
        block.protocol,
        block.reason,
        ",".join(block.actions),
        block.mode,
        block.name,
    )


def read_row(found: tuple[Any, ...]) -> BlockRow:
    """Return what a row of `COLUMNS` says."""
    number, request, source, jail, created, until, state, port, protocol, reason, *rest = found
    actions, detail, ended, is_in_history, mode, name = rest
    return BlockRow(
        number=number,
        request=request,
        source=parse_prefix(source),
        jail=jail,
        created=created,
        until=until,
        state=BlockState(state),
        port=port,
        protocol=protocol,
        reason=reason,
        actions=tuple(actions.split(",")) if actions else (),
        detail=detail,
        ended=ended,
        is_in_history=bool(is_in_history),
        mode=mode,
        name=name,
    )
