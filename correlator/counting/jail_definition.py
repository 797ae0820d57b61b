"""What a jail is, as the site wrote it: by what it counts, what decides, who is denied for how long."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from correlator.model import SECOND, Micros, Source

MOST_KINDS = 7
"""Kinds of evidence that a jail may ask for; a strike has a bit for each, and one for proof."""
PROOF = 1 << MOST_KINDS
"""Set where a strike proves who sent it."""


class Count(enum.Enum):
    """What a jail counts."""

    STRIKES = "strikes"
    WEIGHT = "weight"
    DISTINCT = "distinct"


class Key(enum.Enum):
    """By what a jail counts: whose strikes add up."""

    SOURCE = "source"
    PREFIX = "prefix"
    USER = "user"
    """The account that was tried."""
    DESTINATION = "destination"
    """Our address that was struck; our port, where the line names no address."""


@dataclass(frozen=True, slots=True)
class JailDefinition:
    """A jail as the site wrote it; times in microseconds."""

    name: str
    where: str
    filters: tuple[str, ...]
    key: Key = Key.SOURCE
    count: Count = Count.STRIKES
    field: str = ""
    """Which field's different values count, with `Count.DISTINCT`."""
    only: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    """Fields and the values of which an event must have one, each; empty: every event counts."""
    weights: Mapping[str, int] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    """With `Count.WEIGHT`: by `FILTER/PATTERN` or `FILTER`, instead of the filter's own; 0: not counted."""
    all_of: tuple[str, ...] = ()
    """Kinds of evidence, `FILTER` or `FILTER/PATTERN`, that must all be in the window."""
    threshold: int = 1
    span: Micros = 3600 * SECOND
    prefix4: int = 32
    prefix6: int = 64
    """Sources are counted by prefixes of this length."""
    block_for: Micros | None = 3600 * SECOND
    """None: until it is released."""
    escalate: tuple[Micros | None, ...] = ()
    """Where there are any: how long a key's first, second, ... block lasts, instead of `block_for`."""
    remember: Micros = 30 * 86_400 * SECOND
    """How long after the end of its last block a key's next one counts as a further one."""
    spoofable_block_for: Micros = 600 * SECOND
    spoofable_a_minute: int = 60
    merge_at: int = 0
    """So many denied neighbours, on evidence that proves its sender, have their network denied; 0: never."""
    merge4: int = 24
    merge6: int = 48
    """How long the prefix of such a network is."""
    actions: tuple[str, ...] = ("nftables",)
    is_blocking: bool = False
    files: tuple[str, ...] = ()
    """What its filters of Fail2ban read: such a filter names no files. None: they read the journal."""
    zone: str = ""
    """What dates without a zone are in, for those filters; empty: local time."""
    ignore: tuple[Source, ...] = ()
    """Whom this jail alone never counts."""

    @property
    def unit(self) -> str:
        """What it counts, in words: `strikes`, `points`, or the counted field, such as `ports`."""
        one = {Count.STRIKES: "strike", Count.WEIGHT: "point"}.get(self.count, self.field)
        if self.threshold == 1:
            return one
        return f"{one}es" if one.endswith("s") else f"{one}s"

    @property
    def is_keyed_by_source(self) -> bool:
        """Whether a key is one source, or a prefix of them; else it is something of ours that was struck."""
        return self.key in (Key.SOURCE, Key.PREFIX)

    def counted_by(self, source: Source) -> Source:
        """Return the prefix that a source is counted by, and denied as at most."""
        return source.prefix(self.prefix4 if source.version == 4 else self.prefix6)


def format_span(span: Micros) -> str:
    """Return a length of time as people write it: `90s`, `10m`, `1h`, `7d`."""
    seconds = span / SECOND
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"
