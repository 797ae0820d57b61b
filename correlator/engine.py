"""The engine: a value you feed. Chunks, time and outcomes go in; decisions come out.

    feed(arrived) -> Step     lines become events, events strikes, strikes decisions
    note(outcome)             what the enforcer did, or what became of a block later
    advance(now)              forget what cannot matter any more
    restore(strikes, blocks)  what a restart brings back

No I/O and no clock: the same inputs give the same decisions every time. Memory is bounded by the jails'
tables; what is left out is counted. One event can concern several jails, and each judges it alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import assert_never

from correlator.counting.evidence import EvidenceBook
from correlator.counting.jails import Jail, JailDefinition, Verdict
from correlator.lines.syslog import format_instant
from correlator.matching.filters import Filter, Unreadable
from correlator.model import (
    SECOND,
    Block,
    Chunk,
    Decision,
    Entries,
    Event,
    Ignore,
    Micros,
    Outcome,
    OutcomeKind,
    Release,
    Repeat,
    Source,
    Strike,
)
from correlator.reading import OriginCounters, Reader

_SKEW_BEHIND: Micros = 60 * SECOND
_ADVANCE_EVERY: Micros = 60 * SECOND
_BATCH = 1024  # events read before they are judged: each of the two is faster when it is not interrupted
_PORTS_SHOWN = 32
_MOST_DENIALS = 100_000


@dataclass(slots=True)
class Step:
    """What one chunk led to."""

    decisions: list[Decision] = field(default_factory=list)
    settled: dict[tuple[str, str], None] = field(default_factory=dict)
    """Jails and keys whose windows decided: what waited there before this step is used up."""
    waiting: dict[tuple[str, str], list[Strike]] = field(default_factory=dict)
    """By jail and key: strikes that wait in a window now; what a restart must bring back."""
    denied: list[Event] = field(default_factory=list)
    """Events of sources that were denied already, and that no jail counted."""

    @property
    def strikes(self) -> list[Strike]:
        """All that wait."""
        return [strike for strikes in self.waiting.values() for strike in strikes]

    def count(self, strike: Strike, verdict: Verdict) -> None:
        """Add what a strike did to its jail."""
        key = (strike.jail, strike.key)
        if verdict.is_settled:
            self.settled[key] = None
            self.waiting.pop(key, None)
        else:
            self.waiting.setdefault(key, []).append(strike)
        if verdict.decision is not None:
            self.decisions += verdict.decisions

    def add(self, later: Step) -> None:
        """Add what a later step wants recorded."""
        self.decisions += later.decisions
        self.settled |= later.settled
        for key in later.settled:
            self.waiting.pop(key, None)
        for key, strikes in later.waiting.items():
            self.waiting.setdefault(key, []).extend(strikes)

    def drop_strikes(self, most: int) -> None:
        """Forget the strikes of the keys that have waited longest where more than `most` wait."""
        count = sum(map(len, self.waiting.values()))
        for key in tuple(self.waiting):
            if count <= most:
                return
            count -= len(self.waiting.pop(key))


@dataclass(frozen=True, slots=True)
class _Denial:
    until: Micros | None
    request: str
    step: int = 0
    """As in `Block.step`."""
    is_carried_out: bool = False
    jails: frozenset[str] = frozenset()
    """Those that decided it, as long as it lasts."""
    actions: frozenset[str] = frozenset()
    """What is done to the source; nothing where it was only observed."""

    def settles(self, jail: JailDefinition) -> bool:
        """True where this jail could add nothing to it: else who is only observed is never blocked."""
        return jail.name in self.jails or not jail.is_blocking or self.actions >= {*jail.actions}


class Engine:
    """Filters and jails of this site, fed by whoever holds the files and the clock."""

    def __init__(
        self,
        filters: Sequence[Filter],
        jails: Sequence[Jail],
        *,
        routes: Mapping[str, Sequence[str]],
        ignored_by: Callable[[Source], str | None],
        max_line: int = 8192,
    ) -> None:
        """Take what runs; `routes` names, for each origin, the filters that read it."""
        self.jails = {jail.name: jail for jail in jails}
        book = EvidenceBook()
        for jail in jails:
            jail.keep_lines_in(book)
        self.filters = {filter_.name: filter_ for filter_ in filters}
        self._reader = Reader(self.filters, routes=routes, max_line=max_line)
        self._ignored_by = ignored_by
        self._listeners = {
            name: tuple(jail for jail in jails if name in jail.definition.filters) for name in self.filters
        }
        self.forgotten = 0
        """Denials that left the table because there were too many."""
        self._denials: OrderedDict[Source, _Denial] = OrderedDict()
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}
        """Of the prefixes that are denied."""
        self._advanced: Micros = 0

    @property
    def origins(self) -> Mapping[str, OriginCounters]:
        """What came from each origin since the start."""
        return self._reader.origins

    @property
    def unreadable(self) -> Sequence[Unreadable]:
        """The latest lines that are ours and say something we cannot use, oldest first."""
        return tuple(self._reader.unreadable)

    @property
    def next_deadline(self) -> Micros:
        """When `advance` wants to be called next."""
        return self._advanced + _ADVANCE_EVERY

    @property
    def denied(self) -> int:
        """How many sources are denied, requested or observed, as far as we know."""
        return len(self._denials)

    def succeed(self, before: Engine) -> None:
        """Go on counting what came from each origin, and in each jail, where another engine ended.

        What its filters know of connections, ours know too. Strikes and blocks come before this (`restore`).
        """
        self._reader.succeed(before._reader)
        for name in self.filters.keys() & before.filters.keys():
            self.filters[name].succeed(before.filters[name])
        for name in self.jails.keys() & before.jails.keys():
            self.jails[name].succeed(before.jails[name])

    def follow(self, origin: str, filters: Sequence[str]) -> None:
        """Have these filters read an origin from now on: a file that a pattern has come to mean."""
        self._reader.follow(origin, filters)

    def warm(self, origin: str) -> None:
        """Make ready for lines of this origin: what is not is when its first line comes."""
        self._reader.warm(origin)

    def drop(self, origin: str) -> None:
        """Forget an origin that is gone, and what came from it."""
        self._reader.drop(origin)

    def feed(self, arrived: Chunk | Entries) -> Step:
        """Take what came from a file or from the journal, and return what it led to."""
        step = Step()
        events = self.read(arrived)
        while batch := tuple(islice(events, _BATCH)):
            for event in batch:
                self._take(event, step)
        return step

    def read(self, arrived: Chunk | Entries) -> Iterator[Event]:
        """Yield what the filters understand of it; whoever calls has each judged."""
        return self._reader.read(arrived)

    def judge(self, event: Event) -> Iterator[tuple[Jail, Verdict]]:
        """Let each jail that listens to the event's filter count it, and say what each made of it."""
        for jail in self._listeners.get(event.filter, ()):
            yield jail, self._judge(event, jail)

    def _take(self, event: Event, step: Step) -> None:
        """Let each jail that listens to the event's filter count it."""
        is_denied = is_counted = False
        for jail in self._listeners.get(event.filter, ()):
            if jail.is_keyed_by_source and self._is_denied(event.source, event.at, jail.definition):
                jail.counters.denied_already += 1  # the rest of a flood is of these: no verdict on each
                is_denied = True
                continue
            verdict = self._judge(event, jail, _nobody if jail.is_keyed_by_source else None)
            is_denied |= verdict.is_denied
            if verdict.strike is not None:
                is_counted = True
                step.count(verdict.strike, verdict)
        if is_denied and not is_counted:
            step.denied.append(event)

    def _judge(self, event: Event, jail: Jail, is_denied: Callable[[Source], bool] | None = None) -> Verdict:
        """Let a jail count an event; `is_denied`: what to ask in place of our own table."""
        if is_denied is None:
            is_denied = self._denied_at(event.at, jail.definition)
        verdict = jail.judge(event, ignored_by=self._ignored_by, is_denied=is_denied)
        if verdict.decision is not None:
            for decision in verdict.decisions:
                if isinstance(decision, Block):
                    self._deny(decision)
        return verdict

    def note(self, outcome: Outcome) -> None:
        """Take what the enforcer did with a request, or what became of a block later."""
        match outcome.kind:
            case OutcomeKind.DONE | OutcomeKind.EXISTS | OutcomeKind.REFUSED:
                known = self._denials.get(outcome.source)
                if known is not None:
                    until = known.until if outcome.until is None else outcome.until
                    is_carried_out = outcome.kind is not OutcomeKind.REFUSED
                    self._denials[outcome.source] = replace(known, until=until, is_carried_out=is_carried_out)
            case OutcomeKind.FAILED:
                known = self._denials.pop(outcome.source, None)
                jail = self.jails.get(outcome.request.partition(":")[0])
                if jail is not None and known is not None and known.step:
                    jail.take_back(outcome.source)
            case OutcomeKind.EXPIRED:
                self._denials.pop(outcome.source, None)
            case OutcomeKind.RELEASED:
                self._denials.pop(outcome.source, None)
                for jail in self.jails.values():
                    jail.forget(outcome.source)

    def agree(self, held: frozenset[Source]) -> list[Source]:
        """Believe no longer that a source is denied which the enforcer does not hold; return those.

        Observed and unanswered blocks stay: the enforcer has never been asked for them.
        """
        wider = [source for source in held if not source.is_single]
        gone = [
            source
            for source, denial in self._denials.items()
            if denial.is_carried_out
            and source not in held
            and not any(prefix.covers(source) for prefix in wider)
        ]
        for source in gone:
            del self._denials[source]
        return gone

    def advance(self, now: Micros) -> None:
        """Forget windows and denials that cannot matter any more."""
        self._advanced = now
        for jail in self.jails.values():
            jail.advance(now)
        over = [source for source, denial in self._denials.items() if _is_over(denial, now - _SKEW_BEHIND)]
        for source in over:
            del self._denials[source]

    def restore(
        self,
        strikes: Iterable[Strike],
        blocks: Iterable[Block],
        *,
        carried_out: Iterable[Block] = (),
        repeats: Iterable[Repeat] = (),
    ) -> list[Decision]:
        """Bring back waiting strikes and known blocks after a restart; `carried_out`: those with an outcome.

        What a jail only observed denied nobody: it is forgotten once the jail blocks; the next strike counts.
        Returns what the strikes decide now: something only where a jail's threshold has been lowered.
        """
        blocking = {name for name, jail in self.jails.items() if jail.definition.is_blocking}
        blocks = tuple(block for block in blocks if not (block.is_observed and block.jail in blocking))
        carried_out, repeats = tuple(carried_out), tuple(repeats)
        for block in blocks:
            self._deny(block)
        for block in carried_out:
            self._deny(block, is_carried_out=True)
        decided = sorted((*blocks, *carried_out), key=lambda block: block.at)
        for name, jail in self.jails.items():
            jail.restore(
                [block for block in decided if block.jail == name],
                [repeat for repeat in repeats if repeat.jail == name],
            )
        decisions: list[Decision] = []
        for strike in strikes:
            jail_of = self.jails.get(strike.jail)
            if jail_of is None or self._is_denied(strike.source, strike.at, jail_of.definition):
                continue
            is_denied = self._denied_at(strike.at, jail_of.definition)
            verdict = jail_of.count_again(strike, is_denied=is_denied)
            for decision in verdict.decisions:
                if isinstance(decision, Block):
                    self._deny(decision)
                    decisions.append(decision)
        return decisions

    def _denied_at(self, at: Micros, jail: JailDefinition) -> Callable[[Source], bool]:
        return lambda source: self._is_denied(source, at, jail)

    def _is_denied(self, source: Source, at: Micros, jail: JailDefinition) -> bool:
        denial = self._denials.get(source)
        if denial is not None and not _is_over(denial, at) and denial.settles(jail):
            return True
        lengths = self._lengths[source.version]
        if not lengths:
            return False
        for length in lengths:
            denial = self._denials.get(source.prefix(length))
            if denial is not None and not _is_over(denial, at) and denial.settles(jail):
                return True
        return False

    def _deny(self, block: Block, *, is_carried_out: bool = False) -> None:
        jails, actions, until = {block.jail}, set(() if block.is_observed else block.actions), block.until
        before = self._denials.get(block.source)
        if before is not None and not _is_over(before, block.at):
            jails |= before.jails
            actions |= before.actions
            if before.actions and (before.until is None or (until is not None and before.until > until)):
                until = before.until  # the enforcer shortens nothing
        denial = _Denial(
            until, block.request, block.step, is_carried_out, frozenset(jails), frozenset(actions)
        )
        self._denials[block.source] = denial
        if len(self._denials) > _MOST_DENIALS:  # the oldest is forgotten: its next strike decides again
            self._denials.popitem(last=False)
            self.forgotten += 1
        if not block.source.is_single:
            self._lengths[block.source.version].add(block.source.network.prefixlen)


