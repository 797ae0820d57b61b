"""Packets of every kind that a packet log can tell of, and what the filters should make of each."""

import ipaddress
import itertools
import struct

from correlator.drill.lab import VICTIM4, VICTIM6
from correlator.drill.packets import Flag, Route, build_ip, build_tcp, build_udp, checksum

NOTHING = None
_SERIAL = itertools.count(1)
_ICMP, _ICMP6, _HOP_BY_HOP, _FRAGMENT, _ROUTING, _ESP, _AUTHENTICATION, _NO_NEXT = (
    1,
    58,
    0,
    44,
    43,
    50,
    51,
    59,
)


def make_source(destination):
    """A sender of its own for each packet, so that every line says which packet it is about."""
    base = ipaddress.ip_address("2001:db8:51::" if ":" in destination else "198.51.0.0")
    return str(base + next(_SERIAL))


def icmp(source, kind, code, rest, *, destination=VICTIM4):
    """An ICMP message with a right sum (IPv4), or with none (IPv6: nobody asks before the rules)."""
    message = bytearray(struct.pack("!BBH", kind, code, 0) + rest)
    protocol = _ICMP6 if ":" in destination else _ICMP
    if protocol == _ICMP:
        message[2:4] = checksum(message).to_bytes(2, "big")
    return build_ip(source, destination, protocol, bytes(message))


def tcp(source, flags, port=79, source_port=40_000, *, destination=VICTIM4, options=b""):
    """A TCP segment."""
    return build_tcp(Route(source, source_port, destination, port), flags, options=options)


def udp(source, port, source_port=40_000, *, destination=VICTIM4):
    """A datagram."""
    return build_udp(Route(source, source_port, destination, port), b"x")


def with_fragment_field(packet, field):
    """The packet with these flags and this offset."""
    packet = bytearray(packet)
    packet[6:8], packet[10:12] = field.to_bytes(2, "big"), b"\0\0"
    packet[10:12] = checksum(packet[:20]).to_bytes(2, "big")
    return bytes(packet)


def with_ip_options(packet):
    """The packet with a router alert."""
    header = bytearray(packet[:20]) + b"\x94\x04\x00\x00"  # router alert
    header[0], header[2:4], header[10:12] = 0x46, (len(packet) + 4).to_bytes(2, "big"), b"\0\0"
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header) + packet[20:]


def extended(source, *headers):
    """An IPv6 packet with a SYN behind headers: (number, what stands behind the number of the next)."""
    payload, following = tcp(source, Flag.SYN, destination=VICTIM6)[40:], 6
    for number, rest in reversed(headers):
        payload, following = bytes([following]) + rest + payload, number
    return build_ip(source, VICTIM6, following, payload)


QUOTED = build_tcp(Route("203.0.113.9", 1, "203.0.113.10", 79))
"""What an ICMP error quotes: the packet of somebody who never sent one."""
QUOTED6 = build_tcp(Route("2001:db8:99::9", 1, "2001:db8:99::10", 79))

