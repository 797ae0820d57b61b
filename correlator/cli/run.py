"""`run`: the three processes under one parent in the foreground, alerts and decisions shown live.

The parent starts the enforcer, then the correlator, then the probe, each when the one before has said
that it is ready, and starts again whichever dies. It does no work of its own and reads nothing foreign.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from correlator.cli import site as sites
from correlator.cli.output import complain
from correlator.errors import PermissionDeniedError, PortwardError
from correlator.kernel.process import child_environment, die_with_parent, notify
from correlator.model import printable

_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0
_RESTART_AFTER = (0.05, 0.1, 0.5, 2.0)
_STEADY_SECONDS = 10.0
_SAY_SECONDS = 1.0
_OUTPUT = 1
_OUTPUTS = (1, 2)
_CREDENTIALS = struct.Struct("@iII")  # struct ucred: pid, uid, gid
_CONTROL_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size)
_MOST_HEARD = 64  # at once: a stranger who talks without end must not keep us from our children
_PACKAGE = (
    Path(__file__).resolve().parent.parent
)  # children run this code, whatever the working directory holds


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    run = commands.add_parser(
        "run", parents=[common], help="all three processes in the foreground, alerts shown live"
    )
    mode = run.add_mutually_exclusive_group()
    mode.add_argument("--observe", dest="mode", action="store_const", const="observe", help="block nothing")
    mode.add_argument("--block", dest="mode", action="store_const", const="block", help="block")
    run.set_defaults(run=run_all)


@dataclass(slots=True)
class _Child:
    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    restart_at: float | None = None
    is_ready: bool = False
    wants_hangup: bool = False


@dataclass(slots=True)
class _Supervisor:
    children: list[_Child]
    notifications: socket.socket
    """Where our children say that they are ready."""
    notify_address: str
    wakeup: int
    stopping: bool = False
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def start(self, child: _Child) -> None:
        child.started = time.monotonic()
        child.restart_at = None
        child.is_ready = child.wants_hangup = False
        _drop_dead_outputs()
        child.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "correlator", *child.arguments],
            env={
                **child_environment(),
                "PYTHONPATH": str(_PACKAGE.parent),
                "NOTIFY_SOCKET": self.notify_address,
            },
        )

    def start_all(self) -> None:
        for child in self.children:
            if self.stopping:
                return
            self.start(child)
            self._await_ready(child)

    def _await_ready(self, child: _Child) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self.stopping and child.process is not None:
            select.select([self.notifications], [], [], 0.1)
            self._hear()
            if child.is_ready:
                return
            if child.process.poll() is not None:
                raise _StartError(child.name, child.process.returncode)
            if time.monotonic() > deadline:
                raise PortwardError(f"the {child.name} was not ready within {_READY_SECONDS:g} s")

    def watch(self) -> None:
        """Restart whichever child dies, until we are told to stop."""
        while not self.stopping:
            now = time.monotonic()
            for child in self.children:
                self._look_after(child, now)
            waits = [child.restart_at - now for child in self.children if child.restart_at is not None]
            self.selector.select(max(0.0, min(waits, default=3600.0)))
            _drain(self.wakeup)
            self._hear()

    def hang_up(self) -> None:
        """Pass SIGHUP on, to each child as soon as it has said that it is ready: before, it would end it."""
        for child in self.children:
            child.wants_hangup = True

    def _look_after(self, child: _Child, now: float) -> None:
        if child.restart_at is not None:
            if child.restart_at <= now:
                self.start(child)
            return
        if child.process is None:
            return
        if child.process.poll() is None:
            if child.wants_hangup and child.is_ready:
                child.wants_hangup = False
                child.process.send_signal(signal.SIGHUP)
            return
        if now - child.started > _STEADY_SECONDS:
            child.deaths = 0
        delay = _RESTART_AFTER[min(child.deaths, len(_RESTART_AFTER) - 1)]
        child.deaths += 1
        child.restart_at = now + delay
        _say(f"restarting process={child.name} status={child.process.returncode} after={delay:g}s")

    def _hear(self) -> None:
        """Read what was said; any user may speak to our socket, so only our children are believed."""
        for _ in range(_MOST_HEARD):
            try:
                text, control, _flags, _address = self.notifications.recvmsg(4096, _CONTROL_BYTES)
            except BlockingIOError:
                return
            speakers = [
                _CREDENTIALS.unpack(data)[0]
                for level, kind, data in control
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
                and len(data) == _CREDENTIALS.size
            ]
            for child in self.children:
                if child.process is not None and child.process.pid in speakers and b"READY=1" in text:
                    child.is_ready = True

    def stop_all(self) -> None:
        """End our children, the probe first, so that nothing it saw is left unread."""
        for child in reversed(self.children):
            if child.process is None or child.process.poll() is not None:
                continue
            child.process.terminate()
            try:
                child.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


class _StartError(PortwardError):
    """A process of ours ended at its start; its status is ours, since it says what to do."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"the {name} ended at its start with status {status}")
        self.exit_status = status if status > 0 else PortwardError.exit_status


