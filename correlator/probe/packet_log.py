"""Writes a packet as the kernel's own packet log does: `IN=eth0 OUT= MAC=... SRC=... PROTO=TCP SPT=...`.

So what reads iptables' LOG and nftables' `log` reads this too. Pure: the packet's first bytes in, text out;
a packet that ends too early gets `INCOMPLETE`, as the kernel writes it, and nothing is read beyond its bytes.
Source: lines of kernel 6.18 for the same packets; RFC 791, 768, 9293, 792, 8200, 4443.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from correlator.model import printable

IPV4, IPV6 = 0x0800, 0x86DD
_ETHERNET_BYTES = 14
_PINGS = (0, 8, 128, 129)
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = (0, 43, _FRAGMENT, _AUTHENTICATION, 60)
"""Headers between IPv6 and what it carries."""
_MOST_EXTENSIONS = 8
_TCP_FLAGS = (
    (0x80, "CWR"),
    (0x40, "ECE"),
    (0x20, "URG"),
    (0x10, "ACK"),
    (0x08, "PSH"),
    (0x04, "RST"),
    (0x02, "SYN"),
    (0x01, "FIN"),
)
_IPV4_FLAGS = ((0x8000, "CE"), (0x4000, "DF"), (0x2000, "MF"))


@dataclass(frozen=True, slots=True)
class LoggedPacket:
    """What a rule with NFLOG or `log group` hands over."""

    protocol: int
    """`IPV4`, `IPV6`, or another type of Ethernet frame."""
    payload: bytes
    """The packet from its IP header on, or its first bytes."""
    prefix: str = ""
    """What the rule puts before it."""
    incoming: str = ""
    """Name of the device it came by; empty: it is ours."""
    outgoing: str = ""
    link: bytes = b""
    """The header of its frame."""
    mark: int = 0


def format_packet(packet: LoggedPacket) -> str | None:
    """Return the line, None for what is no IP."""
    if packet.protocol == IPV4:
        parts = _ipv4(packet.payload)
    elif packet.protocol == IPV6:
        parts = _ipv6(packet.payload)
    else:
        return None
    frame = ":".join(f"{byte:02x}" for byte in packet.link[:_ETHERNET_BYTES])
    link = [f"MAC={frame}"] if packet.incoming else []
    mark = [f"MARK=0x{packet.mark:x}"] if packet.mark else []
    devices = f"{printable(packet.prefix)}IN={packet.incoming} OUT={packet.outgoing}"
    return " ".join((devices, *link, *parts, *mark))


def packed_source(packet: LoggedPacket) -> bytes:
    """Return the address that sent it, packed; empty where it ends before that."""
    return packet.payload[12:16] if packet.protocol == IPV4 else packet.payload[8:24]


def _ipv4(data: bytes) -> Iterator[str]:
    if len(data) < 20:
        yield "INCOMPLETE"
        return
    first, tos, length, number, flags, ttl, protocol = struct.unpack_from("!BBHHHBB", data)
    yield f"SRC={socket.inet_ntoa(data[12:16])}"
    yield f"DST={socket.inet_ntoa(data[16:20])}"
    yield f"LEN={length}"
    yield f"TOS=0x{tos & 0x1E:02X}"
    yield f"PREC=0x{tos & 0xE0:02X}"
    yield f"TTL={ttl}"
    yield f"ID={number}"
    yield from (name for bit, name in _IPV4_FLAGS if flags & bit)
    offset = flags & 0x1FFF
    if offset:
        yield f"FRAG:{offset}"
    yield from _transport(protocol, data[(first & 0x0F) * 4 :], has_head=not offset)


def _ipv6(data: bytes) -> Iterator[str]:
    if len(data) < 40:
        yield "INCOMPLETE"
        return
    word, length, protocol, hops = struct.unpack_from("!IHBB", data)
    yield f"SRC={_spell(data[8:24])}"
    yield f"DST={_spell(data[24:40])}"
    yield f"LEN={length + 40}"
    yield f"TC={word >> 20 & 0xFF}"
    yield f"HOPLIMIT={hops}"
    yield f"FLOWLBL={word & 0xFFFFF}"
    rest, has_head = data[40:], True
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in _EXTENSIONS or len(rest) < 8:
            break
        if protocol == _FRAGMENT:
            place, number = struct.unpack_from("!HI", rest, 2)
            yield f"FRAG:{place & 0xFFF8}"
            if place & 1:
                yield "INCOMPLETE"
            yield f"ID:{number:08x}"
            has_head = not place & 0xFFF8
            size = 8
        elif protocol == _AUTHENTICATION:
            size = (rest[1] + 2) * 4
        else:
            size = (rest[1] + 1) * 8
        protocol, rest = rest[0], rest[size:]
    yield from _transport(protocol, rest, has_head=has_head)


def _transport(protocol: int, data: bytes, *, has_head: bool) -> Iterator[str]:
    """Yield what the packet carries; of a later fragment its name alone, its first bytes are no header."""
    name, least, read = _CARRIED.get(protocol, (str(protocol), 0, None))
    yield f"PROTO={name}"
    if read is None or not has_head:
        return
    if len(data) < least:
        yield f"INCOMPLETE [{len(data)} bytes]"
        return
    yield from read(data)


def _tcp(head: bytes) -> Iterator[str]:
    source, destination, _, _, offset, flags, window, _, urgent = struct.unpack_from("!HHIIBBHHH", head)
    yield f"SPT={source}"
    yield f"DPT={destination}"
    yield f"WINDOW={window}"
    yield f"RES=0x{(offset & 0x0F) << 2:02x}"
    yield from (name for bit, name in _TCP_FLAGS if flags & bit)
    yield f"URGP={urgent}"


def _udp(head: bytes) -> Iterator[str]:
    source, destination, length = struct.unpack_from("!HHH", head)
    yield f"SPT={source}"
    yield f"DPT={destination}"
    yield f"LEN={length}"


def _icmp(head: bytes) -> Iterator[str]:
    """Yield type and code, of a ping its numbers; never the packet that an error quotes: it may be forged."""
    kind = head[0]
    yield f"TYPE={kind}"
    yield f"CODE={head[1]}"
    if kind in _PINGS and len(head) >= 8:
        number, sequence = struct.unpack_from("!HH", head, 4)
        yield f"ID={number}"
        yield f"SEQ={sequence}"


def _esp(head: bytes) -> Iterator[str]:
    yield f"SPI=0x{int.from_bytes(head[:4]):x}"


def _ah(head: bytes) -> Iterator[str]:
    yield f"SPI=0x{int.from_bytes(head[4:8]):x}"


_CARRIED: dict[int, tuple[str, int, Callable[[bytes], Iterator[str]] | None]] = {
    1: ("ICMP", 4, _icmp),
    6: ("TCP", 20, _tcp),
    17: ("UDP", 8, _udp),
    50: ("ESP", 4, _esp),
    51: ("AH", 12, _ah),
    58: ("ICMPv6", 4, _icmp),
    136: ("UDPLITE", 8, _udp),
}


def _spell(address: bytes) -> str:
    """Return an IPv6 address as the kernel's packet log does: all eight groups of four digits."""
    digits = address.hex()
    return ":".join(digits[start : start + 4] for start in range(0, 32, 4))
