"""Compares what other actions than the kernel's own set really deny with what they should, and mends it.

Somebody flushed a chain, edited hosts.deny, reloaded a firewall: what is missing is done again, what is there
and should not be is released where all of it is ours. An action that was never asked for is not looked at:
that would prepare the host for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from correlator.actions import Order
from correlator.enforcer.action import Action, Result, Survey, Surveyor, order_of
from correlator.enforcer.deeds import Deeds
from correlator.model import Micros, Source
from correlator.store.blocks import BlockStore

AT_ONCE = 20
"""Up to so many missing sources are denied one by one; more in one batch, where an action has one."""


class Comparison:
    """The comparisons of one enforcer; `say` hears of what was mended and of what cannot be found out."""

    def __init__(
        self, store: BlockStore, actions: Mapping[str, Action], deeds: Deeds, say: Callable[[str], None]
    ) -> None:
        self._store = store
        self._surveyors = {name: action for name, action in actions.items() if isinstance(action, Surveyor)}
        self._actions = actions
        self._deeds = deeds
        self._say = say
        self._running: set[str] = set()
        self._touched: set[str] = set()
        self.problems: dict[str, str] = {}
        """Of each action that cannot work here, or whose work cannot be seen: why."""

    def check(self, now: Micros) -> None:
        """Have each action find out whether it can work on this host."""
        for name, surveyor in self._surveyors.items():
            surveyor.check(now, partial(self._ended, name))

    def touch(self, name: str) -> None:
        """Compare this action from now on, even when nobody is left: it has denied somebody."""
        self._touched.add(name)

    def compare(self, now: Micros) -> None:
        """Begin to compare each action that can tell what it denies.

        Raises: sqlite3.Error where the disk would not.
        """
        for name, surveyor in self._surveyors.items():
            if not surveyor.can_survey or name in self._running:
                continue
            orders = tuple(map(order_of, self._store.carried_out_by(name)))
            if orders:
                self._touched.add(name)
            if name in self._touched:
                self._running.add(name)
                surveyor.survey(orders, now, partial(self._hear, name, now))

    def _hear(self, name: str, now: Micros, survey: Survey) -> None:
        self._running.discard(name)
        self._note(name, survey.problem)
        # What was blocked or released while we looked is not at fault.
        known = self._store.sources_of(name)
        extra = tuple(source for source in survey.extra if source not in known)
        missing = self._store.still_done(name, [order.request for order in survey.missing])
        if survey.problem or not (missing or extra):
            return
        self._say(f"mended action={name} restored={len(missing)} removed={len(extra)}")
        for source in extra:
            self._actions[name].release(_about(source), now, partial(self._ended, name))
        orders = [order for order in survey.missing if order.request in missing]
        is_batch = len(orders) > AT_ONCE and self._surveyors[name].restore(
            orders, now, partial(self._ended, name)
        )
        if not is_batch:
            self._deeds.do_again(name, missing)

    def _ended(self, name: str, result: Result) -> None:
        self._note(name, "" if result.is_success else result.detail)

    def _note(self, name: str, problem: str) -> None:
        if problem and self.problems.get(name) != problem:
            self._say(f"action {name}: {problem}")
        if problem:
            self.problems[name] = problem
        else:
            self.problems.pop(name, None)


def _about(source: Source) -> Order:
    """Return an order about a source that no block of ours is about."""
    return Order("", source, "", 0, None)
