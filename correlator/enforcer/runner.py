"""Runs commands beside the loop: a few at a time, each with a time limit, none ever waited for.

A command gets a fixed environment, `/` as its folder, nothing or the evidence on its standard input, and a
session of its own, which is killed as a whole when its time is over. Its status comes by a descriptor that
the loop watches; what it wrote is kept up to a bound and told, never thrown away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from correlator.actions import Argv, show

FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a command without a path is looked for: never in a PATH that somebody handed to us."""
MOST_AT_ONCE = 4
MOST_WAITING = 1000

ENVIRONMENT = {"PATH": FOLDERS, "LC_ALL": "C", "HOME": "/", "SHELL": "/bin/sh"}
_OUTPUT_BYTES = 1 << 20
_SHOWN = 300
_SHOWN_COMMAND = 120


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: `problem` is empty where its exit status was 0."""

    problem: str
    output: str
    is_killed: bool = False
    """Its time was over: what it did until then nobody knows."""
    is_no: bool = False
    """It ended by itself with status 1, which is how grep, test, iptables -C and their like say no."""


Done = Callable[[Ran], None]


class Loop(Protocol):
    """Whatever watches descriptors for us."""

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` whenever the descriptor is readable."""

    def unwatch(self, descriptor: int) -> None:
        """Watch it no longer."""


@dataclass(frozen=True, slots=True)
class _Job:
    argv: Argv
    stdin: bytes
    seconds: float
    done: Done
    environment: Mapping[str, str]


@dataclass(slots=True)
class _Child:
    job: _Job
    process: subprocess.Popen[bytes]
    pidfd: int
    deadline: float
    output: bytearray
    is_killed: bool = False


class Runner:
    """The commands that run and those that wait for one to end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[_Job] = deque()
        self._children: dict[int, _Child] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._children)

    def run(
        self,
        argv: Argv,
        done: Done,
        *,
        seconds: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command as soon as there is room; `done` is called once, later or at once.

        `environment`: variables beside those that every command has, which they cannot change.
        """
        if len(self._waiting) >= MOST_WAITING:
            done(Ran(f"{show(argv)}: not run: {MOST_WAITING} commands wait already", ""))
            return
        self._waiting.append(_Job(argv, stdin, seconds, done, environment or {}))
        self._start_more()

    def tend(self) -> None:
        """Kill what has run over its time."""
        now = time.monotonic()
        for child in list(self._children.values()):
            if now >= child.deadline and not child.is_killed:
                child.is_killed = True
                _kill(child.process.pid)

    def pause(self) -> float | None:
        """Return the seconds until `tend` has something to do, or None."""
        due = [child.deadline for child in self._children.values() if not child.is_killed]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def close(self) -> None:
        """Let what runs run on, start nothing any more, hear of nothing."""
        self._waiting.clear()
        for child in list(self._children.values()):
            self._forget(child)

    def _start_more(self) -> None:
        while self._waiting and len(self._children) < MOST_AT_ONCE:
            job = self._waiting.popleft()
            try:
                self._start(job)
            except OSError as exc:
                job.done(Ran(f"{show(job.argv)}: cannot be started: {exc.strerror}", ""))

    def _start(self, job: _Job) -> None:
        stdin = _memory_file(job.stdin) if job.stdin else subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                job.argv,
                executable=find_program(job.argv[0]),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**job.environment, **ENVIRONMENT},
                cwd="/",
                start_new_session=True,
            )
        finally:
            if stdin >= 0:
                os.close(stdin)
        pidfd = os.pidfd_open(process.pid)
        child = _Child(job, process, pidfd, time.monotonic() + job.seconds, bytearray())
        self._children[pidfd] = child
        self._loop.watch(pidfd, lambda: self._end(child))
        os.set_blocking(_pipe(child), False)
        self._loop.watch(_pipe(child), lambda: self._read(child))

    def _read(self, child: _Child) -> None:
        """Take what a command wrote; past the bound it is read and dropped, so that it is not stuck."""
        if self._children.get(child.pidfd) is not child:
            return  # its end was told in the same round
        try:
            data = os.read(_pipe(child), 1 << 16)
        except BlockingIOError:
            return
        child.output += data[: _OUTPUT_BYTES - len(child.output)]
        if not data:
            self._loop.unwatch(_pipe(child))

    def _end(self, child: _Child) -> None:
        status = child.process.wait()
        with contextlib.suppress(BlockingIOError):
            # bounded: what it left in the background may write for ever
            for _ in range(_OUTPUT_BYTES >> 16):
                if not (data := os.read(_pipe(child), 1 << 16)):
                    break
                child.output += data[: _OUTPUT_BYTES - len(child.output)]
        self._forget(child)
        output = child.output.decode("utf-8", "replace")
        is_no = status == 1 and not child.is_killed
        child.job.done(Ran(_problem(child, status, output), output, child.is_killed, is_no))
        self._start_more()

    def _forget(self, child: _Child) -> None:
        self._children.pop(child.pidfd, None)
        for descriptor in (child.pidfd, _pipe(child)):
            with contextlib.suppress(KeyError, ValueError):
                self._loop.unwatch(descriptor)
        os.close(child.pidfd)
        if child.process.stdout is not None:
            child.process.stdout.close()


def find_program(name: str) -> str:
    """Return where the program of a command is; its own name where it cannot be found."""
    return name if "/" in name else shutil.which(name, path=FOLDERS) or name


def _problem(child: _Child, status: int, output: str) -> str:
    if not status and not child.is_killed:
        return ""
    if child.is_killed:
        why = f"no end within {child.job.seconds:g} s, killed"
    elif status < 0:
        why = f"ended by signal {-status}"
    else:
        why = f"exit status {status}"
    said = " ".join(output.split())[:_SHOWN]
    command = show(child.job.argv)
    if len(command) > _SHOWN_COMMAND and said:  # what it said tells more
        command = f"{command[:_SHOWN_COMMAND]} ..."
    return f"{command}: {why}" + (f": {said}" if said else "")


def _pipe(child: _Child) -> int:
    assert child.process.stdout is not None  # noqa: S101 -- opened with PIPE; told to mypy
    return child.process.stdout.fileno()


def _memory_file(data: bytes) -> int:
    """Return a descriptor from which a command reads `data`: nobody has to feed a pipe."""
    descriptor = os.memfd_create("evidence", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _kill(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
