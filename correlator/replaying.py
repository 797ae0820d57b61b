"""Old logs through an engine: what would have been blocked, and what another configuration would change.

Several logs are read side by side, and their events judged in the order of their own times: a probe in one
and a failed login in another add up as they would have on the day. Nothing is carried out, so a source goes
on after its block, and what it did while it would have been blocked is counted as denied already. Pure: the
same bytes give the same answer every time.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from correlator.engine import Engine
from correlator.model import Block, Chunk, Entries, Event, Ignore, Micros

_AT = attrgetter("at")
_BATCH = 1024  # events read before they are judged: each of the two is faster when it is not interrupted


def replay(engine: Engine, logs: Sequence[Iterable[Chunk | Entries]]) -> Iterator[Block | Ignore]:
    """Yield what the engine decides, in the order of the events' times as far as each log has it."""
    streams = [_events(engine, log) for log in logs]
    events = streams[0] if len(streams) == 1 else iter(heapq.merge(*streams, key=_AT))
    while batch := tuple(islice(events, _BATCH)):
        for event in batch:
            if event.at >= engine.next_deadline:
                engine.advance(event.at)
            for _jail, verdict in engine.judge(event):
                if verdict.decision is not None:
                    yield from verdict.decisions


def _events(engine: Engine, log: Iterable[Chunk | Entries]) -> Iterator[Event]:
    for arrived in log:
        yield from engine.read(arrived)


@dataclass(slots=True)
class Past:
    """What would have become of one source."""

    first: Micros
    """When it would have been blocked for the first time."""
    jail: str
    """By which jail."""
    until: Micros | None
    blocks: int = 1


class Tally:
    """What a replay decided, source by source."""

    def __init__(self) -> None:
        self.sources: dict[str, Past] = {}
        self.blocks = 0
        self.kept_back = 0

    def take(self, decision: Block | Ignore) -> None:
        """Add a decision."""
        if isinstance(decision, Ignore):
            self.kept_back += 1
            return
        self.blocks += 1
        past = self.sources.get(str(decision.source))
        if past is None:
            self.sources[str(decision.source)] = Past(decision.at, decision.jail, decision.until)
            return
        past.blocks += 1
        if decision.at < past.first:  # a line of another log, or a late one
            past.first, past.jail, past.until = decision.at, decision.jail, decision.until


class ChangeKind(enum.Enum):
    """What another configuration does to a source."""

    ADDED = "added"
    REMOVED = "removed"
    EARLIER = "earlier"
    LATER = "later"
    OTHERWISE = "otherwise"
    """At the same time, but by another jail, for another time, or another number of times."""


@dataclass(frozen=True, slots=True)
class Change:
    """One source that fares otherwise under another configuration."""

    kind: ChangeKind
    source: str
    before: Past | None
    after: Past | None


def compare(before: Mapping[str, Past], after: Mapping[str, Past]) -> list[Change]:
    """Return what changes, by kind, and of each kind in the order of time."""
    changes = []
    for source in before.keys() | after.keys():
        old, new = before.get(source), after.get(source)
        kind = _kind_of(old, new)
        if kind is not None:
            changes.append(Change(kind, source, old, new))
    kinds = list(ChangeKind)
    return sorted(changes, key=lambda change: (kinds.index(change.kind), _when(change), change.source))


def _kind_of(old: Past | None, new: Past | None) -> ChangeKind | None:
    if old is None or new is None:
        return ChangeKind.ADDED if old is None else ChangeKind.REMOVED
    if new.first != old.first:
        return ChangeKind.EARLIER if new.first < old.first else ChangeKind.LATER
    return None if new == old else ChangeKind.OTHERWISE


def _when(change: Change) -> Micros:
    past = change.after or change.before
    return 0 if past is None else past.first
