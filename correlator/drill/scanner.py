"""A scanner that sends any probe from the lab's scanner namespace and knows which answer belongs to which.

It writes frames itself, so a source may be forged, flags may be nonsense and frames may be cut short; the
scanner's kernel takes no part, except that it resets what the victim opens, as with nmap's SYN scan.
"""

from __future__ import annotations

import itertools
import time
from typing import Self

from correlator.drill.lab import SCANNER4, SCANNER6, SCANNER_DEVICE, VICTIM4, VICTIM_DEVICE, Lab
from correlator.drill.packets import (
    Answer,
    Flag,
    Route,
    build_frame,
    build_tcp,
    build_udp,
    read_answer,
)
from correlator.drill.wire import Wire

_FIRST_SOURCE_PORT = 40_000
_LAST_SOURCE_PORT = 60_999
_ANSWER_SECONDS = 1.0


class Scanner:
    """Sends probes into a lab's victim and waits for answers; close it, or use it in a `with`.

    Every probe leaves from another source port, unless told otherwise, so no answer is taken for another's.
    """

    def __init__(self, lab: Lab) -> None:
        with Wire(lab.victim, VICTIM_DEVICE) as victim:
            self._victim_hardware = victim.hardware_address
        self._wire = Wire(lab.scanner, SCANNER_DEVICE)
        self._own_hardware = self._wire.hardware_address
        self._source_ports = itertools.cycle(range(_FIRST_SOURCE_PORT, _LAST_SOURCE_PORT + 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def route(
        self,
        port: int,
        *,
        source: str | None = None,
        source_port: int | None = None,
        destination: str = VICTIM4,
    ) -> Route:
        """Return a route to `port`, with the scanner's own address and a fresh source port as defaults."""
        if source is None:
            source = SCANNER6 if ":" in destination else SCANNER4
        return Route(
            source, next(self._source_ports) if source_port is None else source_port, destination, port
        )

    def send_tcp(
        self,
        port: int,
        flags: int = Flag.SYN,
        *,
        source: str | None = None,
        source_port: int | None = None,
        destination: str = VICTIM4,
        payload: bytes = b"",
    ) -> Route:
        """Send one TCP segment with any flags; return the route to ask answers for."""
        route = self.route(port, source=source, source_port=source_port, destination=destination)
        self.send_packet(build_tcp(route, flags, payload=payload))
        return route

    def send_udp(
        self,
        port: int,
        *,
        source: str | None = None,
        source_port: int | None = None,
        destination: str = VICTIM4,
        payload: bytes = b"x",
    ) -> Route:
        """Send one UDP datagram; return the route to ask answers for."""
        route = self.route(port, source=source, source_port=source_port, destination=destination)
        self.send_packet(build_udp(route, payload))
        return route

    def send_packet(self, packet: bytes) -> None:
        """Send one whole IP packet as it stands, right or wrong."""
        self.send_frame(self.frame(packet))

    def send_frame(self, frame: bytes) -> None:
        """Send one whole Ethernet frame as it stands (VLAN tags, frames cut short)."""
        self._wire.send(frame)

    def frame(self, packet: bytes) -> bytes:
        """Return the Ethernet frame that carries an IP packet to the victim."""
        return build_frame(packet, self._own_hardware, self._victim_hardware)

    def wait_for_answer(self, route: Route, seconds: float = _ANSWER_SECONDS) -> Answer | None:
        """Return the answer to the probe that went that way, or None where none came in that time.

        Answers to other probes that arrive meanwhile are passed over: ask in the order of sending, or use
        `collect_answers`.
        """
        for frame in self._wire.receive_until(time.monotonic() + seconds):
            answer = None if frame.is_outgoing else read_answer(frame.data, frame.at)
            if answer is not None and answer.route == route:
                return answer
        return None

    def collect_answers(self, *routes: Route, seconds: float = _ANSWER_SECONDS) -> dict[Route, Answer]:
        """Return the first answer to each of these probes, as soon as all came or the time is over."""
        missing = set(routes)
        found: dict[Route, Answer] = {}
        if not missing:
            return found
        for frame in self._wire.receive_until(time.monotonic() + seconds):
            answer = None if frame.is_outgoing else read_answer(frame.data, frame.at)
            if answer is not None and answer.route in missing:
                missing.discard(answer.route)
                found[answer.route] = answer
                if not missing:
                    break
        return found

    def is_answered(
        self,
        port: int,
        seconds: float = _ANSWER_SECONDS,
        *,
        source: str | None = None,
        destination: str = VICTIM4,
    ) -> bool:
        """True where a SYN to `port` is answered at all, open or closed: where the source is not blocked."""
        return (
            self.wait_for_answer(self.send_tcp(port, source=source, destination=destination), seconds)
            is not None
        )

    def close(self) -> None:
        """Stop listening."""
        self._wire.close()
