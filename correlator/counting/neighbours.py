"""Neighbours: when enough addresses of one network were denied, the network is.

An attacker with a whole /24 or /48 to choose from begins each window anew with another address. Only blocks
on evidence that proves its sender count: or anybody could have a network denied in its name. Bounded: the
networks heard of longest ago leave first. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from correlator.model import Micros, Source

MOST_NETWORKS = 20_000


class Neighbours:
    """The sources denied now, by network; `merge_at` of one (at least 2) have the network denied."""

    def __init__(
        self, merge_at: int, *, prefix4: int = 24, prefix6: int = 48, most: int = MOST_NETWORKS
    ) -> None:
        self._merge_at = merge_at
        self._prefix4 = prefix4
        self._prefix6 = prefix6
        self._most = most
        self._denied: OrderedDict[Source, dict[Source, Micros | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._denied)

    def widen(self, source: Source, at: Micros, until: Micros | None) -> Source:
        """Return what is to be denied for `source`: its network where it is one neighbour too many."""
        network = self.network_of(source)
        if network == source:
            return source
        denied = self._denied.setdefault(network, {})
        self._denied.move_to_end(network)
        denied[source] = until
        for other in [other for other, end in denied.items() if end is not None and end <= at]:
            del denied[other]
        if len(denied) >= self._merge_at:
            del self._denied[network]
            return network
        if len(self._denied) > self._most:
            self._denied.popitem(last=False)
        return source

    def forget(self, source: Source) -> None:
        """Count a source no longer: it was released, or its block was not carried out."""
        network = self.network_of(source)
        denied = self._denied.get(network)
        if denied is not None and denied.pop(source, 0) != 0 and not denied:
            del self._denied[network]

    def network_of(self, source: Source) -> Source:
        """Return the network that a source is counted in; itself where it is as wide."""
        return source.prefix(self._prefix4 if source.version == 4 else self._prefix6)
