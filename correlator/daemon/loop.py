"""The correlator process: one loop that feeds the engine and carries its decisions to the enforcer.

    something came -> sources -> chunk -> engine.feed -> decisions -> enforcer -> outcome -> engine.note

The order within a step is the guarantee: a decision is sent first (it must be fast), then positions,
strikes and decisions are recorded in one transaction. Killed between the two, the lines are read again and
give the same request, which the enforcer knows. What has no outcome yet is sent again after a reconnect.

SIGHUP reads filters, jails and settings anew; windows and positions go on. Where something new is wrong with
them, that is said and everything stays as it was. Signals are looked at between bounded pieces of work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable

from correlator.config.site import Site, build_engine
from correlator.daemon.memory import Memory
from correlator.daemon.outbox import Outbox
from correlator.daemon.reload import Reload, WatchedFiles, find_restarts, list_problems, load_anew
from correlator.daemon.report import describe_engine, describe_sources
from correlator.daemon.response_log import denying_actions, open_response_log
from correlator.daemon.warming import Warming
from correlator.enforcer.lines import Printer
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.protocol import DeedEvent
from correlator.engine import Engine, Step, format_decision
from correlator.errors import PortwardError
from correlator.kernel.process import (
    CAP_DAC_OVERRIDE,
    Watchdog,
    allow_descriptors,
    die_with_parent,
    hold_lock,
    is_root_among_others,
    join_groups,
    keep_capabilities,
    notify,
    run_ahead,
)
from correlator.model import SECOND, Block, Micros, Outcome, OutcomeKind, Source, printable
from correlator.status_file import StatusFile
from correlator.tailers.nudge import NudgeReceiver
from correlator.tailers.plan import plan_sources
from correlator.tailers.sources import Sources
from correlator.tailers.stream import StreamTailer

_POLL_SECONDS = 0.5
_PRINTER = Printer()
_SWITCH_SECONDS = 0.0005  # watchdog's threads may hold the interpreter no longer than this
_STATUS_EVERY: Micros = 2 * SECOND
_PRUNE_EVERY: Micros = 60 * SECOND
_LOOK_EVERY: Micros = 2 * SECOND
_LOG_GROUPS = ("adm", "systemd-journal")
"""What the package's user is in: started by root, without its rights, we read no less."""


def run_correlator(
    site: Site, *, load: Callable[[], Site] | None = None, stream: StreamTailer | None = None
) -> int:
    """Read, count, decide, until SIGTERM or SIGINT, or the end of `stream`; returns the exit status.

    `load` reads the site anew for SIGHUP; without it nothing is read anew.
    Raises: PortwardError where the state cannot be opened or another correlator runs.
    """
    die_with_parent()
    run_ahead()
    sys.setswitchinterval(_SWITCH_SECONDS)
    paths = site.paths
    paths.correlator_run.mkdir(mode=0o755, parents=True, exist_ok=True)
    paths.correlator_state.mkdir(mode=0o750, parents=True, exist_ok=True)
    with hold_lock(paths.correlator_run / "correlator.lock", "correlator"):
        join_groups(*_LOG_GROUPS)
        allow_descriptors(8192)  # each log that is followed is open
        keep_capabilities(*_needed_capabilities(site))
        correlator = Correlator(site, load=load, stream=stream)
        try:
            correlator.run()
        finally:
            correlator.close()
    return 0


def _needed_capabilities(site: Site) -> tuple[int, ...]:
    """Return what must stay: nothing; as root with folders of another user, the right to write there."""
    folders = (site.paths.correlator_run, site.paths.correlator_state, site.paths.alert_log.parent)
    return (CAP_DAC_OVERRIDE,) if is_root_among_others(*folders) else ()


def now_micros() -> Micros:
    """Return the time of day."""
    return time.time_ns() // 1000