def _nobody(_source: Source) -> bool:
    return False


def _is_over(denial: _Denial, at: Micros) -> bool:
    return denial.until is not None and denial.until <= at


def format_decision(decision: Decision, *, word: str = "") -> str:
    """Return the stable line that announces a decision; `word` replaces its first word.

    `block source=192.0.2.9 jail=portscan strikes=6 span=60s ports=1,7,11 until=2026-01-02T03:04:05Z`
    and ` spoofable=yes` behind it where anybody could have forged all of the evidence: who counts such lines
    over days, as our own filter `portward` does, must not give a forger more than the jail gave him.
    """
    match decision:
        case Block():
            first = word or ("observe" if decision.is_observed else "block")
            ports = ",".join(map(str, decision.ports[:_PORTS_SHOWN])) or "-"
            more = f",+{len(decision.ports) - _PORTS_SHOWN}" if len(decision.ports) > _PORTS_SHOWN else ""
            until = "forever" if decision.until is None else format_instant(decision.until)
            forged = " spoofable=yes" if decision.is_spoofable else ""
            return (
                f"{first} source={decision.source} jail={decision.jail} strikes={decision.strikes}"
                f" span={decision.span / SECOND:g}s ports={ports}{more} until={until}{forged}"
            )
        case Ignore():
            return f"ignore source={decision.source} jail={decision.jail} reason={decision.reason!r}"
        case Release():
            return f"release source={decision.source} reason={decision.reason!r}"
        case _:
            assert_never(decision)
