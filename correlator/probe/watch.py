"""Judges packets: which are probes, and which lines report them. The probe's hot path.

No clock and no sockets here: packets, times and own addresses are handed in, and the one question to
the kernel is a function. A packet is reported where all of this holds, cheapest first: its port is
watched and no service was seen on it lately, it was sent to one of our own addresses by somebody else,
the second's lines are not used up, our kernel does not throw it away unseen, and it knows no socket that
would take it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from correlator.attackalert import CONNECT, format_ip_options, format_probe
from correlator.model import Micros
from correlator.probe.announce import PROTOCOLS, names_port, protocol_of
from correlator.probe.kernel_filter import MOST_RANGES, PortRanges
from correlator.probe.packets import TCP, UDP, Packet
from correlator.probe.ports import PORTS, PortsInUse, list_ranges, mark_ranges
from correlator.probe.rate_limit import RateLimit
from correlator.probe.sockets import Taker
from correlator.probe.soundness import Flaw, find_flaw
from correlator.probe.techniques import ACK_TECHNIQUE, UDP_TECHNIQUE, name_technique
from correlator.probe.trigger import ScanTrigger
from correlator.settings import ProbeSettings

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
    """From ourselves, from no possible sender, to an address that is not ours, or by a device left out."""
    unreadable: int = 0
    bad_checksums: int = 0
    """Would be reported but for a checksum: our kernel throws them away, so they prove nothing."""
    ignored: int = 0
    """Would be reported but for the ignore file."""
    below_trigger: int = 0
    """Would be reported but for `scan_trigger`."""
    connects: int = 0
    """Connections and datagrams that a connect mode took, reported or not."""


class Watch:
    """What is watched, what is in use, whose addresses are ours, and what was seen."""

    def __init__(
        self,
        settings: ProbeSettings,
        find_taker: Callable[[Packet, str], Taker],
        is_ignored: Callable[[bytes], bool] = lambda _source: False,
        name_of: Callable[[str, Micros], str] = lambda address, _now: address,
    ) -> None:
        self.counters = Counters()
        self._settings = settings
        self.in_use = {TCP: PortsInUse(settings.linger), UDP: PortsInUse(settings.linger)}
        self.limit = RateLimit(settings.lines_a_second, is_shared=not settings.compat)
        self.proven_limit = RateLimit(settings.lines_a_second, is_shared=not settings.compat)
        """For finished handshakes: a flood of forged packets must not keep them out of the log."""
        self.own_addresses: frozenset[bytes] = frozenset()
        self._watched = {TCP: _mark_tcp(settings), UDP: _mark_udp(settings)}
        self._devices = frozenset(settings.interfaces)
        self._flags = {protocol: ports.flags for protocol, ports in self.in_use.items()}
        self._triggers = {
            (protocol, is_connect): ScanTrigger(settings.scan_trigger)
            for protocol in (TCP, UDP)
            for is_connect in (False, True)
        }
        """One for each process that PortSentry would be; what several modes see together counts once."""
        self._find_taker = find_taker
        self._is_ignored = is_ignored
        self._name_of = name_of

    def watched_ranges(self, protocol: int) -> PortRanges:
        """Return the ports that packets are judged for, joined as far as the kernel filter must have it."""
        return list_ranges(self._watched[protocol], MOST_RANGES)

    def watch_without_a_list(self, in_use: Mapping[int, Collection[int]]) -> None:
        """Watch every port there is where PortSentry does: an advanced mode with nothing to leave out.

        `in_use`: the ports of each protocol that PortSentry could not bind; its limit is then forgotten.
        """
        settings = self._settings
        for mode, excluded in (("atcp", settings.exclude_tcp), ("audp", settings.exclude_udp)):
            protocol = protocol_of(mode)
            if mode not in settings.modes or excluded:
                continue
            if not any(names_port(mode, settings, port) for port in in_use[protocol]):
                self._watched[protocol][:] = b"\x01" * PORTS

    def exclude(self, protocol: int, ports: Iterable[int]) -> None:
        """Watch these ports no longer, whatever becomes of their services."""
        for port in ports:
            self._watched[protocol][port] = 0

    def judge(
        self,
        packet: Packet | None,
        device: str,
        now: Micros,
        data: bytes | bytearray,
        *,
        is_verified: bool = False,
    ) -> tuple[str, ...]:
        """Return the lines that report `packet`; none where it is no probe.

        `device` is the name of the device it came in by, `now` monotonic time, `data` what the packet was
        read from; `is_verified` where the kernel vouches for its checksum.
        """
        counters = self.counters
        counters.packets += 1
        if packet is None:
            counters.unreadable += 1
            return _NO_LINES
        source, destination, protocol, port, _, flags, has_ip_options, _, _ = packet
        if not self._watched[protocol][port]:
            counters.unwatched += 1
            return _NO_LINES
        if self._flags[protocol][port]:
            counters.in_use += 1
            return _NO_LINES
        if destination not in self.own_addresses or self._is_unjudged(source, device):
            counters.own += 1
            return _NO_LINES
        technique = name_technique(flags) if protocol == TCP else UDP_TECHNIQUE
        if technique is None:
            counters.unreadable += 1
            return _NO_LINES
        if not self.limit.admits(now, source):
            counters.left_out += 1
            return _NO_LINES
        flaw = find_flaw(packet, data, is_verified=is_verified)
        if flaw is not None:
            self.limit.give_back()  # or a flood of such packets would keep the lines of others out
            if flaw is Flaw.CHECKSUM:
                counters.bad_checksums += 1
            else:
                counters.unreadable += 1
            return _NO_LINES
        if self._passes_over(source):
            return _NO_LINES
        taker = self._find_taker(packet, device)
        if taker is not Taker.NOBODY:
            counters.in_use += 1
            if taker is Taker.SERVICE:
                self.in_use[protocol].note((port,), now)
            return _NO_LINES
        if self._waits_for_more(protocol, source):
            return _NO_LINES
        counters.reported += 1
        address = spell_address(source)
        name = self._name_of(address, now)
        line = format_probe(technique, name, address, PROTOCOLS[protocol], port)
        if not has_ip_options:
            return (line,)
        # the second line needs a place of its own in this second, or a flood of options doubles the log
        if not self.limit.admits(now, source):
            counters.left_out += 1
            return (line,)
        return line, format_ip_options(name, address, PROTOCOLS[protocol], port)

    def judge_connect(
        self, protocol: int, port: int, source: bytes, destination: bytes | None, now: Micros
    ) -> tuple[str, ...]:
        """Return the lines that report who connected, or sent a datagram, to a port that we opened.

        `destination` is None where it can only be an address of ours. Every one is reported: counting is
        the correlator's work.
        """
        self.counters.connects += 1
        is_ours = destination is None or destination in self.own_addresses
        if not is_ours or self._is_unjudged(source, ""):
            self.counters.own += 1
            return _NO_LINES
        limit = self.proven_limit if protocol == TCP else self.limit
        if not limit.admits(now, source):
            self.counters.left_out += 1
            return _NO_LINES
        if self._is_ignored(source):
            self.counters.ignored += 1
        elif not self._triggers[protocol, True].is_reached(source):
            self.counters.below_trigger += 1
        else:
            return self._report_connect(protocol, port, source, now)
        limit.give_back()
        return _NO_LINES

    def _report_connect(self, protocol: int, port: int, source: bytes, now: Micros) -> tuple[str, ...]:
        self.counters.reported += 1
        address = spell_address(source)
        name = self._name_of(address, now)
        return (format_probe(CONNECT, name, address, PROTOCOLS[protocol], port),)

    def judge_answered(self, packet: Packet, device: str, now: Micros) -> tuple[str, ...]:
        """Return the lines that report a segment with ACK which our own kernel has just reset.

        `packet` is that segment as far as the answer shows it. A port on which a service or a client of
        ours was ever seen is passed over: whoever talked to it may not know yet that it is gone.
        """
        source, destination, protocol, port = packet[:4]
        if not self._watched[protocol][port] or self.in_use[protocol].ever[port]:
            return _NO_LINES
        if destination not in self.own_addresses or self._is_unjudged(source, device):
            return _NO_LINES
        if not self.limit.admits(now, source):
            self.counters.left_out += 1
            return _NO_LINES
        if self._passes_over(source):
            return _NO_LINES
        if self._find_taker(packet, device) is not Taker.NOBODY:
            self.counters.in_use += 1
            return _NO_LINES
        if self._waits_for_more(protocol, source):
            return _NO_LINES
        self.counters.reported += 1
        address = spell_address(source)
        name = self._name_of(address, now)
        return (format_probe(ACK_TECHNIQUE, name, address, PROTOCOLS[protocol], port),)

    def note_served(self, packet: Packet, device: str, now: Micros) -> None:
        """Take note of a port that was answered for, though nobody of this host listens: it leads elsewhere.

        `packet` is what was answered as far as the answer shows it.
        """
        port = packet.destination_port
        if self._flags[packet.protocol][port] or packet.destination not in self.own_addresses:
            return
        if self._find_taker(packet, device) is Taker.NOBODY:
            self.in_use[packet.protocol].note_passed_on(port, now)

    def _passes_over(self, source: bytes) -> bool:
        """True where the ignore file names the source of an admitted line; its place is free again."""
        if not self._is_ignored(source):
            return False
        self.limit.give_back()
        self.counters.ignored += 1
        return True

    def _waits_for_more(self, protocol: int, source: bytes) -> bool:
        """True for a hit below the trigger; its line's place is free again."""
        if self._triggers[protocol, False].is_reached(source):
            return False
        self.limit.give_back()
        self.counters.below_trigger += 1
        return True

    def _is_unjudged(self, source: bytes, device: str) -> bool:
        """True for ourselves, for who cannot have sent it, and for a device that is not ours to watch."""
        return (
            source in self.own_addresses
            or is_impossible(source)
            or bool(device and self._devices and device not in self._devices)
        )


def spell_address(packed: bytes) -> str:
    """Return the canonical text of a packed address."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _mark_tcp(settings: ProbeSettings) -> bytearray:
    listed = settings.tcp_list if "stcp" in settings.modes else ()
    return _mark("atcp" in settings.modes, settings.tcp_ports, settings.exclude_tcp, listed)


def _mark_udp(settings: ProbeSettings) -> bytearray:
    listed = settings.udp_list if "sudp" in settings.modes else ()
    return _mark("audp" in settings.modes, settings.udp_ports, settings.exclude_udp, listed)


def _mark(
    is_advanced: bool,
    ranges: PortRanges,
    excluded: tuple[int, ...],
    listed: tuple[int, ...],
) -> bytearray:
    """Return 1 for every port that a packet is judged for; what the advanced mode excludes may be listed."""
    watched = mark_ranges(ranges if is_advanced else (), excluded)
    for port in listed:
        watched[port] = 1
    return watched


def is_impossible(source: bytes) -> bool:
    """True for an address that no other host can send from: loopback, unspecified, multicast, mapped."""
    if len(source) == 4:
        return source[0] in (0, 127) or source[0] >= _FIRST_MULTICAST
    return source[0] == 0xFF or source.startswith(_LOW_IPV6)
