"""Blocks that stand in the kernel though the disk would not take their rows: a full disk protects nobody.

They are kept in memory, bounded, and written down as soon as that is possible again. Only what the kernel's
own set denies is done so: every other action needs its deed written first. A death before that forgets them.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from correlator.enforcer.holdings import Holdings, new_block
from correlator.enforcer.keeping import BackendError, Keeping
from correlator.enforcer.plans import Add, Extend, Plan
from correlator.enforcer.protocol import BlockRequest
from correlator.enforcer.records import Records
from correlator.enforcer.telling import outcome_of
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, Source
from correlator.store.blocks import BlockState, BlockStore, NewBlock

MOST = 10_000
RETRY: Micros = 5 * SECOND


class Unwritten:
    """The rows that wait for the disk."""

    def __init__(self, store: BlockStore, kernel: Keeping, records: Records) -> None:
        self._store = store
        self._kernel = kernel
        self._records = records
        self._rows: dict[Source, NewBlock] = {}
        self._retry_at: Micros = 0

    def __len__(self) -> int:
        return len(self._rows)

    def carry_out(
        self, request: BlockRequest, plan: Plan, now: Micros, holdings: Holdings, why: str
    ) -> Outcome:
        """Deny a source in the kernel though nothing can be written down; return the outcome, with `why`."""
        if self._kernel.name not in request.actions or not isinstance(plan, Add | Extend):
            return outcome_of(request, OutcomeKind.FAILED, None, why)
        problem = self.block(new_block(request, now), now, holdings)
        if problem is not None:
            return outcome_of(request, OutcomeKind.FAILED, None, f"{why}; {problem}")
        return outcome_of(request, OutcomeKind.DONE, request.until, f"not written down yet: {why}")

    def block(self, row: NewBlock, now: Micros, holdings: Holdings) -> str | None:
        """Deny a source in the kernel alone; return what kept us from it, None where it is denied."""
        if len(self._rows) >= MOST:
            return f"{MOST} blocks wait for the disk already"
        try:
            self._kernel.put({row.source: row.until}, (), now)
        except BackendError as exc:
            return str(exc)
        self._rows[row.source] = replace(row, actions=(self._kernel.name,))
        self._retry_at = now + RETRY
        holdings.hold(0, self._rows[row.source])
        return None

    def rows(self) -> tuple[NewBlock, ...]:
        """Return what waits, oldest first."""
        return tuple(self._rows.values())

    def hold(self, holdings: Holdings) -> None:
        """Put what waits into holdings that were made of the rows."""
        for row in self._rows.values():
            holdings.hold(0, row)

    def forget(self, source: Source) -> None:
        """Let one go that was released or is over."""
        self._rows.pop(source, None)

    def tend(self, now: Micros, holdings: Holdings) -> bool:
        """Write down what waits, when it is time to try again; return whether anything changed."""
        if not self._rows or now < self._retry_at:
            return False
        self._retry_at = now + RETRY
        for row in list(self._rows.values()):
            if row.until is not None and row.until <= now:
                del self._rows[row.source]
                holdings.forget(row.source)
                self._kernel.forget([row.source])
        while self._rows:
            row = next(iter(self._rows.values()))
            try:
                number = self._write(row, now)
            except sqlite3.Error:
                break
            del self._rows[row.source]
            self._records.note_block(number, holdings.hold(number, row).line)
            self._records.note_change()
        return True

    def _write(self, row: NewBlock, now: Micros) -> int:
        """Write a row down as in force, in the place of what stands there of the same source or request."""
        known = self._store.find_request(row.request)
        before = [
            (old.number, f"extended by {row.request}")
            for old in self._store.find(row.source)
            if old.state is BlockState.DONE
        ]
        if known is None:
            number = self._store.request(row)
        else:
            number = known.number
            self._store.request_again(number, row)
        self._store.mark_done(number, now=now, replaced=[old for old in before if old[0] != number])
        return number
