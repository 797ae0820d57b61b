"""From a reached window to decisions: who is denied, on what evidence, and for how long.

A source that is counted by itself is denied alone, as its address, or as the prefix that it is counted by
where several addresses of it struck. Where an account or an address of ours is what was struck, every source
of the window is. Evidence that anybody could have forged gets short blocks only, and no more than so many a
minute: past that the breaker opens, which is said once, and such windows wait: whoever goes on striking
is decided when the breaker has closed. Strikes that prove who sent them are never kept back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from correlator.counting.breaker import Breaker
from correlator.counting.escalation import Escalation
from correlator.counting.evidence import EvidenceBook, Struck
from correlator.counting.jail_definition import PROOF, Count, JailDefinition
from correlator.counting.neighbours import Neighbours
from correlator.counting.spans import Reach
from correlator.model import Block, Evidence, Ignore, Micros, Repeat, Source

_EVIDENCE_LINES = 20
_EVIDENCE_CHARACTERS = 16_384
_MOST_SOURCES = 64
"""Denied by one decision: a window over an account may hold as many sources as it has strikes."""
_MOST_FORGIVEN = 10_000
_MOST_ESCALATED = 100_000
"""Keys of one jail whose past blocks are remembered, as many as the database keeps of all."""


@dataclass(slots=True)
class JailCounters:
    """What happened in a jail since the start."""

    strikes: int = 0
    blocks: int = 0
    ignored: int = 0
    denied_already: int = 0
    breaker_opened: int = 0
    kept_back: int = 0
    """How often a block on spoofable evidence was due while the breaker was open."""
    incomplete: int = 0
    """Events that lack the field by which the jail counts, or which it counts."""
    left_out: int = 0
    """Sources that struck in a decided window and were too many for one decision."""


class Decider:
    """Decides for one jail; remembers how long its blocks were and how many forged evidence got."""

    def __init__(
        self, definition: JailDefinition, counters: JailCounters, book: EvidenceBook, *, most_keys: int
    ) -> None:
        self._book = book
        self.escalation = (
            Escalation(
                definition.escalate,
                remember=definition.remember,
                most_keys=min(most_keys, _MOST_ESCALATED),
            )
            if definition.escalate
            else None
        )
        self.breaker = Breaker(definition.spoofable_a_minute)
        self._neighbours = (
            Neighbours(definition.merge_at, prefix4=definition.merge4, prefix6=definition.merge6)
            if definition.merge_at
            else None
        )
        self._definition = definition
        self._counters = counters
        self._forgiven: OrderedDict[Source, int] = OrderedDict()
        """Released sources, each with the number of the next line at that time."""

    def decide(
        self,
        key: str,
        reach: Reach,
        window: Callable[[], Sequence[Struck]],
        is_denied: Callable[[Source], bool],
    ) -> tuple[list[Block | Ignore], bool]:
        """Return what follows from a window that was reached, and whether that used it up.

        `window` hands out its strikes, oldest first. Where the window is not used up, forged evidence waits.
        """
        if not self._definition.is_keyed_by_source:
            return self._decide_each(key, reach.end, window(), is_denied)
        is_spoofable = not reach.kinds & PROOF
        if is_spoofable and not self._is_admitted(reach.end):
            if not self.breaker.has_just_opened:
                return [], False  # in a flood the way of most: their strikes are not even looked at
            return [self._keep_back(reach.end, window())], False
        strikes = window()
        block = self._block("", reach.end, strikes, strikes, is_spoofable=is_spoofable)
        return [block, *self._network_around(block)], True

    def restore(self, blocks: Iterable[Block], repeats: Iterable[Repeat]) -> None:
        """Bring back what was decided before a restart, each oldest first."""
        for block in blocks:
            if block.is_spoofable:
                self.breaker.admit(block.at)
            elif self._neighbours is not None:
                self._neighbours.widen(block.source, block.at, block.until)
        if self.escalation is not None:
            for repeat in repeats:
                self.escalation.record(repeat.key, repeat.step, repeat.until)

    def take_back(self, source: Source) -> None:
        """Undo the step of a block that was not carried out."""
        if self.escalation is not None:
            self.escalation.take_back(str(self._definition.counted_by(source)))
        if self._neighbours is not None:
            self._neighbours.forget(source)

    def advance(self, now: Micros) -> None:
        """Forget what cannot matter any more."""
        if self.escalation is not None:
            self.escalation.advance(now)

    def forget(self, source: Source) -> None:
        """Begin anew with a source that somebody released."""
        key = self._definition.counted_by(source)
        if self.escalation is not None:
            self.escalation.forget(str(key))
        if self._neighbours is not None:
            self._neighbours.forget(source)
        if not self._definition.is_keyed_by_source:
            self._forgiven[key] = self._book.next_number
            self._forgiven.move_to_end(key)
            if len(self._forgiven) > _MOST_FORGIVEN:
                self._forgiven.popitem(last=False)

    def _decide_each(
        self, key: str, at: Micros, strikes: Sequence[Struck], is_denied: Callable[[Source], bool]
    ) -> tuple[list[Block | Ignore], bool]:
        """Decide on every source of a window, the newest striker first."""
        strikers: dict[Source, list[Struck]] = {}
        for strike in reversed(strikes):
            counted_by = self._definition.counted_by(strike.source)
            if not self._is_forgiven(counted_by, strike):
                strikers.setdefault(counted_by, []).append(strike)
        decisions: list[Block | Ignore] = []
        is_kept_back = False
        for number, newest_first in enumerate(strikers.values()):
            if number == _MOST_SOURCES:
                self._counters.left_out += len(strikers) - number
                break
            own = newest_first[::-1]
            if is_denied(self._denied_as(own)):
                continue
            is_spoofable = all(strike.is_spoofable for strike in own)
            if not is_spoofable or self._is_admitted(at):
                block = self._block(key, at, own, strikes, is_spoofable=is_spoofable)
                decisions += [block, *self._network_around(block)]
                continue
            is_kept_back = True
            if self.breaker.has_just_opened:
                decisions.append(self._keep_back(at, own))
        return decisions, not is_kept_back or any(isinstance(item, Block) for item in decisions)

    def _is_admitted(self, at: Micros) -> bool:
        if self.breaker.admit(at):
            return True
        self._counters.kept_back += 1
        self._counters.breaker_opened += self.breaker.has_just_opened
        return False

    def _is_forgiven(self, counted_by: Source, strike: Struck) -> bool:
        number = self._forgiven.get(counted_by)
        return number is not None and self._book.is_before(strike.number, number)

    def _denied_as(self, own: Sequence[Struck]) -> Source:
        """Return the address that struck, or where several did, the prefix that they are counted by."""
        addresses = {strike.source for strike in own}
        return own[-1].source if len(addresses) == 1 else self._definition.counted_by(own[-1].source)

    def _keep_back(self, at: Micros, own: Sequence[Struck]) -> Ignore:
        source = self._denied_as(own)
        return Ignore(source, self._definition.name, at, self.breaker.reason, self._evidence(own, own))

    def _network_around(self, block: Block) -> Iterator[Block]:
        """Yield the block of the whole network where this source is one neighbour too many.

        It comes beside the source's own: it may be refused, for somebody in it who is never blocked.
        """
        if self._neighbours is not None and not block.is_spoofable:
            network = self._neighbours.widen(block.source, block.at, block.until)
            if network != block.source:
                request = f"{block.jail}:{network}:{block.at}"
                yield replace(block, source=network, request=request)

    def _block(
        self,
        struck: str,
        at: Micros,
        own: Sequence[Struck],
        strikes: Sequence[Struck],
        *,
        is_spoofable: bool,
    ) -> Block:
        definition, last = self._definition, own[-1]
        source = self._denied_as(own)
        key = str(definition.counted_by(source))
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
        self._counters.blocks += 1
        return Block(
            request=f"{definition.name}:{source}:{at}",
            source=source,
            jail=definition.name,
            at=at,
            until=until,
            strikes=sum(strike.amount for strike in strikes),
            span=definition.span,
            ports=tuple(sorted({strike.port for strike in strikes if strike.port is not None})),
            port=last.port or 0,
            protocol=last.protocol or "TCP",
            is_spoofable=is_spoofable,
            is_observed=not definition.is_blocking,
            actions=definition.actions,
            evidence=self._evidence(own, strikes),
            pattern=last.pattern,
            key=key,
            step=step,
            struck=struck,
            unit="points" if definition.count is Count.WEIGHT else "strikes",
        )

    def _evidence(self, own: Sequence[Struck], strikes: Sequence[Struck]) -> tuple[Evidence, ...]:
        """Return the lines to show, oldest first; within bounds a source's own newest ones before others'."""
        newest = chain(own[: -_EVIDENCE_LINES - 1 : -1], strikes[: -_EVIDENCE_LINES - 1 : -1])
        chosen: list[Evidence] = []
        left = _EVIDENCE_CHARACTERS
        for number, at in dict.fromkeys((strike.number, strike.at) for strike in newest):
            found = self._book.find(number, at)
            if found is None:
                continue
            left -= len(found.line)
            if len(chosen) == _EVIDENCE_LINES or (chosen and left < 0):
                break
            chosen.append(found)
        return tuple(sorted(chosen, key=lambda evidence: evidence.at))
