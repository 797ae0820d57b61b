"""Reads the few header fields that the probe judges, from an IP packet as the kernel hands it over.

Decides nothing but "these fields" or "cannot be judged". Never raises, whatever the bytes: a stranger
wrote them. Invariant: what `parse_packet` returns for a watched port without ACK and RST, the kernel
filter lets through (`kernel_filter`; a property test holds the two together).
Source: RFC 791, RFC 8200 section 4, RFC 9293 section 3.1, RFC 768.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TCP = 6
UDP = 17
HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT = 44
AUTHENTICATION = 51
DESTINATION_OPTIONS = 60

MAX_EXTENSIONS = 8
"""IPv6 extension headers followed before a packet counts as nonsense; real ones carry two at most."""

_IPV4 = struct.Struct("!BxHxxHxBxx4s4s")
_FRAGMENT_OFFSET = 0x1FFF
_MORE_FRAGMENTS = 0x2000
_IPV6 = struct.Struct("!BxxxHBx16s16s")
_TCP = struct.Struct("!HH8xBB")
_TCP_BYTES = 20
_UDP_PORTS = struct.Struct("!HH")
_UDP_BYTES = 8


class Packet(NamedTuple):
    """One TCP or UDP packet: who sent it, to which of our addresses and ports, with which flags."""

    source: bytes
    """Packed, 4 or 16 bytes."""
    destination: bytes
    protocol: int
    """`TCP` or `UDP`."""
    destination_port: int
    source_port: int
    flags: int
    """The byte of TCP flags (CWR ECE URG ACK PSH RST SYN FIN from the top); 0 for UDP."""
    has_ip_options: bool
    """IPv4: a header longer than 20 bytes. IPv6: options or a routing header in front of the transport."""
    start: int = 0
    """Where the TCP or UDP header begins."""
    end: int = 0
    """Where its payload ends; 0 where not all of that is there (a first fragment, a capture cut short)."""


def parse_packet(version: int, data: bytes | bytearray, size: int) -> Packet | None:
    """Return the fields of the IPv4 or IPv6 packet in the first `size` bytes of `data`.

    None for what cannot be judged: later fragments, other protocols, truncated or nonsense headers.
    The length that the IP header states counts, not the padding that Ethernet adds behind it.
    """
    if version == 6:
        return _parse_ipv6(data, size)
    if size < _IPV4.size:
        return None
    first, total, fragment, protocol, source, destination = _IPV4.unpack_from(data)
    start = (first & 0x0F) * 4
    if first >> 4 != 4 or start < _IPV4.size or fragment & _FRAGMENT_OFFSET:
        return None
    ports = _read_transport(data, start, min(size, total), protocol)
    if ports is None:
        return None
    end = total if total <= size and not fragment & _MORE_FRAGMENTS else 0
    return Packet(source, destination, protocol, *ports, start > _IPV4.size, start, end)


def state_length(data: bytes | bytearray) -> int:
    """Return how many bytes the IP packet has by its own header; our kernel takes none of which fewer came.

    Only for what `parse_packet` returned.
    """
    if data[0] >> 4 == 4:
        return int.from_bytes(data[2:4], "big")
    return _IPV6.size + int.from_bytes(data[4:6], "big")


def _parse_ipv6(data: bytes | bytearray, size: int) -> Packet | None:
    if size < _IPV6.size:
        return None
    first, payload, following, source, destination = _IPV6.unpack_from(data)
    if first >> 4 != 6:
        return None
    start = _IPV6.size
    end = min(size, start + payload)
    has_options = False
    is_all = start + payload <= size
    for _ in range(MAX_EXTENSIONS + 1):
        if following in (TCP, UDP):
            ports = _read_transport(data, start, end, following)
            if ports is None:
                return None
            return Packet(source, destination, following, *ports, has_options, start, end if is_all else 0)
        if start + 8 > end:  # every extension header has at least eight bytes
            return None
        if following in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
            has_options = True
            length = (data[start + 1] + 1) * 8
        elif following == FRAGMENT:
            if data[start + 2] or data[start + 3] & 0xF8:  # not the first fragment: no ports in it
                return None
            is_all &= not data[start + 3] & 1  # there are more
            length = 8
        elif following == AUTHENTICATION:
            length = (data[start + 1] + 2) * 4
        else:
            return None
        following = data[start]
        start += length
    return None


def _read_transport(
    data: bytes | bytearray, start: int, end: int, protocol: int
) -> tuple[int, int, int] | None:
    """Return destination port, source port and TCP flags; None for what is no whole TCP or UDP header."""
    if protocol == TCP:
        if start + _TCP_BYTES > end:
            return None
        source_port, port, offset, flags = _TCP.unpack_from(data, start)
        if offset >> 4 < 5:  # the kernel throws such a segment away before any service sees it
            return None
        return port, source_port, flags
    if protocol != UDP or start + _UDP_BYTES > end:
        return None
    source_port, port = _UDP_PORTS.unpack_from(data, start)
    return port, source_port, 0
