"""Jails: this site's binding of filters to a window and to actions; from events to decisions.

Decides when a key (a source, a prefix, an account, one of our addresses) has been struck by often enough, who
is denied for it (the address, or the prefix that it is counted by when several addresses of it struck;
every striker where the key is not a source), and for how long. Never decides to touch a source that the
ignore list names: such a source leaves no strike at all. Evidence that anybody could have forged gets
short blocks only, and at most so many new ones a minute; past that the breaker opens, is said once, and
detection goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from correlator.counting.deciding import Decider, JailCounters
from correlator.counting.evidence import EvidenceBook, StrikePacker, Struck
from correlator.counting.jail_definition import PROOF, Count, JailDefinition, Key, format_span
from correlator.counting.spans import Reach
from correlator.counting.windows import WindowTable
from correlator.model import Block, Event, Ignore, Micros, Repeat, Source, Strike

__all__ = ["Count", "Jail", "JailCounters", "JailDefinition", "Key", "Verdict", "format_span"]
_LONGEST_KEY = 255
"""Of an account's name, in characters; mail addresses are at most 254 long."""


class Verdict(NamedTuple):
    """What one event did to one jail."""

    key: str
    reach: Reach | None
    """None: nothing was counted; its source is ignored or denied already, or it lacks what is counted."""
    decision: Block | Ignore | None
    note: str
    """In words, for `explain`."""
    strike: Strike | None = None
    """What was counted."""
    is_settled: bool = False
    """True where the key's window decided and was emptied; else the strike waits in it."""
    further: tuple[Block | Ignore, ...] = ()
    """What was decided beside it: the other sources that struck in a window over an account or an address."""
    is_denied: bool = False
    """True where nothing was counted because the source is denied already."""

    @property
    def decisions(self) -> tuple[Block | Ignore, ...]:
        """All that was decided."""
        return self.further if self.decision is None else (self.decision, *self.further)


