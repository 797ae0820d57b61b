"""Tells packets that some service could get from those that our kernel throws away unanswered.

Nobody learns anything by a packet with a wrong checksum, so it is no probe and proves nothing about its
sender. The kernel looks at all this only behind the packet sockets. Pure, and for the few packets that would
be reported: what is cheaper to tell is told in `packets` and `watch`. A checksum that was never filled in,
because sender and receiver share this machine (veth, a virtual network card), is the kernel's to vouch for.
Source: RFC 1071, RFC 791, RFC 768, RFC 8200 section 8.1, RFC 9293 section 3.1; Linux as run (6.18).
"""

from __future__ import annotations

import enum

from correlator.probe.packets import TCP, Packet

_ONES = 0xFFFF
"""A number modulo this is the ones' complement sum of its 16-bit words."""
_IPV4_HEADER_BYTES = 20
_UDP_HEADER_BYTES = 8
_CHECKSUM_AT = {True: 16, False: 6}
"""Where the checksum stands in a TCP header, and in a UDP header."""
_END_OF_OPTIONS = 0
_NO_OPERATION = 1
_SOURCE_ROUTES = (131, 137)


class Flaw(enum.Enum):
    """Why no service gets a packet."""

    CHECKSUM = enum.auto()
    FORM = enum.auto()
    """Lengths that contradict each other, or a source route: Linux takes none unless told to."""


def find_flaw(packet: Packet, data: bytes | bytearray, *, is_verified: bool = False) -> Flaw | None:
    """Return why our kernel throws away the packet that `parse_packet` found in `data`, or None.

    `is_verified`: the kernel vouches for the transport's checksum. Of a packet that is not all in `data` only
    what is there is judged.
    """
    if len(packet.source) == 4 and packet.start:
        if int.from_bytes(data[: packet.start], "big") % _ONES:
            return Flaw.CHECKSUM
        if packet.start > _IPV4_HEADER_BYTES and _has_source_route(data, packet.start):
            return Flaw.FORM
    if not packet.end:
        return None
    length = _measure(packet, data)
    if length is None:
        return Flaw.FORM
    return None if is_verified or _has_right_checksum(packet, data, length) else Flaw.CHECKSUM


def is_unfinished(packet: Packet, data: bytes | bytearray) -> bool:
    """Whether the transport's checksum is what a kernel leaves for the network card to finish.

    In a capture file that says only where the packet was caught, not what became of it.
    """
    at = packet.start + _CHECKSUM_AT[packet.protocol == TCP]
    found = int.from_bytes(data[at : at + 2], "big")
    return bool(packet.end) and found % _ONES == _sum_pseudo_header(packet, packet.end - packet.start) % _ONES


def _measure(packet: Packet, data: bytes | bytearray) -> int | None:
    """Return how many bytes the checksum covers; None where that is more than there are, or nonsense."""
    arrived = packet.end - packet.start
    if packet.protocol == TCP:
        return arrived if (data[packet.start + 12] >> 4) * 4 <= arrived else None
    stated = int.from_bytes(data[packet.start + 4 : packet.start + 6], "big")
    if not stated and len(packet.source) == 16:  # longer than it can say (RFC 2675)
        return arrived
    return stated if _UDP_HEADER_BYTES <= stated <= arrived else None


def _has_right_checksum(packet: Packet, data: bytes | bytearray, length: int) -> bool:
    start = packet.start
    if packet.protocol != TCP and not (data[start + 6] or data[start + 7]):
        return len(packet.source) == 4  # "none given"; IPv6 insists on one
    covered = int.from_bytes(data[start : start + length], "big") << (length % 2 * 8)
    return (_sum_pseudo_header(packet, length) + covered) % _ONES == 0


def _sum_pseudo_header(packet: Packet, length: int) -> int:
    addresses = int.from_bytes(packet.source, "big") + int.from_bytes(packet.destination, "big")
    return addresses + packet.protocol + length


def _has_source_route(data: bytes | bytearray, end: int) -> bool:
    place = _IPV4_HEADER_BYTES
    while place < end and data[place] != _END_OF_OPTIONS:
        if data[place] in _SOURCE_ROUTES:
            return True
        # a length below two would never end: the kernel calls the whole packet malformed
        place += 1 if data[place] == _NO_OPERATION else max(2, data[place + 1] if place + 1 < end else 2)
    return False