class Correlator:
    """The loop and everything it holds."""

    def __init__(
        self, site: Site, *, load: Callable[[], Site] | None = None, stream: StreamTailer | None = None
    ) -> None:
        self.site = site
        self._load = load
        self._memory = Memory(site.paths.correlator_database, say=_say)
        self._guard = NeverBlock(site.enforcer)
        self._now = self._started = now_micros()
        self._engine = self._build_engine(site)
        self._selector = selectors.DefaultSelector()
        self._nudge = NudgeReceiver(site.paths.nudge_socket)
        self._selector.register(self._nudge, selectors.EVENT_READ, self._nudge.drain)
        self._sources = Sources(
            plan_sources(site.filters, site.correlator),
            clock=now_micros,
            recall=self._memory.position,
            known=self._memory.origins,
            follow=self._follow,
            drop=self._drop,
            stream=stream,
        )
        self._selector.register(self._sources.wake, selectors.EVENT_READ, self._sources.wake.clear)
        self._is_stopping = self._is_told_to_reload = False
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
        self._responses = open_response_log(site)
        self._denying = denying_actions(site)
        self._status_at: Micros = 0
        self._prune_at: Micros = 0
        self._look_at: Micros = 0
        self._watched = WatchedFiles(site.watched)
        self._counts = {"blocks": 0, "observed": 0, "ignored": 0, "failed": 0}
        self._reloaded = Reload()
        self._watchdog = Watchdog()
        self._warming = Warming()

    def run(self) -> None:
        """Loop until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take_signal)
        signal.set_wakeup_fd(self._hang_up[1], warn_on_full_buffer=False)
        self._selector.register(self._hang_up[0], selectors.EVENT_READ, self._drain_signals)
        self._sources.wake.start()
        recalled = self._memory.recall(self._engine, self._now)
        self._outbox.keep(recalled.requested)
        self._act_on(Step(decisions=recalled.decisions))
        self._outbox.connect(self._now)
        self._record(Step())
        self._warm()
        notify("READY=1")
        self._memory.keep_proofs(self.site.paths.correlator_proofs, self.site.proofs)
        while not self._is_stopping:
            self._turn()
            self._await()
        notify("STOPPING=1")
        self._turn()
        self._record(Step())

    def close(self) -> None:
        """Give everything back."""
        signal.set_wakeup_fd(-1)
        self._sources.close()
        self._nudge.close()
        self._outbox.close()
        if self._responses is not None:
            self._responses.close()
        self._memory.close()

    def _turn(self) -> None:
        """Read a piece of whatever there is and act on it."""
        self._now = now_micros()
        self._watchdog.tend()
        # what the probe tells of itself needs no watch of its folder
        for arrived in self._sources.read(is_nudged=self._nudge.take()):
            step = self._engine.feed(arrived)
            self._carry_out(step)
            self._outbox.let_enforcer_work()
            self._record(step)
            self._outbox.hear_if_ready()
            if self._is_stopping:
                return
            self._now = now_micros()
            self._watchdog.tend()
            if self._is_due(self._status_at, _STATUS_EVERY):
                self._tell_status()
        if self._is_due(self._look_at, _LOOK_EVERY):
            self._look_at = self._now + _LOOK_EVERY
            self._is_told_to_reload = self._is_told_to_reload or self._watched.have_changed()
        if self._is_told_to_reload:
            self._reload()
        self._is_stopping = self._is_stopping or self._sources.is_over
        self._outbox.connect(self._now)
        self._memory.keep_up(self._engine, self._sources, self._now)
        if self._now >= self._engine.next_deadline:
            self._engine.advance(self._now)
        if self._is_due(self._prune_at, _PRUNE_EVERY):
            self._prune_at = self._now + _PRUNE_EVERY
            self._outbox.drop_expired(self._now)
            self._memory.prune(self._engine, self._sources, self._now)
        if self._is_due(self._status_at, _STATUS_EVERY):
            self._tell_status()
        if self._responses is not None:
            self._responses.flush()
        # in quiet moments, so that a decision need not wait for it
        self._guard.refresh(self._now, is_early=True)
        if not self._sources.is_busy:
            self._warming.go_on(self._engine)

    def _await(self) -> None:
        """Wait for anything to happen, half a second at most; a journal has to be asked again and again."""
        glance = self._sources.glance_seconds
        deadline = time.monotonic() + _POLL_SECONDS
        while not self._is_stopping and not self._sources.is_busy:
            left = deadline - time.monotonic()
            ready = self._selector.select(max(0.0, left if glance is None else min(left, glance)))
            for key, _events in ready:
                key.data()
            if ready or left <= 0:
                return
        for key, _events in self._selector.select(0):
            key.data()

    def _act_on(self, step: Step) -> None:
        self._carry_out(step)
        self._record(step)

    def _record(self, step: Step) -> None:
        self._memory.record(step, self._engine, self._sources, self._now)

    def _is_due(self, at: Micros, every: Micros) -> bool:
        return not at - every <= self._now < at  # the clock may be set back

    def _carry_out(self, step: Step) -> None:
        if self.site.enforcer.tripwire is not None:
            decided = {decision.source for decision in step.decisions if isinstance(decision, Block)}
            for source in {strike.source for strike in step.strikes} - decided:
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
        self._memory.note(outcome)
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

    def _agree(self, held: frozenset[Source]) -> None:
        """Give up the belief in blocks that the enforcer, asked after a connect, does not hold."""
        for source in self._engine.agree(held):
            self._note(Outcome(OutcomeKind.RELEASED, source, "", detail="not held by the enforcer"), None)

    # Other filters, jails, settings

    def _build_engine(self, site: Site) -> Engine:
        return build_engine(site, ignored_by=lambda source: self._guard.find(source, self._now))

    def _warm(self) -> None:
        """Be ready for the alert log now, for the others by and by."""
        self._engine.warm(str(self.site.paths.alert_log))
        self._warming.begin(self._sources.routes)

    def _follow(self, origin: str, filters: tuple[str, ...]) -> None:
        self._engine.follow(origin, filters)

    def _drop(self, origin: str, is_useless: bool) -> None:
        self._engine.drop(origin)
        if is_useless:
            self._memory.forget_position(origin)

    def _reload(self) -> None:
        """Read the site anew and go on with it; with the old one where something new is wrong."""
        self._is_told_to_reload = False
        if self._load is None:
            return
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        problems: tuple[str, ...] = ()
        restart: tuple[str, ...] = ()
        try:
            site = load_anew(self._load, self.site, trouble=self._memory.trouble)
        except PortwardError as exc:
            problems = list_problems(exc)
            for problem in problems:
                _say(f"fault {printable(problem)}")
            _say(f"reload refused faults={len(problems)}; everything stays as it was")
        else:
            restart = find_restarts(site, self.site)
            self._take_over(site)
            other = f" restart={','.join(restart)}" if restart else ""
            _say(f"reload done filters={len(site.filters)} jails={len(site.jails)}{other}")
        self._reloaded = Reload(self._reloaded.count + 1, self._now, problems, restart)
        self._tell_status()
        notify("READY=1")

    def _take_over(self, site: Site) -> None:
        before, self.site = self._engine, site
        self._watched = WatchedFiles(site.watched)
        self._guard = NeverBlock(site.enforcer)
        self._engine = self._build_engine(site)
        recalled = self._memory.recall(self._engine, self._now)
        self._engine.succeed(before)
        self._sources.update(plan_sources(site.filters, site.correlator))
        for origin, filters in self._sources.routes.items():
            self._engine.follow(origin, filters)
        if self._responses is not None:
            self._responses.close()
        self._responses = open_response_log(site)
        self._denying = denying_actions(site)
        is_used = any(jail.is_blocking for jail in site.jails.values())
        self._outbox.use(is_used=is_used, modes=site.probe.modes)
        self._warm()
        self._memory.keep_proofs(site.paths.correlator_proofs, site.proofs)
        self._act_on(Step(decisions=recalled.decisions))

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
            "dropped": self._outbox.dropped,
            "trouble": self._memory.trouble,
            "counts": self._counts,
            "reload": dataclasses.asdict(self._reloaded),
            "filters": sorted(self.site.filters),
            "sources": list(describe_sources(self._sources, self._engine, self._now)),
            **describe_engine(self._engine),
        }
        self._status.write(status)

    def _take_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._is_told_to_reload = True
        else:
            self._is_stopping = True

    def _drain_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._hang_up[0], 512)


def _say(line: str) -> None:
    """Print one stable line, or count it as left out: a reader that does not read must not stop us."""
    _PRINTER.say(line)
