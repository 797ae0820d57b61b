"""Carries out requests: never-block list, plan, row, actions, row, answer; and keeps belief equal to fact.

No sockets here: the service feeds requests and the time. What must survive a kill is in the database before
anything is done; what the kernel really holds is asked of the kernel, at the start and whenever somebody
else may have touched it.

A block's actions run in the order in which its jail names them. Those at the front that take no time are
carried out on the spot, and the first success is the answer; the others follow in `deeds`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, assert_never

from correlator.enforcer import lines
from correlator.enforcer.action import Action
from correlator.enforcer.adoption import adopt
from correlator.enforcer.backend import Backend
from correlator.enforcer.carrier import Carried, Carrier
from correlator.enforcer.holdings import Holdings, as_told, new_block
from correlator.enforcer.keeping import BackendError, Keeping
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.pending import Later, Pending
from correlator.enforcer.plans import Add, Change, Exists, Extend, Plan, Refuse, Until, outlasts
from correlator.enforcer.protocol import BlockInForce, BlockRequest, Mend
from correlator.enforcer.records import Records, history_line
from correlator.enforcer.telling import Announce, Telling, outcome_of, wall_clock
from correlator.enforcer.unwritten import Unwritten
from correlator.errors import Fault
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, Source
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockRow, BlockStore, NewBlock

_RETRY: Micros = 5 * SECOND


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
        actions: Mapping[str, Action] | None = None,
        clock: Callable[[], Micros] = wall_clock,
    ) -> None:
        self._settings = settings
        self._telling = Telling(announce)
        self._kernel = Keeping(backend, is_enforcing=settings.is_enforcing, tell=self._telling.mended)
        self._store = store
        self._never_block = never_block
        self._records = records
        self._announce = announce
        self._carrier = Carrier(
            self._kernel, actions or {}, store, later=self._went_on, announce=announce, clock=clock
        )
        self._clock = clock
        self._holdings = Holdings()
        self._unwritten = Unwritten(store, self._kernel, records)
        self._pending = Pending(store, self._telling)
        self._next_expiry: Until = None
        self._looked_at = -1
        """The never-block list's generation that the blocks in force were held against."""
        self._synced_at: Until = None

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
        if self._store.is_begun_anew:
            self._announce(f"recovered blocks={adopt(self._store, self._kernel, now)}", None)
        expired = self._store.expire_due(now)
        self._holdings = Holdings(self._store.in_force())
        undecided = [self._take_up(row, now) for row in self._store.undecided()]
        self._carrier.start(now)
        self._kernel.believe(self._holdings.ends(self._kernel.name))
        self._look_again(now)
        try:
            self._kernel.check()
            mend = self._kernel.mend(now)
        except BackendError as exc:
            if self._settings.is_enforcing or len(self._kernel):
                raise
            self._kernel.trouble = str(exc)
            self._announce(f"cannot block yet: {exc}", None)
        else:
            self._announce(lines.format_mend(mend, "started"), None)
        for row in expired:
            self._telling.ended(Outcome(OutcomeKind.EXPIRED, row.source, row.request, row.until), row.jail)
        for row, replaced in filter(None, undecided):
            self._store.mark_done(row.number, now=now, replaced=replaced)
            self._carrier.end(((number, ()) for number, _ in replaced), now)
            self._telling.ended(Outcome(OutcomeKind.DONE, row.source, row.request, row.until), row.jail)
        self._next_expiry = self._store.next_expiry()
        self._records.recover_history()
        self._records.write_blocked(self.blocked_lines())
        self._carrier.check(now)
        self._carrier.compare(now)

    def block(self, request: BlockRequest, now: Micros, later: Later | None = None) -> Outcome | None:
        """Carry out one request, or tell what became of it before; never raises for what the world does.

        None: its actions take their time, and `later` hears of the outcome.
        """
        try:
            outcome, is_news = self._block(request, now, later)
        except sqlite3.Error as exc:
            self._go_back(now)
            detail = f"{self._settings.paths.blocks_database}: {exc}"
            _, plan = self._plan(request, now)
            outcome, is_news = self._unwritten.carry_out(request, plan, now, self._holdings, detail), True
        if outcome is not None and is_news:
            self._telling.answer(outcome, request.jail)
        return outcome

    def release(self, source: Source | None, now: Micros, reason: str = "released on request") -> int:
        """End the block of `source`, or every block; return how many there were.

        The rows come first: whatever happens to us then, the next comparison carries it out.

        Raises: KernelError and its like where the kernel would not; sqlite3.Error where the disk would not.
        """
        sources = self._holdings.sources() if source is None else [source] if source in self._holdings else []
        given_up = self._give_up_pending(source, reason, now)
        if sources:
            change = self._let_go(dict.fromkeys(sources, reason), now)
            self._kernel.carry_out(change, now)
        return len({*sources, *given_up})

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
            self._telling.ended(Outcome(OutcomeKind.EXPIRED, row.source, row.request, row.until), row.jail)
            self._records.note_change()
        self._kernel.forget(row.source for row in due)
        self._carrier.end(((row.number, row.actions) for row in due), now)
        self._next_expiry = self._store.next_expiry()

    @property
    def next_expiry(self) -> Until:
        """When `expire` has something to do."""
        return self._next_expiry

    def tend(self, now: Micros) -> None:
        """Carry out what actions are still to do. Raises: sqlite3.Error where the disk would not."""
        if self._unwritten.tend(now, self._holdings):
            self._next_expiry = self._store.next_expiry()
        self._carrier.tend(now)

    def pause(self, now: Micros) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        return self._carrier.pause(now)

    def sync(self, now: Micros, *, is_thorough: bool = True) -> Mend:
        """Compare belief and kernel, mend, and say so.

        Without `is_thorough` nothing is compared as long as surely nobody touched any rule.

        Raises: KernelError and its like where the kernel cannot be read or mended.
        """
        self._kernel.carry_out(self._look_again(now), now)
        self._carrier.compare(now)
        mend = self._kernel.sync(now, is_thorough=is_thorough)
        self._synced_at = now
        self._telling.mended(mend)
        return mend

    def blocks(self) -> Iterator[BlockInForce]:
        """Yield the blocks in force, as they are at the call, oldest first."""
        return chain(map(as_told, tuple(self._store.in_force())), map(as_told, self._unwritten.rows()))

    def blocked_lines(self) -> list[tuple[str, str]]:
        """Return the blocked file's lines, each with the mode that saw the source."""
        return self._holdings.lines()

    def status(self) -> dict[str, Any]:
        """Return counters and states by name."""
        return {
            "blocks": len(self._holdings),
            "unwritten": len(self._unwritten),
            "is_enforcing": self._settings.is_enforcing,
            "synced_at": self._synced_at,
            "next_expiry": self._next_expiry,
            "since_start": dict(self._telling.counts),
            **self._kernel.status(),
            **self._carrier.status(),
            **self._never_block.status(),
        }

    def _block(self, request: BlockRequest, now: Micros, later: Later | None) -> tuple[Outcome | None, bool]:
        known = self._store.find_request(request.request)
        if known is not None and (outcome := self._holdings.recall(known)) is not None:
            return outcome, False
        if known is not None and known.number in self._pending:
            self._pending.add(known.number, later)
            return None, False
        actions, plan = self._plan(request, now)
        if isinstance(plan, Extend) and outlasts(plan.before, request.until):
            request = replace(request, until=plan.before)
        request = replace(request, actions=actions)
        row = new_block(request, now)
        match plan:
            case Exists(by=by, until=until):
                detail = "" if by == request.source else f"covered by {by}"
                return outcome_of(request, OutcomeKind.EXISTS, until, detail), False
            case Refuse(reason=reason):
                if known is None:
                    self._store.refuse(row, reason)
                else:
                    self._store.mark_failed(known.number, reason, now=now)
                return outcome_of(request, OutcomeKind.REFUSED, None, reason), True
            case Add(swallows=swallows) | Extend(swallows=swallows):
                if known is None:
                    number = self._store.request(row)
                else:
                    number = known.number
                    self._store.request_again(number, row)
            case _:
                assert_never(plan)
        held = self._holdings.find(request.source)
        before = None if held is None else held.number
        carried = self._carrier.carry_out(number, row, before, swallows, now)
        if carried.is_in_force:
            self._put_in_force(number, row, now, swallows)
            return outcome_of(request, OutcomeKind.DONE, request.until, carried.detail), True
        if carried.is_open:
            self._pending.add(number, later)
            return None, False
        self._give_up(number, carried.detail, now)
        return outcome_of(request, OutcomeKind.FAILED, None, carried.detail), True

    def _plan(self, asked: BlockRequest | BlockRow, now: Micros) -> tuple[tuple[str, ...], Plan]:
        """Return what a request comes to, and all the actions that it then needs."""
        names = self._carrier.names
        unknown = [action for action in asked.actions if action not in names]
        if unknown:
            return asked.actions, Refuse(f"no such action: {unknown[0]}; there is: {', '.join(names)}")
        why = self._never_block.find(asked.source, now)
        if why is not None:
            return asked.actions, Refuse(why)
        return self._holdings.plan(asked, now, self._carrier.denying, self._settings)

    def _put_in_force(
        self, number: int, row: BlockRow | NewBlock, now: Micros, swallows: tuple[Source, ...]
    ) -> None:
        """Believe in a row that an action has carried out, and end those that it replaces."""
        replaced = self._holdings.replaced_by(row.source, row.request, swallows)
        held = self._holdings.hold(number, row, swallows)
        self._kernel.drop(swallows, now)  # where its turn comes later: or they would outlive the prefix
        self._store.mark_done(number, now=now, replaced=replaced)
        self._carrier.end(((other, ()) for other, _ in replaced), now)
        if row.until is not None and (self._next_expiry is None or row.until < self._next_expiry):
            self._next_expiry = row.until
        self._records.note_block(number, held.line)
        self._records.note_change()

    def _went_on(self, row: BlockRow, carried: Carried) -> None:
        """Take how a block went on that no action had carried out yet."""
        if row.number not in self._pending:
            return
        now = self._clock()
        _, plan = self._plan(row, now)  # never to be blocked, or over, since it was asked for
        if not carried.is_in_force:
            kind, detail = OutcomeKind.FAILED, carried.detail
        elif isinstance(plan, Refuse):
            kind, detail = OutcomeKind.REFUSED, plan.reason
        else:
            try:
                self._join(row, now)
                kind, detail = OutcomeKind.DONE, carried.detail
            except BackendError as exc:
                kind, detail = OutcomeKind.FAILED, str(exc)
        if kind is not OutcomeKind.DONE:
            self._give_up(row.number, detail, now)
        self._pending.answer(row, kind, detail)

    def _join(self, row: BlockRow, now: Micros) -> None:
        """Put a row in force; with a block of its source that came in force meanwhile, as both together.

        Raises: KernelError and its like where the kernel would not.
        """
        held = self._holdings.find(row.source)
        if held is None:
            self._put_in_force(row.number, row, now, ())
            return
        actions, until = self._holdings.join(row, self._carrier.denying)
        if (actions, until) == (held.actions, self._holdings.belief[row.source]):
            self._store.release([(row.number, f"covered by {held.request}")], now=now)
            self._records.note_block(row.number, history_line(row))
            self._carrier.end([(row.number, ())], now)
            return
        if self._kernel.name in actions:
            self._kernel.put({row.source: until}, (), now)
        self._put_in_force(row.number, self._joined(row, held.number), now, ())

    def _joined(self, row: BlockRow, before: int) -> BlockRow:
        """Return a row that comes in force late, with all that row `before` of its source was and did."""
        actions, until = self._holdings.join(row, self._carrier.denying)
        joined = replace(row, actions=actions, until=until)
        if joined != row:
            self._store.request_again(row.number, joined)
        self._carrier.take_over(before, joined, is_longer=until != row.until)
        return joined

    def _give_up_pending(self, source: Source | None, reason: str, now: Micros) -> set[Source]:
        """Give up what no action has carried out yet: of this source, or all; return whose."""
        rows = self._pending.rows(source)
        for row in rows:
            self._give_up(row.number, reason, now)
            self._pending.answer(row, OutcomeKind.RELEASED, reason)
        return {row.source for row in rows}

    def _give_up(self, number: int, detail: str, now: Micros) -> None:
        """Write down that no action carried a row out."""
        self._store.mark_failed(number, detail, now=now)
        self._carrier.end([(number, ())], now)

    def _take_up(self, row: BlockRow, now: Micros) -> tuple[BlockRow, list[tuple[int, str]]] | None:
        """Go on with a row that was left undecided; return it with what it replaces, None if not in force."""
        _, plan = self._plan(row, now)
        match plan:
            case Exists() | Refuse():
                why = plan.reason if isinstance(plan, Refuse) else f"denied already by {plan.by}"
                self._give_up(row.number, why, now)
                return None
            case Add(swallows=swallows) | Extend(swallows=swallows):
                if self._carrier.go_on(row).is_open:
                    self._pending.add(row.number)
                    return None
                held = self._holdings.find(row.source)
                row = row if held is None else self._joined(row, held.number)
                replaced = self._holdings.replaced_by(row.source, row.request, swallows)
                self._holdings.hold(row.number, row, swallows)
                return row, replaced
            case _:
                assert_never(plan)

    def _go_back(self, now: Micros) -> None:
        """Take belief from the rows again, and the kernel from belief: a row could not be written."""
        self._holdings = Holdings(self._store.in_force())
        self._unwritten.hold(self._holdings)
        self._kernel.go_back(self._holdings.ends(self._kernel.name), now)

    def _let_go(self, reasons: Mapping[Source, str], now: Micros) -> Change:
        """Release these in rows and belief; return what is left to do in the kernel."""
        gone = [(source, self._holdings[source], self._holdings.belief[source]) for source in reasons]
        self._store.release(((held.number, reasons[source]) for source, held, _ in gone), now=now)
        change = self._kernel.forget(reasons)
        for source, held, until in gone:
            self._holdings.forget(source)
            self._unwritten.forget(source)
            self._telling.ended(
                Outcome(OutcomeKind.RELEASED, source, held.request, until, reasons[source]), held.jail
            )
        self._carrier.end(((held.number, held.actions) for _, held, _ in gone), now)
        self._next_expiry = self._store.next_expiry()
        self._records.note_change()
        return change

    def _look_again(self, now: Micros) -> Change:
        """Release what has become never to be blocked: an address of ours, an entry of the ignore file."""
        self._never_block.refresh(now)
        if self._never_block.generation == self._looked_at:
            return Change()
        reasons = {one: why for one in self._holdings.sources() if (why := self._never_block.find(one, now))}
        self._looked_at = self._never_block.generation
        return self._let_go(reasons, now) if reasons else Change()
