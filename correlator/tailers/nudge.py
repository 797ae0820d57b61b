"""Where the probe tells us that the alert log has a new line: a datagram socket, a hint that may be lost."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from correlator.kernel.socket_path import reachable


class NudgeReceiver:
    """The bound socket; whoever holds the correlator's lock may bind it, an old one is dead."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._is_nudged = False
        before = os.umask(0o117)
        try:
            with reachable(path) as name:
                self._socket.bind(name)
            # its folder may hand on the group of those who read our counters: the probe is in ours instead
            os.chown(path, -1, os.getegid())
        finally:
            os.umask(before)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Take what was sent."""
        self._is_nudged = True
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass

    def take(self) -> bool:
        """Return whether a nudge came since this was asked last."""
        is_nudged, self._is_nudged = self._is_nudged, False
        return is_nudged

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()
