"""Rows that no action has carried out yet: what a slow action, a death or a full disk left half way.

The rows themselves are in the database; here are their numbers, with whoever waits for the outcome.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace

from correlator.enforcer.carrier import Carried, Carrier
from correlator.enforcer.disk import Disk
from correlator.enforcer.in_force import InForce
from correlator.enforcer.keeping import BackendError, Keeping
from correlator.enforcer.plans import Add, Exists, Extend, Refuse
from correlator.enforcer.records import Records, history_line
from correlator.enforcer.telling import Telling
from correlator.enforcer.unwritten import Unwritten
from correlator.model import Micros, Outcome, OutcomeKind, Source
from correlator.store.blocks import BlockRow, BlockState, BlockStore

MOST = 10_000
"""Rows that wait at once; whoever asks for more has them fail."""
Later = Callable[[Outcome], None]
"""Takes the outcome of a request whose actions take their time."""
TakenUp = tuple[BlockRow, list[tuple[int, str]]]
"""A row that is to be put in force, and the rows that it replaces, with why."""


class Pending:
    """What is to come of rows that were written ahead and not answered."""

    def __init__(
        self,
        store: BlockStore,
        in_force: InForce,
        *,
        kernel: Keeping,
        carrier: Carrier,
        records: Records,
        telling: Telling,
        unwritten: Unwritten,
        disk: Disk,
    ) -> None:
        self._store = store
        self._in_force = in_force
        self._kernel = kernel
        self._carrier = carrier
        self._records = records
        self._telling = telling
        self._unwritten = unwritten
        self._disk = disk
        self._waiting: dict[int, list[Later]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, number: int) -> bool:
        return number in self._waiting

    def add(self, number: int, later: Later | None = None) -> None:
        """Wait for a row, for `later` too; it may wait already."""
        self._waiting.setdefault(number, []).extend(() if later is None else (later,))

    def keep(self, request: str, later: Later | None) -> bool:
        """Wait for a request's row that the disk kept from its end; false where it has none that is open."""
        row = self._store.find_request(request)
        if row is None or row.state is not BlockState.REQUESTED or self._unwritten.has_ended(request):
            return False
        self.add(row.number, later)
        return True

    def rows(self, source: Source | None) -> list[BlockRow]:
        """Return the rows of this source, or all. Raises: sqlite3.Error where the disk would not."""
        rows = self._store.undecided() if self._waiting else ()
        return [row for row in rows if row.number in self._waiting and source in (None, row.source)]

    def go_on(self, row: BlockRow, carried: Carried, now: Micros) -> None:
        """Take how a block went on that no action had carried out yet."""
        if row.number not in self._waiting:
            return
        _, plan = self._in_force.plan(row, now)  # never to be blocked, or over, since it was asked for
        try:
            if not carried.is_in_force:
                kind, detail = OutcomeKind.FAILED, carried.detail
            elif isinstance(plan, Refuse):
                kind, detail = OutcomeKind.REFUSED, plan.reason
            else:
                kind, detail = self._join_or_fail(row, carried, now)
            if kind is not OutcomeKind.DONE:
                self.give_up(row.number, detail, now)
        except sqlite3.Error as exc:
            self._disk.fails(exc, now)  # and it goes on when the disk does
            return
        self._answer(row, kind, detail)

    def give_up(self, number: int, detail: str, now: Micros) -> None:
        """Write down that no action carried a row out."""
        self._store.mark_failed(number, detail, now=now)
        self._in_force.end_deeds([(number, ())], now)

    def answer_released(self, rows: list[BlockRow], reason: str) -> None:
        """Tell whoever waits for these that they were given up."""
        for row in rows:
            self._answer(row, OutcomeKind.RELEASED, reason)

    def take_up(self, now: Micros) -> list[TakenUp]:
        """Go on with what nobody waits for: a death or the disk left it; return what comes in force by it."""
        taken = []
        for row in self._store.undecided():
            if row.number in self._waiting or self._unwritten.has(row.request):
                continue
            try:
                if (found := self._take_up(row, now)) is not None:
                    taken.append(found)
            except sqlite3.Error as exc:
                self._disk.fails(exc, now)
                if not self._in_force.keep_unwritten(row, now):
                    self.add(row.number)
        return taken

    def put_in_force(self, taken: list[TakenUp], now: Micros) -> None:
        """Write down that the kernel denies these by now."""
        for row, replaced in taken:
            try:
                self._store.mark_done(row.number, now=now, replaced=replaced)
            except sqlite3.Error as exc:
                self._disk.fails(exc, now)
                self._in_force.reload(now)  # as if it had not been taken up yet
                if not self._in_force.keep_unwritten(row, now):
                    self.add(row.number)
                    continue
            else:
                self._in_force.end_deeds(((number, ()) for number, _ in replaced), now)
            self._telling.ended(Outcome(OutcomeKind.DONE, row.source, row.request, row.until), row.jail)

    def settle(self, now: Micros) -> None:
        """Go on with everything that the disk held up. Raises: sqlite3.Error, KernelError and its like."""
        self._carrier.start(now)
        taken = self.take_up(now)
        if taken:
            self._kernel.believe(self._in_force.holdings.ends(self._kernel.name))
            self._kernel.mend(now)
            self.put_in_force(taken, now)
            for row, _ in taken:
                self._in_force.note_end(row.until)
        for row in self.rows(None):
            self._carrier.go_on(row)
            carried = self._carrier.standing(row)
            if not carried.is_open:
                self.go_on(row, carried, now)

    def _take_up(self, row: BlockRow, now: Micros) -> TakenUp | None:
        if self._unwritten.has_ended(row.request):
            return None  # it is written down as such with the rest
        _, plan = self._in_force.plan(row, now)
        match plan:
            case Exists() | Refuse():
                why = plan.reason if isinstance(plan, Refuse) else f"denied already by {plan.by}"
                self.give_up(row.number, why, now)
                return None
            case Add(swallows=swallows) | Extend(swallows=swallows):
                if self._carrier.go_on(row).is_open:
                    self.add(row.number)
                    return None
                holdings = self._in_force.holdings
                held = holdings.find(row.source)
                row = row if held is None else self._joined(row, held.number)
                replaced = holdings.replaced_by(row.source, row.request, swallows)
                holdings.hold(row.number, row, swallows)
                return row, replaced

    def _join_or_fail(self, row: BlockRow, carried: Carried, now: Micros) -> tuple[OutcomeKind, str]:
        try:
            self._join(row, now)
        except BackendError as exc:
            return OutcomeKind.FAILED, str(exc)
        return OutcomeKind.DONE, carried.detail

    def _join(self, row: BlockRow, now: Micros) -> None:
        """Put a row in force; with a block of its source that came in force meanwhile, as both together.

        Raises: KernelError and its like where the kernel would not.
        """
        self._in_force.catch_up(now)
        holdings = self._in_force.holdings
        held = holdings.find(row.source)
        if held is None:
            self._in_force.put(row.number, row, now)
            return
        actions, until = holdings.join(row, self._carrier.denying)
        if (actions, until) == (held.actions, holdings.belief[row.source]):
            self._store.release([(row.number, f"covered by {held.request}")], now=now)
            self._records.note_block(row.number, history_line(row))
            self._in_force.end_deeds([(row.number, ())], now)
            return
        if self._kernel.name in actions:
            self._kernel.put({row.source: until}, (), now)
        self._in_force.put(row.number, self._joined(row, held.number), now)

    def _joined(self, row: BlockRow, before: int) -> BlockRow:
        """Return a row that comes in force late, with all that row `before` of its source was and did."""
        actions, until = self._in_force.holdings.join(row, self._carrier.denying)
        joined = replace(row, actions=actions, until=until)
        # asked for first: after a death the row alone would not say that its end has moved
        self._carrier.take_over(before, joined, is_longer=until != row.until)
        if joined != row:
            self._store.request_again(row.number, joined)
        return joined

    def _answer(self, row: BlockRow, kind: OutcomeKind, detail: str) -> None:
        """Tell everybody who waits what became of a row, and wait no longer."""
        until = row.until if kind is OutcomeKind.DONE else None
        outcome = Outcome(kind, row.source, row.request, until, detail)
        for later in self._waiting.pop(row.number):
            later(outcome)
        self._telling.answer(outcome, row.jail)
