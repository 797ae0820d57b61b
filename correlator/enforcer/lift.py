"""Lifting everything: every block is released, and what we prepared on this host is taken away again.

For who removes Portward, or wants a host as it was without it. No request is taken meanwhile: the lock of
the enforcer is ours, and one that runs must be stopped before. History stays.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from correlator.enforcer.build import build_actions
from correlator.enforcer.command import CommandAction
from correlator.enforcer.enforcement import Enforcement
from correlator.enforcer.entry import keep_what_is_needed
from correlator.enforcer.keeping import BackendError
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.records import Records
from correlator.enforcer.runner import Runner
from correlator.enforcer.tripwire import TABLE as TRIPWIRE_TABLE
from correlator.kernel.process import hold_lock
from correlator.model import Micros
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockStore

_LONGEST_SECONDS = 60.0
_ROUND_SECONDS = 0.5
_TABLES = ("portward", TRIPWIRE_TABLE)


@dataclass(frozen=True, slots=True)
class Lifted:
    """What came of it."""

    count: int
    """Blocks that were in force."""
    problems: tuple[str, ...]
    """What could not be undone."""


class _Commands:
    """The loop that commands of actions need; see `runner.Loop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.runner = Runner(self)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def unwatch(self, descriptor: int) -> None:
        """Watch it no longer."""
        self._selector.unregister(descriptor)

    def serve(self) -> None:
        """Hear of the commands that end within a moment."""
        for key, _events in self._selector.select(_ROUND_SECONDS if len(self.runner) else 0):
            key.data()
        self.runner.tend()

    def close(self) -> None:
        """Let go of everything."""
        self.runner.close()
        self._selector.close()


def lift_all(settings: EnforcerSettings) -> Lifted:
    """Release every block by the actions that made it, then take away tables and chains of ours.

    Raises: BusyError where an enforcer runs.
    """
    paths = settings.paths
    paths.enforcer_run.mkdir(mode=0o755, parents=True, exist_ok=True)
    paths.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    with (
        hold_lock(paths.enforcer_run / "enforcer.lock", "enforcer"),
        contextlib.closing(NftablesBackend()) as backend,
    ):
        keep_what_is_needed(paths, settings.actions)
        with contextlib.closing(BlockStore.open(paths.blocks_database)) as store:
            return _lift(settings, backend, store)


def _lift(settings: EnforcerSettings, backend: NftablesBackend, store: BlockStore) -> Lifted:
    problems: list[str] = []
    records = Records(settings.paths, store, problems.append, blocked_modes=settings.blocked_modes)
    with contextlib.closing(_Commands()) as commands:
        actions = build_actions(settings.actions, commands.runner)
        enforcement = Enforcement(
            settings,
            backend=backend,
            store=store,
            never_block=NeverBlock(settings),
            records=records,
            announce=lambda _line, _event: None,
            actions=actions,
        )
        count = 0
        try:
            enforcement.start(_now())
            count = enforcement.release(None, _now(), "lifted")
        except BackendError as exc:
            problems.append(str(exc))
        _wait(commands, lambda: _has_more(enforcement))
        problems += [f"{deed['action']}: {deed['detail']}" for deed in enforcement.status()["failing"]]
        for action in actions.values():
            if isinstance(action, CommandAction):
                action.clear(_now(), problems.append)
        _wait(commands, lambda: False)
        records.close(enforcement.blocked_lines())
    problems += _remove_tables(backend)
    return Lifted(count, tuple(problems))


def _has_more(enforcement: Enforcement) -> bool:
    """Carry out what is due; true while more is due at once, not at some later try."""
    enforcement.tend(_now())
    pause = enforcement.pause(_now())
    return pause is not None and pause < _ROUND_SECONDS


def _wait(commands: _Commands, has_more: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while (has_more() or len(commands.runner)) and time.monotonic() < deadline:
        commands.serve()


def _remove_tables(backend: NftablesBackend) -> Iterator[str]:
    for table in _TABLES:
        try:
            backend.run(f"add table inet {table}\ndelete table inet {table}\n")
        except BackendError as exc:
            yield str(exc)


def _now() -> Micros:
    return time.time_ns() // 1000
