"""Tells what became of blocks: one printed line each, an event for watchers, and a count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from correlator.enforcer import lines
from correlator.enforcer.protocol import BlockRequest, Event, Mend, MendedEvent, OutcomeEvent
from correlator.model import Micros, Outcome, OutcomeKind

Announce = Callable[[str, Event | None], None]
"""Takes a line to print (empty: none) and, for what watchers want to know, the event."""


def wall_clock() -> Micros:
    """Return the time of day."""
    return time.time_ns() // 1000


def outcome_of(request: BlockRequest, kind: OutcomeKind, until: Micros | None, detail: str) -> Outcome:
    """Return the outcome of a request."""
    return Outcome(kind, request.source, request.request, until, detail)


class Telling:
    """What was told since the start, by kind in `counts`."""

    def __init__(self, announce: Announce) -> None:
        self._announce = announce
        self.counts: Counter[str] = Counter()

    def answer(self, outcome: Outcome, jail: str) -> None:
        """Tell the outcome of a request; watchers hear of those that were carried out."""
        self.counts[outcome.kind.value] += 1
        event = OutcomeEvent(outcome) if outcome.kind is OutcomeKind.DONE else None
        self._announce(lines.format_outcome(outcome, jail), event)

    def ended(self, outcome: Outcome, jail: str) -> None:
        """Tell everybody what became of a block without a request."""
        self.counts[outcome.kind.value] += 1
        self._announce(lines.format_outcome(outcome, jail), OutcomeEvent(outcome))

    def mended(self, mend: Mend) -> None:
        """Tell what a comparison mended, where it had to."""
        if mend.is_needed:
            self.counts["mended"] += 1
            self._announce(lines.format_mend(mend), MendedEvent(mend))