class Jail:
    """A jail that runs: feed it events, in any order of time, and it answers with verdicts."""

    def __init__(self, definition: JailDefinition, *, max_sources: int) -> None:
        self.definition = definition
        self.name = definition.name
        self.counters = JailCounters()
        self.windows = WindowTable(
            span=definition.span,
            threshold=definition.threshold,
            is_distinct=definition.count is Count.DISTINCT,
            needed=(1 << len(definition.all_of)) - 1,
            max_keys=max_sources,
        )
        self._out_of = f"of {definition.threshold} {definition.unit} in {format_span(definition.span)}"
        self._kinds: dict[tuple[str, str], int] = {}
        self._max_sources = max_sources
        self.is_keyed_by_source = definition.is_keyed_by_source
        self.keep_lines_in(EvidenceBook())

    def keep_lines_in(self, book: EvidenceBook) -> None:
        """Begin with a book of lines that other jails use too; before anything is counted."""
        self._packer = StrikePacker(book, is_keyed_by_source=self.definition.is_keyed_by_source)
        self._decider = Decider(self.definition, self.counters, book, most_keys=self._max_sources)

    def succeed(self, before: Jail) -> None:
        """Go on where a jail of this name ended: what was counted, how many short blocks may follow."""
        for name in JailCounters.__slots__:
            setattr(self.counters, name, getattr(before.counters, name))
        if self.definition.spoofable_a_minute == before.definition.spoofable_a_minute:
            self._decider.breaker = before._decider.breaker

    def key_of(self, source: Source) -> Source:
        """Return what a source is counted by, where it is counted by sources; and denied as, at most."""
        return self.definition.counted_by(source)

    def _own_ignore(self, source: Source) -> str | None:
        """Return the entry of this jail's own list that names a source."""
        found = next((entry for entry in self.definition.ignore if entry.covers(source)), None)
        return None if found is None else f"{found}, by jail {self.name}"

    def key_for(self, event: Event) -> str | None:
        """Return the key that an event strikes; None where the line does not say it."""
        if self.is_keyed_by_source:
            return str(self.definition.counted_by(event.source))
        found = ""
        match self.definition.key:
            case Key.USER:
                found = event.fields.get("user", "")
            case Key.DESTINATION:
                found = event.fields.get("destination") or str("" if event.port is None else event.port)
        return _storable(found[:_LONGEST_KEY]) or None

    def judge(
        self, event: Event, *, ignored_by: Callable[[Source], str | None], is_denied: Callable[[Source], bool]
    ) -> Verdict:
        """Count an event and say what follows."""
        if self.definition.only and (refused := self._refuse(event)):
            return Verdict("", None, None, refused)
        key = self.key_for(event)
        if key is None:
            self.counters.incomplete += 1
            return Verdict("", None, None, f"not counted: the line names no {self.definition.key.value}")
        if is_denied(event.source):  # first: it is the quickest to say, and the rest of a flood is of these
            self.counters.denied_already += 1
            return Verdict(key, None, None, "denied already", is_denied=True)
        entry = self._own_ignore(event.source) if self.definition.ignore else None
        entry = entry or ignored_by(event.source)
        if entry is not None:
            self.counters.ignored += 1
            return Verdict(key, None, None, f"ignored: {entry}")
        value = self._value(event)
        if value is None:
            self.counters.incomplete += 1
            return Verdict(key, None, None, f"not counted: the line names no {self.definition.field}")
        weight = self._weight(event)
        if weight == 0:
            return Verdict(key, None, None, "not counted: its weight here is 0")
        return self.count(self._strike(event, key, value, weight), is_denied=is_denied)

    def _refuse(self, event: Event) -> str:
        """Return why an event is none of those that are counted alone; empty where it is one."""
        for name, values in self.definition.only.items():
            if event.fields.get(name) not in values:
                said = event.fields.get(name)
                return f"not counted: {name} is {'not said' if said is None else said}"
        return ""

    def count(
        self, strike: Strike, *, is_denied: Callable[[Source], bool] = lambda _source: False
    ) -> Verdict:
        """Count a strike and say what follows."""
        self.counters.strikes += 1
        reach = self.tally(strike)
        note = self.describe(reach.measure, reach.kinds)
        if not reach.is_decided:
            return Verdict(strike.key, reach, None, note, strike)
        decisions, is_settled = self._decider.decide(
            strike.key, reach, lambda: self._window(strike.key, reach.end), is_denied
        )
        if is_settled:
            self.windows.forget(strike.key)
        else:
            note += f", kept back: {self._decider.breaker.reason}"
        first, further = (decisions[0] if decisions else None), tuple(decisions[1:])
        return Verdict(strike.key, reach, first, note, strike, is_settled, further)

    def tally(self, strike: Strike) -> Reach:
        """Count a strike and decide nothing."""
        counted = hash(strike.value) if self.definition.count is Count.DISTINCT else strike.weight
        return self.windows.strike(
            strike.key, strike.at, counted, self._packer.pack(strike), kinds=self._kinds_of(strike)
        )

    def describe(self, measure: int, kinds: int) -> str:
        """Return how far a window is, in words: `3 of 5 strikes in 10m, nothing of portsentry`."""
        if not self.definition.all_of:
            return f"{measure} {self._out_of}"
        missing = [kind for bit, kind in enumerate(self.definition.all_of) if not kinds >> bit & 1]
        lacks = f", nothing of {', '.join(missing)}" if missing else ""
        return f"{measure} {self._out_of}{lacks}"

    def restore(self, blocks: Iterable[Block], repeats: Iterable[Repeat]) -> None:
        """Bring back what this jail decided before a restart, each oldest first."""
        self._decider.restore(blocks, repeats)

    def count_again(self, strike: Strike, *, is_denied: Callable[[Source], bool]) -> Verdict:
        """Count a strike that waited over a restart; the lengths of prefixes may have changed meanwhile."""
        if self.definition.is_keyed_by_source:
            strike = strike._replace(key=str(self.definition.counted_by(strike.source)))
        return self.count(strike, is_denied=is_denied)

    def forget(self, source: Source) -> None:
        """Begin anew with a source that somebody released."""
        if self.definition.is_keyed_by_source:
            self.windows.forget(str(self.definition.counted_by(source)))
        self._decider.forget(source)

    def take_back(self, source: Source) -> None:
        """Undo what the next block would have been lengthened for: this one was not carried out."""
        self._decider.take_back(source)

    def advance(self, now: Micros) -> None:
        """Forget what cannot matter any more."""
        self.windows.advance(now)
        self._decider.advance(now)

    def _window(self, key: str, end: Micros) -> Sequence[Struck]:
        is_distinct = self.definition.count is Count.DISTINCT
        return [
            self._packer.unpack(key, row, 1 if is_distinct else row.counted)
            for row in self.windows.rows(key, end)
        ]

    def _value(self, event: Event) -> str | None:
        """Return what counts as one value of the counted field; None where the line does not say it."""
        definition = self.definition
        if definition.count is not Count.DISTINCT:
            return ""
        if definition.field == "source":
            return str(self.definition.counted_by(event.source))  # a stranger has a whole /64 to choose from
        if definition.field == "port":
            return None if event.port is None else str(event.port)
        value = event.fields.get(definition.field)
        return None if value is None else _storable(value)

    def _weight(self, event: Event) -> int:
        definition = self.definition
        if definition.count is not Count.WEIGHT:
            return event.count
        weights = definition.weights
        own = weights.get(event.filter, event.weight)
        return event.count * weights.get(f"{event.filter}/{event.pattern}", own)

    def _kinds_of(self, strike: Strike) -> int:
        """Return a bit for each kind of evidence in `all_of` that the strike is, and one for proof."""
        if not self.definition.all_of:
            return 0 if strike.is_spoofable else PROOF
        kinds = self._kinds.get((strike.filter, strike.pattern))
        if kinds is None:
            names = (strike.filter, f"{strike.filter}/{strike.pattern}")
            kinds = sum(1 << bit for bit, kind in enumerate(self.definition.all_of) if kind in names)
            self._kinds[strike.filter, strike.pattern] = kinds
        return kinds if strike.is_spoofable else kinds | PROOF

    def _strike(self, event: Event, key: str, value: str, weight: int) -> Strike:
        return Strike(  # by place: half the time of by name, and each strike of a flood is made here
            self.name,
            key,
            event.source,
            event.at,
            weight,
            value,
            event.is_spoofable,
            event.port,
            event.protocol,
            event.evidence,
            event.filter,
            event.pattern,
        )


def _storable(text: str) -> str:
    """Return text that a restart brings back as it was: bytes that were no UTF-8 become backslash escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
