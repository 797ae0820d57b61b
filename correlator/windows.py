"""Exact sliding windows: who has struck often enough, within a span, by a strike's own time.

The definition, and the tests hold the code to it: at a strike's instant e the window of a key holds its
strikes with `e - span < at <= e` (one that is exactly `span` old is out). The window decides when it
reaches the threshold, by the sum of the strikes' amounts or by how many different values they have, and
where kinds of evidence are needed holds strikes of each.
Lines may come late and shuffled: a strike is sorted in by its own time, and every window it falls into
is looked at again; strikes are kept for two spans, so this is exact for lines up to one span late.
A window that decided is emptied: each strike counts for one decision.

Bounded: a key holds only what can still decide, and the table at most `max_keys` keys; the one that was
idle longest leaves first and is counted in `evicted`. Nothing here reads a clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import itemgetter, or_
from typing import Generic, TypeVar

from correlator.model import Micros

Item = TypeVar("Item")
_Entry = tuple[Micros, int, str, int, Item]  # at, amount, value, kinds, what the caller gave
_AT = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Reach(Generic[Item]):
    """How far a key's best window came with its newest strike."""

    measure: int
    """Amounts added up, or different values, in the window that came furthest."""
    kinds: int
    """A bit for each kind of evidence in it."""
    is_decided: bool
    items: tuple[Item, ...]
    """What the caller gave with the strikes of that window, oldest first."""


class WindowTable(Generic[Item]):
    """The windows of all keys of one jail.

    `span` and all times in microseconds, `threshold` at least 1. With `is_distinct` the window counts
    different values, else it adds amounts. `needed` has a bit for each kind of evidence that must be there.
    """

    def __init__(
        self, *, span: Micros, threshold: int, is_distinct: bool = False, needed: int = 0, max_keys: int
    ) -> None:
        if span < 1 or threshold < 1 or max_keys < 1:
            raise ValueError(f"span {span}, threshold {threshold}, max_keys {max_keys}: each at least 1")
        self.span = span
        self.threshold = threshold
        self.is_distinct = is_distinct
        self.needed = needed
        self.max_keys = max_keys
        self.evicted = 0
        self._keys: OrderedDict[str, list[_Entry[Item]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def strike(
        self, key: str, at: Micros, amount: int, value: str, item: Item, *, kinds: int = 0
    ) -> Reach[Item]:
        """Count one strike and return how far its windows came; a decided window is emptied."""
        entries = self._keys.get(key)
        if entries is None:
            entries = self._keys[key] = []
            if len(self._keys) > self.max_keys:
                self._keys.popitem(last=False)
                self.evicted += 1
        else:
            self._keys.move_to_end(key)
        index = bisect_right(entries, at, key=_AT)
        entries.insert(index, (at, amount, value, kinds, item))
        reach, end = self._furthest(entries, index)
        if reach.is_decided:
            del entries[:end]
        elif self.is_distinct:
            self._drop_redundant(entries, value, kinds)
        self._drop_old(key, entries)
        return reach

    def measure(self, key: str, now: Micros) -> int:
        """Return what a key's window holds at `now`, between its strikes."""
        entries = self._keys.get(key, [])
        start = bisect_right(entries, now - self.span, key=_AT)
        return self._measure(entries, start, bisect_right(entries, now, key=_AT))

    def forget(self, key: str) -> None:
        """Drop a key with its strikes."""
        self._keys.pop(key, None)

    def advance(self, now: Micros) -> None:
        """Drop keys, idlest first, that cannot decide any more."""
        while self._keys:
            key, entries = next(iter(self._keys.items()))
            if entries and entries[-1][0] > now - 2 * self.span:
                return
            del self._keys[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def _measure(self, entries: list[_Entry[Item]], start: int, end: int) -> int:
        if self.is_distinct:
            return len({entry[2] for entry in entries[start:end]})
        return sum(entry[1] for entry in entries[start:end])

    def _furthest(self, entries: list[_Entry[Item]], index: int) -> tuple[Reach[Item], int]:
        """Look at every window that the strike at `index` falls into, until one decides.

        Returns it, or the furthest one, with the index after its last strike.
        """
        at = entries[index][0]
        best = (False, 0, 0)
        best_start, best_end = index, index + 1
        for end in range(index + 1, len(entries) + 1):
            edge = entries[end - 1][0] - self.span
            if edge >= at:
                break
            if end < len(entries) and entries[end][0] == entries[end - 1][0]:
                continue  # strikes of one instant are one window
            start = bisect_right(entries, edge, key=_AT)
            measure = self._measure(entries, start, end)
            kinds = reduce(or_, (entry[3] for entry in entries[start:end]))
            is_decided = measure >= self.threshold and kinds & self.needed == self.needed
            if (is_decided, measure, kinds) > best:
                best, best_start, best_end = (is_decided, measure, kinds), start, end
            if is_decided:
                break
        is_decided, measure, kinds = best
        items = tuple(entry[4] for entry in entries[best_start:best_end])
        return Reach(measure, kinds, is_decided, items), best_end

    def _drop_redundant(self, entries: list[_Entry[Item]], value: str, kinds: int) -> None:
        """Drop a strike that stands between two of the same value and kinds at most a span apart.

        No window can hold it without holding one of the two, so it can never add anything.
        """
        same = [position for position, entry in enumerate(entries) if entry[2:4] == (value, kinds)]
        before = 0
        redundant = []
        for index in range(1, len(same) - 1):
            if entries[same[index + 1]][0] - entries[same[before]][0] <= self.span:
                redundant.append(same[index])
            else:
                before = index
        for position in reversed(redundant):
            del entries[position]

    def _drop_old(self, key: str, entries: list[_Entry[Item]]) -> None:
        if not entries:
            del self._keys[key]
            return
        del entries[: bisect_right(entries, entries[-1][0] - 2 * self.span, key=_AT)]
