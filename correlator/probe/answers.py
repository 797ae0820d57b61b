"""Judges what our own kernel answers: how ACK, window and Maimon scans show, which no PortSentry sees.

A closed port answers a segment with ACK by a RST without ACK, and anything else by a RST with ACK. So
our own outgoing RST says that somebody sent an ACK to a port that offers nothing, and established
traffic need not be looked at. Three innocents look alike, and are told apart:

- an answer to a SYN that somebody forged in our name (SYN with ACK): the kernel filter shows it just
  before our RST, with the number that our RST repeats;
- the peer of a connection that we opened from this port: our SYN marks the port for good;
- the client of a service that is gone: its port is marked for good, too.

A RST of a connection that we abort carries ACK and never comes here. A SYN with ACK from a port on which
nobody of this host listens says that the firewall passes the port on: to a container, a host behind us,
another port. Pure: packets and times are handed
in. Memory is one bounded table. Source: RFC 9293 section 3.10.7.1; net/ipv4/tcp_ipv4.c as run (6.18).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from correlator.model import SECOND, Micros
from correlator.probe.packets import TCP, Packet
from correlator.probe.techniques import ACK, RST, SYN

_TCP = struct.Struct("!HHIIxB")
_TABLE = 4096
"""Answers kept apart; with more in one second the oldest leave, and a forged SYN's answer may be reported."""
_KEPT = SECOND
_Key = tuple[bytes, int, int, int]


class Segment(NamedTuple):
    """The fields of one TCP header and of the IP header in front of it."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int


class Answers:
    """What was answered lately. `judge` reports a packet, `note_clients` hears of ports that clients use.

    `note_served` hears of each SYN with ACK of ours, as the packet that it answers.
    """

    def __init__(
        self,
        judge: Callable[[Packet, str, Micros], tuple[str, ...]],
        note_clients: Callable[[Iterable[int]], None],
        note_served: Callable[[Packet, str, Micros], None],
    ) -> None:
        self._judge = judge
        self._note_served = note_served
        self._note_clients = note_clients
        self._explained: dict[_Key, Micros] = {}
        """Sender, its port, our port and number of RSTs that are not to be reported, until when."""

    def judge(self, segment: Segment | None, device: str, now: Micros, *, is_ours: bool) -> tuple[str, ...]:
        """Return the lines that `segment`, sent by us or to us, gives reason for."""
        if segment is None:
            return ()
        if not is_ours:
            self._explain(
                (
                    segment.source,
                    segment.source_port,
                    segment.destination_port,
                    segment.acknowledgement,
                ),
                now,
            )
            return ()
        if segment.flags & SYN and segment.flags & ACK:
            self._note_served(_asking(segment), device, now)
            return ()
        if segment.flags & SYN:
            self._note_clients((segment.source_port,))
            return ()
        if not segment.flags & RST:
            return ()
        key = (segment.destination, segment.destination_port, segment.source_port, segment.sequence)
        if self._explained.get(key, now) > now:
            return ()
        self._explain(key, now)  # a bridge or a VLAN shows the same packet again on its lower device
        return self._judge(_asking(segment), device, now)

    def _explain(self, key: _Key, now: Micros) -> None:
        explained = self._explained
        explained.pop(key, None)  # so that it stands last
        explained[key] = now + _KEPT
        if len(explained) > _TABLE:
            del explained[next(iter(explained))]


def _asking(answer: Segment) -> Packet:
    """Return the packet that we answered, as far as the answer shows it."""
    return Packet(
        source=answer.destination,
        destination=answer.source,
        protocol=TCP,
        destination_port=answer.source_port,
        source_port=answer.destination_port,
        flags=0,
        has_ip_options=False,
    )


def read_segment(data: bytes | bytearray, size: int) -> Segment | None:
    """Return the TCP segment in the first `size` bytes of an IP packet that the answer filter passed.

    None for whatever is no whole header. IPv6 extension headers are not followed.
    """
    if size < 20:
        return None
    version = data[0] >> 4
    if version == 4:
        start, protocol, addresses, length = (data[0] & 15) * 4, data[9], 12, 4
    elif version == 6:
        start, protocol, addresses, length = 40, data[6], 8, 16
    else:
        return None
    if protocol != TCP or start < 20 or start + 20 > size:
        return None
    source_port, port, sequence, acknowledgement, flags = _TCP.unpack_from(data, start)
    source = bytes(data[addresses : addresses + length])
    destination = bytes(data[addresses + length : addresses + 2 * length])
    return Segment(source, destination, source_port, port, sequence, acknowledgement, flags)
