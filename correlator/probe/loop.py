"""The parts of the probe's loop that know nothing of packets: signals as bytes, and timers.

Source: signal(7), signal.set_wakeup_fd.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator

from correlator.model import Micros


@contextlib.contextmanager
def signals_as_bytes() -> Iterator[socket.socket]:
    """Give a socket that receives the numbers of the signals we listen to, one byte each."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield reading
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def read_monotonic() -> Micros:
    """Return monotonic time."""
    return time.monotonic_ns() // 1000


class Timer:
    """Something that is due every so often, the first time at once."""

    def __init__(self, every: Micros, action: Callable[[Micros], None]) -> None:
        self.due = 0
        self._every = every
        self._action = action

    def fire(self, now: Micros) -> None:
        """Do it where it is due."""
        if now >= self.due:
            self.due = now + self._every
            self._action(now)
