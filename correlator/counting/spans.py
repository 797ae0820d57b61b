"""What a key's window holds, and how far the windows came into which a strike falls: the definition itself.

At a strike's instant e a key's window holds its strikes with `e - span < at <= e`. It is reached where their
amounts add up to the threshold, or they have that many different values, and every needed kind of evidence
is among them. A new strike falls into the windows of the instants `at <= e < at + span`, and each of them is
looked at; for the few strikes that most keys have nothing is quicker. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from correlator.model import Micros


class Row(NamedTuple):
    """One strike."""

    at: Micros
    counted: int
    """Its amount; where different values count, a number that stands for its value."""
    kinds: int
    """A bit for each kind of evidence that it is."""
    item: bytes
    """What the caller gave with it."""


class Reach(NamedTuple):
    """How far the best of the windows came into which a strike falls."""

    measure: int
    """Amounts added up, or different values."""
    kinds: int
    """A bit for each kind of evidence in it."""
    is_decided: bool
    end: Micros
    """Its instant."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides: `span` in microseconds and `threshold`, at least 1 each, and the needed kinds."""

    span: Micros
    threshold: int
    is_distinct: bool = False
    needed: int = 0

    def is_reached(self, measure: int, kinds: int) -> bool:
        """Whether a window that holds this decides."""
        return measure >= self.threshold and kinds & self.needed == self.needed


def measure_of(rows: Iterable[Row], terms: Terms) -> int:
    """Return what strikes amount to."""
    return len({row.counted for row in rows}) if terms.is_distinct else sum(row.counted for row in rows)


def reach_of_few(rows: Sequence[Row], index: int, terms: Terms) -> Reach:
    """Return the first window that decides, else the furthest, of those that the strike at `index` is in."""
    at, count = rows[index].at, len(rows)
    if count == 1:
        measure = 1 if terms.is_distinct else rows[0].counted
        return Reach(measure, rows[0].kinds, terms.is_reached(measure, rows[0].kinds), at)
    best = Reach(-1, 0, False, at)
    start = 0
    for last in range(index, count):
        end = rows[last].at
        if end >= at + terms.span:
            break
        if last + 1 < count and rows[last + 1].at == end:
            continue  # strikes of one instant are one window
        while rows[start].at <= end - terms.span:
            start += 1
        inside = rows[start : last + 1]
        measure, kinds = measure_of(inside, terms), 0
        for row in inside:
            kinds |= row.kinds
        if measure > best.measure:
            best = Reach(measure, kinds, False, end)
        if terms.is_reached(measure, kinds):
            return Reach(measure, kinds, True, end)
    return best


def thin_few(rows: list[Row], terms: Terms) -> None:
    """Drop strikes that stand between two of the same value and kinds at most a span apart."""
    if not terms.is_distinct or len(rows) < 3:
        return
    same: dict[tuple[int, int], list[int]] = {}
    redundant = []
    for position, row in enumerate(rows):
        kept = same.setdefault(row[1:3], [])
        if len(kept) > 1 and row.at - rows[kept[-2]].at <= terms.span:
            redundant.append(kept.pop())
        kept.append(position)
    for position in sorted(redundant, reverse=True):
        del rows[position]
