"""Judges packets: which are probes, and which lines report them. The probe's hot path.

No clock and no sockets here: packets, times and own addresses are handed in, and the one question to
the kernel is a function. A packet is reported where all of this holds, cheapest first: its port is
watched and no service was seen on it lately, it was sent to one of our own addresses by somebody else,
the second's lines are not used up, and the kernel knows no socket that would take it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from correlator.attackalert import format_ip_options, format_probe
from correlator.model import Micros
from correlator.probe.packets import TCP, UDP, Packet
from correlator.probe.ports import PortsInUse, mark_ranges
from correlator.probe.rate_limit import RateLimit
from correlator.probe.sockets import Taker
from correlator.probe.techniques import UDP_TECHNIQUE, name_technique
from correlator.settings import ProbeSettings

PROTOCOLS = {TCP: "TCP", UDP: "UDP"}
_NO_LINES: tuple[str, ...] = ()
_FIRST_MULTICAST = 224  # 224.0.0.0 and all above it: nobody sends from there, the broadcast address included
_LOW_IPV6 = bytes(10)
"""Front of `::`, `::1` and the IPv4-mapped addresses: on the wire only a liar uses them, to have us block
an IPv4 host that never sent anything."""


@dataclass(slots=True)
class Counters:
    """What became of the packets that the kernel filter passed."""

    packets: int = 0
    reported: int = 0
    left_out: int = 0
    in_use: int = 0
    """To a service of ours, or part of a connection."""
    unwatched: int = 0
    """To an excluded port, or one between the watched ranges."""
    own: int = 0
    """From ourselves, from no possible sender, or to an address that is not ours."""
    unreadable: int = 0


class Watch:
    """What is watched, what is in use, whose addresses are ours, and what was seen."""

    def __init__(self, settings: ProbeSettings, find_taker: Callable[[Packet, str], Taker]) -> None:
        self.counters = Counters()
        self.in_use = {TCP: PortsInUse(settings.linger), UDP: PortsInUse(settings.linger)}
        self.limit = RateLimit(settings.lines_a_second)
        self.own_addresses: frozenset[bytes] = frozenset()
        self._watched = {
            TCP: mark_ranges(settings.tcp_ports, settings.exclude_tcp),
            UDP: mark_ranges(settings.udp_ports, settings.exclude_udp),
        }
        self._flags = {protocol: ports.flags for protocol, ports in self.in_use.items()}
        self._find_taker = find_taker

    def is_watched(self, protocol: int, port: int) -> bool:
        """True for a port that is watched and not excluded."""
        return bool(self._watched[protocol][port])

    def judge(self, packet: Packet | None, device: str, now: Micros) -> tuple[str, ...]:
        """Return the lines that report `packet`; none where it is no probe.

        `device` is the name of the device it came in by, `now` monotonic time.
        """
        counters = self.counters
        counters.packets += 1
        if packet is None:
            counters.unreadable += 1
            return _NO_LINES
        source, destination, protocol, port, _, flags, has_ip_options = packet
        if not self._watched[protocol][port]:
            counters.unwatched += 1
            return _NO_LINES
        if self._flags[protocol][port]:
            counters.in_use += 1
            return _NO_LINES
        if destination not in self.own_addresses or source in self.own_addresses or is_impossible(source):
            counters.own += 1
            return _NO_LINES
        technique = name_technique(flags) if protocol == TCP else UDP_TECHNIQUE
        if technique is None:
            counters.unreadable += 1
            return _NO_LINES
        if not self.limit.admits(now):
            counters.left_out += 1
            return _NO_LINES
        taker = self._find_taker(packet, device)
        if taker is not Taker.NOBODY:
            counters.in_use += 1
            if taker is Taker.SERVICE:
                self.in_use[protocol].note((port,), now)
            return _NO_LINES
        counters.reported += 1
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        address = socket.inet_ntop(family, source)
        line = format_probe(technique, address, address, PROTOCOLS[protocol], port)
        if not has_ip_options:
            return (line,)
        # the second line needs a place of its own in this second, or a flood of options doubles the log
        if not self.limit.admits(now):
            counters.left_out += 1
            return (line,)
        return line, format_ip_options(address, address, PROTOCOLS[protocol], port)


def is_impossible(source: bytes) -> bool:
    """True for an address that no other host can send from: loopback, unspecified, multicast, mapped."""
    if len(source) == 4:
        return source[0] in (0, 127) or source[0] >= _FIRST_MULTICAST
    return source[0] == 0xFF or source.startswith(_LOW_IPV6)
