"""Exact sliding windows in a bounded table: which keys were struck often enough, by the strikes' own time.

The definition, and the tests hold the code to it: at a strike's instant e the window of a key holds its
strikes with `e - span < at <= e` (one that is exactly `span` old is out). The window decides when it
reaches the threshold, by the sum of the strikes' amounts or by how many different values they have, and
where kinds of evidence are needed holds strikes of each. Lines may come late and shuffled: a strike is
sorted in by its own time, and every window it falls into is looked at again; this is exact for lines up to
one span late. Whoever takes the decision calls `forget`: each strike counts for one decision. Who does
not (forged evidence waits) is asked again at the key's next strike.

Bounded: the table holds at most `max_keys` keys and `max_strikes` strikes; the key that was idle longest
leaves first and is counted in `evicted`. A million keys with a strike each cost about 200 bytes a key,
the key's text included: the few strikes of a key are packed into one `bytes`. Nothing here reads a clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import reduce
from itertools import islice
from operator import attrgetter, or_
from struct import Struct

from correlator.counting.long_windows import LongWindow
from correlator.counting.spans import Reach, Row, Terms, measure_of, reach_of_few, thin_few
from correlator.model import Micros

_FEW = 32
_FEWEST_STRIKES = 1_000_000
_VICTIMS = 1024
_HIGHEST_AMOUNT = (1 << 32) - 1
_AT = attrgetter("at")


class WindowTable:
    """The windows of all keys of one jail.

    `span` and all times in microseconds, `threshold` at least 1. With `is_distinct` the window counts
    different values, else it adds amounts. `needed` has a bit for each kind of evidence that must be there,
    of eight at most. `max_strikes` of None: five for four keys, a million at least, and what the largest
    key may need. Up to `few` strikes of a key are packed.
    """

    def __init__(
        self,
        *,
        span: Micros,
        threshold: int,
        is_distinct: bool = False,
        needed: int = 0,
        max_keys: int,
        max_strikes: int | None = None,
        few: int = _FEW,
    ) -> None:
        if span < 1 or threshold < 1 or max_keys < 1:
            raise ValueError(f"span {span}, threshold {threshold}, max_keys {max_keys}: each at least 1")
        self.terms = Terms(span, threshold, is_distinct, needed)
        self.max_keys = max_keys
        self._few = few
        self.max_strikes = max_strikes or max(5 * max_keys // 4, 16 * threshold, _FEWEST_STRIKES)
        self.strikes = 0
        """Held now, of all keys; a key with many counts for at least 32."""
        self.evicted = 0
        self._keys: dict[str, bytes | LongWindow] = {}
        """The one that was idle longest first."""
        self._structs: dict[int, Struct] = {}
        self._victims: list[str] = []
        """The idlest keys when we last looked, the idlest last; those not struck since stand in `_idle`."""
        self._idle: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def strike(self, key: str, at: Micros, counted: int, item: bytes, *, kinds: int = 0) -> Reach:
        """Count one strike and return how far its windows came.

        `counted` is its amount, or where different values count a number that stands for its value. `item`
        comes back with `rows`; all of a key's are of one length, up to 255 bytes.
        """
        if not self.terms.is_distinct and counted > _HIGHEST_AMOUNT:
            counted = _HIGHEST_AMOUNT
        held = self._keys.pop(key, b"")
        if isinstance(held, LongWindow):
            before = self._cost(held)
            reach = held.strike(Row(at, counted, kinds, item))
            self.strikes += self._cost(held) - before
        else:
            appended = self._append(held, at, counted, kinds, item)
            reach, held = appended or self._insert(held, Row(at, counted, kinds, item))
        self._keys[key] = held
        if self._idle:
            self._idle.discard(key)
        while len(self._keys) > self.max_keys or (self.strikes > self.max_strikes and len(self._keys) > 1):
            self._evict()
        return reach

    def _append(
        self, held: bytes, at: Micros, value: int, kinds: int, item: bytes
    ) -> tuple[Reach, bytes] | None:
        """Count a strike behind the others of a key with few; None where more than a look at each is needed.

        Nearly every strike comes in order: this is the way that has to be quick.
        """
        terms = self.terms
        struct = self._structs.get(len(item)) or self._struct(len(item))
        packed = struct.pack(at, value, kinds, item)
        if not held:
            self.strikes += 1
            measure = 1 if terms.is_distinct else value
            reach = Reach(measure, kinds, terms.is_reached(measure, kinds), at)
            return reach, bytes((len(item),)) + packed
        size = len(packed)
        edge, oldest = at - terms.span, at - 2 * terms.span
        count, gone, measure = 1, 0, value
        values = {value}
        for other, counted, of_kinds, _item in struct.iter_unpack(held[1:]):
            count += 1
            if other > edge:
                if other > at or (terms.is_distinct and counted == value):
                    return None
                measure += counted
                kinds |= of_kinds
                values.add(counted)
            elif other <= oldest:
                gone += 1
        if count > self._few:
            return None
        if terms.is_distinct:
            measure = len(values)
        reach = Reach(measure, kinds, terms.is_reached(measure, kinds), at)
        if gone:
            self.strikes -= gone
            held = held[:1] + held[1 + gone * size :]
        self.strikes += 1
        return reach, held + packed

    def _insert(self, held: bytes, row: Row) -> tuple[Reach, bytes | LongWindow]:
        """Count a strike among those of a key with few, wherever it belongs."""
        rows = self._unpack(held)
        before = len(rows)
        index = bisect_right(rows, row.at, key=_AT)
        rows.insert(index, row)
        reach = reach_of_few(rows, index, self.terms)
        thin_few(rows, self.terms)
        # whoever decides wants to see the strikes of the window that was reached, however late it is
        oldest = min(rows[-1].at - 2 * self.terms.span, reach.end - self.terms.span)
        while rows[0].at <= oldest:
            del rows[0]
        if len(rows) <= self._few:
            self.strikes += len(rows) - before
            return reach, self._pack(rows)
        window = LongWindow(self.terms, rows)
        self.strikes += self._cost(window) - before
        return reach, window

    def rows(self, key: str, end: Micros) -> list[Row]:
        """Return the strikes of the window that ends with an instant, oldest first."""
        held = self._keys.get(key, b"")
        start = end - self.terms.span
        if isinstance(held, LongWindow):
            return list(held.rows(start, end))
        return [row for row in self._unpack(held) if start < row.at <= end]

    def measure(self, key: str, now: Micros) -> int:
        """Return what a key's window amounts to at `now`, between its strikes."""
        return self.look(key, now)[0]

    def look(self, key: str, now: Micros) -> tuple[int, int]:
        """Return what a key's window amounts to at `now`, and the kinds of evidence in it."""
        rows = self.rows(key, now)
        return measure_of(rows, self.terms), reduce(or_, (row.kinds for row in rows), 0)

    def forget(self, key: str) -> None:
        """Drop a key with its strikes."""
        self.strikes -= self._cost(self._keys.pop(key, b""))
        self._idle.discard(key)

    def advance(self, now: Micros) -> None:
        """Drop keys, idlest first, that cannot decide any more."""
        over = []
        for key, held in self._keys.items():
            if self._newest(held) > now - 2 * self.terms.span:
                break
            over.append(key)
        for key in over:
            self.forget(key)

    def _evict(self) -> None:
        """Drop the key that was idle longest.

        A dictionary finds its first key by walking over all that left before it: the walk is made once for
        many keys.
        """
        while not self._idle:
            self._victims = list(islice(self._keys, _VICTIMS))[::-1]
            self._idle.update(self._victims)
        key = self._victims.pop()
        while key not in self._idle:
            key = self._victims.pop()
        self.forget(key)
        self.evicted += 1

    def _struct(self, item_size: int) -> Struct:
        found = self._structs.get(item_size)
        if found is None:
            counted = "q" if self.terms.is_distinct else "I"
            found = self._structs[item_size] = Struct(f"<q{counted}B{item_size}s")
        return found

    def _pack(self, rows: list[Row]) -> bytes:
        item_size = len(rows[0].item)
        pack = self._struct(item_size).pack
        return bytes((item_size,)) + b"".join([pack(*row) for row in rows])

    def _unpack(self, held: bytes) -> list[Row]:
        if not held:
            return []
        return list(map(Row._make, self._struct(held[0]).iter_unpack(held[1:])))

    def _newest(self, held: bytes | LongWindow) -> Micros:
        if isinstance(held, LongWindow):
            return held.newest
        struct = self._struct(held[0])
        at: Micros = struct.unpack_from(held, len(held) - struct.size)[0]
        return at

    def _cost(self, held: bytes | LongWindow) -> int:
        if isinstance(held, LongWindow):
            return max(len(held), self._few)
        return len(held) // self._struct(held[0]).size if held else 0
