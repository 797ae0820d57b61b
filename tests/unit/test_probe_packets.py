"""Packets are read as the kernel would deliver them; what cannot be judged is None and never an error."""

import socket
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.packet import Raw

from correlator.probe.packets import MAX_EXTENSIONS, Packet, parse_packet, state_length

FOUR = {"src": "192.0.2.2", "dst": "192.0.2.1"}
SIX = {"src": "2001:db8::2", "dst": "2001:db8::1"}


def parse(packet: Any, *, padding: bytes = b"") -> Packet | None:
    """Parse a scapy packet as its bytes, with `padding` behind it; where its parts lie is left out."""
    data = bytes(packet) + padding
    found = parse_packet(data[0] >> 4, data, len(data))
    return None if found is None else found._replace(start=0, end=0)


def expected(version: int, protocol: int, port: int, flags: int = 0, *, options: bool = False) -> Packet:
    """The packet that a reader must find, from source port 4444."""
    addresses = (
        (socket.inet_aton(FOUR["src"]), socket.inet_aton(FOUR["dst"]))
        if version == 4
        else tuple(socket.inet_pton(socket.AF_INET6, SIX[end]) for end in ("src", "dst"))
    )
    return Packet(addresses[0], addresses[1], protocol, port, 4444, flags, options)


def tcp(port: int = 22, flags: str = "S") -> Any:
    """A TCP segment."""
    return TCP(sport=4444, dport=port, flags=flags)


def udp(port: int = 53) -> Any:
    """A UDP datagram."""
    return UDP(sport=4444, dport=port) / Raw(b"hello")


def test_ipv4_tcp_and_udp() -> None:
    """The plain cases."""
    assert expected(4, 6, 22, 0x02) == parse(IP(**FOUR) / tcp())
    assert expected(4, 17, 53) == parse(IP(**FOUR) / udp())


def test_ipv4_options_move_the_transport_header() -> None:
    """The header length decides where the ports are, and options are reported."""
    options = [IPOption_RR(pointer=4, routers=["0.0.0.0"] * 3), IPOption_NOP()]
    assert expected(4, 6, 22, 0x29, options=True) == parse(IP(**FOUR, options=options) / tcp(flags="FPU"))
    assert expected(4, 17, 53, options=True) == parse(IP(**FOUR, options=options) / udp())


def test_ipv4_first_fragment_counts_and_later_ones_do_not() -> None:
    """A later fragment has payload where the ports would be."""
    assert expected(4, 6, 22, 0x02) == parse(IP(**FOUR, flags="MF") / tcp())
    assert parse(IP(**FOUR, frag=1) / tcp()) is None
    assert parse(IP(**FOUR, flags="MF", frag=185, proto=6) / Raw(bytes(tcp()))) is None


def test_a_tiny_first_fragment_cannot_be_judged() -> None:
    """Eight bytes hold the ports and not the flags; the kernel reassembles before us (capture)."""
    assert parse(IP(**FOUR, flags="MF", proto=6) / Raw(bytes(tcp())[:8])) is None


def test_ethernet_padding_is_not_part_of_the_packet() -> None:
    """A four-byte segment and zeros of padding would else look like a NULL scan."""
    short = IP(**FOUR, proto=6) / Raw(bytes(tcp())[:4])
    assert parse(short, padding=bytes(22)) is None
    assert expected(4, 17, 53) == parse(IP(**FOUR) / UDP(sport=4444, dport=53), padding=bytes(18))


def test_a_data_offset_below_five_is_nonsense() -> None:
    """The kernel drops it before any socket sees it."""
    assert parse(IP(**FOUR) / TCP(sport=4444, dport=22, flags="S", dataofs=4)) is None


@pytest.mark.parametrize(
    "between",
    [
        [IPv6ExtHdrHopByHop()],
        [IPv6ExtHdrDestOpt()],
        [IPv6ExtHdrRouting()],
        [IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(), IPv6ExtHdrDestOpt()],
        [IPv6ExtHdrDestOpt()] * MAX_EXTENSIONS,
    ],
)
def test_ipv6_extension_headers_are_walked(between: list[Any]) -> None:
    """Options in front of the transport header hide nothing, and are reported."""
    for transport, found in ((tcp(), (6, 22, 0x02)), (udp(), (17, 53, 0))):
        packet: Any = IPv6(**SIX)
        for header in between:
            packet /= header.copy()
        assert expected(6, *found, options=True) == parse(packet / transport)


def test_ipv6_plain_atomic_fragment_and_authentication() -> None:
    """These carry no options."""
    assert expected(6, 6, 22, 0x02) == parse(IPv6(**SIX) / tcp())
    assert expected(6, 6, 22, 0x02) == parse(IPv6(**SIX) / IPv6ExtHdrFragment() / tcp())
    authentication = AH(nh=6, payloadlen=4, icv=bytes(12))
    assert expected(6, 6, 22, 0x02) == parse(IPv6(**SIX, nh=51) / authentication / Raw(bytes(tcp())))


def test_ipv6_later_fragments_and_endless_headers_are_none() -> None:
    """A chain is followed for eight headers and not for a ninth."""
    assert parse(IPv6(**SIX) / IPv6ExtHdrFragment(offset=1) / tcp()) is None
    packet: Any = IPv6(**SIX)
    for _ in range(MAX_EXTENSIONS + 1):
        packet /= IPv6ExtHdrDestOpt()
    assert parse(packet / tcp()) is None


def test_other_protocols_are_none() -> None:
    """ICMP, and an IPv4 packet that says it is version 6."""
    assert parse(IP(**FOUR) / ICMP()) is None
    assert parse(IPv6(**SIX, nh=59)) is None
    data = bytes(IP(**FOUR) / tcp())
    assert parse_packet(6, data, len(data)) is None


@pytest.mark.parametrize("whole", [IP(**FOUR) / tcp(), IPv6(**SIX) / IPv6ExtHdrHopByHop() / tcp()])
def test_every_truncation_is_none(whole: Any) -> None:
    """Cut short anywhere, a packet is not judged: neither by length of data nor by what lies behind it."""
    data = bytes(whole)
    assert [None] * len(data) == [parse_packet(data[0] >> 4, data, size) for size in range(len(data))]


@pytest.mark.parametrize(
    ("packet", "start", "size"),
    [
        (IP(**FOUR) / udp(), 20, 13),
        (IP(**FOUR, options=[IPOption_RR(pointer=4, routers=["0.0.0.0"] * 3)]) / tcp(), 36, 20),
        (IPv6(**SIX) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment() / udp(), 56, 13),
        (IP(**FOUR, flags="MF") / udp(), 20, None),
        (IPv6(**SIX) / IPv6ExtHdrFragment(m=1) / udp(), 48, None),
    ],
)
def test_where_the_transport_begins_and_ends(packet: Any, start: int, size: int | None) -> None:
    """Without the padding behind it; a first fragment does not show its end, nor does what was cut short."""
    data = bytes(packet) + bytes(9)
    found = parse_packet(data[0] >> 4, data, len(data))
    assert found is not None
    assert (start, 0 if size is None else start + size) == (found.start, found.end)
    assert len(data) - 9 == state_length(data)
    cut = parse_packet(data[0] >> 4, data, len(data) - 10)
    assert cut is None or (cut.start, cut.end) == (start, 0)
