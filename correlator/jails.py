"""Jails: this site's binding of filters to a window and to actions; from events to decisions.

Decides when a key (a source, a prefix, an account, one of our addresses) has been struck by often enough, who
is denied for it (the address, or the prefix that it is counted by when several addresses of it struck;
every striker where the key is not a source), and for how long. Never decides to touch a source that the
ignore list names: such a source leaves no strike at all. Evidence that anybody could have forged gets
short blocks only, and at most so many new ones a minute; past that the breaker opens, is said once, and
detection goes on.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from correlator.breaker import Breaker
from correlator.escalation import Escalation
from correlator.model import SECOND, Block, Event, Evidence, Ignore, Micros, Source, Strike
from correlator.windows import Reach, WindowTable

_EVIDENCE_LINES = 20
_EVIDENCE_CHARACTERS = 16_384
_MOST_SOURCES = 64
"""Denied by one decision: a window over an account may hold as many sources as it has strikes."""
_LONGEST_KEY = 255
"""Of an account's name, in characters; mail addresses are at most 254 long."""


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
    actions: tuple[str, ...] = ("nftables",)
    is_blocking: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one event did to one jail."""

    key: str
    reach: Reach[Strike] | None
    """None: nothing was counted; its source is ignored or denied already, or it lacks what is counted."""
    decision: Block | Ignore | None
    note: str
    """In words, for `explain`."""
    strike: Strike | None = None
    """What was counted."""
    further: tuple[Block | Ignore, ...] = ()
    """What was decided beside it: the other sources that struck in a window over an account or an address."""

    is_denied: bool = False
    """True where nothing was counted because the source is denied already."""

    @property
    def decisions(self) -> tuple[Block | Ignore, ...]:
        """All that was decided."""
        return self.further if self.decision is None else (self.decision, *self.further)


@dataclass(slots=True)
class JailCounters:
    """What happened in a jail since the start."""

    strikes: int = 0
    blocks: int = 0
    ignored: int = 0
    denied_already: int = 0
    breaker_opened: int = 0
    kept_back: int = 0
    """Blocks on spoofable evidence that were not asked for while the breaker was open."""
    incomplete: int = 0
    """Events that lack the field by which the jail counts, or which it counts."""
    left_out: int = 0
    """Sources that struck in a decided window and were too many for one decision."""


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
            needed=(1 << len(definition.all_of)) - 1,
            max_keys=max_sources,
        )
        self.escalation = (
            Escalation(definition.escalate, remember=definition.remember, most_keys=max_sources)
            if definition.escalate
            else None
        )
        self._breaker = Breaker(definition.spoofable_a_minute)

    def key_of(self, source: Source) -> Source:
        """Return what a source is counted by, where it is counted by sources; and denied as, at most."""
        definition = self.definition
        return source.prefix(definition.prefix4 if source.version == 4 else definition.prefix6)

    def key_for(self, event: Event) -> str | None:
        """Return the key that an event strikes; None where the line does not say it."""
        match self.definition.key:
            case Key.SOURCE | Key.PREFIX:
                return str(self.key_of(event.source))
            case Key.USER:
                found = event.fields.get("user", "")
            case Key.DESTINATION:
                found = event.fields.get("destination") or str("" if event.port is None else event.port)
        return found[:_LONGEST_KEY] or None

    def judge(
        self, event: Event, *, ignored_by: Callable[[Source], str | None], is_denied: Callable[[Source], bool]
    ) -> Verdict:
        """Count an event and say what follows."""
        key = self.key_for(event)
        if key is None:
            self.counters.incomplete += 1
            return Verdict("", None, None, f"not counted: the line names no {self.definition.key.value}")
        entry = ignored_by(event.source)
        if entry is not None:
            self.counters.ignored += 1
            return Verdict(key, None, None, f"ignored: {entry}")
        if is_denied(event.source):
            self.counters.denied_already += 1
            return Verdict(key, None, None, "denied already", is_denied=True)
        value = self._value(event)
        if value is None:
            self.counters.incomplete += 1
            return Verdict(key, None, None, f"not counted: the line names no {self.definition.field}")
        weight = self._weight(event)
        if weight == 0:
            return Verdict(key, None, None, "not counted: its weight here is 0")
        return self.count(self._strike(event, key, value, weight), is_denied=is_denied)

    def count(
        self, strike: Strike, *, is_denied: Callable[[Source], bool] = lambda _source: False
    ) -> Verdict:
        """Count a strike; also how strikes kept over a restart come back."""
        definition = self.definition
        self.counters.strikes += 1
        reach = self.windows.strike(
            strike.key, strike.at, strike.weight, strike.value, strike, kinds=self._kinds(strike)
        )
        note = f"{reach.measure} of {definition.threshold} in {format_span(definition.span)}"
        missing = [kind for bit, kind in enumerate(definition.all_of) if not reach.kinds >> bit & 1]
        if missing:
            note += f", nothing of {', '.join(missing)}"
        if not reach.is_decided:
            return Verdict(strike.key, reach, None, note, strike)
        decisions = self._decide(reach.items, is_denied)
        first = decisions[0] if decisions else None
        return Verdict(strike.key, reach, first, note, strike, tuple(decisions[1:]))

    def forget(self, source: Source) -> None:
        """Begin anew with a source that somebody released."""
        key = str(self.key_of(source))
        if self.definition.key in (Key.SOURCE, Key.PREFIX):
            self.windows.forget(key)
        if self.escalation is not None:
            self.escalation.forget(key)

    def take_back(self, source: Source) -> None:
        """Undo what the next block would have been lengthened for: this one was not carried out."""
        if self.escalation is not None:
            self.escalation.take_back(str(self.key_of(source)))

    def advance(self, now: Micros) -> None:
        """Forget what cannot matter any more."""
        self.windows.advance(now)
        if self.escalation is not None:
            self.escalation.advance(now)

    def _value(self, event: Event) -> str | None:
        """Return what counts as one value of the counted field; None where the line does not say it."""
        definition = self.definition
        if definition.count is not Count.DISTINCT:
            return ""
        if definition.field == "source":
            return str(self.key_of(event.source))  # a stranger has a whole /64 to choose from
        if definition.field == "port":
            return None if event.port is None else str(event.port)
        return event.fields.get(definition.field)

    def _weight(self, event: Event) -> int:
        definition = self.definition
        if definition.count is not Count.WEIGHT:
            return event.count
        weights = definition.weights
        own = weights.get(event.filter, event.weight)
        return event.count * weights.get(f"{event.filter}/{event.pattern}", own)

    def _kinds(self, strike: Strike) -> int:
        """Return a bit for each kind of evidence in `all_of` that the strike is."""
        names = (strike.filter, f"{strike.filter}/{strike.pattern}")
        return sum(1 << bit for bit, kind in enumerate(self.definition.all_of) if kind in names)

    def _strike(self, event: Event, key: str, value: str, weight: int) -> Strike:
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

    def _decide(self, strikes: Sequence[Strike], is_denied: Callable[[Source], bool]) -> list[Block | Ignore]:
        """Return what follows from a decided window, the newest striker first.

        Nothing for a striker that the breaker keeps back, once that has been said.
        """
        strikers: dict[Source, list[Strike]] = {}
        for strike in reversed(strikes):
            strikers.setdefault(self.key_of(strike.source), []).append(strike)
        decisions: list[Block | Ignore] = []
        for number, (counted_by, own) in enumerate(strikers.items()):
            if number >= _MOST_SOURCES:
                self.counters.left_out += len(strikers) - number
                break
            addresses = {strike.source for strike in own}
            source = own[0].source if len(addresses) == 1 else counted_by
            if not is_denied(source) and (decision := self._decide_on(source, own[::-1], strikes)):
                decisions.append(decision)
        return decisions

    def _decide_on(
        self, source: Source, own: Sequence[Strike], strikes: Sequence[Strike]
    ) -> Block | Ignore | None:
        definition = self.definition
        last, at = own[-1], strikes[-1].at
        evidence = choose_evidence(own, strikes)
        is_spoofable = all(strike.is_spoofable for strike in own)
        if is_spoofable and not self._breaker.admit(at):
            self.counters.kept_back += 1
            if not self._breaker.has_just_opened:
                return None
            self.counters.breaker_opened += 1
            return Ignore(source, self.name, at, self._breaker.reason, evidence)
        key = str(self.key_of(source))
        step, duration = 0, definition.block_for
        if self.escalation is not None:
            step = self.escalation.next_step(key, at)
            duration = self.escalation.length_of(step)
        if is_spoofable:
            step, short = 0, definition.spoofable_block_for
            duration = short if duration is None else min(duration, short)
        until = None if duration is None else at + duration
        if self.escalation is not None and step:
            self.escalation.record(key, step, until)
        self.counters.blocks += 1
        return Block(
            request=f"{self.name}:{source}:{at}",
            source=source,
            jail=self.name,
            at=at,
            until=until,
            strikes=sum(strike.weight for strike in strikes),
            span=definition.span,
            ports=tuple(sorted({strike.port for strike in strikes if strike.port is not None})),
            port=last.port or 0,
            protocol=last.protocol or "TCP",
            is_spoofable=is_spoofable,
            is_observed=not definition.is_blocking,
            actions=definition.actions,
            evidence=evidence,
            pattern=last.pattern,
            key=key,
            step=step,
            struck="" if definition.key in (Key.SOURCE, Key.PREFIX) else strikes[-1].key,
        )


def choose_evidence(own: Sequence[Strike], strikes: Sequence[Strike]) -> tuple[Evidence, ...]:
    """Return the lines to show for a decision, oldest first: a source's own newest ones before others'.

    At most 20 lines and 16,384 characters, but always the source's own last line.
    """
    chosen: list[Evidence] = []
    left = _EVIDENCE_CHARACTERS
    for strike in dict.fromkeys([*own[: -_EVIDENCE_LINES - 1 : -1], *strikes[: -_EVIDENCE_LINES - 1 : -1]]):
        left -= len(strike.evidence.line)
        if len(chosen) == _EVIDENCE_LINES or (chosen and left < 0):
            break
        chosen.append(strike.evidence)
    return tuple(sorted(chosen, key=lambda evidence: evidence.at))


def format_span(span: Micros) -> str:
    """Return a length of time as people write it: `90s`, `10m`, `1h`, `7d`."""
    seconds = span / SECOND
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"
