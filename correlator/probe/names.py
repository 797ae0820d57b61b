"""Knows the names of senders, as text for the log only: they never delay a line and never decide anything.

A name is told by whoever owns the sender's address, so it is the attacker's own text. What is not plainly a
host name, or could be taken for an address, is not used; the address stays. Whoever asks for a name gets what
is known, at once. Another process looks names up, so many at a time and a second; the rest is left out. Names
and failures are remembered, so many and so long. Source: RFC 952, RFC 1123 section 2.1, RFC 1035.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from correlator.model import SECOND, Micros
from correlator.probe.rate_limit import RateLimit

LONGEST_NAME = 253
MOST_KNOWN = 4096
MOST_ASKED = 32
"""Lookups at a time: with a silent name server the last of them ends before `PATIENCE` does."""
MOST_A_SECOND = 50
KEPT: Micros = 3600 * SECOND
NAMELESS_KEPT: Micros = 300 * SECOND
PATIENCE: Micros = 30 * SECOND
"""How long one lookup may take before the process that does it is ended, and started anew."""
RESTART_AFTER: Micros = 60 * SECOND

_COMMAND = (sys.executable, "-I", "-S", os.fspath(Path(__file__).with_name("lookups.py")))
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "RES_OPTIONS": "timeout:2 attempts:1"}
_LONGEST_ANSWER = 2048
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
# 192.0.2.1, but also 3221225985, 0xc0.2.1 and whatever else inet_aton takes
_LIKE_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?", re.ASCII)


def clean_name(text: str) -> str | None:
    """Return the name where it is plainly one; None for what else somebody may have written there.

    Who reads the wrong side of the slash in our log must not find an address of the attacker's choice.
    """
    if len(text) > LONGEST_NAME or not _NAME.fullmatch(text) or _LIKE_A_NUMBER.fullmatch(text):
        return None
    return text


class Names:
    """What is known of senders' names. `send` has an address looked up, and returns whether it can."""

    def __init__(self, send: Callable[[str], bool]) -> None:
        self.left_out = 0
        """Lookups that were too many at a time, or in a second."""
        self._send = send
        self._known: dict[str, tuple[str, Micros]] = {}
        """The text to be written for an address, and until when."""
        self._asked: dict[str, Micros] = {}
        self._wanted: dict[str, None] = {}
        self._limit = RateLimit(MOST_A_SECOND)

    def name_of(self, address: str, now: Micros) -> str:
        """Return the name of `address` where it is known, else the address; never waits."""
        known = self._known.get(address)
        if known is not None and now < known[1]:
            return known[0]
        if address not in self._asked and address not in self._wanted:
            if len(self._asked) + len(self._wanted) < MOST_ASKED:
                self._wanted[address] = None
            else:
                self.left_out += 1
        return address if known is None else known[0]

    def ask(self, now: Micros) -> None:
        """Have looked up what was asked for since; after the lines are written."""
        wanted, self._wanted = self._wanted, {}
        for address in wanted:
            if self._limit.admits(now) and self._send(address):
                self._asked[address] = now
            else:
                self.left_out += 1

    def note(self, address: str, name: str, now: Micros) -> None:
        """Remember what a lookup found, a name as it was told or nothing; only where we asked for it."""
        if self._asked.pop(address, None) is None:
            return
        cleaned = clean_name(name)
        self._known.pop(address, None)  # so that it stands last
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[address] = (cleaned or address, now + (KEPT if cleaned else NAMELESS_KEPT))

    def oldest(self) -> Micros | None:
        """Return since when the oldest lookup is waited for; None where none is."""
        return next(iter(self._asked.values()), None)

    def forget_asked(self, now: Micros) -> None:
        """Give up all lookups under way: they found nothing."""
        for address in list(self._asked):
            self.note(address, "", now)

    def counts(self) -> dict[str, int]:
        """Return what `portward status` shows."""
        return {
            "names_known": sum(name != address for address, (name, _) in self._known.items()),
            "names_asked": len(self._asked),
            "names_left_out": self.left_out,
        }


class NameLookups:
    """The process that looks names up, and what it found; `descriptor` is readable when `receive` has to do.

    `tend` starts it; where it ends or hangs, again, but not within a minute.
    """

    def __init__(self, command: tuple[str, ...] = _COMMAND) -> None:
        self.names = Names(self._send)
        self._command = command
        self._poll = select.epoll()
        self._channel: socket.socket | None = None
        self._process = 0
        self._start_at: Micros = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def descriptor(self) -> int:
        """What to poll."""
        return self._poll.fileno()

    def receive(self, now: Micros) -> None:
        """Take the answers that came."""
        while self._channel is not None:
            try:
                answer = self._channel.recv(_LONGEST_ANSWER)
            except BlockingIOError:
                return
            except OSError:
                answer = b""
            if not answer:
                self._end(now)
                return
            address, _, name = answer.decode("utf-8", "replace").partition(" ")
            self.names.note(address, name, now)

    def tend(self, now: Micros) -> None:
        """Ask for what is wanted, and look after the process."""
        oldest = self.names.oldest()
        if oldest is not None and now - oldest >= PATIENCE:
            self._end(now)
        if self._channel is None and now >= self._start_at:
            self._start(now)
        self.names.ask(now)

    def next_due(self) -> Micros | None:
        """Return when `tend` has something to do; None while it has nothing."""
        oldest = self.names.oldest()
        if self._channel is None:
            return self._start_at
        return None if oldest is None else oldest + PATIENCE

    def close(self) -> None:
        """End the process and give the descriptors back."""
        self._end(0)
        self._poll.close()

    def _start(self, now: Micros) -> None:
        self._start_at = now + RESTART_AFTER
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            try:
                self._process = os.posix_spawn(
                    self._command[0],
                    self._command,
                    _ENVIRONMENT,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    ],
                    setpgroup=0,
                )
            except OSError:  # tried again
                ours.close()
                return
        self._channel = ours
        self._poll.register(ours, select.EPOLLIN)

    def _end(self, now: Micros) -> None:
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        self.names.forget_asked(now)
        os.kill(self._process, signal.SIGKILL)  # ours until we have asked for its status
        os.waitpid(self._process, 0)

    def _send(self, address: str) -> bool:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(address.encode())
                return True
        return False
