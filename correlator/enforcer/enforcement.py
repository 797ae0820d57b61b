"""Carries out requests: never-block list, plan, row, kernel, row, answer; and keeps belief equal to fact.

No sockets and no clock here: the service feeds requests and the time. What must survive a kill is in the
database before the kernel is asked; what the kernel really holds is asked of the kernel, at the start and
whenever somebody else may have touched it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, assert_never

from correlator.enforcer import lines
from correlator.enforcer.backend import Backend
from correlator.enforcer.holdings import Holdings, new_block
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.plans import (
    Add,
    Change,
    Exists,
    Extend,
    Plan,
    Refuse,
    Until,
    compare,
    kernel_view,
    plan_block,
    plan_change,
)
from correlator.enforcer.protocol import BlockInForce, BlockRequest, Event, Mend, MendedEvent, OutcomeEvent
from correlator.enforcer.records import Records
from correlator.errors import Fault, KernelError, MissingToolError, PermissionDeniedError
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, Source
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockRow, BlockState, BlockStore

BackendError = (KernelError, MissingToolError, PermissionDeniedError)
Announce = Callable[[str, Event | None], None]
"""Takes a line to print and, for what watchers want to know, the event."""

_FAULTS_SHOWN = 20
_RETRY: Micros = 5 * SECOND
_REMEMBERED = {
    BlockState.DONE: OutcomeKind.EXISTS,
    BlockState.REFUSED: OutcomeKind.REFUSED,
    BlockState.EXPIRED: OutcomeKind.EXPIRED,
    BlockState.RELEASED: OutcomeKind.RELEASED,
}


class Enforcement:
    """Everything the enforcer does, as methods that take the time. See `start` before anything else."""

    def __init__(
        self,
        settings: EnforcerSettings,
        *,
        backend: Backend,
        store: BlockStore,
        never_block: NeverBlock,
        records: Records,
        announce: Announce,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._store = store
        self._never_block = never_block
        self._records = records
        self._announce = announce
        self._holdings = Holdings()
        self._next_expiry: Until = None
        self._looked_at = -1
        """The never-block list's generation that the blocks in force were held against."""
        self._table = "absent"
        self._synced_at: Until = None
        self._trouble = ""
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._holdings)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong in the ignore file or with asking the host."""
        return self._never_block.faults

    def start(self, now: Micros) -> None:
        """Bring kernel, files and belief to what the rows say, and carry out what was left undone.

        Raises: KernelError, MissingToolError, PermissionDeniedError where blocks are due and cannot be.
        """
        expired = self._store.expire_due(now)
        self._holdings = Holdings(self._store.in_force())
        undecided = [(row, self._take_up(row, now)) for row in self._store.undecided()]
        self._look_again(now)
        try:
            self._backend.check()
            mend = self._mend(now)
        except BackendError as exc:
            if self._settings.is_enforcing or len(self._holdings):
                raise
            self._trouble = str(exc)
            self._announce(f"cannot block yet: {exc}", None)
        else:
            self._announce(lines.format_mend(mend, "started"), None)
        for row in expired:
            self._tell(Outcome(OutcomeKind.EXPIRED, row.source, row.request, row.until), row.jail)
        for row, replaced in undecided:
            if replaced is not None:
                self._store.mark_done(row.number, now=now, replaced=replaced)
                self._tell(Outcome(OutcomeKind.DONE, row.source, row.request, row.until), row.jail)
        self._next_expiry = self._store.next_expiry()
        self._records.recover_history()
        self._records.write_blocked(self.blocked_lines())

    def block(self, request: BlockRequest, now: Micros) -> Outcome:
        """Carry out one request, or tell what became of it before; never raises for what the world does."""
        try:
            outcome, is_news = self._block(request, now)
        except sqlite3.Error as exc:
            self._go_back(now)
            detail = f"{self._settings.paths.blocks_database}: {exc}"
            outcome, is_news = _outcome(OutcomeKind.FAILED, request, None, detail), True
        if is_news:
            self._counts[outcome.kind.value] += 1
            event = OutcomeEvent(outcome) if outcome.kind is OutcomeKind.DONE else None
            self._announce(lines.format_outcome(outcome, request.jail), event)
        return outcome

    def release(self, source: Source | None, now: Micros, reason: str = "released on request") -> int:
        """End the block of `source`, or every block; return how many there were.

        The rows come first: whatever happens to us then, the next comparison carries it out.

        Raises: KernelError and its like where the kernel would not; sqlite3.Error where the disk would not.
        """
        sources = self._holdings.sources() if source is None else [source] if source in self._holdings else []
        if sources:
            change = self._let_go(dict.fromkeys(sources, reason), now)
            self._change_kernel(change, now)
        return len(sources)

    def denied_by(self, source: Source) -> Source | None:
        """Return a wider prefix in force that covers `source`, or None."""
        return next(iter(self._holdings.belief.covering(source)), None)

    def expire(self, now: Micros) -> None:
        """End the blocks whose time is over; the kernel has dropped them by itself.

        Raises: sqlite3.Error where the disk would not; they are due again some seconds later.
        """
        if self._next_expiry is None or self._next_expiry > now:
            return
        try:
            due = self._store.expire_due(now)
        except sqlite3.Error:
            self._next_expiry = now + _RETRY
            raise
        for row in due:
            self._holdings.forget(row.source)
            self._tell(Outcome(OutcomeKind.EXPIRED, row.source, row.request, row.until), row.jail)
            self._records.note_change()
        self._next_expiry = self._store.next_expiry()

    @property
    def next_expiry(self) -> Until:
        """When `expire` has something to do."""
        return self._next_expiry

    def sync(self, now: Micros, *, is_thorough: bool = True) -> Mend:
        """Compare belief and kernel, mend, and say so.

        Without `is_thorough` nothing is compared as long as surely nobody touched any rule.

        Raises: KernelError and its like where the kernel cannot be read or mended.
        """
        gone = self._look_again(now)
        try:
            if gone.remove or gone.add:
                self._change_kernel(gone, now)
            is_needed = is_thorough or not self._backend.is_untouched()
            mend = self._mend(now) if is_needed else Mend(self._table)
        except BackendError as exc:
            self._trouble = str(exc)
            raise
        self._synced_at = now
        self._tell_mend(mend)
        return mend

    def blocks(self) -> Iterator[BlockInForce]:
        """Yield the blocks in force, as they are at the call, oldest first."""
        rows = tuple(self._store.in_force())
        return (
            BlockInForce(
                row.source, row.until, row.jail, row.created, row.request, row.port, row.protocol, row.reason
            )
            for row in rows
        )

    def blocked_lines(self) -> list[str]:
        """Return the blocked file's lines."""
        return self._holdings.lines()

    def status(self) -> dict[str, Any]:
        """Return counters and states by name."""
        faults = self._never_block.faults
        return {
            "blocks": len(self._holdings),
            "is_enforcing": self._settings.is_enforcing,
            "backend": self._backend.name,
            "table": self._table,
            "synced_at": self._synced_at,
            "trouble": self._trouble,
            "next_expiry": self._next_expiry,
            "never_block": self._never_block.count(),
            "faults": [str(fault) for fault in faults[:_FAULTS_SHOWN]],
            "fault_count": len(faults),
            "since_start": dict(self._counts),
        }

    def _block(self, request: BlockRequest, now: Micros) -> tuple[Outcome, bool]:
        known = self._store.find_request(request.request)
        if known is not None and known.state in _REMEMBERED:
            return self._recall(known, request), False
        row = new_block(request, now)
        plan = self._plan(request.source, request.until, request.actions, now)
        match plan:
            case Exists(by=by, until=until):
                detail = "" if by == request.source else f"covered by {by}"
                return _outcome(OutcomeKind.EXISTS, request, until, detail), False
            case Refuse(reason=reason):
                if known is None:
                    self._store.refuse(row, reason)
                else:
                    self._store.mark_failed(known.number, reason, now=now)
                return _outcome(OutcomeKind.REFUSED, request, None, reason), True
            case Add(swallows=swallows) | Extend(swallows=swallows):
                if known is None:
                    number = self._store.request(row)
                else:
                    number = known.number
                    self._store.request_again(number, row)
            case _:
                assert_never(plan)
        replaced = self._holdings.replaced_by(request.source, request.request, swallows)
        try:
            self._apply({request.source: request.until}, swallows, now)
        except BackendError as exc:
            self._trouble = str(exc)
            self._store.mark_failed(number, str(exc), now=now)
            return _outcome(OutcomeKind.FAILED, request, None, str(exc)), True
        held = self._holdings.hold(number, row, swallows)
        self._store.mark_done(number, now=now, replaced=replaced)
        if request.until is not None and (self._next_expiry is None or request.until < self._next_expiry):
            self._next_expiry = request.until
        self._records.note_block(number, held.line)
        self._records.note_change()
        return _outcome(OutcomeKind.DONE, request, request.until, ""), True

    def _plan(self, source: Source, until: Until, actions: tuple[str, ...], now: Micros) -> Plan:
        unknown = [action for action in actions if action != self._backend.name]
        if unknown:
            return Refuse(f"no such action: {unknown[0]}; there is: {self._backend.name}")
        why = self._never_block.find(source, now)
        if why is not None:
            return Refuse(why)
        return plan_block(
            self._holdings.belief,
            source,
            until,
            now,
            widest4=self._settings.widest_prefix4,
            widest6=self._settings.widest_prefix6,
        )

    def _take_up(self, row: BlockRow, now: Micros) -> list[tuple[int, str]] | None:
        """Believe in a row that was left undecided; return the rows it replaces, None where it may not be."""
        plan = self._plan(row.source, row.until, row.actions, now)
        match plan:
            case Exists(by=by):
                self._store.mark_failed(row.number, f"denied already by {by}", now=now)
                return None
            case Refuse(reason=reason):
                self._store.mark_failed(row.number, reason, now=now)
                return None
            case Add(swallows=swallows) | Extend(swallows=swallows):
                replaced = self._holdings.replaced_by(row.source, row.request, swallows)
                self._holdings.hold(row.number, row, swallows)
                return replaced
            case _:
                assert_never(plan)

    def _recall(self, known: BlockRow, request: BlockRequest) -> Outcome:
        """Return what became of a request that was carried out before."""
        if known.source in self._holdings.belief:
            return _outcome(
                OutcomeKind.EXISTS, request, self._holdings.belief[known.source], "requested before"
            )
        wider = self.denied_by(known.source)
        if wider is not None and known.state is not BlockState.REFUSED:
            return _outcome(OutcomeKind.EXISTS, request, self._holdings.belief[wider], f"covered by {wider}")
        return _outcome(_REMEMBERED[known.state], request, known.until, known.detail or "requested before")

    def _apply(self, put: Mapping[Source, Until], drop: tuple[Source, ...], now: Micros) -> None:
        """Change belief and kernel together; belief is as before where the kernel would not."""
        change = plan_change(self._holdings.belief, put, drop)
        before = {
            source: self._holdings.belief[source]
            for source in (*put, *drop)
            if source in self._holdings.belief
        }
        for source in drop:
            self._holdings.belief.drop(source)
        for source, until in put.items():
            self._holdings.belief.put(source, until)
        try:
            self._change_kernel(change, now)
        except BaseException:
            for source in put:
                self._holdings.belief.drop(source)
            for source, until in before.items():
                self._holdings.belief.put(source, until)
            raise

    def _change_kernel(self, change: Change, now: Micros) -> None:
        try:
            self._backend.block(change.add, change.remove, now=now)
        except KernelError:
            # The table may be gone, or not be there yet, or hold what a hand put there: compare and mend all.
            was_there = self._table != "absent"
            mend = self._mend(now)
            if was_there and (mend.table != "intact" or mend.size > len(change.add) + len(change.remove)):
                self._tell_mend(mend)

    def _go_back(self, now: Micros) -> None:
        """Take belief from the rows again, and the kernel from belief: a row could not be written."""
        self._holdings = Holdings(self._store.in_force())
        with contextlib.suppress(*BackendError):  # the next comparison tries again, and says so
            self._mend(now)

    def _let_go(self, reasons: Mapping[Source, str], now: Micros) -> Change:
        """Release these in rows and belief; return what is left to do in the kernel."""
        gone = [(source, self._holdings[source], self._holdings.belief[source]) for source in reasons]
        self._store.release(((held.number, reasons[source]) for source, held, _ in gone), now=now)
        change = plan_change(self._holdings.belief, {}, reasons)
        for source, held, until in gone:
            self._holdings.forget(source)
            self._tell(Outcome(OutcomeKind.RELEASED, source, held.request, until, reasons[source]), held.jail)
        self._next_expiry = self._store.next_expiry()
        self._records.note_change()
        return change

    def _look_again(self, now: Micros) -> Change:
        """Release what has become never to be blocked: an address of ours, an entry of the ignore file."""
        self._never_block.refresh(now)
        if self._never_block.generation == self._looked_at:
            return Change()
        found = ((source, self._never_block.find(source, now)) for source in self._holdings.sources())
        reasons = {source: why for source, why in found if why is not None}
        self._looked_at = self._never_block.generation
        return self._let_go(reasons, now) if reasons else Change()

    def _mend(self, now: Micros) -> Mend:
        desired = kernel_view(self._holdings.belief)
        listing = self._backend.list(now=now)
        if listing.table == "missing" and not desired and not self._settings.is_enforcing:
            self._table = "absent"
            return Mend("absent")
        if listing.table != "intact":
            self._backend.restore(desired.items(), now=now)
            mend = Mend(listing.table, added=len(desired), detail=listing.detail)
        else:
            drift = compare(desired, listing.elements, now)
            mend = Mend("intact", len(drift.add), len(drift.remove), len(drift.refresh))
            if drift:
                moved = (source for source, _ in drift.refresh if not source.is_single)
                try:
                    self._backend.block((*drift.add, *drift.refresh), (*drift.remove, *moved), now=now)
                except KernelError:
                    self._backend.restore(desired.items(), now=now)
        self._table = "intact"
        self._trouble = ""
        return mend

    def _tell_mend(self, mend: Mend) -> None:
        if mend.is_needed:
            self._counts["mended"] += 1
            self._announce(lines.format_mend(mend), MendedEvent(mend))

    def _tell(self, outcome: Outcome, jail: str) -> None:
        self._counts[outcome.kind.value] += 1
        self._announce(lines.format_outcome(outcome, jail), OutcomeEvent(outcome))


def _outcome(kind: OutcomeKind, request: BlockRequest, until: Until, detail: str) -> Outcome:
    return Outcome(kind, request.source, request.request, until, detail)
