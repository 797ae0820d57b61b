"""The blocks in force: rows, belief, kernel and files change together here.

A row that the disk would not take is no reason to let anybody in, or to keep anybody out who was let go: see
`unwritten`. While something waits there, nothing is written past it, so that the rows get all in its order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from correlator.enforcer.carrier import Carrier
from correlator.enforcer.disk import Disk
from correlator.enforcer.holdings import Held, Holdings, new_block
from correlator.enforcer.keeping import BackendError, Keeping
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.plans import Add, Change, Exists, Extend, Plan, Refuse, Until, outlasts
from correlator.enforcer.protocol import BlockRequest
from correlator.enforcer.records import Records, history_line
from correlator.enforcer.telling import Telling, outcome_of
from correlator.enforcer.unwritten import Unwritten
from correlator.model import Micros, Outcome, OutcomeKind, Source
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockRow, BlockState, BlockStore, NewBlock


class InForce:
    """Puts blocks in force and ends them; `load` before anything else."""

    def __init__(
        self,
        settings: EnforcerSettings,
        *,
        store: BlockStore,
        kernel: Keeping,
        carrier: Carrier,
        never_block: NeverBlock,
        records: Records,
        telling: Telling,
        unwritten: Unwritten,
        disk: Disk,
    ) -> None:
        self._settings = settings
        self._store = store
        self._kernel = kernel
        self._carrier = carrier
        self._never_block = never_block
        self._records = records
        self._telling = telling
        self._unwritten = unwritten
        self._disk = disk
        self.holdings = Holdings()
        self.next_expiry: Until = None
        """When `expire` has something to do."""

    def load(self, now: Micros) -> tuple[BlockRow, ...]:
        """Believe what the rows say, and what the disk did not take; return what is over since."""
        self._unwritten.load()
        over = self._expire_rows(now)
        self.reload(now)
        return over

    def reload(self, now: Micros) -> None:
        """Believe what the rows say, and what the disk did not take."""
        self.holdings = Holdings(
            row
            for row in self._store.in_force()
            if not _is_over(row.until, now) and not self._unwritten.has_ended(row.request)
        )
        for block in self._unwritten.in_force():
            _, plan = self.plan(block, now)
            if isinstance(plan, Add | Extend) and self._kernel.name in block.actions:
                self._hold_unwritten(block, now)
            else:
                why = plan.reason if isinstance(plan, Refuse) else "denied already"
                self._unwritten.end(block.request, now, "" if _is_over(block.until, now) else why)

    def plan(self, asked: BlockRequest | BlockRow | NewBlock, now: Micros) -> tuple[tuple[str, ...], Plan]:
        """Return what a request comes to, and all the actions that it then needs."""
        names = self._carrier.names
        unknown = [action for action in asked.actions if action not in names]
        if unknown:
            return asked.actions, Refuse(f"no such action: {unknown[0]}; there is: {', '.join(names)}")
        why = self._never_block.find(asked.source, now)
        if why is not None:
            return asked.actions, Refuse(why)
        return self.holdings.plan(asked, now, self._carrier.denying, self._settings)

    def put(
        self, number: int, row: BlockRow | NewBlock, now: Micros, swallows: tuple[Source, ...] = ()
    ) -> None:
        """Believe in a row that an action has carried out, and end those that it replaces.

        Raises: sqlite3.Error, belief as before, where the disk would not.
        """
        replaced = self.holdings.replaced_by(row.source, row.request, swallows)
        self._store.mark_done(number, now=now, replaced=replaced)
        held = self.holdings.hold(number, row, swallows)
        self._kernel.drop(swallows, now)  # where its turn comes later: or they would outlive the prefix
        self.note_end(row.until)
        self._records.note_block(number, held.line)
        self._records.note_change()
        self.end_deeds(((other, ()) for other, _ in replaced), now)

    def put_unwritten(self, request: BlockRequest, now: Micros, why: str) -> tuple[Outcome, bool]:
        """Deny a source in the kernel though nothing can be written down: `why`; tell whether it is news."""
        actions, plan = self.plan(request, now)
        match plan:
            case Refuse(reason=reason):
                return outcome_of(request, OutcomeKind.REFUSED, None, reason), True
            case Exists(by=by, until=until):
                detail = "" if by == request.source else f"covered by {by}"
                return outcome_of(request, OutcomeKind.EXISTS, until, detail), False
            case _:
                pass
        request = replace(request, actions=actions)
        if self._kernel.name not in actions:
            return outcome_of(request, OutcomeKind.FAILED, None, why), True
        if isinstance(plan, Extend) and outlasts(plan.before, request.until):
            request = replace(request, until=plan.before)
        block = new_block(request, now)
        problem = self._unwritten.add(block) or self._deny_unwritten(block, plan, now)
        if problem is not None:
            return outcome_of(request, OutcomeKind.FAILED, None, f"{why}; {problem}"), True
        return outcome_of(request, OutcomeKind.DONE, request.until, f"not written down yet: {why}"), True

    def keep_unwritten(self, row: BlockRow, now: Micros) -> bool:
        """Go on with a row that cannot be changed as with one that cannot be written; false: neither can.

        The kernel denies it already, or is made to hold what is believed after this.
        """
        actions, plan = self.plan(row, now)
        if isinstance(plan, Extend) and outlasts(plan.before, row.until):
            row = replace(row, until=plan.before)
        block = new_block(replace(row, actions=actions), row.created)
        is_possible = isinstance(plan, Add | Extend) and self._kernel.name in actions
        if not is_possible or self._unwritten.add(block) is not None:
            return False
        self._hold_unwritten(block, now)
        return True

    def catch_up(self, now: Micros) -> None:
        """Write down what waits. Raises: sqlite3.Error where the disk still would not."""
        if not self._unwritten and not self._disk.trouble:
            return
        self._forget_over(self._store.expire_due(now), now)
        for number, block in self._unwritten.write(now):
            held = self.holdings.find(block.source)
            if held is not None and held.request == block.request:
                self.holdings.hold(number, block)
            self._records.note_block(number, history_line(block))
        self._records.note_change()
        self.find_next_expiry()

    def let_go(
        self, reasons: Mapping[Source, str], now: Micros, open_rows: Sequence[BlockRow] = (), why: str = ""
    ) -> Change:
        """Release these in rows and belief; return what is left to do in the kernel.

        `open_rows`, that no action has carried out yet, are given up in the same step: what a block in force
        did may be theirs by now, and a death between the two would leave it without.
        """
        given_up = [(row.number, why) for row in open_rows]
        try:
            self.catch_up(now)
            held = {source: self.holdings[source] for source in reasons}
            released = ((held[source].number, reason) for source, reason in reasons.items())
            self._store.release(released, now=now, given_up=given_up)
        except sqlite3.Error as exc:
            self._disk.fails(exc, now)
            held = {source: self.holdings[source] for source in reasons}
            for source, reason in reasons.items():
                self._unwritten.end(held[source].request, now, reason)
            for row in open_rows:
                self._unwritten.end(row.request, now, why)
        else:
            rows = [(gone.number, gone.actions) for gone in held.values()]
            self.end_deeds([*rows, *((number, ()) for number, _ in given_up)], now)
        change = self._kernel.forget(reasons)
        for source, reason in reasons.items():
            until = self.holdings.belief[source]
            self.holdings.forget(source)
            outcome = Outcome(OutcomeKind.RELEASED, source, held[source].request, until, reason)
            self._telling.ended(outcome, held[source].jail)
        self.find_next_expiry()
        self._records.note_change()
        return change

    def expire(self, now: Micros) -> None:
        """End the blocks whose time is over, in the kernel too: what was restored may last a bit longer."""
        if self.next_expiry is None or self.next_expiry > now:
            return
        self._forget_over(self._expire_rows(now), now)
        gone: list[Source] = []
        for block in self._unwritten.in_force():
            if _is_over(block.until, now):
                self._unwritten.end(block.request, now, "")
                held = self.holdings.find(block.source)
                if held is not None and held.request == block.request:
                    self._forget(block.source, held, block.until)
                    gone.append(block.source)
        self._kernel.end(gone, now)
        self.find_next_expiry()

    def end_deeds(self, rows: Iterable[tuple[int, tuple[str, ...]]], now: Micros) -> None:
        """Have undone what the actions of these rows did; where the disk would not, that is found later."""
        try:
            self._carrier.end(rows, now)
        except sqlite3.Error as exc:
            self._disk.fails(exc, now)

    def note_end(self, until: Until) -> None:
        """Take note of when a block will be over."""
        if until is not None and (self.next_expiry is None or until < self.next_expiry):
            self.next_expiry = until

    def find_next_expiry(self) -> None:
        """Find out when `expire` has something to do."""
        if self._disk.trouble:  # the rows do not say what is over
            ends = (until for _, until in self.holdings.belief.items() if until is not None)
            self.next_expiry = min(ends, default=None)
        else:
            self.next_expiry = self._store.next_expiry()

    def _deny_unwritten(self, block: NewBlock, plan: Plan, now: Micros) -> str | None:
        """Carry out a block that waits for its row; return what kept us from it."""
        ends = {block.source: block.until}
        # What it swallows stays a block of its own until the disk can say otherwise.
        for gone in plan.swallows if isinstance(plan, Add | Extend) else ():
            if self._kernel.name in self.holdings[gone].actions:
                ends[gone] = self.holdings.belief[gone]
        try:
            self._kernel.put(ends, (), now)
        except BackendError as exc:
            self._unwritten.forget(block.request)
            return str(exc)
        self._hold_unwritten(block, now)
        self.note_end(block.until)
        self._records.note_change()
        return None

    def _hold_unwritten(self, block: NewBlock, now: Micros) -> None:
        held = self.holdings.find(block.source)
        if held is not None and held.request != block.request:
            self._unwritten.end(held.request, now, f"extended by {block.request}")
        self.holdings.hold(0, block)

    def _expire_rows(self, now: Micros) -> tuple[BlockRow, ...]:
        """End the rows whose time is over, as far as the disk lets us; return them all the same."""
        try:
            return self._store.expire_due(now)
        except sqlite3.Error as exc:
            self._disk.fails(exc, now)
            return self._store.over(now)

    def _forget_over(self, rows: Sequence[BlockRow], now: Micros) -> None:
        gone: list[Source] = []
        for row in rows:
            held = self.holdings.find(row.source)
            if held is not None and held.number == row.number:  # else a longer one has its place
                self._forget(row.source, held, row.until)
                gone.append(row.source)
        self._kernel.end(gone, now)
        ended = ((row.number, row.actions) for row in rows if row.state is BlockState.EXPIRED)
        self.end_deeds(ended, now)

    def _forget(self, source: Source, held: Held, until: Until) -> None:
        self.holdings.forget(source)
        self._telling.ended(Outcome(OutcomeKind.EXPIRED, source, held.request, until), held.jail)
        self._records.note_change()


def _is_over(until: Until, now: Micros) -> bool:
    return until is not None and until <= now
