"""The blocks in force as the enforcer has them at hand: belief, and of each block what it is asked often.

The database is the memory; this is the copy that costs no query. Both change together, in `enforcement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from correlator.enforcer.plans import Add, Belief, Exists, Extend, Plan, Until, outlasts, plan_block
from correlator.enforcer.protocol import BlockInForce, BlockRequest
from correlator.enforcer.records import history_line
from correlator.model import Micros, Outcome, OutcomeKind, Source
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockRow, BlockState, NewBlock

_REMEMBERED = {
    BlockState.DONE: OutcomeKind.EXISTS,
    BlockState.REFUSED: OutcomeKind.REFUSED,
    BlockState.EXPIRED: OutcomeKind.EXPIRED,
    BlockState.RELEASED: OutcomeKind.RELEASED,
}


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept at hand of a block in force."""

    number: int
    request: str
    jail: str
    line: str
    mode: str
    actions: tuple[str, ...]


class Holdings:
    """Belief and, for the same sources, who asked for the block and how its line reads."""

    def __init__(self, rows: Iterable[BlockRow] = ()) -> None:
        self._held: dict[Source, Held] = {}
        ends = []
        for row in rows:
            self._held[row.source] = _hold(row.number, row)
            ends.append((row.source, row.until))
        self.belief = Belief(ends)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, source: Source) -> bool:
        return source in self._held

    def __getitem__(self, source: Source) -> Held:
        return self._held[source]

    def find(self, source: Source) -> Held | None:
        """Return what is at hand of the block of exactly this source, or None."""
        return self._held.get(source)

    def sources(self) -> list[Source]:
        """Return the sources that are denied, as they are now."""
        return list(self._held)

    def touched_by(self, others: Iterable[Source]) -> list[Source]:
        """Return the sources that are denied and that one of `others` is, lies in, or covers."""
        found: dict[Source, None] = {}
        for other in others:
            found.update(dict.fromkeys(self.belief.covering(other)))
            found.update(dict.fromkeys(self.belief.within(other)))
            if other in self._held:
                found[other] = None
        return list(found)

    def lines(self) -> list[tuple[str, str]]:
        """Return the blocked file's lines, each with the mode that saw the source."""
        return [(held.mode, held.line) for held in self._held.values()]

    def ends(self, action: str) -> Iterator[tuple[Source, Until]]:
        """Yield the sources that an action denies, each with its end."""
        return (
            (source, self.belief[source]) for source, held in self._held.items() if action in held.actions
        )

    def hold(self, number: int, block: BlockRow | NewBlock, swallows: Iterable[Source] = ()) -> Held:
        """Keep a block at hand, as the latest one, and what it swallows no longer."""
        for gone in swallows:
            self.forget(gone)
        self.belief.put(block.source, block.until)
        self._held.pop(block.source, None)
        self._held[block.source] = _hold(number, block)
        return self._held[block.source]

    def forget(self, source: Source) -> None:
        """Keep it no longer; nothing where it was not kept."""
        self.belief.drop(source)
        self._held.pop(source, None)

    def plan(
        self,
        asked: BlockRequest | BlockRow | NewBlock,
        now: Micros,
        denying: Callable[[Iterable[str]], tuple[str, ...]],
        settings: EnforcerSettings,
    ) -> tuple[tuple[str, ...], Plan]:
        """Return what a request comes to, and all the actions that it then needs.

        `denying` picks from names of actions those that deny; a source must be denied in all ways asked for.
        """
        held = self.find(asked.source)
        widest4, widest6 = settings.widest_prefix4, settings.widest_prefix6
        plan = plan_block(self.belief, asked.source, asked.until, now, widest4=widest4, widest6=widest6)
        if isinstance(plan, Exists) and not set(denying(asked.actions)) <= set(self[plan.by].actions):
            plan = Add() if held is None else Extend(self.belief[asked.source])
        if isinstance(plan, Add | Extend):
            covered = (gone for gone in plan.swallows if set(self[gone].actions) <= set(asked.actions))
            plan = replace(plan, swallows=tuple(covered))
        if held is None or not isinstance(plan, Extend):
            return asked.actions, plan
        more = (name for name in denying(held.actions) if name not in asked.actions)
        return (*more, *asked.actions), plan  # what denies already does not wait for a command

    def join(
        self, row: BlockRow, denying: Callable[[Iterable[str]], tuple[str, ...]]
    ) -> tuple[tuple[str, ...], Until]:
        """Return actions and end of a row together with the block in force of its source."""
        held, before = self[row.source], self.belief[row.source]
        if outlasts(before, row.until) and set(denying(row.actions)) <= set(held.actions):
            return held.actions, before
        more = (name for name in denying(held.actions) if name not in row.actions)
        return (*row.actions, *more), before if outlasts(before, row.until) else row.until

    def recall(self, known: BlockRow) -> Outcome | None:
        """Return what became of a row that was carried out or refused before; None where it was neither."""
        kind = _REMEMBERED.get(known.state)
        if kind is None:
            return None
        wider = () if known.state is BlockState.REFUSED else self.belief.covering(known.source)
        if known.source in self.belief:
            kind, until, detail = OutcomeKind.EXISTS, self.belief[known.source], "requested before"
        elif wider:
            kind, until, detail = OutcomeKind.EXISTS, self.belief[wider[0]], f"covered by {wider[0]}"
        else:
            until, detail = known.until, known.detail or "requested before"
        return Outcome(kind, known.source, known.request, until, detail)

    def replaced_by(self, source: Source, request: str, swallows: Iterable[Source]) -> list[tuple[int, str]]:
        """Return the rows that a block of `source` takes the place of, and why they end."""
        replaced = [(self._held[gone].number, f"covered by {source}") for gone in swallows]
        if source in self._held:
            replaced.append((self._held[source].number, f"extended by {request}"))
        return replaced


def _hold(number: int, block: BlockRow | NewBlock) -> Held:
    return Held(number, block.request, block.jail, history_line(block), block.mode, block.actions)


def as_told(row: BlockRow | NewBlock, endings: tuple[str, ...] = ()) -> BlockInForce:
    """Return a row in force as `list` tells it."""
    names = (name for name in BlockInForce.__dataclass_fields__ if name != "endings")
    return BlockInForce(**{name: getattr(row, name) for name in names}, endings=endings)


def new_block(request: BlockRequest | BlockRow, now: Micros) -> NewBlock:
    """Return what is written down of a request that came now."""
    return NewBlock(
        request=request.request,
        source=request.source,
        jail=request.jail,
        created=now,
        until=request.until,
        port=request.port,
        protocol=request.protocol,
        reason=request.reason,
        actions=request.actions,
        mode=request.mode,
        name=request.name,
    )
