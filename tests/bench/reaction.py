"""How long from a scan's first packet to the drop in the kernel: the last answered probe on the wire.

A SYN every 100 us goes to port 113, which is closed and excluded from watching: it is answered by an RST
as long as the source is not blocked, and reported by nobody. 30 ms in, one SYN goes to port 21. From its
stamp on the victim's device to the stamp of the last RST from 113 is the reaction, to 0.1 ms.
"""

import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from correlator.drill.lab import VICTIM4, VICTIM_DEVICE, LabError
from correlator.drill.packets import ETHERNET_BYTES, Flag, Route, build_tcp
from correlator.drill.scanner import Scanner
from correlator.drill.wire import Frame, Wire
from tests.bench.guard import Guard

ANSWERED_PORT = 113
WATCHED_PORT = 21

_EVERY_NS = 100_000
_LENGTH_NS = 150_000_000
_PROBE_AT = 300
"""The number of the SYN to 113 behind which the one to 21 goes: 30 ms in."""
_SETTLE_SECONDS = 0.03
_PRIORITY = 50
_PR_SET_TIMERSLACK = 29
_TCP_PORTS = struct.Struct("!HH")


@dataclass(frozen=True)
class Measured:
    """One reaction, in milliseconds."""

    reaction: float
    """From the probe to the last answer."""
    uncertain: float
    """From the last answer to the first question that had none: the block came in between."""


class Reaction:
    """Measures one guard, one source a time; use it in a `with`."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._scanner = Scanner(guard.lab)
        self._wire = Wire(guard.lab.victim, VICTIM_DEVICE)
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # else each pause is 50 us too long

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()
        self._scanner.close()

    def measure(self, source: str) -> Measured | None:
        """Return how long one source went on being answered; None: it was never blocked."""
        self.guard.demand_running()
        frames = [
            self._scanner.frame(build_tcp(Route(source, 20_000 + number, VICTIM4, ANSWERED_PORT)))
            for number in range(_LENGTH_NS // _EVERY_NS)
        ]
        probe = self._scanner.frame(build_tcp(Route(source, 50_000, VICTIM4, WATCHED_PORT)))
        self._wire.drain()
        self._wire.count_lost()
        with _first_on_the_processor():
            start = time.monotonic_ns()
            for number, frame in enumerate(frames):
                _pause_until(start + number * _EVERY_NS)
                self._scanner.send_frame(frame)
                if number == _PROBE_AT:
                    self._scanner.send_frame(probe)
        time.sleep(_SETTLE_SECONDS)
        seen = self._wire.drain()
        if lost := self._wire.count_lost():
            raise LabError(f"{lost} frames were lost to the measurement itself")
        self.guard.release(source)
        return _read_capture(seen)


def _read_capture(frames: list[Frame]) -> Measured | None:
    """Find the probe to 21, the last answer from 113, and the first question after it.

    Raises: LabError where something was left unanswered before the scan began: another block is in force.
    """
    asked = answered = 0
    begin = last_answer = 0
    unanswered: int | None = None
    for frame in frames:
        try:
            source_port, port = _TCP_PORTS.unpack_from(frame.data, ETHERNET_BYTES + 20)
            flags = frame.data[ETHERNET_BYTES + 33]
        except (struct.error, IndexError):  # ARP
            continue
        if frame.is_outgoing and source_port == ANSWERED_PORT and flags & Flag.RST:
            answered, last_answer, unanswered = answered + 1, frame.at, None
        elif not frame.is_outgoing and port == ANSWERED_PORT:
            asked += 1
            unanswered = frame.at if unanswered is None else unanswered
        elif not frame.is_outgoing and port == WATCHED_PORT:
            begin = frame.at
            if answered != asked:
                raise LabError(f"{asked - answered} of {asked} probes went unanswered before the scan began")
    if begin == 0:
        raise LabError(f"the probe to port {WATCHED_PORT} never arrived")
    if unanswered is None:
        return None
    return Measured((last_answer - begin) / 1e6, (unanswered - last_answer) / 1e6)


@contextlib.contextmanager
def _first_on_the_processor() -> Iterator[None]:
    """Send on time whatever else runs: a late question would hide when the answers ended.

    Without the right to it (a container) we go on, and the table's row "uncertain" shows the price.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _pause_until(moment: int) -> None:
    """Leave the processor to the guards meanwhile."""
    while (left := moment - time.monotonic_ns()) > 0:
        time.sleep(left / 1e9)
