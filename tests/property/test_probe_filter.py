"""The programs in the kernel and the parser in Python agree, tried by an interpreter of classic BPF."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from correlator.probe.answers import read_segment
from correlator.probe.kernel_filter import (
    DEVICE_TYPE,
    MOST_RANGES,
    OUTGOING,
    PACKET_TYPE,
    PROTOCOL,
    build_answer_filter,
    build_filter,
)
from correlator.probe.packets import MAX_EXTENSIONS, Packet, parse_packet, state_length
from correlator.probe.techniques import ACK, RST, SYN, name_technique

LOWEST, HIGHEST = 1, 1024
PROGRAMS = {version: build_filter(version, ((LOWEST, HIGHEST),), ((LOWEST, HIGHEST),)) for version in (4, 6)}


def run_filter(
    program: bytes, data: bytes, *, packet_type: int = 0, device_type: int = 1, ethertype: int = 0
) -> int:
    """Return what classic BPF would: how many bytes to keep, 0 to drop (out-of-range loads included)."""
    code = list(struct.iter_unpack("=HBBI", program))
    ancillary = {PACKET_TYPE: packet_type, DEVICE_TYPE: device_type, PROTOCOL: ethertype}
    a = x = at = 0
    memory = [0] * 16
    while True:
        op, then, otherwise, k = code[at]
        at += 1
        match op:
            case 0x20 | 0x28 | 0x30 | 0x48 | 0x50:
                if k in ancillary:
                    a = ancillary[k]
                    continue
                size = {0x20: 4, 0x28: 2, 0x30: 1, 0x48: 2, 0x50: 1}[op]
                start = k + x if op in (0x48, 0x50) else k
                if start + size > len(data):
                    return 0
                a = int.from_bytes(data[start : start + size], "big")
            case 0x80:
                a = len(data)
            case 0xB1:
                if k >= len(data):
                    return 0
                x = (data[k] & 15) * 4
            case 0x01:
                x = k
            case 0x07:
                x = a
            case 0x87:
                a = x
            case 0x02:
                memory[k] = a
            case 0x60:
                a = memory[k]
            case 0x04 | 0x54:
                a = (a + k) & 0xFFFFFFFF if op == 0x04 else a & k
            case 0x0C:
                a = (a + x) & 0xFFFFFFFF
            case 0x64:
                a = (a << k) & 0xFFFFFFFF
            case 0x05:
                at += k
            case 0x15 | 0x25 | 0x35 | 0x3D | 0x45:
                holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x3D: a >= x, 0x45: a & k}[op]
                at += then if holds else otherwise
            case 0x06:
                return k
            case _:
                raise AssertionError(f"no such instruction: {op:#x}")


def is_probe(packet: Packet | None, data: bytes) -> bool:
    """True for what the probe would report on a watched port."""
    return (
        packet is not None
        and len(data) >= state_length(data)
        and LOWEST <= packet.destination_port <= HIGHEST
        and (packet.protocol == 17 or name_technique(packet.flags) is not None)
    )


ports = st.sampled_from([0, 1, 22, 1024, 1025, 65535])
tcp = st.builds(
    lambda port, offset, flags: struct.pack("!HHIIBBHHH", 4444, port, 1, 0, offset << 4, flags, 0, 0, 0),
    ports,
    st.sampled_from([0, 4, 5, 5, 5, 6, 15]),
    st.integers(0, 255),
)
udp = st.builds(lambda port: struct.pack("!HHHH", 4444, port, 8, 0), ports)


@st.composite
def ipv4(draw: st.DrawFn) -> bytes:
    """A mostly sane IPv4 packet: options, fragments, lengths that lie, cut anywhere."""
    protocol, transport = draw(st.one_of(st.tuples(st.just(6), tcp), st.tuples(st.just(17), udp)))
    protocol = draw(st.sampled_from([protocol, protocol, protocol, 1]))
    words = draw(st.sampled_from([5, 5, 5, 6, 15, 0, 4]))
    options = bytes(max(0, words - 5) * 4)
    total = 20 + len(options) + len(transport) + draw(st.sampled_from([0, 0, 0, -1, 7]))
    fragment = draw(st.sampled_from([0, 0, 0x4000, 0x2000, 1, 0x1FFF]))
    header = struct.pack("!BBHHHBBH8s", 0x40 | words, 0, total, 1, fragment, 64, protocol, 0, bytes(8))
    packet = header + options + transport + draw(st.sampled_from([b"", bytes(26)]))
    return packet[: draw(st.sampled_from([len(packet), len(packet), draw(st.integers(0, len(packet)))]))]


@st.composite
def ipv6(draw: st.DrawFn) -> bytes:
    """A mostly sane IPv6 packet with up to ten extension headers, cut anywhere."""
    following, body = draw(st.one_of(st.tuples(st.just(6), tcp), st.tuples(st.just(17), udp)))
    for kind in draw(st.lists(st.sampled_from([0, 43, 44, 51, 60, 60, 60]), max_size=MAX_EXTENSIONS + 2)):
        length = draw(st.integers(0, 2))
        if kind == 44:
            offset = draw(st.sampled_from([0, 0, 0, 1, 7, 8]))
            extension = struct.pack("!BBHI", following, length, offset, 7)
        elif kind == 51:
            extension = bytes([following, length]) + bytes((length + 2) * 4 - 2)
        else:
            extension = bytes([following, length]) + bytes((length + 1) * 8 - 2)
        following, body = kind, extension + body
    header = struct.pack("!IHBB32s", 6 << 28, len(body), following, 64, bytes(32))
    packet = header + body
    return packet[: draw(st.sampled_from([len(packet), len(packet), draw(st.integers(0, len(packet)))]))]


packets = st.one_of(
    st.tuples(st.just(4), ipv4()),
    st.tuples(st.just(6), ipv6()),
    st.tuples(st.sampled_from([4, 6]), st.binary(max_size=120)),
)


@given(packets)
@example((6, b""))
def test_the_filter_passes_whatever_would_be_reported(given_packet: tuple[int, bytes]) -> None:
    """It may pass too much, never too little; and what it passes, the parser gets whole."""
    version, data = given_packet
    packet = parse_packet(version, data, len(data))
    kept = run_filter(PROGRAMS[version], data)
    if is_probe(packet, data):
        assert kept > 0
        assert packet == parse_packet(version, data, min(len(data), kept))


@given(packets)
def test_nothing_else_that_can_be_read_passes(given_packet: tuple[int, bytes]) -> None:
    """Established traffic costs Python nothing; nor do unwatched ports, nor packets that were cut short."""
    version, data = given_packet
    packet = parse_packet(version, data, len(data))
    if packet is not None and not is_probe(packet, data):
        assert run_filter(PROGRAMS[version], data) == 0


@given(packets, st.integers(1, 7), st.sampled_from([1, 772]))
def test_only_packets_for_this_host_pass_and_none_of_loopback(
    given_packet: tuple[int, bytes], packet_type: int, device_type: int
) -> None:
    """Broadcast, multicast, other hosts' and our own packets, and whatever moves on loopback."""
    version, data = given_packet
    assert run_filter(PROGRAMS[version], data, packet_type=packet_type, device_type=device_type) == 0
    assert run_filter(PROGRAMS[version], data, device_type=772) == 0


