"""The blocks in force as the enforcer has them at hand: belief, and of each block what it is asked often.

The database is the memory; this is the copy that costs no query. Both change together, in `enforcement`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from correlator.enforcer.plans import Belief
from correlator.enforcer.protocol import BlockRequest
from correlator.enforcer.records import history_line
from correlator.model import Micros, Source
from correlator.store.blocks import BlockRow, NewBlock


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept at hand of a block in force."""

    number: int
    request: str
    jail: str
    line: str


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

    def sources(self) -> list[Source]:
        """Return the sources that are denied, as they are now."""
        return list(self._held)

    def lines(self) -> list[str]:
        """Return the blocked file's lines."""
        return [held.line for held in self._held.values()]

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

    def replaced_by(self, source: Source, request: str, swallows: Iterable[Source]) -> list[tuple[int, str]]:
        """Return the rows that a block of `source` takes the place of, and why they end."""
        replaced = [(self._held[gone].number, f"covered by {source}") for gone in swallows]
        if source in self._held:
            replaced.append((self._held[source].number, f"extended by {request}"))
        return replaced


def _hold(number: int, block: BlockRow | NewBlock) -> Held:
    return Held(number, block.request, block.jail, history_line(block))


def new_block(request: BlockRequest, now: Micros) -> NewBlock:
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
    )
