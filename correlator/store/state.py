"""The correlator's own memory: how far it has read, which strikes wait, what it decided and on what.

One transaction a step: positions move together with the strikes and decisions that the lines led to, so
after a crash every line has been counted once or will be read again. A decision stands here before it
has an outcome (`requested`); what a restart finds so is sent again under the same request.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from correlator.model import (
    Block,
    Ignore,
    Micros,
    Outcome,
    OutcomeKind,
    Repeat,
    Source,
    Strike,
    parse_prefix,
)
from correlator.store.database import DatabaseError, is_alone, open_database, open_to_read, transaction
from correlator.store.state_rows import (
    ALL,
    OF_SOURCE,
    OF_WINDOW,
    REQUESTED,
    KeptDecision,
    decision_row,
    path_row,
    read_block,
    read_decision,
    read_path,
    read_strikes,
    storable,
    strike_row,
)

VERSION = 3
SCHEMA = """
CREATE TABLE position (origin TEXT PRIMARY KEY, files TEXT NOT NULL);
CREATE TABLE strike (
    jail TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, source TEXT NOT NULL,
    weight INTEGER NOT NULL, value TEXT NOT NULL, spoofable INTEGER NOT NULL,
    port INTEGER, protocol TEXT, origin TEXT NOT NULL, offset INTEGER NOT NULL, line TEXT NOT NULL,
    filter TEXT NOT NULL, pattern TEXT NOT NULL
);
CREATE INDEX strike_key ON strike (jail, key, at);
CREATE INDEX strike_at ON strike (at);
CREATE INDEX strike_source ON strike (source);
CREATE TABLE decision (
    request TEXT PRIMARY KEY, kind TEXT NOT NULL, source TEXT NOT NULL, jail TEXT NOT NULL,
    at INTEGER NOT NULL, until INTEGER, state TEXT NOT NULL, detail TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX decision_source ON decision (source, at);
CREATE INDEX decision_at ON decision (at);
CREATE TABLE repeat (
    jail TEXT NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, until INTEGER, PRIMARY KEY (jail, key)
);
"""
_DECISIONS_KEPT = 100_000
_REPEATS_KEPT = 100_000
_STRIKES_KEPT = 1_000_000
_FAILED = OutcomeKind.FAILED.value


class State:
    """The correlator's database; for one writer."""

    def __init__(self, path: Path) -> None:
        self._database = open_database(path, schema=SCHEMA, version=VERSION)
        self.is_alone = is_alone(self._database)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def positions(self, origin: str) -> list[dict[str, Any]] | None:
        """Return what was last written of an origin's position; None where it was never seen."""
        which = (path_row(origin),)
        row = self._database.execute("SELECT files FROM position WHERE origin = ?", which).fetchone()
        return json.loads(row[0]) if row else None

    def origins(self) -> list[str]:
        """Return the origins whose position is kept."""
        return [read_path(origin) for (origin,) in self._database.execute("SELECT origin FROM position")]

    def forget_positions(self, origins: Iterable[str]) -> None:
        """Drop the positions of origins that are gone."""
        with transaction(self._database):
            self._database.executemany(
                "DELETE FROM position WHERE origin = ?", [(path_row(origin),) for origin in origins]
            )

    def strikes(self) -> Iterator[Strike]:
        """Yield the strikes that waited in windows, oldest first."""
        return read_strikes(self._database)

    def repeats(self) -> Iterator[Repeat]:
        """Yield how far keys have come on the growing lengths of their jails, the latest last."""
        for row in self._database.execute("SELECT jail, key, step, until FROM repeat ORDER BY rowid"):
            yield Repeat(*row)

    def blocks(self, now: Micros) -> Iterator[tuple[Block, str]]:
        """Yield the blocks whose time is not over, each with its state, oldest first."""
        rows = self._database.execute(
            "SELECT body, state FROM decision WHERE kind IN ('block', 'observe')"
            " AND (until IS NULL OR until > ?) AND state NOT IN ('failed', 'expired', 'released')"
            " ORDER BY at",
            (now,),
        )
        for body, state in rows:
            yield read_block(json.loads(body)), state

    def record(
        self,
        *,
        positions: Mapping[str, Sequence[Mapping[str, Any]]],
        strikes: Iterable[Strike] = (),
        settled: Iterable[tuple[str, str]] = (),
        decisions: Iterable[Block | Ignore] = (),
    ) -> None:
        """Write one step in one transaction.

        `settled`: jails and keys of which what waited before is used up; `strikes` wait since.
        """
        decisions = tuple(decisions)
        with transaction(self._database):
            self._database.executemany(
                "DELETE FROM strike WHERE jail = ? AND key = ?",
                ((jail, storable(key)) for jail, key in settled),
            )
            self._database.executemany(
                "INSERT INTO strike VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(strike_row, strikes),
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO decision VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(decision_row, decisions),
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO repeat VALUES (?, ?, ?, ?)",
                (
                    (block.jail, block.key, block.step, block.until)
                    for block in decisions
                    if isinstance(block, Block) and block.step
                ),
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO position VALUES (?, ?)",
                ((path_row(origin), json.dumps(list(files))) for origin, files in positions.items()),
            )

    def note(self, outcome: Outcome) -> None:
        """Record what became of a decision."""
        with transaction(self._database):
            if outcome.kind is OutcomeKind.FAILED:
                self._take_back(outcome.request)
            if outcome.request:
                self._database.execute(
                    "UPDATE decision SET state = ?, detail = ?, until = coalesce(?, until) WHERE request = ?",
                    (outcome.kind.value, outcome.detail, outcome.until, outcome.request),
                )
            else:
                self._database.execute(
                    "UPDATE decision SET state = ?, detail = ?"
                    " WHERE source = ? AND state IN ('done', 'exists')",
                    (outcome.kind.value, outcome.detail, str(outcome.source)),
                )

    def _take_back(self, request: str) -> None:
        """Undo the step of a block that could not be carried out, once."""
        row = self._database.execute(
            "SELECT jail, body FROM decision WHERE request = ? AND state != ?", (request, _FAILED)
        ).fetchone()
        body = json.loads(row[1]) if row else {}
        if body.get("step"):
            which = (row[0], body["key"])
            self._database.execute("UPDATE repeat SET step = step - 1 WHERE jail = ? AND key = ?", which)
            self._database.execute("DELETE FROM repeat WHERE jail = ? AND key = ? AND step < 1", which)

    def forget(self, source: Source, keys: Iterable[tuple[str, str]]) -> None:
        """Drop the strikes and the past of a source that somebody released."""
        which = tuple(keys)
        with transaction(self._database):
            self._database.execute("DELETE FROM strike WHERE source = ?", (str(source),))
            self._database.executemany("DELETE FROM strike WHERE jail = ? AND key = ?", which)
            self._database.executemany("DELETE FROM repeat WHERE jail = ? AND key = ?", which)

    def prune(self, oldest: Mapping[str, Micros], *, ended: Mapping[str, Micros] | None = None) -> None:
        """Drop strikes older than their jail can use, and the oldest decisions beyond the bound.

        `ended`: by jail, when the last block of a key must have ended for its past to be forgotten.
        """
        with transaction(self._database):
            self._database.executemany(
                "DELETE FROM repeat WHERE jail = ? AND until <= ?", (ended or {}).items()
            )
            self._database.execute(
                "DELETE FROM repeat WHERE rowid IN"
                " (SELECT rowid FROM repeat ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (_REPEATS_KEPT,),
            )
            self._database.executemany("DELETE FROM strike WHERE jail = ? AND at <= ?", oldest.items())
            marks = ",".join("?" * len(oldest))
            self._database.execute(f"DELETE FROM strike WHERE jail NOT IN ({marks})", tuple(oldest))  # noqa: S608
            self._database.execute(
                "DELETE FROM strike WHERE rowid IN"
                " (SELECT rowid FROM strike ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (_STRIKES_KEPT,),
            )
            self._database.execute(
                "DELETE FROM decision WHERE rowid IN"
                " (SELECT rowid FROM decision WHERE state != ? ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (REQUESTED, _DECISIONS_KEPT),
            )


class StateReader:
    """Looks into the database while the correlator writes it; for the command line.

    Raises: DatabaseError, here and in every method, where the file is not there, not ours to read, or holds
    something else than a correlator writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = open_to_read(path)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def decisions(self, *, source: Source | None = None, most: int = 1000) -> list[KeptDecision]:
        """Return the newest decisions, newest first: of `source`, what lies in it and around it, or all.

        For one address this costs a look-up for each prefix length, however many decisions there are.
        """
        with self._reading():
            rows = [
                self._database.execute(
                    "SELECT request, kind, source, jail, at, until, state, detail, body FROM decision"
                    " WHERE rowid = ?",
                    (number,),
                ).fetchone()
                for number in self._numbers(source, most)
            ]
            return [read_decision(row) for row in rows if row is not None]  # None: it was pruned meanwhile

    def strikes(self, *, source: Source | None = None) -> Iterator[Strike]:
        """Yield the strikes that wait in windows, oldest first: of `source` and what lies in it, or all."""
        with self._reading():
            which = (OF_SOURCE, str(source)) if source is not None and source.is_single else (ALL,)
            for strike in read_strikes(self._database, *which):
                if source is None or source.covers(strike.source):
                    yield strike

    def waiting(self, jail: str, key: str) -> list[Strike]:
        """Return the strikes that wait in one window, oldest first."""
        with self._reading():
            return list(read_strikes(self._database, OF_WINDOW, jail, key))

    def _numbers(self, source: Source | None, most: int) -> list[int]:
        newest = "ORDER BY at DESC, rowid DESC"
        if source is None:
            found = self._database.execute(f"SELECT rowid FROM decision {newest} LIMIT ?", (most,))  # noqa: S608
            return [number for (number,) in found]
        if source.is_single:
            around = {str(source.prefix(length)) for length in range(source.network.prefixlen + 1)}
            marks = ",".join("?" * len(around))
            found = self._database.execute(
                f"SELECT rowid FROM decision INDEXED BY decision_source WHERE source IN ({marks})"  # noqa: S608
                f" {newest} LIMIT ?",
                (*around, most),
            )
            return [number for (number,) in found]
        texts = self._database.execute("SELECT DISTINCT source FROM decision")
        concerned = {text for (text,) in texts if _concerns(text, source)}
        rows = self._database.execute(f"SELECT rowid, source FROM decision {newest}")  # noqa: S608
        return list(itertools.islice((number for number, text in rows if text in concerned), most))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as exc:
            raise DatabaseError(f"{self._path}: cannot be read: {exc}") from exc


def _concerns(text: str, source: Source) -> bool:
    other = parse_prefix(text)
    return other.covers(source) or source.covers(other)