@given(packets, st.sampled_from([0, 1, 2, 3, OUTGOING]), st.sampled_from([1, 772]))
def test_of_our_answers_only_what_tells_something_passes(
    given_packet: tuple[int, bytes], packet_type: int, device_type: int
) -> None:
    """Our RST and SYN from a watched port, the first without ACK, others' SYN with ACK to one; no more."""
    version, data = given_packet
    kept = run_filter(
        build_answer_filter(((LOWEST, HIGHEST),)),
        data,
        packet_type=packet_type,
        device_type=device_type,
        ethertype={4: 0x0800, 6: 0x86DD}[version],
    )
    segment = read_segment(data, len(data))
    if segment is None or parse_packet(version, data, len(data)) is None:  # cut short, or a later fragment
        return
    is_telling = (
        packet_type == OUTGOING
        and segment.flags & (ACK | RST | SYN) in (RST, SYN, RST | SYN, SYN | ACK)
        and LOWEST <= segment.source_port <= HIGHEST
    ) or (
        packet_type == 0
        and segment.flags & (SYN | ACK) == SYN | ACK
        and LOWEST <= segment.destination_port <= HIGHEST
    )
    assert (kept > 0) == (is_telling and device_type != 772)
    if kept:
        assert segment == read_segment(data, min(len(data), kept))


def test_many_ranges_are_each_let_through_and_nothing_between() -> None:
    """As many as one check compares, in both protocols and versions: every jump fits its byte."""
    ranges = tuple((100 * index, 100 * index + index % 3) for index in range(1, MOST_RANGES + 1))
    watched = {port for lowest, highest in ranges for port in range(lowest, highest + 1)}
    tried = sorted({0, 65535, *(port + step for pair in ranges for port in pair for step in (-1, 0, 1))})
    tcp_header, udp_header = struct.Struct("!HHIIBBHHH"), struct.Struct("!HHHH")
    for version in (4, 6):
        program = build_filter(version, ranges, ranges)
        for protocol in (6, 17):
            found = set()
            for port in tried:
                body = (
                    tcp_header.pack(4444, port, 1, 0, 0x50, 2, 0, 0, 0)
                    if protocol == 6
                    else udp_header.pack(4444, port, 8, 0)
                )
                head = (
                    struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, bytes(8))
                    if version == 4
                    else struct.pack("!IHBB32s", 6 << 28, len(body), protocol, 64, bytes(32))
                )
                if run_filter(program, head + body):
                    found.add(port)
            assert watched == found
    assert len(build_answer_filter(ranges)) // 8 < 300


@given(st.sampled_from([4, 6]), st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_make_the_parser_raise(version: int, data: bytes, size: int) -> None:
    """A packet or None, also where the buffer holds less or more than the packet."""
    found = parse_packet(version, bytearray(data.ljust(size, b"\xff")), size)
    assert found is None or isinstance(found, Packet)


@pytest.mark.parametrize("version", [4, 6])
def test_the_filter_of_one_protocol_drops_the_other(version: int) -> None:
    """An unwatched protocol never wakes the probe."""
    body = {
        6: struct.pack("!HHIIBBHHH", 4444, 22, 1, 0, 0x50, 2, 0, 0, 0),
        17: struct.pack("!HHHH", 4444, 22, 8, 0),
    }
    expected, found = [], []
    for watched, tcp_ports, udp_ports in ((6, ((1, 99),), ()), (17, (), ((1, 99),))):
        program = build_filter(version, tcp_ports, udp_ports)
        for protocol, transport in body.items():
            if version == 4:
                total = 20 + len(transport)
                header = struct.pack("!BBHHHBBH8s", 0x45, 0, total, 1, 0, 64, protocol, 0, bytes(8))
            else:
                header = struct.pack("!IHBB32s", 6 << 28, len(transport), protocol, 64, bytes(32))
            expected.append(protocol == watched)
            found.append(run_filter(program, header + transport) > 0)
    assert expected == found