PACKETS = {
    "syn": (VICTIM4, lambda s: tcp(s, Flag.SYN), ("syn", 79, "TCP")),
    "syn with ecn": (VICTIM4, lambda s: tcp(s, Flag.SYN | Flag.ECE | Flag.CWR), ("syn", 79, "TCP")),
    "syn with options": (
        VICTIM4,
        lambda s: tcp(s, Flag.SYN, options=b"\2\4\5\xb4\3\3\7\1"),
        ("syn", 79, "TCP"),
    ),
    "syn with IP options": (VICTIM4, lambda s: with_ip_options(tcp(s, Flag.SYN)), ("syn", 79, "TCP")),
    "first fragment": (
        VICTIM4,
        lambda s: with_fragment_field(tcp(s, Flag.SYN), 0x2000),
        ("syn", 79, "TCP"),
    ),
    "not to be fragmented": (
        VICTIM4,
        lambda s: with_fragment_field(tcp(s, Flag.SYN), 0x4000),
        ("syn", 79, "TCP"),
    ),
    "syn 6": (VICTIM6, lambda s: tcp(s, Flag.SYN, destination=VICTIM6), ("syn", 79, "TCP")),
    "hop by hop": (VICTIM6, lambda s: extended(s, (_HOP_BY_HOP, b"\0\1\4\0\0\0\0")), ("syn", 79, "TCP")),
    "routing": (VICTIM6, lambda s: extended(s, (_ROUTING, b"\0\0\0\0\0\0\0")), ("syn", 79, "TCP")),
    "first fragment 6": (
        VICTIM6,
        lambda s: extended(s, (_FRAGMENT, b"\0\0\1\0\1\x23\x45")),
        ("syn", 79, "TCP"),
    ),
    "authenticated": (
        VICTIM6,
        lambda s: extended(s, (_AUTHENTICATION, b"\4" + bytes(22))),
        ("syn", 79, "TCP"),
    ),
    "null": (VICTIM4, lambda s: tcp(s, Flag.NONE), ("null", 79, "TCP")),
    "fin": (VICTIM4, lambda s: tcp(s, Flag.FIN), ("fin", 79, "TCP")),
    "xmas": (VICTIM4, lambda s: tcp(s, Flag.XMAS), ("xmas", 79, "TCP")),
    "xmas 6": (VICTIM6, lambda s: tcp(s, Flag.XMAS, destination=VICTIM6), ("xmas", 79, "TCP")),
    "syn fin": (VICTIM4, lambda s: tcp(s, Flag.SYN | Flag.FIN), ("odd-flags", 79, "TCP")),
    "all flags": (VICTIM4, lambda s: tcp(s, 0xFF), ("odd-flags", 79, "TCP")),
    "urg": (VICTIM4, lambda s: tcp(s, Flag.URG), ("odd-flags", 79, "TCP")),
    "udp": (VICTIM4, lambda s: udp(s, 161), ("udp", 161, "UDP")),
    "udp 6": (VICTIM6, lambda s: udp(s, 161, destination=VICTIM6), ("udp", 161, "UDP")),
    "name server asked by another": (VICTIM4, lambda s: udp(s, 53, 53), ("udp", 53, "UDP")),
    "udplite": (VICTIM4, lambda s: build_ip(s, VICTIM4, 136, b"\0\1\0\2\0\x08\0\0"), ("udp", 2, "UDPLITE")),
    "ping": (VICTIM4, lambda s: icmp(s, 8, 0, b"\0\1\0\2"), ("icmp", None, "ICMP")),
    "time": (VICTIM4, lambda s: icmp(s, 13, 0, bytes(16)), ("icmp", None, "ICMP")),
    "ping 6": (
        VICTIM6,
        lambda s: icmp(s, 128, 0, b"\0\1\0\2", destination=VICTIM6),
        ("icmp", None, "ICMPv6"),
    ),
    "gre": (VICTIM4, lambda s: build_ip(s, VICTIM4, 47, bytes(8)), ("protocol", None, "47")),
    "esp": (VICTIM4, lambda s: build_ip(s, VICTIM4, _ESP, b"\0\0\0\1" * 4), ("protocol", None, "ESP")),
    "ah": (
        VICTIM4,
        lambda s: build_ip(s, VICTIM4, _AUTHENTICATION, b"\6\4\0\0\0\0\0\1" * 4),
        ("protocol", None, "AH"),
    ),
    "no next header": (VICTIM6, lambda s: build_ip(s, VICTIM6, _NO_NEXT, b""), ("protocol", None, "59")),
    "cut short": (VICTIM4, lambda s: build_ip(s, VICTIM4, 6, b"\0\1\0\2abcd"), ("truncated", None, "TCP")),
    "datagram cut short": (
        VICTIM4,
        lambda s: build_ip(s, VICTIM4, 17, b"\0\1\0\2"),
        ("truncated", None, "UDP"),
    ),
    # What is read and does not count.
    "answer": (VICTIM4, lambda s: tcp(s, Flag.SYN | Flag.ACK, 40_000, 80), NOTHING),
    "late": (VICTIM4, lambda s: tcp(s, Flag.ACK | Flag.PSH, 40_000, 443), NOTHING),
    "late end": (VICTIM4, lambda s: tcp(s, Flag.ACK | Flag.FIN, 40_000, 443), NOTHING),
    "reset": (VICTIM6, lambda s: tcp(s, Flag.RST, 40_000, 443, destination=VICTIM6), NOTHING),
    "reset with ack": (VICTIM4, lambda s: tcp(s, Flag.RST | Flag.ACK, 40_000, 443), NOTHING),
    "name server": (VICTIM4, lambda s: udp(s, 40_000, 53), NOTHING),
    "mdns": (VICTIM6, lambda s: udp(s, 5353, 5353, destination=VICTIM6), NOTHING),
    "pong": (VICTIM4, lambda s: icmp(s, 0, 0, b"\0\1\0\2"), NOTHING),
    "unreachable": (VICTIM4, lambda s: icmp(s, 3, 3, bytes(4) + QUOTED), NOTHING),
    "fragmentation needed": (VICTIM4, lambda s: icmp(s, 3, 4, b"\0\0\5\xdc" + QUOTED), NOTHING),
    "redirect": (VICTIM4, lambda s: icmp(s, 5, 1, bytes([203, 0, 113, 77]) + QUOTED), NOTHING),
    "parameter problem": (VICTIM4, lambda s: icmp(s, 12, 0, b"\1\0\0\0" + QUOTED), NOTHING),
    "quotes too little": (VICTIM4, lambda s: icmp(s, 3, 3, bytes(4) + QUOTED[:10]), NOTHING),
    "unreachable 6": (
        VICTIM6,
        lambda s: icmp(s, 1, 4, bytes(4) + QUOTED6, destination=VICTIM6),
        NOTHING,
    ),
    "too big 6": (
        VICTIM6,
        lambda s: icmp(s, 2, 0, b"\0\0\5\0" + QUOTED6, destination=VICTIM6),
        NOTHING,
    ),
    "parameter problem 6": (
        VICTIM6,
        lambda s: icmp(s, 4, 0, b"\0\0\0\4" + QUOTED6, destination=VICTIM6),
        NOTHING,
    ),
    "neighbour": (VICTIM6, lambda s: icmp(s, 136, 0, bytes(20), destination=VICTIM6), NOTHING),
    "later fragment": (VICTIM4, lambda s: with_fragment_field(tcp(s, Flag.SYN), 0x2020), NOTHING),
    "later fragment 6": (VICTIM6, lambda s: extended(s, (_FRAGMENT, b"\0\0\x28\0\1\x23\x45")), NOTHING),
    "esp 6": (VICTIM6, lambda s: build_ip(s, VICTIM6, _ESP, b"\0\0\0\1" * 4), NOTHING),
}
