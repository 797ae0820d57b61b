"""Asks for the names of addresses: a program of its own, which the probe starts and never waits for.

It may hang for as long as a name server likes, and what comes from there passes through the C library here
and not in the probe. On standard input, a socket that keeps messages apart, comes one address a message; the
answer is the address, a space, and its name as it was told or nothing. Ends with its input.
Imports nothing of ours and runs from its file. Source: getnameinfo(3), resolv.conf(5), nsswitch.conf(5).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading

_WORKERS = 8
_LONGEST_ADDRESS = 64
_LONGEST_NAME = 1024
_LOWEST_PRIORITY = 19


def look_up(address: str) -> str:
    """Return what the host's own sources (hosts file, name servers) call `address`; empty where nothing."""
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except (OSError, UnicodeError):
        return ""


def main() -> None:
    """Serve until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the probe's to answer
    with contextlib.suppress(PermissionError):  # a sandbox may forbid even to step back
        os.nice(_LOWEST_PRIORITY)
    channel = socket.socket(fileno=sys.stdin.fileno())
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # bounded by who asks

    def work() -> None:
        while True:
            address = waiting.get()
            name = look_up(address.decode("ascii", "replace"))
            with contextlib.suppress(OSError):  # the probe is gone, or does not want to know
                channel.send(address + b" " + name.encode("utf-8", "replace")[:_LONGEST_NAME])

    for _ in range(_WORKERS):
        threading.Thread(target=work, daemon=True).start()
    while address := channel.recv(_LONGEST_ADDRESS):
        waiting.put(address)
    os._exit(0)  # who still waits for a name server is not waited for


if __name__ == "__main__":
    main()
