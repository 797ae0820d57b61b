"""The windows of a key with many strikes: the same answers as `spans`, without looking at every strike.

It keeps what the window of each instant holds, in blocks, and adds a new strike to all that it falls into at
once: what a strike costs does not depend on their number as long as they come in order; a late one costs
the square root of it. A strike up to a span late is counted exactly, one that comes later with what is
still there.

Strikes that can change nothing any more are dropped: no window could hold one of them and not be as far by
others. So a key that is never decided (a kind is missing; forged evidence waits) stays bounded too. Pure;
the property tests hold it to the definition.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from correlator.counting.spans import Reach, Row, Terms, measure_of
from correlator.model import Micros

_BLOCK = 256
_NEVER: Micros = 1 << 62
_FEWEST = 128


class _Block:
    """Strikes in the order of their times, each with what the window of its instant holds."""

    __slots__ = ("added", "ats", "best", "counted", "items", "kinds", "sums", "total")

    def __init__(self) -> None:
        self.ats = array("q")
        self.counted = array("q")
        self.kinds = array("B")
        self.items: list[bytes] = []
        self.sums = array("q")
        """Less `added`, which all of the block have more."""
        self.added = 0
        self.best = -1
        """The highest of `sums`."""
        self.total = 0
        """Of the amounts."""

    def insert(self, index: int, row: Row, measure: int) -> None:
        self.ats.insert(index, row.at)
        self.counted.insert(index, row.counted)
        self.kinds.insert(index, row.kinds)
        self.items.insert(index, row.item)
        self.sums.insert(index, measure - self.added)
        self.best = max(self.best, measure - self.added)
        self.total += row.counted

    def add(self, start: int, end: int, amount: int) -> None:
        if end - start == len(self.ats):
            self.added += amount
            return
        for index in range(start, end):
            self.sums[index] += amount
        self.best = max(self.best, *self.sums[start:end])

    def cut(self, start: int, end: int) -> _Block:
        """Take a slice out, as a block of its own."""
        part = _Block()
        part.ats, part.counted, part.kinds = (
            self.ats[start:end],
            self.counted[start:end],
            self.kinds[start:end],
        )
        part.items, part.sums, part.added = self.items[start:end], self.sums[start:end], self.added
        del self.ats[start:end], self.counted[start:end], self.kinds[start:end]
        del self.items[start:end], self.sums[start:end]
        for block in (self, part):
            block.best = max(block.sums, default=-1)
            block.total = sum(block.counted)
        return part

    def rows(self, start: int, end: int) -> Iterator[Row]:
        return map(
            Row,
            self.ats[start:end],
            self.counted[start:end],
            self.kinds[start:end],
            self.items[start:end],
        )


class LongWindow:
    """The windows of one key with many strikes, at least one.

    `block`: strikes that lie together; `fewest`: the number of strikes below which none is dropped.
    """

    def __init__(
        self, terms: Terms, rows: Iterable[Row], *, block: int = _BLOCK, fewest: int = _FEWEST
    ) -> None:
        self._terms = terms
        self._block = block
        self._fewest = fewest
        self._fill(rows)

    def _fill(self, rows: Iterable[Row]) -> None:
        self._blocks: list[_Block] = []
        self._lasts: list[Micros] = []
        """The last instant of each block."""
        self._values: dict[int, list[Micros]] = {}
        """Where values count: the instants of each."""
        self._kinds: dict[int, list[Micros]] = {}
        """By its bit: instants of a kind of evidence, enough of them to say in which windows it is."""
        self._length = 0
        for row in rows:
            self._insert(row)
        self._most = max(self._fewest, 2 * self._length)

    def __len__(self) -> int:
        return self._length

    @property
    def newest(self) -> Micros:
        """The time of the newest strike."""
        return self._lasts[-1]

    def strike(self, row: Row) -> Reach:
        """Count one strike and return how far its windows came, as `reach_of_few` would."""
        self._insert(row)
        reach = self._furthest(row.at, row.at + self._terms.span)
        # whoever decides wants to see the strikes of the window that was reached, however late it is
        self._drop_old(min(self.newest - 3 * self._terms.span, reach.end - self._terms.span))
        if self._length > self._most:
            self._thin()
        return reach

    def rows(self, after: Micros, until: Micros) -> Iterator[Row]:
        """Yield the strikes with `after < at <= until`, oldest first."""
        for block, start, end in self._parts(after + 1, until + 1):
            yield from block.rows(start, end)

    def _parts(self, low: Micros, high: Micros) -> Iterator[tuple[_Block, int, int]]:
        """Yield where the strikes with `low <= at < high` stand."""
        for number in range(bisect_left(self._lasts, low), len(self._blocks)):
            block = self._blocks[number]
            if block.ats[0] >= high:
                return
            end = len(block.ats) if self._lasts[number] < high else bisect_left(block.ats, high)
            start = bisect_left(block.ats, low)
            if start < end:
                yield block, start, end

    def _insert(self, row: Row) -> None:
        """Put a strike where its time belongs, and add it to the windows that it makes larger."""
        low, high, amount = row.at, row.at + self._terms.span, row.counted
        self._note_kinds(row)
        measure = self._measure_before(row.at)
        if self._terms.is_distinct:
            amount = 1
            times = self._values.setdefault(row.counted, [])
            index = bisect_left(times, row.at)
            if index < len(times) and times[index] == row.at:
                self._join(row)
                return
            if index:
                low = max(low, times[index - 1] + self._terms.span)
            if index < len(times):
                high = min(high, times[index])
            times.insert(index, row.at)
        self._place(row, measure)
        for block, start, end in self._parts(low, high):
            block.add(start, end, amount)

    def _join(self, row: Row) -> None:
        """Add the kinds of a strike to the one of the same value and instant."""
        for block, start, end in self._parts(row.at, row.at + 1):
            for index in range(start, end):
                if block.counted[index] == row.counted:
                    block.kinds[index] |= row.kinds

    def _place(self, row: Row, measure: int) -> None:
        number = bisect_right(self._lasts, row.at)
        if number == len(self._blocks):
            if not number or len(self._blocks[-1].ats) == self._block:
                self._blocks.append(_Block())
                self._lasts.append(row.at)
            number = len(self._blocks) - 1
        block = self._blocks[number]
        block.insert(bisect_right(block.ats, row.at), row, measure)
        self._lasts[number] = block.ats[-1]
        self._length += 1
        if len(block.ats) > self._block:
            self._blocks.insert(number + 1, block.cut(self._block // 2, len(block.ats)))
            self._lasts.insert(number, block.ats[-1])

    def _measure_before(self, at: Micros) -> int:
        """Return what the window of an instant holds without the strike that is to come there."""
        number = bisect_right(self._lasts, at)
        index = bisect_right(self._blocks[number].ats, at) if number < len(self._blocks) else 0
        if not index:
            number -= 1
            if number < 0:
                return 0
            index = len(self._blocks[number].ats)
        block = self._blocks[number]
        before = block.ats[index - 1]
        if before <= at - self._terms.span:
            return 0
        if at < self.newest - self._terms.span:  # what its neighbour's window held may be dropped already
            return measure_of(self.rows(at - self._terms.span, at), self._terms)
        return block.sums[index - 1] + block.added - self._left(before, at)

    def _left(self, before: Micros, at: Micros) -> int:
        """Return what leaves the window from one instant with strikes to the next."""
        left = 0
        for block, start, end in self._parts(before - self._terms.span + 1, at - self._terms.span + 1):
            if self._terms.is_distinct:
                for index in range(start, end):
                    times = self._values[block.counted[index]]
                    following = bisect_right(times, block.ats[index])
                    left += following == len(times) or times[following] > before
            else:
                left += block.total if end - start == len(block.ats) else sum(block.counted[start:end])
        return left

    def _note_kinds(self, row: Row) -> None:
        for bit in _bits(row.kinds):
            times = self._kinds.setdefault(bit, [])
            insort(times, row.at)
            new = bisect_left(times, row.at)
            for middle in (new + 1, new, new - 1):
                is_inside = 0 < middle < len(times) - 1
                if is_inside and times[middle + 1] - times[middle - 1] <= self._terms.span:
                    del times[middle]

    def _kinds_at(self, end: Micros) -> int:
        """Return the kinds of evidence in the window of an instant."""
        found = 0
        for bit, times in self._kinds.items():
            index = bisect_right(times, end)
            if index and times[index - 1] > end - self._terms.span:
                found |= bit
        return found

    def _furthest(self, low: Micros, high: Micros) -> Reach:
        """Return the first window that decides, else the furthest, of the instants `low <= e < high`."""
        best, best_in, resume = -1, (self._blocks[0], 0), low
        for block, start, end in self._parts(low, high):
            is_whole = end - start == len(block.ats)
            top = block.best if is_whole else max(block.sums[start:end])
            if top + block.added > best:
                best, best_in = top + block.added, (block, start)
            if top + block.added < self._terms.threshold or block.ats[end - 1] < resume:
                continue
            for index in range(start, end):
                measure, at = block.sums[index] + block.added, block.ats[index]
                if measure < self._terms.threshold or at < resume:
                    continue
                kinds = self._kinds_at(at)
                missing = self._terms.needed & ~kinds
                if not missing:
                    return Reach(measure, kinds, True, at)
                resume = self._next_with(missing, at)
                if resume >= high:
                    break
        block, start = best_in
        end = block.ats[block.sums.index(best - block.added, start)]
        return Reach(best, self._kinds_at(end), False, end)

    def _next_with(self, kinds: int, after: Micros) -> Micros:
        """Return the first instant after which windows can hold kinds of evidence that this one lacks."""
        following = [
            times[index]
            for times in (self._kinds.get(bit, []) for bit in _bits(kinds))
            if (index := bisect_right(times, after)) < len(times)
        ]
        return max(following) if len(following) == kinds.bit_count() else _NEVER

    def _drop_old(self, edge: Micros) -> None:
        """Drop strikes up to `edge`, three spans before the newest, in portions.

        The window of an instant a span before the newest begins two spans before it, and what is in it is
        found from a neighbour at most a span older still.
        """
        while (block := self._blocks[0]).ats[len(block.ats) // 2] <= edge:
            gone = block.cut(0, bisect_right(block.ats, edge))
            self._length -= len(gone.ats)
            for times in self._kinds.values():
                del times[: bisect_right(times, edge)]
            if self._terms.is_distinct:
                for value in gone.counted:
                    del self._values[value][0]
                    if not self._values[value]:
                        del self._values[value]
            if not block.ats:
                del self._blocks[0], self._lasts[0]

    def _thin(self) -> None:
        rows = list(self.rows(self._blocks[0].ats[0] - 1, self.newest))
        noted = frozenset(at for times in self._kinds.values() for at in times)
        thin = _thin_values if self._terms.is_distinct else _thin_amounts
        kept = thin(rows, self._terms, lambda row: row.at in noted)
        self._most = max(self._fewest, 2 * len(kept))
        if len(kept) < len(rows):
            self._fill(kept)


def _thin_values(rows: Sequence[Row], terms: Terms, is_needed: Callable[[Row], bool]) -> list[Row]:
    """Return the strikes without those between two of the same value at most a span apart."""
    same: dict[int, list[int]] = {}
    redundant = set()
    for position, row in enumerate(rows):
        kept = same.setdefault(row.counted, [])
        if len(kept) > 1 and row.at - rows[kept[-2]].at <= terms.span and not is_needed(rows[kept[-1]]):
            redundant.add(kept.pop())
        kept.append(position)
    return [row for position, row in enumerate(rows) if position not in redundant]


def _thin_amounts(rows: Sequence[Row], terms: Terms, is_needed: Callable[[Row], bool]) -> list[Row]:
    """Return the strikes without those that have enough to decide on either side, all within a span.

    Any window that holds such a strike holds all of one side too, and is reached by it alone.
    """
    sums = list(accumulate((row.counted for row in rows), initial=0))
    kept: list[Row] = []
    kept_sums = [0]
    left = right = 0
    for position, row in enumerate(rows):
        while left < len(kept) and kept_sums[-1] - kept_sums[left + 1] >= terms.threshold:
            left += 1
        while right < len(rows) and sums[right + 1] - sums[position + 1] < terms.threshold:
            right += 1
        is_enough = (
            right < len(rows)
            and kept_sums[-1] - kept_sums[left] >= terms.threshold
            and rows[right].at - kept[left].at <= terms.span
        )
        if not is_enough or is_needed(row):
            kept.append(row)
            kept_sums.append(kept_sums[-1] + row.counted)
    return kept


def _bits(kinds: int) -> Iterator[int]:
    while kinds:
        yield kinds & -kinds
        kinds &= kinds - 1
