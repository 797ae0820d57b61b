"""Rows that no action has carried out yet, and who waits for their outcome."""

from __future__ import annotations

from collections.abc import Callable

from correlator.enforcer.telling import Telling
from correlator.model import Outcome, OutcomeKind, Source
from correlator.store.blocks import BlockRow, BlockStore

Later = Callable[[Outcome], None]
"""Takes the outcome of a request whose actions take their time."""


class Pending:
    """Their numbers, with whoever asked; the rows themselves are in the database."""

    def __init__(self, store: BlockStore, telling: Telling) -> None:
        self._store = store
        self._telling = telling
        self._waiting: dict[int, list[Later]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._waiting

    def add(self, number: int, later: Later | None = None) -> None:
        """Wait for a row, for `later` too; it may wait already."""
        self._waiting.setdefault(number, []).extend(() if later is None else (later,))

    def rows(self, source: Source | None) -> list[BlockRow]:
        """Return the rows of this source, or all. Raises: sqlite3.Error where the disk would not."""
        rows = self._store.undecided() if self._waiting else ()
        return [row for row in rows if row.number in self._waiting and source in (None, row.source)]

    def answer(self, row: BlockRow, kind: OutcomeKind, detail: str) -> None:
        """Tell everybody who waits what became of a row, and wait no longer."""
        until = row.until if kind is OutcomeKind.DONE else None
        outcome = Outcome(kind, row.source, row.request, until, detail)
        for later in self._waiting.pop(row.number):
            later(outcome)
        self._telling.answer(outcome, row.jail)