def run_all(options: argparse.Namespace) -> int:
    """Start the three processes with `options.config` and `options.mode`, and look after them."""
    if os.geteuid() != 0:
        raise PermissionDeniedError("needs root (raw sockets, the firewall): try sudo")
    die_with_parent()
    site = sites.load_settings(options, mode=options.mode)
    for note in site.notes:
        complain(f"note: {note}")
    for folder, mode in (
        (site.paths.run, 0o755),
        (site.paths.state, 0o750),
        (site.paths.alert_log.parent, 0o750),
    ):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    config = [] if options.config is None else ["--config", str(options.config)]
    override = [] if options.mode is None else [f"--{options.mode}"]
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    receiver, address = _notification_socket()
    with receiver:
        supervisor = _Supervisor(
            [
                _Child("enforcer", ["enforce", *config, *override]),
                _Child("correlator", ["correlate", *config, *override]),
                *([_Child("packet log", ["probe", "--nflog", *config])] if site.probe.nflog else []),
                _Child("probe", ["probe", "--echo", *config]),
            ],
            receiver,
            address,
            wake_read,
        )
        for waking in (wake_read, receiver):
            supervisor.selector.register(waking, selectors.EVENT_READ)

        def stop(_signal: int, _frame: object) -> None:
            supervisor.stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, lambda _signal, _frame: supervisor.hang_up())
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        try:
            supervisor.start_all()
            if not supervisor.stopping:
                blocking = [name for name, jail in site.jails.items() if jail.is_blocking]
                names = ",".join(blocking)
                state = f"blocking jails={names}" if blocking else "observing, nothing is blocked"
                _say(f"ready {state}; alert log {site.paths.alert_log}; stop with Ctrl-C")
                notify("READY=1")
            supervisor.watch()
        finally:
            supervisor.stop_all()
    return 0


def _notification_socket() -> tuple[socket.socket, str]:
    """Return a socket without a file, which no death of ours can leave behind, and its name for children."""
    name = f"portward-run-{os.getpid()}-{os.urandom(8).hex()}"
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    receiver.bind(f"\0{name}")
    return receiver, f"@{name}"


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        return


def _say(line: str) -> None:
    """Show a line; that nobody reads it, or too slowly, is no reason to stop or to wait for long."""
    with contextlib.suppress(OSError):
        if select.select([], [_OUTPUT], [], _SAY_SECONDS)[1]:
            os.write(_OUTPUT, os.fsencode(f"{printable(line)}\n"))


def _drop_dead_outputs() -> None:
    """Give the next children an output that takes their lines where whoever read ours has gone."""
    for output in _OUTPUTS:
        poll = select.poll()
        poll.register(output, 0)
        if poll.poll(0):
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, output)
            os.close(nobody)
