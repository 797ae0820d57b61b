"""Escalation: each further block of the same key lasts longer, as long as the earlier ones are remembered.

A key is remembered for `remember` after its last block ended; its next block takes the next of the jail's
lengths, and stays at the last one. Evidence that anybody could have forged moves nobody on: who asks is
expected not to `record` it. Bounded: at most `most_keys`, of which the one whose last block was decided
longest ago leaves first and is counted in `forgotten`. Reads no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from correlator.model import Micros


class Escalation:
    """How far each key of one jail has come.

    `lengths` in microseconds, None for a block until it is released; `remember` in microseconds.
    """

    def __init__(self, lengths: Sequence[Micros | None], *, remember: Micros, most_keys: int) -> None:
        if not lengths or most_keys < 1:
            raise ValueError(f"{len(lengths)} lengths, most_keys {most_keys}: each at least 1")
        self.forgotten = 0
        """Keys that left because there were too many."""
        self._lengths = tuple(lengths)
        self._remember = remember
        self._most_keys = most_keys
        self._steps: OrderedDict[str, tuple[int, Micros | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._steps)

    def next_step(self, key: str, at: Micros) -> int:
        """Return which of the lengths, from 1, a block decided at this time takes."""
        step, until = self._steps.get(key, (0, at))
        if until is not None and until + self._remember <= at:
            step = 0
        return min(step + 1, len(self._lengths))

    def length_of(self, step: int) -> Micros | None:
        """Return how long a block of this step lasts; None: until it is released."""
        return self._lengths[min(step, len(self._lengths)) - 1]

    def record(self, key: str, step: int, until: Micros | None) -> None:
        """Remember that a key has been blocked so; also how a restart brings it back."""
        self._steps[key] = (step, until)
        self._steps.move_to_end(key)
        if len(self._steps) > self._most_keys:
            self._steps.popitem(last=False)
            self.forgotten += 1

    def take_back(self, key: str) -> None:
        """Undo the last step of a key whose block could not be carried out."""
        step, until = self._steps.get(key, (0, None))
        if step > 1:
            self._steps[key] = (step - 1, until)
        else:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Begin anew with a key; somebody released it."""
        self._steps.pop(key, None)

    def advance(self, now: Micros) -> None:
        """Drop keys, those decided longest ago first, whose blocks are no longer remembered."""
        while self._steps:
            key, (_step, until) = next(iter(self._steps.items()))
            if until is None or until + self._remember > now:
                return
            del self._steps[key]
