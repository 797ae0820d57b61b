"""Carries out what blocks ask of actions other than the kernel's own set: in order, again, and back.

A block's actions run in the order in which its jail names them, the next when the one before has ended.
What fails is tried again, later and later, as long as the block is in force; what was done is undone when it
is over. The database is the queue, so memory is bounded and nothing is forgotten by a death.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace

from correlator.actions import Order
from correlator.enforcer.action import Action, Ending, Result
from correlator.model import SECOND, Micros
from correlator.store.blocks import BlockRow, BlockState, BlockStore, NewBlock
from correlator.store.deeds import DeedRow, DeedState

MOST_AT_ONCE = 8
RETRY_AFTER: tuple[Micros, ...] = tuple(seconds * SECOND for seconds in (5, 30, 120, 600, 3600))
"""How long after each failure the next try comes; the last one repeats."""

_STATES = {
    Ending.DONE: DeedState.DONE,
    Ending.EXISTS: DeedState.EXISTS,
    Ending.FAILED: DeedState.FAILED,
    Ending.UNKNOWN: DeedState.UNKNOWN,
}
Told = Callable[[BlockRow, Action, Result], None]
"""Hears how an action of a block ended; not of what is undone."""


class Deeds:
    """What is asked, runs, has failed, or is to be undone. See `start` before anything else."""

    def __init__(
        self,
        store: BlockStore,
        actions: Mapping[str, Action],
        *,
        told: Told,
        complain: Callable[[str], None],
        clock: Callable[[], Micros],
    ) -> None:
        self._store = store
        self._deeds = store.deeds
        self._actions = actions
        self._told = told
        self._complain = complain
        self._clock = clock
        self._running: set[tuple[int, str]] = set()
        self._next: Micros | None = None
        """When there is something to do; None: nothing that we know of."""
        self.failed = 0
        """Actions that ended in failure since the start."""

    def start(self, now: Micros) -> None:
        """Take up what the process before us left."""
        for deed in self._deeds.interrupted():
            self._deeds.put([replace(deed, state=DeedState.ASKED, tries=deed.tries + 1)])
        self._deeds.end_orphans(now)
        self._next = self._deeds.next_due()

    def ask(self, number: int, names: tuple[str, ...], skip: tuple[str, ...] = ()) -> None:
        """Write down that these actions of block `number` are to be carried out, but for `skip`."""
        asked = [
            DeedRow(number, place, name, DeedState.ASKED)
            for place, name in enumerate(names)
            if name not in skip
        ]
        if asked:
            self._deeds.put(asked)
            self._next = 0

    def begin(self, number: int, place: int, name: str) -> None:
        """Write down that an action is about to be carried out on the spot."""
        self._deeds.put([DeedRow(number, place, name, DeedState.RUNNING)])

    def note(self, number: int, place: int, name: str, result: Result, now: Micros) -> None:
        """Write down how an action ended that was carried out on the spot."""
        state = _STATES[result.ending]
        failed = state is DeedState.FAILED
        next_try = now + RETRY_AFTER[0] if failed else 0
        self._deeds.put([DeedRow(number, place, name, state, result.detail, int(failed), next_try)])
        if failed:
            self._wake_at(next_try)

    def do_again(self, name: str, requests: Mapping[str, int]) -> None:
        """Carry out again what an action did for these, by row number: somebody undid it."""
        for number in requests.values():
            for deed in self._deeds.of(number):
                if deed.action == name:
                    self._deeds.put([replace(deed, state=DeedState.ASKED, tries=1, next_try=0)])
        if requests:
            self._next = 0

    def end(self, numbers: list[int], now: Micros) -> None:
        """Have undone what the actions of these blocks did."""
        self._deeds.end(numbers, now)
        self._next = now

    def tend(self, now: Micros) -> None:
        """Start what is due. Raises: sqlite3.Error where the disk would not."""
        while self._next is not None and self._next <= now and len(self._running) < MOST_AT_ONCE:
            due = [
                deed
                for deed in self._deeds.due(now, MOST_AT_ONCE + len(self._running))
                if (deed.block, deed.action) not in self._running
            ]
            if not due:
                self._next = None if self._running else self._deeds.next_due()
                return
            for deed in due[: MOST_AT_ONCE - len(self._running)]:
                self._begin(deed, now)

    def pause(self, now: Micros) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        if self._next is None or len(self._running) >= MOST_AT_ONCE:
            return None
        return max(0, self._next - now) / SECOND

    def _begin(self, deed: DeedRow, now: Micros) -> None:
        row = self._store.get(deed.block)
        action = self._actions.get(deed.action)
        if row is None or action is None:
            if row is not None:
                self._complain(
                    f"action {deed.action!r} of {row.request} is not there any more: left as it is"
                )
            self._deeds.delete(deed.block, deed.action)
            return
        order = order_of(row)
        is_over = row.until is not None and row.until <= now
        if deed.state is DeedState.ENDING and action.expires_by_itself and is_over:
            self._deeds.delete(deed.block, deed.action)
            return
        if deed.state is DeedState.ENDING and not action.can_release:
            if action.denies:
                self._complain(f"{action.name} cannot be undone, {row.source} stays denied by: {deed.detail}")
            self._deeds.delete(deed.block, deed.action)
            return
        self._running.add((deed.block, deed.action))
        if deed.state is DeedState.ENDING:
            action.release(order, now, lambda result: self._undone(row, deed, result))
            return
        self._deeds.put([replace(deed, state=DeedState.RUNNING)])
        is_again = deed.state is DeedState.ASKED and deed.tries > 0
        action.block(order, now, lambda result: self._ended(deed, action, result), is_again=is_again)

    def _ended(self, deed: DeedRow, action: Action, result: Result) -> None:
        now = self._clock()
        self._running.discard((deed.block, deed.action))
        state = _STATES[result.ending]
        tries, next_try = deed.tries, 0
        if state is DeedState.FAILED:
            next_try = now + RETRY_AFTER[min(tries, len(RETRY_AFTER) - 1)]
            tries += 1
            self.failed += 1
            if not action.denies:  # what tells somebody is not told an hour late
                state, next_try = DeedState.UNKNOWN, 0
        self._write(replace(deed, state=state, detail=result.detail, tries=tries, next_try=next_try))
        row = self._store.get(deed.block)
        if row is not None:
            self._told(row, action, result)
            row = self._store.get(deed.block)
        if row is None or row.state not in (BlockState.REQUESTED, BlockState.DONE):
            self._deeds.end([deed.block], now)  # it was over before this was done
        self._next = 0

    def _undone(self, row: BlockRow, deed: DeedRow, result: Result) -> None:
        now = self._clock()
        self._running.discard((deed.block, deed.action))
        if result.ending is Ending.FAILED:
            self.failed += 1
            if deed.tries == 0:
                self._complain(f"{deed.action} does not let {row.source} go: {result.detail}")
            next_try = now + RETRY_AFTER[min(deed.tries, len(RETRY_AFTER) - 1)]
            self._write(replace(deed, detail=result.detail, tries=deed.tries + 1, next_try=next_try))
        else:
            self._deeds.delete(deed.block, deed.action)
        self._next = 0

    def _write(self, deed: DeedRow) -> None:
        try:
            self._deeds.put([deed])
        except sqlite3.Error as exc:
            self._complain(f"what became of {deed.action} cannot be written down: {exc}")

    def _wake_at(self, at: Micros) -> None:
        if self._next is None or at < self._next:
            self._next = at


def order_of(row: BlockRow | NewBlock) -> Order:
    """Return what an action is told of a block."""
    return Order(
        request=row.request,
        source=row.source,
        jail=row.jail,
        created=row.created,
        until=row.until,
        port=row.port,
        protocol=row.protocol,
        mode=row.mode,
        name=row.name,
        reason=row.reason,
    )
