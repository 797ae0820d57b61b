"""Builds probes as bytes, and reads what a probed host answers.

Pure: no sockets, no clock. What is built is a whole IP packet with right checksums; to make a wrong one,
change the bytes. What is read is an Ethernet frame; anything that is no answer to a probe is None.
Source: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792 and RFC 4443.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass

ETHERTYPE4 = 0x0800
ETHERTYPE6 = 0x86DD
ETHERNET_BYTES = 14

_TCP = 6
_UDP = 17
_ICMP4 = 1
_ICMP6 = 58
_ICMP4_UNREACHABLE = 3
_ICMP6_UNREACHABLE = 1
_ICMP_BYTES = 8
_PORTS = struct.Struct("!HH")


class Flag(enum.IntFlag):
    """The flags of a TCP header; join them with `|`."""

    NONE = 0
    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16
    URG = 32
    ECE = 64
    CWR = 128
    XMAS = FIN | PSH | URG


class AnswerKind(enum.Enum):
    """What an answer says about the probed port."""

    OPEN = "SYN/ACK"
    CLOSED = "RST"
    UNREACHABLE = "ICMP unreachable"
    DATA = "UDP data"


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where a probe goes; its answer comes the other way."""

    source: str
    source_port: int
    destination: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and to which probe."""

    kind: AnswerKind
    route: Route
    """The probe's own route, so that it can be looked up."""
    at: int = 0
    """When it passed the wire: the kernel's stamp, nanoseconds since 1970."""


def build_tcp(
    route: Route,
    flags: int = Flag.SYN,
    *,
    sequence: int = 1000,
    acknowledgement: int = 0,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """Return an IP packet with one TCP segment; `options` are padded to four bytes."""
    options += b"\0" * (-len(options) % 4)
    header = struct.pack(
        "!HHIIBBHHH",
        route.source_port,
        route.port,
        sequence,
        acknowledgement,
        (5 + len(options) // 4) << 4,
        flags,
        1024,
        0,
        0,
    )
    segment = bytearray(header + options + payload)
    segment[16:18] = _transport_checksum(route, _TCP, segment).to_bytes(2, "big")
    return build_ip(route.source, route.destination, _TCP, bytes(segment))


def build_udp(route: Route, payload: bytes = b"") -> bytes:
    """Return an IP packet with one UDP datagram."""
    datagram = bytearray(struct.pack("!HHHH", route.source_port, route.port, 8 + len(payload), 0) + payload)
    # A sum of zero would mean "none given" (RFC 768).
    datagram[6:8] = (_transport_checksum(route, _UDP, datagram) or 0xFFFF).to_bytes(2, "big")
    return build_ip(route.source, route.destination, _UDP, bytes(datagram))


def build_ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 or IPv6 packet around `payload`, by the kind of its addresses."""
    packed_source, packed_destination = _packed(source), _packed(destination)
    if len(packed_source) == 16:
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return header + packed_source + packed_destination + payload
    header4 = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0x1234, 0, 64, protocol, 0))
    header4 += packed_source + packed_destination
    header4[10:12] = checksum(header4).to_bytes(2, "big")
    return bytes(header4) + payload


def build_frame(packet: bytes, source: bytes, destination: bytes) -> bytes:
    """Return an Ethernet frame around an IP packet."""
    ethertype = ETHERTYPE6 if packet[0] >> 4 == 6 else ETHERTYPE4
    return destination + source + ethertype.to_bytes(2, "big") + packet


def checksum(data: bytes | bytearray) -> int:
    """Return the Internet checksum (RFC 1071) of `data`."""
    padded = bytes(data) + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_answer(frame: bytes, at: int = 0) -> Answer | None:
    """Return the answer in this frame, or None where it is something else or cut short."""
    try:
        source, destination, protocol, payload = _read_ip(frame[ETHERNET_BYTES:])
        if protocol in (_ICMP4, _ICMP6):
            return _read_unreachable(protocol, payload, at)
        kind = _read_kind(protocol, payload)
        answering, asking = _PORTS.unpack_from(payload)
    except (struct.error, IndexError, ValueError):
        return None
    return None if kind is None else Answer(kind, Route(destination, asking, source, answering), at)


def _read_kind(protocol: int, payload: bytes) -> AnswerKind | None:
    if protocol == _UDP:
        return AnswerKind.DATA
    if protocol != _TCP:
        return None
    flags = payload[13]
    if flags & Flag.RST:
        return AnswerKind.CLOSED
    return AnswerKind.OPEN if flags & (Flag.SYN | Flag.ACK) == Flag.SYN | Flag.ACK else None


def _read_unreachable(protocol: int, payload: bytes, at: int) -> Answer | None:
    """Read the ICMP error; behind its eight bytes it quotes the probe itself."""
    if payload[0] != (_ICMP4_UNREACHABLE if protocol == _ICMP4 else _ICMP6_UNREACHABLE):
        return None
    source, destination, _, quoted = _read_ip(payload[_ICMP_BYTES:])
    source_port, port = _PORTS.unpack_from(quoted)
    return Answer(AnswerKind.UNREACHABLE, Route(source, source_port, destination, port), at)


def _read_ip(packet: bytes) -> tuple[str, str, int, bytes]:
    """Return source, destination, protocol and payload. Raises: IndexError or ValueError for nonsense."""
    if packet[0] >> 4 == 6:
        addresses, protocol, payload = packet[8:40], packet[6], packet[40:]
    elif packet[0] >> 4 == 4:
        addresses, protocol, payload = packet[12:20], packet[9], packet[(packet[0] & 15) * 4 :]
    else:
        raise ValueError("not an IP packet")
    half = len(addresses) // 2
    source, destination = (ipaddress.ip_address(part) for part in (addresses[:half], addresses[half:]))
    return str(source), str(destination), protocol, payload


def _transport_checksum(route: Route, protocol: int, segment: bytearray) -> int:
    pseudo = _packed(route.source) + _packed(route.destination)
    return checksum(pseudo + struct.pack("!IHBB", len(segment), 0, 0, protocol) + bytes(segment))


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
