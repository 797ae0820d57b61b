"""What to do about a request, given what is believed: pure decisions, no kernel, no clock.

Rules:
- A source that is denied at least that long, by itself or by a wider prefix, exists.
- A new prefix swallows what it covers and outlasts. What it covers but does not outlast stays.
- A prefix wider than the floor is refused whoever asks.
- The kernel's interval sets take no overlapping prefixes, and prefixes may nest: `flatten` turns nested
  prefixes into pieces that do not overlap, each denied as long as the longest prefix around it.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from correlator.model import SECOND, Micros, Source

Until = Micros | None
"""When a block is over; None: only a release ends it."""

TOLERANCE: Micros = 2 * SECOND
"""Remaining times that differ by no more count as equal: jiffies, and the time a listing takes."""
MAX_BLOCKS = 250_000
"""Blocks in force at most; a flood of forged sources must not fill the kernel's memory."""
MAX_CARVED = 256
"""Narrower prefixes inside one wider prefix that may outlast it."""


@dataclass(frozen=True, slots=True)
class Exists:
    """Denied already, at least that long, by `by`."""

    by: Source
    until: Until


@dataclass(frozen=True, slots=True)
class Add:
    """Not denied yet, or not long enough by the wider prefix around it."""

    swallows: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Extend:
    """Denied, but not until then."""

    before: Until
    swallows: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not to be done, whoever asks."""

    reason: str


Plan = Exists | Add | Extend | Refuse


@dataclass(frozen=True, slots=True)
class Change:
    """What the kernel must hold no longer, and then what from now on; carried out as one.

    A prefix whose end moves is in both: the kernel takes no second element in its place.
    """

    add: tuple[tuple[Source, Until], ...] = ()
    remove: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """How kernel and belief differ: lacking, too much, and ending at the wrong time."""

    add: tuple[tuple[Source, Until], ...] = ()
    remove: tuple[Source, ...] = ()
    refresh: tuple[tuple[Source, Until], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.refresh)


class Belief:
    """What is denied, and until when. Wider and narrower sources are found without walking all."""

    def __init__(self, blocks: Iterable[tuple[Source, Until]] = ()) -> None:
        self._until: dict[Source, Until] = dict(blocks)
        self._counts: dict[tuple[int, int], int] = {}
        self._by_place: dict[tuple[int, int, int], Source] = {}
        self._order: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for source in self._until:
            self._index(source)
            self._order[source.version].append(_place(source))
        for places in self._order.values():
            places.sort()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, source: Source) -> bool:
        return source in self._until

    def __getitem__(self, source: Source) -> Until:
        return self._until[source]

    def items(self) -> Iterable[tuple[Source, Until]]:
        """Return each source with its end, in no order."""
        return self._until.items()

    def put(self, source: Source, until: Until) -> None:
        """Believe that `source` is denied until then."""
        if source not in self._until:
            self._index(source)
            bisect.insort(self._order[source.version], _place(source))
        self._until[source] = until

    def drop(self, source: Source) -> None:
        """Believe no longer that `source` is denied; nothing where it was not."""
        if source not in self._until:
            return
        del self._until[source]
        first, length = _place(source)
        del self._by_place[(source.version, length, first)]
        key = (source.version, length)
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
        places = self._order[source.version]
        del places[bisect.bisect_left(places, (first, length))]

    def covering(self, source: Source) -> tuple[Source, ...]:
        """Return the wider prefixes around `source`, widest first; not itself."""
        first, own = _place(source)
        bits = source.network.max_prefixlen
        lengths = sorted(
            length for version, length in self._counts if version == source.version and length < own
        )
        found = (
            self._by_place.get((source.version, length, first >> (bits - length) << (bits - length)))
            for length in lengths
        )
        return tuple(wider for wider in found if wider is not None)

    def within(self, source: Source) -> Iterator[Source]:
        """Yield what is denied inside the prefix `source`, in order; not itself."""
        if source.is_single:
            return
        first, own = _place(source)
        last = int(source.network.broadcast_address)
        places = self._order[source.version]
        for index in range(bisect.bisect_left(places, (first, own)), len(places)):
            start, length = places[index]
            if start > last:
                return
            if length > own:
                yield self._by_place[(source.version, length, start)]

    def _index(self, source: Source) -> None:
        first, length = _place(source)
        self._by_place[(source.version, length, first)] = source
        key = (source.version, length)
        self._counts[key] = self._counts.get(key, 0) + 1


def outlasts(one: Until, other: Until) -> bool:
    """Return whether a block until `one` ends no earlier than one until `other`."""
    return one is None or (other is not None and one >= other)


def plan_block(
    belief: Belief, source: Source, until: Until, now: Micros, *, widest4: int = 16, widest6: int = 32
) -> Plan:
    """Return what a request to deny `source` until then comes to."""
    floor = widest4 if source.version == 4 else widest6
    if source.network.prefixlen < floor:
        return Refuse(f"{source} is wider than /{floor}, the widest prefix that may be blocked")
    if until is not None and until <= now:
        return Refuse("its time was over before it could be carried out")
    if source in belief and outlasts(belief[source], until):
        return Exists(source, belief[source])
    for wider in belief.covering(source):
        if outlasts(belief[wider], until):
            return Exists(wider, belief[wider])
    swallows: list[Source] = []
    outlasting = 0
    for narrower in belief.within(source):
        if outlasts(until, belief[narrower]):
            swallows.append(narrower)
        elif not narrower.is_single:
            outlasting += 1
    if outlasting > MAX_CARVED:
        return Refuse(f"{outlasting} prefixes inside {source} outlast it; release some or block for longer")
    if source in belief:
        return Extend(belief[source], tuple(swallows))
    if len(belief) - len(swallows) >= MAX_BLOCKS:
        return Refuse(f"{MAX_BLOCKS} blocks are in force, the most there may be")
    return Add(tuple(swallows))


def plan_change(belief: Belief, put: Mapping[Source, Until], drop: Iterable[Source] = ()) -> Change:
    """Return what the kernel must change when `belief` comes to hold `put` and no longer `drop`.

    `belief` itself is left as it is. What is put is always added, so that its time is set anew.
    """
    dropped = set(drop) - set(put)
    add = [(source, until) for source, until in put.items() if source.is_single]
    remove = [source for source in dropped if source.is_single and source in belief]
    before: dict[Source, Until] = {}
    after: dict[Source, Until] = {}
    prefixes = [source for source in (*put, *dropped) if not source.is_single]
    # The family: everything that overlaps what is touched hangs below one widest prefix.
    for top in {next(iter((*belief.covering(source), source))) for source in prefixes}:
        for member in (top, *belief.within(top)):
            if not member.is_single and member in belief:
                before[member] = belief[member]
                if member not in dropped:
                    after[member] = belief[member]
    after.update((source, put[source]) for source in prefixes if source in put)
    pieces_before, pieces_after = flatten(before), flatten(after)
    new = {
        piece: until
        for piece, until in pieces_after.items()
        if piece in put or piece not in pieces_before or pieces_before[piece] != until
    }
    remove += [piece for piece in pieces_before if piece in new or piece not in pieces_after]
    return Change((*add, *new.items()), tuple(remove))


def kernel_view(belief: Belief) -> dict[Source, Until]:
    """Return what the kernel should hold: single addresses as they are, prefixes flattened."""
    view = {source: until for source, until in belief.items() if source.is_single}
    view.update(flatten({source: until for source, until in belief.items() if not source.is_single}))
    return view


def flatten(prefixes: Mapping[Source, Until]) -> dict[Source, Until]:
    """Return prefixes that do not overlap and deny every address as long as the longest one around it."""
    carved: dict[Source, list[Source]] = {}
    around: list[Source] = []
    for source in sorted(prefixes, key=lambda source: (source.version, *_place(source))):
        while around and not around[-1].covers(source):
            around.pop()
        # The innermost kept prefix outlasts those around it, or it would not have been kept.
        if around and outlasts(prefixes[around[-1]], prefixes[source]):
            continue
        if around:
            carved[around[-1]].append(source)
        around.append(source)
        carved[source] = []
    return {piece: prefixes[source] for source, holes in carved.items() for piece in _without(source, holes)}


def compare(desired: Mapping[Source, Until], kernel: Mapping[Source, Until], now: Micros) -> Drift:
    """Return how the kernel's elements differ from what it should hold; both with absolute ends.

    What is over within the tolerance is left alone: the kernel is just about to drop it, or just has.
    """
    soon = now + TOLERANCE
    add, refresh = [], []
    for source, until in desired.items():
        if source not in kernel:
            if until is None or until > soon:
                add.append((source, until))
        elif not _is_near(kernel[source], until):
            refresh.append((source, until))
    remove = [
        source
        for source, until in kernel.items()
        if source not in desired and (until is None or until > soon)
    ]
    return Drift(tuple(add), tuple(remove), tuple(refresh))


def _is_near(one: Until, other: Until) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE


def _place(source: Source) -> tuple[int, int]:
    return int(source.network.network_address), source.network.prefixlen


def _without(source: Source, holes: list[Source]) -> list[Source]:
    """Return the prefixes that together are `source` without its holes."""
    if not holes:
        return [source]
    if holes[0] == source:
        return []
    pieces: list[Source] = []
    halves: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network] = source.network.subnets(prefixlen_diff=1)
    for half in map(Source, halves):
        pieces += _without(half, [hole for hole in holes if half.covers(hole)])
    return pieces
