"""What the disk would not take: blocks that stand in the kernel without a row, and rows that are over.

A full disk protects nobody: they are kept in memory and in the spool below /run, bounded, and written down in
their order as soon as that is possible. Only what the kernel's own set denies is done meanwhile, for every
other action needs its deed written first; those come when the row has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from correlator.enforcer.carrier import Carrier
from correlator.enforcer.plans import Until
from correlator.enforcer.spool import Fact, Spool
from correlator.model import Micros
from correlator.store.blocks import BlockRow, BlockState, BlockStore, NewBlock

MOST = 10_000
"""Facts kept at most; blocks that are over leave first, and then no more sources are taken."""

_OPEN = (BlockState.REQUESTED, BlockState.FAILED)


@dataclass(slots=True)
class _Waiting:
    """A block without a row; `ended` None while it is in force."""

    block: NewBlock
    ended: Micros | None = None
    why: str = ""
    """Empty: its time was over."""


class Unwritten:
    """The facts that wait for the disk, by the name of their request."""

    def __init__(self, store: BlockStore, carrier: Carrier, spool: Spool) -> None:
        self._store = store
        self._carrier = carrier
        self._spool = spool
        self._blocks: dict[str, _Waiting] = {}
        self._ends: dict[str, tuple[Micros, str]] = {}
        """Rows that the database has as open or in force, and that are over."""

    def __len__(self) -> int:
        return len(self._blocks) + len(self._ends)

    def load(self) -> None:
        """Take what a process before us kept, but for what it did write down in the end."""
        for fact in self._spool.read()[: 2 * MOST]:
            if fact.block is None:
                self._end(fact.request, fact.at, "released while the disk was full")
            else:
                self._blocks[fact.request] = _Waiting(fact.block)
        for name in list(self._blocks):
            known = self._store.find_request(name)
            if known is not None and known.state not in _OPEN:
                waiting = self._blocks.pop(name)
                if waiting.ended is not None:
                    self._ends[name] = (waiting.ended, waiting.why)

    def in_force(self) -> tuple[NewBlock, ...]:
        """Return the blocks that are not over, oldest first."""
        return tuple(waiting.block for waiting in self._blocks.values() if waiting.ended is None)

    def has(self, request: str) -> bool:
        """True for a block that waits for its row."""
        return request in self._blocks

    def has_ended(self, request: str) -> bool:
        """True for a row that is over though the database does not say so yet."""
        return request in self._ends

    def next_expiry(self) -> Until:
        """Return when the next one is over, or None."""
        return min((block.until for block in self.in_force() if block.until is not None), default=None)

    def add(self, block: NewBlock) -> str | None:
        """Keep a block, before it is carried out; return why it cannot be, empty where a death forgets it."""
        if len(self) >= MOST:
            over = next((name for name, kept in self._blocks.items() if kept.ended is not None), None)
            if over is None:
                return f"{MOST} blocks wait for the disk already"
            del self._blocks[over]
        self._blocks[block.request] = _Waiting(block)
        fact = Fact(block.created, block, block.request)
        if not self._spool.add(fact):
            self._spool.rewrite(self._facts())
        return None

    def forget(self, request: str) -> None:
        """Take back the block that was just added: it was not carried out."""
        del self._blocks[request]
        self._spool.rewrite(self._facts())

    def end(self, request: str, now: Micros, why: str) -> None:
        """Note that a block is over, whether it has a row or not; before anything is done about it."""
        self._end(request, now, why)
        if not self._spool.add(Fact(now, None, request)):
            self._spool.rewrite(self._facts())

    def write(self, now: Micros) -> Iterator[tuple[int, NewBlock]]:
        """Write everything down, what is over first; yield each block with its row's number.

        Raises: sqlite3.Error where the disk would not; what is left waits for the next time.
        """
        if not self:
            return
        for name, (at, why) in list(self._ends.items()):
            row = self._store.find_request(name)
            if row is not None:
                self._write_end(row, at, why, now)
            del self._ends[name]
        while self._blocks:
            waiting = next(iter(self._blocks.values()))
            number = self._write(waiting, now)
            del self._blocks[waiting.block.request]
            yield number, waiting.block
        self._spool.rewrite(())

    def _end(self, request: str, at: Micros, why: str) -> None:
        waiting = self._blocks.get(request)
        if waiting is None:
            self._ends[request] = (at, why)
        elif waiting.ended is None:
            is_over = waiting.block.until is not None and waiting.block.until <= at
            waiting.ended, waiting.why = at, "" if is_over else why

    def _write_end(self, row: BlockRow, at: Micros, why: str, now: Micros) -> None:
        if row.state is BlockState.DONE:
            self._store.release([(row.number, why)], now=at)
        elif row.state is BlockState.REQUESTED:
            self._store.mark_failed(row.number, why, now=at)
        self._carrier.end([(row.number, row.actions)], now)

    def _write(self, waiting: _Waiting, now: Micros) -> int:
        block = waiting.block
        known = self._store.find_request(block.request)
        if known is not None and known.state not in _OPEN:  # written before, but for what was to follow
            if waiting.ended is not None:
                self._write_end(known, waiting.ended, waiting.why, now)
            return known.number
        number = None if known is None else known.number
        if waiting.ended is not None:
            state = BlockState.RELEASED if waiting.why else BlockState.EXPIRED
            return self._store.add_ended(block, number, state, waiting.why, waiting.ended)
        if number is None:
            number = self._store.request(block)
        else:
            self._store.request_again(number, block)
        row = self._store.get(number)
        assert row is not None  # noqa: S101 -- written a moment ago, by the only one who writes
        self._carrier.go_on(row)
        rivals = [old for old in self._store.find(block.source) if old.state is BlockState.DONE]
        replaced = [(old.number, f"extended by {block.request}") for old in rivals]
        self._store.mark_done(number, now=now, replaced=replaced)
        self._carrier.end(((old.number, ()) for old in rivals), now)
        return number

    def _facts(self) -> Iterator[Fact]:
        for name, (at, _) in self._ends.items():
            yield Fact(at, None, name)
        for name, waiting in self._blocks.items():
            yield Fact(waiting.block.created, waiting.block, name)
            if waiting.ended is not None:
                yield Fact(waiting.ended, None, name)
