"""Jails: this site's binding of filters to a window and to actions; from events to decisions.

Decides when a source has struck often enough, what it is denied as (its address, or the prefix that it
is counted by when several addresses of it struck), and for how long. Never decides to touch a source that the
ignore list names: such a source leaves no strike at all. Evidence that anybody could have forged gets
short blocks only, and at most so many new ones a minute; past that the breaker opens, is said once, and
detection goes on.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from correlator.model import SECOND, Block, Event, Ignore, Micros, Source, Strike
from correlator.windows import Reach, WindowTable

MINUTE: Micros = 60 * SECOND
_EVIDENCE_LINES = 20


class Count(enum.Enum):
    """What a jail counts."""

    STRIKES = "strikes"
    WEIGHT = "weight"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class JailDefinition:
    """A jail as the site wrote it; times in microseconds."""

    name: str
    where: str
    filters: tuple[str, ...]
    count: Count = Count.STRIKES
    field: str = ""
    """Which field's different values count, with `Count.DISTINCT`."""
    threshold: int = 1
    span: Micros = 3600 * SECOND
    prefix4: int = 32
    prefix6: int = 64
    """Sources are counted by prefixes of this length."""
    block_for: Micros | None = 3600 * SECOND
    """None: until it is released."""
    spoofable_block_for: Micros = 600 * SECOND
    spoofable_a_minute: int = 60
    actions: tuple[str, ...] = ("nftables",)
    is_blocking: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one event did to one jail."""

    key: str
    reach: Reach[Strike] | None
    """None: the source is ignored or denied already, and nothing was counted."""
    decision: Block | Ignore | None
    note: str
    """In words, for `explain`."""


@dataclass(slots=True)
class JailCounters:
    """What happened in a jail since the start."""

    strikes: int = 0
    blocks: int = 0
    ignored: int = 0
    denied_already: int = 0
    breaker_opened: int = 0


class Jail:
    """A jail that runs: feed it events, in any order of time, and it answers with verdicts."""

    def __init__(self, definition: JailDefinition, *, max_sources: int) -> None:
        self.definition = definition
        self.name = definition.name
        self.counters = JailCounters()
        self.windows: WindowTable[Strike] = WindowTable(
            span=definition.span,
            threshold=definition.threshold,
            is_distinct=definition.count is Count.DISTINCT,
            max_keys=max_sources,
        )
        self._breaker = Breaker(definition.spoofable_a_minute)

    def key_of(self, source: Source) -> Source:
        """Return what a source is counted by."""
        definition = self.definition
        return source.prefix(definition.prefix4 if source.version == 4 else definition.prefix6)

    def judge(
        self, event: Event, *, ignored_by: Callable[[Source], str | None], is_denied: Callable[[Source], bool]
    ) -> Verdict:
        """Count an event and say what follows."""
        key = str(self.key_of(event.source))
        entry = ignored_by(event.source)
        if entry is not None:
            self.counters.ignored += 1
            return Verdict(key, None, None, f"ignored: {entry}")
        if is_denied(event.source):
            self.counters.denied_already += 1
            return Verdict(key, None, None, "denied already")
        return self.count(self._strike(event, key))

    def count(self, strike: Strike) -> Verdict:
        """Count a strike; also how strikes kept over a restart come back."""
        self.counters.strikes += 1
        reach = self.windows.strike(strike.key, strike.at, strike.weight, strike.value, strike)
        note = f"{reach.measure} of {self.definition.threshold} in {format_span(self.definition.span)}"
        if not reach.is_decided:
            return Verdict(strike.key, reach, None, note)
        return Verdict(strike.key, reach, self._decide(reach), note)

    def _strike(self, event: Event, key: str) -> Strike:
        definition = self.definition
        weight = event.count * (event.weight if definition.count is Count.WEIGHT else 1)
        value = event.fields.get(definition.field, "") if definition.count is Count.DISTINCT else ""
        return Strike(
            jail=self.name,
            key=key,
            source=event.source,
            at=event.at,
            weight=weight,
            value=value,
            is_spoofable=event.is_spoofable,
            port=event.port,
            protocol=event.protocol,
            evidence=event.evidence,
            filter=event.filter,
            pattern=event.pattern,
        )

    def _decide(self, reach: Reach[Strike]) -> Block | Ignore | None:
        """Return the decision; None while the breaker is open and that has been said."""
        strikes = reach.items
        last = strikes[-1]
        sources = {strike.source for strike in strikes}
        source = last.source if len(sources) == 1 else self.key_of(last.source)
        evidence = tuple(strike.evidence for strike in strikes[-_EVIDENCE_LINES:])
        is_spoofable = all(strike.is_spoofable for strike in strikes)
        duration = self.definition.block_for
        if is_spoofable:
            if not self._breaker.admit(last.at):
                if not self._breaker.has_just_opened:
                    return None
                self.counters.breaker_opened += 1
                return Ignore(source, self.name, last.at, self._breaker.reason, evidence)
            short = self.definition.spoofable_block_for
            duration = short if duration is None else min(duration, short)
        self.counters.blocks += 1
        return Block(
            request=f"{self.name}:{source}:{last.at}",
            source=source,
            jail=self.name,
            at=last.at,
            until=None if duration is None else last.at + duration,
            strikes=sum(strike.weight for strike in strikes),
            span=self.definition.span,
            ports=tuple(sorted({strike.port for strike in strikes if strike.port is not None})),
            port=last.port or 0,
            protocol=last.protocol or "TCP",
            is_spoofable=is_spoofable,
            is_observed=not self.definition.is_blocking,
            actions=self.definition.actions,
            evidence=evidence,
            pattern=last.pattern,
        )


class Breaker:
    """Admits at most `limit` blocks on spoofable evidence in any minute of the strikes' own time.

    A flood of forged sources could otherwise have us deny anybody, and fill the rule set.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: deque[Micros] = deque(maxlen=max(limit, 1))
        self._is_open = False
        self.has_just_opened = False
        self.reason = f"breaker open: {limit} blocks on spoofable evidence within a minute"

    def admit(self, at: Micros) -> bool:
        """Whether one more block may follow at this time."""
        while self._admitted and self._admitted[0] <= at - MINUTE:
            self._admitted.popleft()
        if len(self._admitted) < self._limit:
            self._admitted.append(at)
            self._is_open = self.has_just_opened = False
            return True
        self.has_just_opened = not self._is_open
        self._is_open = True
        return False


def format_span(span: Micros) -> str:
    """Return a length of time as people write it: `90s`, `10m`, `1h`, `7d`."""
    seconds = span / SECOND
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"
