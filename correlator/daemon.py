"""The correlator process: one loop that feeds the engine and carries its decisions to the enforcer.

    file changed -> tailer -> chunk -> engine.feed -> decisions -> enforcer -> outcome -> engine.note

The order within a step is the guarantee: a decision is sent first (it must be fast), then positions,
strikes and decisions are recorded in one transaction. Killed between the two, the lines are read again and
give the same request, which the enforcer knows. What has no outcome yet is sent again after a reconnect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path

from correlator.config.site import Site, build_engine
from correlator.enforcer.lines import Printer
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.protocol import DeedEvent
from correlator.engine import Step, format_decision
from correlator.kernel.process import die_with_parent, hold_lock, keep_capabilities, notify, run_ahead
from correlator.model import SECOND, Block, Micros, Outcome, OutcomeKind, Release, Source, printable
from correlator.outbox import Outbox
from correlator.response_log import ResponseLog
from correlator.responses import Responses
from correlator.status_file import StatusFile
from correlator.store.state import State
from correlator.tailers.file import FileTailer
from correlator.tailers.opened import read_position
from correlator.tailers.wake import Wake

_POLL_SECONDS = 0.5
_CARRIED_OUT = (OutcomeKind.DONE.value, OutcomeKind.EXISTS.value)
_MOST_UNRECORDED = 100_000
_PRINTER = Printer()
_SWITCH_SECONDS = 0.0005  # watchdog's threads may hold the interpreter no longer than this
_STATUS_EVERY: Micros = 2 * SECOND
_PRUNE_EVERY: Micros = 60 * SECOND


def run_correlator(site: Site) -> int:
    """Read, count, decide, until SIGTERM or SIGINT; returns the exit status.

    Raises: PortwardError where the state cannot be opened or another correlator runs.
    """
    die_with_parent()
    run_ahead()
    sys.setswitchinterval(_SWITCH_SECONDS)
    paths = site.paths
    paths.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    with hold_lock(paths.run / "correlator.lock", "correlator"):
        keep_capabilities()
        correlator = Correlator(site)
        try:
            correlator.run()
        finally:
            correlator.close()
    return 0


def now_micros() -> Micros:
    """Return the time of day."""
    return time.time_ns() // 1000


class Correlator:
    """The loop and everything it holds."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._state = State(site.paths.correlator_database)
        self._guard = NeverBlock(site.enforcer)
        self._now = self._started = now_micros()
        self._engine = build_engine(site, ignored_by=lambda source: self._guard.find(source, self._now))
        self._selector = selectors.DefaultSelector()
        self._wake = Wake()
        self._selector.register(self._wake, selectors.EVENT_READ, self._wake.clear)
        self._nudge = _bind_nudge(site.paths.nudge_socket)
        self._selector.register(self._nudge, selectors.EVENT_READ, self._drain_nudges)
        self._tailers = {origin: self._tailer(origin) for origin in self._origins()}
        self._stopping = False
        self._is_nudged = False
        """Whether what is new was told by the probe itself; else watchdog has to watch that folder."""
        self._hang_up = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._outbox = Outbox(
            site.paths.enforcer_socket,
            self._selector,
            is_used=any(jail.is_blocking for jail in site.jails.values()),
            modes=site.probe.modes,
            heard=self._note,
            acted=self._note_action,
            agree=self._agree,
            say=_say,
        )
        self._status = StatusFile(site.paths.correlator_status, mode=0o640)  # it shows lines
        self._responses = _response_log(site)
        others = {
            action.name for action in site.enforcer.actions if action.denies and action.kind != "record"
        }
        self._denying = {"nftables", *others}
        self._unrecorded = Step()
        self._unrecorded_outcomes: list[Outcome] = []
        self._state_trouble = ""
        self._status_at: Micros = 0
        self._prune_at: Micros = 0
        self._counts = {"blocks": 0, "observed": 0, "ignored": 0, "failed": 0}

    def run(self) -> None:
        """Loop until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: None)  # all that may change is looked at anyway
        signal.set_wakeup_fd(self._hang_up[1], warn_on_full_buffer=False)
        self._selector.register(self._hang_up[0], selectors.EVENT_READ, self._drain_signals)
        self._wake.start()
        self._restore()
        self._outbox.connect(self._now)
        self._record(Step())
        notify("READY=1")
        while not self._stopping:
            self._turn()
            for key, _events in self._selector.select(_POLL_SECONDS):
                key.data()
        notify("STOPPING=1")
        self._turn()

    def close(self) -> None:
        """Give everything back."""
        signal.set_wakeup_fd(-1)
        self._wake.close()
        self._nudge.close()
        for tailer in self._tailers.values():
            tailer.close()
        self._outbox.close()
        if self._responses is not None:
            self._responses.close()
        self._state.close()

    def _turn(self) -> None:
        """Read whatever there is and act on it."""
        self._now = now_micros()
        for tailer in self._tailers.values():
            for chunk in tailer.read(self._now):
                if not self._is_nudged:
                    self._wake.watch(tailer.path.parent)
                step = self._engine.feed(chunk)
                self._carry_out(step)
                self._outbox.let_enforcer_work()
                self._record(step)
                self._outbox.hear_if_ready()
                if self._stopping:
                    return
                self._now = now_micros()
                if self._now >= self._status_at:
                    self._tell_status()
        self._is_nudged = False
        self._outbox.connect(self._now)
        if self._state_trouble:
            self._record(Step())
        if self._now >= self._engine.next_deadline:
            self._engine.advance(self._now)
        if self._now >= self._prune_at:
            self._prune()
        if self._now >= self._status_at:
            self._tell_status()
        if self._responses is not None:
            self._responses.flush()
        # in quiet moments, so that a decision need not wait for it
        self._guard.refresh(self._now, is_early=True)

    def _carry_out(self, step: Step) -> None:
        if self.site.enforcer.tripwire is not None:
            decided = {decision.source for decision in step.decisions if isinstance(decision, Block)}
            for source in {strike.source for strike in (*step.strikes, *step.settled)} - decided:
                self._outbox.let_go(source)
        if self._responses is not None:
            self._responses.denied(step.denied)
        for decision in step.decisions:
            if not isinstance(decision, Block):
                self._counts["ignored"] += 1
                _say(format_decision(decision))
            elif decision.until is not None and decision.until <= self._now:
                _say(format_decision(decision, word="late"))
            elif decision.is_observed:
                self._counts["observed"] += 1
                _say(format_decision(decision))
                if self._responses is not None:
                    self._responses.decided(decision)
            else:
                self._outbox.put(decision)

    def _note(self, outcome: Outcome, block: Block | None) -> None:
        """Take what became of a block; None where it was not one of ours that waited."""
        self._engine.note(outcome)
        self._unrecorded_outcomes.append(outcome)
        self._record(Step())
        match outcome.kind:
            case OutcomeKind.DONE | OutcomeKind.EXISTS if block is not None:
                self._counts["blocks"] += 1
                until = block.until if outcome.until is None else outcome.until
                word = "" if self._denying & {*block.actions} else "respond"
                _say(format_decision(dataclasses.replace(block, until=until), word=word))
                if self._responses is not None and outcome.kind is OutcomeKind.DONE:
                    self._responses.done(block)
            case OutcomeKind.FAILED | OutcomeKind.REFUSED:
                self._counts["failed"] += 1
                _say(f"{outcome.kind.value} source={outcome.source} reason={printable(outcome.detail)!r}")
            case _:  # what ends a block is said by the enforcer, which ended it
                pass

    def _note_action(self, deed: DeedEvent) -> None:
        """Take how one action of a block ended, ours or anybody's."""
        if deed.ending == "failed":
            _say(f"failed source={deed.source} action={deed.action} reason={printable(deed.detail)!r}")
        if self._responses is not None:
            self._responses.acted(deed)

    # Memory

    def _restore(self) -> None:
        blocks = list(self._state.blocks(self._now))
        decisions = self._engine.restore(
            self._state.strikes(),
            [block for block, state in blocks if state not in _CARRIED_OUT],
            carried_out=[block for block, state in blocks if state in _CARRIED_OUT],
            repeats=self._state.repeats(),
        )
        self._outbox.keep(block for block, state in blocks if state == "requested")
        step = Step(decisions=decisions)
        self._carry_out(step)
        self._record(step)

    def _agree(self, held: frozenset[Source]) -> None:
        """Give up the belief in blocks that the enforcer, asked after a connect, does not hold."""
        for source in self._engine.agree(held):
            self._note(Outcome(OutcomeKind.RELEASED, source, "", detail="not held by the enforcer"), None)

    def _record(self, step: Step) -> None:
        """Write a step and what became of blocks; what cannot be written now is kept and tried again."""
        pending = self._unrecorded
        pending.add(step)
        try:
            self._write(pending)
        except sqlite3.Error as exc:
            if not self._state_trouble:
                _say(f"trouble file={self.site.paths.correlator_database} reason={str(exc)!r}")
            self._state_trouble = str(exc)
            pending.drop_strikes(_MOST_UNRECORDED)
            return
        if self._state_trouble:
            self._state_trouble = ""
            _say(f"recovered file={self.site.paths.correlator_database}")

    def _write(self, step: Step) -> None:
        self._state.record(
            positions={
                origin: [position.as_row() for position in tailer.positions]
                for origin, tailer in self._tailers.items()
            },
            strikes=step.strikes,
            settled=step.settled,
            decisions=[decision for decision in step.decisions if not isinstance(decision, Release)],
        )
        self._unrecorded_outcomes += [
            Outcome(OutcomeKind.EXPIRED, block.source, block.request)
            for block in step.decisions
            if isinstance(block, Block) and block.until is not None and block.until <= self._now
        ]
        self._unrecorded = Step()
        while self._unrecorded_outcomes:
            outcome = self._unrecorded_outcomes[0]
            self._state.note(outcome)
            if outcome.kind is OutcomeKind.RELEASED:
                keys = [(name, str(jail.key_of(outcome.source))) for name, jail in self._engine.jails.items()]
                self._state.forget(outcome.source, keys)
            del self._unrecorded_outcomes[0]

    def _prune(self) -> None:
        self._prune_at = self._now + _PRUNE_EVERY
        self._outbox.drop_expired(self._now)
        oldest = {name: self._now - 2 * jail.definition.span for name, jail in self._engine.jails.items()}
        ended = {name: self._now - jail.definition.remember for name, jail in self._engine.jails.items()}
        with contextlib.suppress(sqlite3.Error):  # a full disk is said where a step is written
            self._state.prune(oldest, ended=ended)

    # Sources

    def _origins(self) -> list[str]:
        return sorted({file for filter_ in self.site.filters.values() for file in filter_.files})

    def _tailer(self, origin: str) -> FileTailer:
        rows = self._state.positions(origin)
        return FileTailer(Path(origin), None if rows is None else [read_position(row) for row in rows])

    # The outside

    def _tell_status(self) -> None:
        self._status_at = self._now + _STATUS_EVERY
        status = {
            "pid": os.getpid(),
            "started": self._started,
            "updated": self._now,
            "mode": "block" if self.site.correlator.is_blocking else "observe",
            "enforcer": self._outbox.state,
            "waiting": len(self._outbox),
            "denied": self._engine.denied,
            "forgotten": self._engine.forgotten,
            "dropped": self._outbox.dropped,
            "trouble": self._state_trouble,
            "counts": self._counts,
            "sources": [
                {
                    "origin": origin,
                    "offset": tailer.positions[-1].offset if tailer.positions else 0,
                    "backlog": tailer.backlog,
                    "rotations": tailer.rotations,
                    "truncations": tailer.truncations,
                    "long_lines": tailer.long_lines,
                    "losses": tailer.losses,
                    "unfinished_lines": tailer.unfinished_lines,
                    "trouble": tailer.trouble,
                    **(
                        dataclasses.asdict(counters) if (counters := self._engine.origins.get(origin)) else {}
                    ),
                }
                for origin, tailer in self._tailers.items()
            ],
            "jails": [
                {
                    "jail": jail.name,
                    "sources": len(jail.windows),
                    "evicted": jail.windows.evicted,
                    **dataclasses.asdict(jail.counters),
                }
                for jail in self._engine.jails.values()
            ],
            "quarantined": {
                name: filter_.quarantined
                for name, filter_ in self._engine.filters.items()
                if filter_.quarantined
            },
            "unreadable": [
                {"filter": item.filter, "reason": item.reason, "line": printable(item.evidence.line)}
                for item in self._engine.unreadable
            ],
        }
        self._status.write(status)

    def _drain_nudges(self) -> None:
        self._is_nudged = True
        with contextlib.suppress(BlockingIOError):
            while self._nudge.recv(16):
                pass

    def _stop(self, _signal: int, _frame: object) -> None:
        self._stopping = True

    def _drain_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._hang_up[0], 512)


def _response_log(site: Site) -> ResponseLog | None:
    """Return where PortSentry's lines about responses go, None where they are not wanted."""
    if not site.correlator.response_lines:
        return None
    routes = [action.name for action in site.enforcer.actions if action.says == "route"]
    return ResponseLog(site.probe, Responses(site.probe.modes, routes))


def _bind_nudge(path: Path) -> socket.socket:
    """Return the socket on which the probe tells us of new lines; we hold the lock, so an old one is dead."""
    path.unlink(missing_ok=True)
    nudge = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o117)
    try:
        nudge.bind(os.fspath(path))
    finally:
        os.umask(before)
    return nudge


def _say(line: str) -> None:
    """Print one stable line, or count it as left out: a reader that does not read must not stop us."""
    _PRINTER.say(line)
