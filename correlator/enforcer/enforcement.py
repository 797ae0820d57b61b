"""Carries out requests: never-block list, plan, row, actions, row, answer; and keeps belief equal to fact.

No sockets here: the service feeds requests and the time. What must survive a kill is in the database before
anything is done, or below /run where the disk is full; what the kernel really holds is asked of the kernel,
at the start and whenever somebody else may have touched it.

A block's actions run in the order in which its jail names them. Those at the front that take no time are
carried out on the spot, and the first success is the answer; the others follow in `deeds`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, assert_never

from correlator.enforcer import lines
from correlator.enforcer.action import Action
from correlator.enforcer.adoption import adopt
from correlator.enforcer.backend import Backend
from correlator.enforcer.carrier import Carried, Carrier
from correlator.enforcer.disk import Disk
from correlator.enforcer.holdings import as_told, new_block
from correlator.enforcer.in_force import InForce
from correlator.enforcer.keeping import BackendError, Keeping
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.pending import MOST as MOST_PENDING
from correlator.enforcer.pending import Later, Pending
from correlator.enforcer.plans import Add, Change, Exists, Extend, Refuse, Until, outlasts
from correlator.enforcer.protocol import BlockInForce, BlockRequest, Mend
from correlator.enforcer.records import Records
from correlator.enforcer.spool import Spool
from correlator.enforcer.telling import Announce, Telling, outcome_of, wall_clock
from correlator.enforcer.unwritten import Unwritten
from correlator.errors import Fault
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, Source
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockRow, BlockStore

_READ_AT_ONCE = 50


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
        self._clock = clock
        self._disk = Disk(settings.paths.blocks_database, self._say)
        self._carrier = Carrier(
            self._kernel,
            actions or {},
            store,
            later=self._went_on,
            announce=announce,
            clock=clock,
            unwritten=lambda error: self._disk.fails(error, clock()),
        )
        self._unwritten = Unwritten(store, self._carrier, Spool(settings.paths.unwritten, self._say))
        self._in_force = InForce(
            settings,
            store=store,
            kernel=self._kernel,
            carrier=self._carrier,
            never_block=never_block,
            records=records,
            telling=self._telling,
            unwritten=self._unwritten,
            disk=self._disk,
        )
        self._pending = Pending(
            store,
            self._in_force,
            kernel=self._kernel,
            carrier=self._carrier,
            records=records,
            telling=self._telling,
            unwritten=self._unwritten,
            disk=self._disk,
        )
        self._looked_at = -1
        """The never-block list's generation that the blocks in force were held against."""
        self._synced_at: Until = None

    def __len__(self) -> int:
        return len(self._in_force.holdings)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong in the ignore file or with asking the host."""
        return self._never_block.faults

    def start(self, now: Micros) -> None:
        """Bring kernel, files and belief to what the rows say, and carry out what was left undone.

        Raises: KernelError, MissingToolError, PermissionDeniedError where blocks are due and cannot be.
        """
        began = self._clock()
        if self._store.is_begun_anew:
            self._say(f"recovered blocks={adopt(self._store, self._kernel, now)}")
        over = self._in_force.load(now)
        taken = self._pending.take_up(now)
        try:
            self._carrier.start(now)
        except sqlite3.Error as exc:
            self._disk.fails(exc, now)
        self._kernel.believe(self._in_force.holdings.ends(self._kernel.name))
        self._look_again(now)
        try:
            self._kernel.check()
            mend = self._kernel.mend(now + self._clock() - began)  # or all would be denied so much longer
        except BackendError as exc:
            if self._settings.is_enforcing or len(self._kernel):
                raise
            self._kernel.trouble = str(exc)
            self._say(f"cannot block yet: {exc}")
        else:
            self._say(lines.format_mend(mend, "started"))
        for row in over:
            self._telling.ended(Outcome(OutcomeKind.EXPIRED, row.source, row.request, row.until), row.jail)
        self._pending.put_in_force(taken, now)
        self._in_force.find_next_expiry()
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
            self._disk.fails(exc, now)
            detail = f"{self._settings.paths.blocks_database}: {exc}"
            outcome, is_news = self._in_force.put_unwritten(request, now, detail)
            if outcome.kind is OutcomeKind.FAILED and self._pending.keep(request.request, later):
                return None
        if outcome is not None and is_news:
            self._telling.answer(outcome, request.jail)
        return outcome

    def release(self, source: Source | None, now: Micros, reason: str = "released on request") -> int:
        """End the block of `source`, or every block; return how many there were.

        The rows come first: whatever happens to us then, the next comparison carries it out.

        Raises: KernelError and its like where the kernel would not.
        """
        holdings = self._in_force.holdings
        sources = holdings.sources() if source is None else [source] if source in holdings else []
        open_rows = self._pending.rows(source)
        if sources or open_rows:
            change = self._in_force.let_go(dict.fromkeys(sources, reason), now, open_rows, reason)
            self._pending.answer_released(open_rows, reason)
            self._kernel.carry_out(change, now)
        return len({*sources, *(row.source for row in open_rows)})

    def denied_by(self, source: Source) -> Source | None:
        """Return a wider prefix in force that covers `source`, or None."""
        return next(iter(self._in_force.holdings.belief.covering(source)), None)

    def expire(self, now: Micros) -> None:
        """End the blocks whose time is over."""
        self._in_force.expire(now)

    @property
    def next_expiry(self) -> Until:
        """When `expire` has something to do."""
        return self._in_force.next_expiry

    def tend(self, now: Micros) -> None:
        """Carry out what actions are still to do, and write down what the disk would not take before."""
        pause = self._disk.pause(now)
        if pause:
            return
        try:
            if pause is not None or self._unwritten:
                self._in_force.catch_up(now)
                self._pending.settle(now)
                self._store.share()
            self._carrier.tend(now)
        except sqlite3.Error as exc:
            self._disk.fails(exc, now)
        except BackendError as exc:
            self._kernel.trouble = str(exc)
        else:
            if not self._disk.pause(now):  # or it failed meanwhile, and what waits is still to be settled
                self._disk.works()

    def pause(self, now: Micros) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        pause = self._disk.pause(now)
        return self._carrier.pause(now) if pause is None else pause / SECOND

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
        """Yield the blocks in force, oldest first; whoever takes his time gets what is true by then."""
        number = 0
        while rows := self._store.in_force_after(number, _READ_AT_ONCE):
            states = self._store.deeds.states(rows[0].number, rows[-1].number)
            for row in rows:
                held = self._in_force.holdings.find(row.source)
                if held is not None and held.number == row.number:
                    yield as_told(row, self._carrier.endings(row, states))
            number = rows[-1].number
        for block in self._unwritten.in_force():
            held = self._in_force.holdings.find(block.source)
            if held is not None and held.request == block.request:
                yield as_told(block)

    def blocked_lines(self) -> list[tuple[str, str]]:
        """Return the blocked file's lines, each with the mode that saw the source."""
        return self._in_force.holdings.lines()

    def status(self) -> dict[str, Any]:
        """Return counters and states by name."""
        return {
            "blocks": len(self),
            "unwritten": len(self._unwritten),
            "disk_trouble": self._disk.trouble,
            "is_enforcing": self._settings.is_enforcing,
            "synced_at": self._synced_at,
            "next_expiry": self.next_expiry,
            "since_start": dict(self._telling.counts),
            **self._kernel.status(),
            **self._carrier.status(),
            **self._never_block.status(),
        }

    def _say(self, text: str) -> None:
        self._announce(text, None)

    def _block(self, request: BlockRequest, now: Micros, later: Later | None) -> tuple[Outcome | None, bool]:
        known = self._store.find_request(request.request)
        if known is not None and known.number in self._pending:
            self._pending.add(known.number, later)
            return None, False
        self._in_force.catch_up(now)
        holdings = self._in_force.holdings
        known = self._store.find_request(request.request)
        if known is not None and (outcome := holdings.recall(known)) is not None:
            return outcome, False
        actions, plan = self._in_force.plan(request, now)
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
                if len(self._pending) >= MOST_PENDING:
                    detail = f"{MOST_PENDING} blocks wait for their actions already"
                    return outcome_of(request, OutcomeKind.FAILED, None, detail), True
                if known is None:
                    number = self._store.request(row)
                else:
                    number = known.number
                    self._store.request_again(number, row)
            case _:
                assert_never(plan)
        held = holdings.find(request.source)
        before = None if held is None else held.number
        carried = self._carrier.carry_out(number, row, before, swallows, now)
        if carried.is_in_force:
            self._in_force.put(number, row, now, swallows)
            return outcome_of(request, OutcomeKind.DONE, request.until, carried.detail), True
        if carried.is_open:
            self._pending.add(number, later)
            return None, False
        self._pending.give_up(number, carried.detail, now)
        return outcome_of(request, OutcomeKind.FAILED, None, carried.detail), True

    def _went_on(self, row: BlockRow, carried: Carried) -> None:
        self._pending.go_on(row, carried, self._clock())

    def _look_again(self, now: Micros) -> Change:
        """Release what has become never to be blocked: an address of ours, an entry of the ignore file."""
        self._never_block.refresh(now)
        if self._never_block.generation == self._looked_at:
            return Change()
        touched = self._in_force.holdings.touched_by(self._never_block.sources())
        reasons = {one: why for one in touched if (why := self._never_block.find(one, now))}
        self._looked_at = self._never_block.generation
        return self._in_force.let_go(reasons, now) if reasons else Change()
