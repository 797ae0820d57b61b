"""The lines the enforcer prints, for people and for grep; they change only with a line in the changelog.

    blocked source=192.0.2.9 jail=portscan until=2026-01-02T03:04:05Z request=portscan/192.0.2.9/17
    mended table=missing restored=12

One line, `key=value`, values with spaces in double quotes. The printer never waits: a reader that sleeps
costs lines, which are counted and told later, and never a block.
"""

from __future__ import annotations

import json
import os
import select
from datetime import UTC, datetime, timedelta

from correlator.enforcer.plans import Until
from correlator.enforcer.protocol import DeedEvent, Mend
from correlator.model import Outcome, OutcomeKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERBS = {
    OutcomeKind.DONE: "blocked",
    OutcomeKind.EXISTS: "exists",
    OutcomeKind.FAILED: "failed",
    OutcomeKind.REFUSED: "refused",
    OutcomeKind.EXPIRED: "expired",
    OutcomeKind.RELEASED: "released",
}
_LONGEST = 4000


def format_outcome(outcome: Outcome, jail: str) -> str:
    """Return the line that tells what became of a block."""
    parts = [f"{_VERBS[outcome.kind]} source={outcome.source} jail={jail}"]
    if outcome.kind in {OutcomeKind.DONE, OutcomeKind.EXISTS}:
        parts.append(f"until={format_until(outcome.until)}")
    parts.append(f"request={outcome.request}")
    if outcome.detail:
        parts.append(f"detail={json.dumps(outcome.detail)}")
    return " ".join(parts)


def format_deed(deed: DeedEvent) -> str:
    """Return the line that tells how one action of a block ended."""
    return (
        f"action source={deed.source} jail={deed.jail} action={deed.action} ending={deed.ending}"
        f" request={deed.request} detail={json.dumps(deed.detail)}"
    )


def format_mend(mend: Mend, verb: str = "mended") -> str:
    """Return the line that tells what was mended, or found at the start."""
    if mend.table == "intact":
        return f"{verb} table=intact added={mend.added} removed={mend.removed} refreshed={mend.refreshed}"
    detail = f" detail={json.dumps(mend.detail)}" if mend.detail else ""
    return f"{verb} table={mend.table} restored={mend.added}{detail}"


def format_until(until: Until) -> str:
    """Return a time as `2026-01-02T03:04:05Z`, or `never`."""
    if until is None:
        return "never"
    return (_EPOCH + timedelta(microseconds=until)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Printer:
    """Writes whole lines to a descriptor as long as that does not wait."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.left_out = 0
        """Lines that nobody had room for since the last one that was written."""

    def say(self, line: str) -> None:
        """Write one line, or count it as left out."""
        if self.left_out and self._write(f"left-out lines={self.left_out}"):
            self.left_out = 0
        if self.left_out or not self._write(line):
            self.left_out += 1

    def _write(self, line: str) -> bool:
        # A pipe that polls writable takes PIPE_BUF (4096) bytes at once without waiting.
        data = line.encode("utf-8", errors="backslashreplace")[:_LONGEST] + b"\n"
        try:
            ready = self._poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                return False
            return os.write(self._descriptor, data) == len(data)
        except OSError:
            return False  # the reader has gone; the blocks go on
