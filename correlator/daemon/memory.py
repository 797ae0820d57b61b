"""What the correlator must not forget, on its way to the disk: positions, strikes, decisions, outcomes.

One transaction a step. What cannot be written now is kept, bounded, and written with a later step; positions
that moved over lines of no interest are written with the next step, or after a while.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from correlator.config.proofs import Proofs
from correlator.engine import Engine, Step
from correlator.errors import PermissionDeniedError
from correlator.model import SECOND, Block, Decision, Micros, Outcome, OutcomeKind, Release
from correlator.store import atomic
from correlator.store.state import State
from correlator.tailers.sources import Rows, Sources

_CARRIED_OUT = (OutcomeKind.DONE.value, OutcomeKind.EXISTS.value)
_REQUESTED = "requested"
_MOST_UNRECORDED = 100_000
_POSITIONS_EVERY: Micros = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a start, or an engine of other filters and jails, brings back."""

    decisions: list[Decision] = field(default_factory=list)
    """What the strikes decide now: something only where a threshold has been lowered."""
    requested: list[Block] = field(default_factory=list)
    """Blocks without an outcome."""


class Memory:
    """The correlator's database, and what is not in it yet. `say` takes a line for people."""

    def __init__(self, path: Path, *, say: Callable[[str], None]) -> None:
        """Open the database. Raises: DatabaseError."""
        self.trouble = ""
        """Why nothing can be written just now; empty where all is written."""
        self._path = path
        self._state = State(path)
        self._say = say
        self._unrecorded = Step()
        self._outcomes: list[Outcome] = []
        self._positions_at: Micros = 0

    def close(self) -> None:
        """Close the database."""
        self._state.close()

    def position(self, origin: str) -> Rows | None:
        """Return what was kept of an origin's position; None where it was never seen."""
        return self._state.positions(origin)

    def origins(self) -> list[str]:
        """Return the origins of which a position is kept."""
        return self._state.origins()

    def forget_position(self, origin: str) -> None:
        """Drop what was kept of an origin's position."""
        with contextlib.suppress(sqlite3.Error):  # a full disk is said where a step is written
            self._state.forget_positions([origin])

    def recall(self, engine: Engine, now: Micros) -> Recalled:
        """Give an engine the strikes that wait and the blocks that are in force."""
        blocks = list(self._state.blocks(now))
        decisions = engine.restore(
            self._state.strikes(),
            [block for block, state in blocks if state not in _CARRIED_OUT],
            carried_out=[block for block, state in blocks if state in _CARRIED_OUT],
            repeats=self._state.repeats(),
        )
        return Recalled(decisions, [block for block, state in blocks if state == _REQUESTED])

    def keep_proofs(self, path: Path, proofs: Proofs) -> None:
        """Write down which filters passed their tests, for the next start; without that it is only slower."""
        if not proofs.is_news:
            return
        try:
            atomic.replace(path, proofs.dump(), is_durable=False)
        except (OSError, PermissionDeniedError) as exc:
            self._say(f"trouble file={path} reason={str(exc)!r}")

    def note(self, outcome: Outcome) -> None:
        """Take what became of a block; it is written with the next step."""
        self._outcomes.append(outcome)

    def record(self, step: Step, engine: Engine, sources: Sources, now: Micros) -> None:
        """Write a step, the positions behind it, and what became of blocks."""
        pending = self._unrecorded
        pending.add(step)
        try:
            self._write(pending, engine, sources, now)
        except sqlite3.Error as exc:
            if not self.trouble:
                self._say(f"trouble file={self._path} reason={str(exc)!r}")
            self.trouble = str(exc)
            pending.drop_strikes(_MOST_UNRECORDED)
            return
        if self._state.is_alone:  # opened on a full disk: from now on others may read again
            self._state.close()
            self._state = State(self._path)
        if self.trouble:
            self.trouble = ""
            self._say(f"recovered file={self._path}")

    def keep_up(self, engine: Engine, sources: Sources, now: Micros) -> None:
        """Write what could not be written, and positions that moved without a step."""
        is_due = not self._positions_at <= now < self._positions_at + _POSITIONS_EVERY
        if self.trouble or (is_due and sources.has_unsaved):
            self.record(Step(), engine, sources, now)

    def prune(self, engine: Engine, sources: Sources, now: Micros) -> None:
        """Drop what no jail can use any more, and positions of files that are gone."""
        oldest = {name: now - 2 * jail.definition.span for name, jail in engine.jails.items()}
        ended = {name: now - jail.definition.remember for name, jail in engine.jails.items()}
        with contextlib.suppress(sqlite3.Error):
            self._state.prune(oldest, ended=ended)
            gone = [origin for origin in self._state.origins() if not sources.is_of_use(origin)]
            self._state.forget_positions(gone)

    def _write(self, step: Step, engine: Engine, sources: Sources, now: Micros) -> None:
        self._state.record(
            positions=sources.unsaved(),
            strikes=step.strikes,
            settled=step.settled,
            decisions=[decision for decision in step.decisions if not isinstance(decision, Release)],
        )
        sources.mark_saved()
        self._positions_at = now
        self._outcomes += _over(step.decisions, now)
        self._unrecorded = Step()
        while self._outcomes:
            outcome = self._outcomes[0]
            self._state.note(outcome)
            if outcome.kind is OutcomeKind.RELEASED:
                keys = [(name, str(jail.key_of(outcome.source))) for name, jail in engine.jails.items()]
                self._state.forget(outcome.source, keys)
            del self._outcomes[0]


def _over(decisions: Iterable[Decision], now: Micros) -> list[Outcome]:
    """Return the ends of blocks whose time was over before they were made: lines read late."""
    return [
        Outcome(OutcomeKind.EXPIRED, block.source, block.request)
        for block in decisions
        if isinstance(block, Block) and block.until is not None and block.until <= now
    ]
