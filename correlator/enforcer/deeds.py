"""Carries out what blocks ask of actions other than the kernel's own set: in order, again, and back.

A block's actions run in the order in which its jail names them, the next when the one before has ended.
What fails is tried again, later and later, as long as the block is in force; what was done is undone when it
is over. The database is the queue, so memory is bounded and nothing is forgotten by a death.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from correlator.actions import Order
from correlator.enforcer.action import Action, Ending, Finder, Result, Surveyor, order_of
from correlator.enforcer.plans import outlasts
from correlator.model import SECOND, Micros
from correlator.store.blocks import BlockRow, BlockState, BlockStore, NewBlock
from correlator.store.deeds import DeedRow, DeedState

MOST_AT_ONCE = 8
MOST_TELLING = 2
"""Deeds at once that only tell somebody: a mail server that hangs must hold up no denial."""
_MOST_HELD_OFF = 24
"""Deeds looked past that wait for another of the same source."""
RETRY_AFTER: tuple[Micros, ...] = tuple(seconds * SECOND for seconds in (5, 30, 120, 600, 3600))
"""How long after each failure the next try comes; the last one repeats."""
MOST_BLIND_TRIES = len(RETRY_AFTER) + 23
"""Tries to undo what cannot be asked about, in a day: it may be gone, and each try fail for that reason."""

_STATES = {
    Ending.DONE: DeedState.DONE,
    Ending.EXISTS: DeedState.EXISTS,
    Ending.FAILED: DeedState.FAILED,
    Ending.UNKNOWN: DeedState.UNKNOWN,
}
_Rivals = Sequence[DeedRow]
Told = Callable[[BlockRow, Action, Result], None]
"""Hears how an action of a block ended; not of what is undone."""


class Deeds:
    """What is asked, runs, has failed, or is to be undone. See `start` before anything else."""

    def __init__(
        self,
        store: BlockStore,
        actions: Mapping[str, Action],
        *,
        undone_with_row: str,
        told: Told,
        complain: Callable[[str], None],
        clock: Callable[[], Micros],
        unwritten: Callable[[sqlite3.Error], None],
    ) -> None:
        self._store = store
        self._deeds = store.deeds
        self._actions = actions
        self._undone_with_row = undone_with_row
        """The kernel's own set: who ends a row changes it in that step, and it may hold the next one."""
        self._told = told
        self._complain = complain
        self._clock = clock
        self._unwritten = unwritten
        """Hears of an ending that the disk would not take; it is told when it has."""
        self._late: deque[Callable[[], None]] = deque()
        self._running: set[tuple[int, str]] = set()
        self._next: Micros | None = None
        """When there is something to do; None: nothing that we know of."""
        self.failed = 0
        """Actions that ended in failure since the start."""

    def start(self, now: Micros) -> None:
        """Take up what the process before us left, or the disk did not let us write down.

        Raises: sqlite3.Error where the disk would not.
        """
        for deed in self._deeds.interrupted():
            if (deed.block, deed.action) in self._running:
                continue
            row = self._store.get(deed.block)
            is_over = row is None or row.state not in (BlockState.REQUESTED, BlockState.DONE)
            # of a block that is over it may have been done, and is undone then
            state = DeedState.DONE if is_over else DeedState.ASKED
            self._deeds.put([replace(deed, state=state, tries=deed.tries + 1, next_try=0)])
        self._deeds.end_orphans(now)
        self._next = self._deeds.next_due()

    def ask(self, number: int, names: tuple[str, ...], skip: tuple[str, ...] = ()) -> None:
        """Write down that these actions of block `number` are to be carried out, but for `skip`.

        One that was carried out, or may have been, is asked for again: it may stand.
        """
        tries = {deed.action: int(deed.may_stand) for deed in self._deeds.of(number)}
        asked = [
            DeedRow(number, place, name, DeedState.ASKED, tries=tries.get(name, 0))
            for place, name in enumerate(names)
            if name not in skip
        ]
        if asked:
            self._deeds.put(asked)
            self._next = 0

    def inherit(
        self, before: int, number: int, block: NewBlock | BlockRow, names: Iterable[str]
    ) -> tuple[str, ...]:
        """Make what row `before` of the same source did that of row `number`; return by which actions.

        Only where it would leave the same behind. What carries the end of its time in itself is asked for
        again: what stands is the new block's from now on.
        """
        old = self._store.get(before)
        if old is None:
            return ()
        order, order_before = order_of(block), order_of(old)
        same = {name for name in names if self._trace(name, order) == self._trace(name, order_before)}
        renewed = [
            DeedRow(number, block.actions.index(deed.action), deed.action, DeedState.ASKED, tries=1)
            for deed in self._deeds.of(before)
            if deed.action in same and self._actions[deed.action].expires_by_itself and deed.may_stand
        ]
        self._deeds.put(renewed)
        for deed in renewed:
            if (before, deed.action) not in self._running:  # or the new one waits until it has ended
                self._deeds.delete(before, deed.action)
        moved = [name for name in same if not self._actions[name].expires_by_itself]
        return self._deeds.move(before, number, block.actions, moved)

    def carry_out_now(self, number: int, place: int, action: Action, order: Order, now: Micros) -> Result:
        """Carry out an action that takes no time, and write down how it ended."""
        for rival in self._deeds.rivals(number, action.name):
            if rival.state is DeedState.ENDING:
                self._begin(rival, now)
        tries = sum(deed.may_stand for deed in self._deeds.of(number) if deed.action == action.name)
        deed = DeedRow(number, place, action.name, DeedState.ASKED, tries=tries)
        found = self._find(deed, action, order)
        if found is not None:
            self.note(number, place, action.name, found, now)
            return found
        self._deeds.put([replace(deed, state=DeedState.RUNNING)])
        ended: list[tuple[Result, _Rivals]] = []
        self._carry_out(deed, action, order, now, lambda *how: ended.append(how))
        result, rivals = ended[0]
        try:
            self.note(number, place, action.name, result, now, tries=tries)
            self._take_over(rivals, result)
        except sqlite3.Error:  # whose line it is must not be forgotten: that is told with the others
            self._running.add((number, action.name))
            self._late.append(lambda: self._ended(deed, action, result, rivals))
            raise
        return result

    def note(
        self, number: int, place: int, name: str, result: Result, now: Micros, *, tries: int = 0
    ) -> None:
        """Write down how an action ended that was carried out on the spot; after `tries` it may stand."""
        failed = result.ending is Ending.FAILED
        next_try = now + RETRY_AFTER[0] if failed else 0
        state = DeedState.ASKED if failed and tries else _STATES[result.ending]
        self._deeds.put([DeedRow(number, place, name, state, result.detail, tries + int(failed), next_try)])
        if failed:
            self._wake_at(next_try)

    def do_again(self, name: str, requests: Mapping[str, int]) -> None:
        """Carry out again what an action did for these, by row number: somebody undid it."""
        deeds = (deed for number in requests.values() for deed in self._deeds.of(number))
        again = [deed for deed in deeds if deed.action == name]
        try:
            self._deeds.put(replace(deed, state=DeedState.ASKED, tries=1, next_try=0) for deed in again)
        except sqlite3.Error as exc:  # the next comparison finds them again
            self._unwritten(exc)
        if again:
            self._next = 0

    def end(self, numbers: list[int], now: Micros) -> None:
        """Have undone what the actions of these blocks did."""
        self._deeds.end(numbers, now)
        self._next = now

    def tend(self, now: Micros) -> None:
        """Start what is due, after what ended and is not written down yet.

        Raises: sqlite3.Error where the disk would not.
        """
        while self._late:
            self._late[0]()
            self._late.popleft()
        while self._next is not None and self._next <= now and len(self._running) < MOST_AT_ONCE:
            due = [
                deed
                for deed in self._deeds.due(now, MOST_AT_ONCE + _MOST_HELD_OFF, without=self._held_up())
                if not self._has_to_wait(deed)
            ]
            if not due:
                self._next = None if self._running else self._deeds.next_due()
                return
            for deed in due[: MOST_AT_ONCE - len(self._running)]:
                # for one that has just begun
                if not self._has_to_wait(deed) and deed.action not in self._held_up():
                    self._begin(deed, now)

    def pause(self, now: Micros) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        if self._next is None or len(self._running) >= MOST_AT_ONCE:
            return None
        return max(0, self._next - now) / SECOND

    def _held_up(self) -> tuple[str, ...]:
        """Return the actions of which none may begin, as enough run that only tell somebody."""
        telling = tuple(name for name, action in self._actions.items() if not action.denies)
        return telling if sum(name in telling for _, name in self._running) >= MOST_TELLING else ()

    def _trace(self, name: str, order: Order) -> str:
        return self._actions[name].trace(order)

    def _has_to_wait(self, deed: DeedRow) -> bool:
        """True where it runs, or another block of the source has the same action at it, or still to undo.

        Else the undoing of a block that is over would undo what the next one has just done.
        """
        rivals = self._deeds.rivals(deed.block, deed.action)
        return (deed.block, deed.action) in self._running or any(
            (rival.block, rival.action) in self._running
            or (deed.state is not DeedState.ENDING and rival.state is DeedState.ENDING and not rival.tries)
            for rival in rivals
        )

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
        is_gone = (action.expires_by_itself and is_over) or action.name == self._undone_with_row
        if deed.state is DeedState.ENDING and is_gone:
            self._deeds.delete(deed.block, deed.action)
            return
        if deed.state is DeedState.ENDING and (heirs := self._heirs(deed, action, order)):
            # to undo it would undo theirs; that they found it there does not make it somebody else's
            there = (heir for heir in heirs if heir.state is DeedState.EXISTS)
            self._deeds.put(replace(heir, state=DeedState.DONE) for heir in there)
            self._deeds.delete(deed.block, deed.action)
            return
        if deed.state is DeedState.ENDING and not action.can_release:
            if action.denies:
                self._complain(f"{action.name} cannot be undone, {row.source} stays denied by: {deed.detail}")
            self._deeds.delete(deed.block, deed.action)
            return
        if deed.state is DeedState.ENDING:
            self._running.add((deed.block, deed.action))
            action.release(order, now, lambda result: self._write(lambda: self._undone(row, deed, result)))
            return
        found = self._find(deed, action, order)
        if found is not None:
            self._running.add((deed.block, deed.action))
            self._write(lambda: self._ended(deed, action, found, ()))
            return
        self._deeds.put([replace(deed, state=DeedState.RUNNING)])
        self._running.add((deed.block, deed.action))
        self._carry_out(
            deed,
            action,
            order,
            now,
            lambda result, rivals: self._write(lambda: self._ended(deed, action, result, rivals)),
        )

    def _find(self, deed: DeedRow, action: Action, order: Order) -> Result | None:
        """Return how a deed ends that somebody else did before us.

        To be asked before it is written down that it runs: what ran when we died is ours.
        """
        may_be_ours = deed.may_stand or any(one.may_stand for one, _ in self._equals(deed, action, order))
        if may_be_ours or not isinstance(action, Finder) or not action.finds(order):
            return None
        return Result(Ending.EXISTS, action.trace(order))

    def _heirs(self, deed: DeedRow, action: Action, order: Order) -> _Rivals:
        """Return the deeds of other blocks that count on what this one has left behind."""
        equals = self._equals(deed, action, order)
        rivals = [rival for rival, _ in equals if rival.state is not DeedState.ENDING]
        return [rival for rival in rivals if rival.may_stand or rival.state is DeedState.EXISTS]

    def _equals(self, deed: DeedRow, action: Action, order: Order) -> Iterator[tuple[DeedRow, BlockRow]]:
        """Yield the deeds of other blocks that leave the same behind."""
        for rival in self._deeds.rivals(deed.block, deed.action):
            row = self._store.get(rival.block)
            if row is not None and action.trace(order_of(row)) == action.trace(order):
                yield rival, row

    def _carry_out(
        self,
        deed: DeedRow,
        action: Action,
        order: Order,
        now: Micros,
        ended: Callable[[Result, _Rivals], None],
    ) -> None:
        """Block, or take over what another block of the same source has left behind.

        `ended` hears of the deeds that could not be undone, and need not be where this one succeeds.
        """
        left: list[DeedRow] = []
        # a command that failed, killed or not, may have done its work; what takes no time knows better
        may_be_done = (DeedState.ASKED,) if action.is_quick else (DeedState.ASKED, DeedState.FAILED)
        is_again = deed.state in may_be_done and deed.tries > 0
        for rival, row in self._equals(deed, action, order) if action.denies else ():
            if rival.state is DeedState.ENDING:  # it could not be undone, and now it need not be
                left.append(rival)
                is_again = True
            elif rival.state is DeedState.ASKED and rival.tries > 0:  # it may stand
                is_again = True
            elif rival.state not in (DeedState.DONE, DeedState.EXISTS):
                continue
            elif row.state is BlockState.DONE and outlasts(row.until, order.until):
                ended(Result(Ending.EXISTS, rival.detail), left)  # it would only be cut short
                return
            else:
                self._deeds.delete(rival.block, rival.action)
                if not action.expires_by_itself:
                    is_ours = rival.state is DeedState.DONE
                    ended(Result(Ending.DONE if is_ours else Ending.EXISTS, rival.detail), left)
                    return
        action.block(order, now, lambda result: ended(result, left), is_again=is_again)

    def _take_over(self, rivals: _Rivals, result: Result) -> None:
        for rival in rivals if result.is_success else ():
            self._deeds.delete(rival.block, rival.action)

    def _write(self, ending: Callable[[], None]) -> None:
        """Take an ending now, or in its order when the disk takes it."""
        if not self._late:
            try:
                ending()
            except sqlite3.Error as exc:
                self._unwritten(exc)
            else:
                return
        self._late.append(ending)

    def _ended(self, deed: DeedRow, action: Action, result: Result, rivals: _Rivals) -> None:
        now = self._clock()
        state = _STATES[result.ending]
        tries, next_try = deed.tries, 0
        if state is DeedState.FAILED:
            next_try = now + RETRY_AFTER[min(tries, len(RETRY_AFTER) - 1)]
            tries += 1
            if not action.denies:  # what tells somebody is not told an hour late
                state, next_try = DeedState.UNKNOWN, 0
            elif deed.may_stand:  # to be undone when the block is over
                state = DeedState.ASKED
        self._deeds.put([replace(deed, state=state, detail=result.detail, tries=tries, next_try=next_try)])
        self._take_over(rivals, result)
        self._forget(deed, result)
        row = self._store.get(deed.block)
        if row is not None:
            self._told(row, action, result)
            row = self._store.get(deed.block)
        if row is None or row.state not in (BlockState.REQUESTED, BlockState.DONE):
            self._write(lambda: self._deeds.end([deed.block], now))  # it was over before this was done

    def _undone(self, row: BlockRow, deed: DeedRow, result: Result) -> None:
        now = self._clock()
        if result.ending is Ending.FAILED and not self._is_given_up(deed):
            next_try = now + RETRY_AFTER[min(deed.tries, len(RETRY_AFTER) - 1)]
            self._deeds.put([replace(deed, detail=result.detail, tries=deed.tries + 1, next_try=next_try)])
            if deed.tries == 0:
                self._complain(f"{deed.action} does not let {row.source} go: {result.detail}")
        else:
            self._deeds.delete(deed.block, deed.action)
            if result.ending is Ending.FAILED:
                self._complain(
                    f"{deed.action} of {row.source} is given up after {MOST_BLIND_TRIES} tries: whether it"
                    f" still stands cannot be asked: {result.detail}"
                )
        self._forget(deed, result)

    def _is_given_up(self, deed: DeedRow) -> bool:
        """True where undoing failed often enough, and nobody can say whether there is anything to undo."""
        action = self._actions.get(deed.action)
        can_be_seen = isinstance(action, Surveyor) and action.can_survey
        return deed.tries + 1 >= MOST_BLIND_TRIES and not can_be_seen

    def _forget(self, deed: DeedRow, result: Result) -> None:
        """Hold a deed for running no longer: how it ended is written down."""
        self._running.discard((deed.block, deed.action))
        self.failed += result.ending is Ending.FAILED
        self._next = 0

    def _wake_at(self, at: Micros) -> None:
        if self._next is None or at < self._next:
            self._next = at
