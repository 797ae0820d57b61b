"""Carries out the actions of one block: those at the front that take no time at once, the others in turn.

A block is in force with the first action that denies its source; where none of them is meant to, with the
first success or when all have been tried. One that fails never keeps the others from being tried, and every
ending is told.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from correlator.enforcer import lines
from correlator.enforcer.action import Action, Ending, Result, order_of
from correlator.enforcer.comparison import Comparison
from correlator.enforcer.deeds import Deeds
from correlator.enforcer.keeping import BackendError, Keeping
from correlator.enforcer.protocol import DeedEvent, Event
from correlator.model import Micros, Source
from correlator.store.blocks import BlockRow, BlockStore, NewBlock
from correlator.store.deeds import DeedState

_FAILING_SHOWN = 20
_ENDINGS = {
    DeedState.ASKED: "under way",
    DeedState.RUNNING: "under way",
    DeedState.DONE: "done",
    DeedState.EXISTS: "there before",
    DeedState.FAILED: "failed",
    DeedState.UNKNOWN: "failed",
    DeedState.ENDING: "under way",
}
_SUCCESS = (DeedState.DONE, DeedState.EXISTS)


@dataclass(frozen=True, slots=True)
class Carried:
    """How far a block has come: in force, or `is_open` while an action may still put it there, or failed."""

    is_in_force: bool
    is_open: bool
    detail: str = ""
    """What went wrong with any of its actions."""


class Carrier:
    """The actions of this host.

    `later` hears how a block went on that was open, with its row; `unwritten` of what the disk does not take.
    """

    def __init__(
        self,
        kernel: Keeping,
        actions: Mapping[str, Action],
        store: BlockStore,
        *,
        later: Callable[[BlockRow, Carried], None],
        announce: Callable[[str, Event | None], None],
        clock: Callable[[], Micros],
        unwritten: Callable[[sqlite3.Error], None],
    ) -> None:
        self._kernel = kernel
        self._actions = {**actions, kernel.name: kernel}
        self._store = store
        self._later = later
        self._announce = announce
        self._deeds = Deeds(
            store,
            self._actions,
            undone_with_row=kernel.name,
            told=self._ended,
            complain=lambda text: announce(text, None),
            clock=clock,
            unwritten=unwritten,
        )
        self._comparison = Comparison(store, actions, self._deeds, say=lambda text: announce(text, None))
        self.compare = self._comparison.compare
        self.check = self._comparison.check
        self.counts: Counter[str] = Counter()
        """How often an action ended in each way."""
        self.start = self._deeds.start
        self.tend = self._deeds.tend
        self.pause = self._deeds.pause

    def status(self) -> dict[str, Any]:
        """Return its state by name."""
        failing = self._store.deeds.failing(_FAILING_SHOWN)
        return {
            "actions": self.names,
            "endings": dict(self.counts),
            "action_problems": dict(self._comparison.problems),
            "failing": [
                {
                    "block": deed.block,
                    "source": "" if (row := self._store.get(deed.block)) is None else str(row.source),
                    "action": deed.action,
                    "is_over": deed.state is DeedState.ENDING,
                    "tries": deed.tries,
                    "next_try": deed.next_try,
                    "detail": deed.detail,
                }
                for deed in failing
            ],
        }

    def endings(self, row: BlockRow, states: Mapping[tuple[int, str], DeedState]) -> tuple[str, ...]:
        """Return how far each action of a row in force has come, in a word of `protocol.ENDINGS`."""
        found = {name: states.get((row.number, name), DeedState.DONE) for name in row.actions}
        denying = self.denying(row.actions)
        return tuple(
            "told" if state is DeedState.DONE and name not in denying else _ENDINGS[state]
            for name, state in found.items()
        )

    @property
    def names(self) -> list[str]:
        """The actions there are, in order of their names."""
        return sorted(self._actions)

    def denying(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of `names` that deny a source, and do not only tell somebody."""
        return tuple(name for name in names if name in self._actions and self._actions[name].denies)

    def carry_out(
        self, number: int, block: NewBlock, before: int | None, swallows: tuple[Source, ...], now: Micros
    ) -> Carried:
        """Carry out the actions of row `number`; what row `before` of the same source did is not done again.

        Raises: sqlite3.Error where the disk would not.
        """
        others = tuple(name for name in self.denying(block.actions) if name != self._kernel.name)
        moved = self._deeds.inherit(before, number, block, others) if before is not None and others else ()
        results = dict.fromkeys(moved, Result(Ending.EXISTS, "done before"))
        for place, name in enumerate(block.actions):
            if name in moved:
                continue
            if not self._actions[name].is_quick:
                break
            results[name] = self._carry_out_at_once(number, block, place, swallows, now)
        rest = tuple(name for name in block.actions if name not in results)
        if rest:
            self._deeds.ask(number, block.actions, skip=tuple(results))
        problems = {name: result.detail for name, result in results.items() if not result.is_success}
        is_in_force = any(self._counts(name, result, block) for name, result in results.items())
        return Carried(is_in_force, bool(rest) and not is_in_force, _spell_problems(problems))

    def take_over(self, before: int, row: BlockRow, *, is_longer: bool) -> None:
        """Have a row that comes into force late do what row `before` of the same source did.

        What carries its own end is done again where the row `is_longer` than was asked for.

        Raises: sqlite3.Error where the disk would not.
        """
        others = tuple(name for name in self.denying(row.actions) if name != self._kernel.name)
        self._deeds.inherit(before, row.number, row, others)
        found = {deed.action for deed in self._store.deeds.of(row.number)}
        renewed = {name for name in others if is_longer and self._actions[name].expires_by_itself}
        kept = (name for name in row.actions if name not in others or (name in found and name not in renewed))
        self._deeds.ask(row.number, row.actions, skip=tuple(kept))

    def go_on(self, row: BlockRow) -> Carried:
        """Take up a row that the process before us left open: what was not begun is asked for again.

        The kernel's own set, where it comes first, is made equal to belief at every start.
        """
        deeds = self._store.deeds.of(row.number)
        done = [deed.action for deed in deeds if deed.state in _SUCCESS]
        if row.actions[:1] == (self._kernel.name,):
            done.append(self._kernel.name)
        self._deeds.ask(row.number, row.actions, skip=(*done, *(deed.action for deed in deeds)))
        return Carried(bool(self.denying(done)), is_open=not self.denying(done))

    def standing(self, row: BlockRow) -> Carried:
        """Return how far a row has come of which we may not have heard everything."""
        denying = self.denying(row.actions)
        deeds = self._store.deeds.of(row.number)
        if any(deed.action in denying and deed.state in _SUCCESS for deed in deeds):
            return Carried(is_in_force=True, is_open=False)
        if self._store.deeds.is_open(row.number):
            return Carried(is_in_force=False, is_open=True)
        return self._sum_up(row)

    def end(self, rows: Iterable[tuple[int, tuple[str, ...]]], now: Micros) -> None:
        """Have undone what the actions of these rows did; the kernel's own set is somebody else's business.

        Raises: sqlite3.Error where the disk would not.
        """
        numbers = [number for number, actions in rows if actions != (self._kernel.name,)]
        if numbers:
            self._deeds.end(numbers, now)

    def _carry_out_at_once(
        self, number: int, block: NewBlock, place: int, swallows: tuple[Source, ...], now: Micros
    ) -> Result:
        action = self._actions[block.actions[place]]
        if action is self._kernel:
            result = self._deny_in_kernel(block, swallows, now)
            if result.is_success:
                return result
            self._deeds.note(number, place, action.name, result, now)
        else:
            result = self._deeds.carry_out_now(number, place, action, order_of(block), now)
        self._tell(block, action, result)
        return result

    def _deny_in_kernel(self, block: NewBlock, swallows: tuple[Source, ...], now: Micros) -> Result:
        try:
            self._kernel.put({block.source: block.until}, swallows, now)
        except BackendError as exc:
            return Result(Ending.FAILED, str(exc))
        return Result(Ending.DONE)

    def _counts(self, name: str, result: Result, block: NewBlock | BlockRow) -> bool:
        """True where this result puts a block in force."""
        denying = self.denying(block.actions)
        return result.is_success and (name in denying or not denying)

    def _ended(self, row: BlockRow, action: Action, result: Result) -> None:
        """Take how an action ended that took its time."""
        self._tell(row, action, result)
        if self._counts(action.name, result, row):
            self._later(row, Carried(is_in_force=True, is_open=False))
        elif not self._store.deeds.is_open(row.number):
            self._later(row, self._sum_up(row))

    def _sum_up(self, row: BlockRow) -> Carried:
        problems = {
            deed.action: deed.detail
            for deed in self._store.deeds.of(row.number)
            if deed.has_failed or deed.state is DeedState.UNKNOWN
        }
        # who was only to be told was told, or could not be: to try at each probe would flood them
        is_over = not self.denying(row.actions)
        return Carried(is_over, is_open=False, detail=_spell_problems(problems))

    def _tell(self, block: NewBlock | BlockRow, action: Action, result: Result) -> None:
        event = DeedEvent(
            request=block.request,
            source=block.source,
            jail=block.jail,
            mode=block.mode,
            name=block.name,
            protocol=block.protocol,
            action=action.name,
            says=action.says,
            ending=result.ending.value,
            detail=result.detail,
        )
        self.counts[f"{action.name} {result.ending.value}"] += 1
        if result.is_success:
            self._comparison.touch(action.name)
        self._announce(lines.format_deed(event), event)


def _spell_problems(problems: Mapping[str, str]) -> str:
    if len(problems) == 1:
        return next(iter(problems.values()))
    return "; ".join(f"{name}: {detail}" for name, detail in problems.items())
