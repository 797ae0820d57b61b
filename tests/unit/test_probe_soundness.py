"""A packet that our kernel would throw away unanswered is told from one that a service could get."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_LSRR, IPOption_NOP, IPOption_RR, IPOption_SSRR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Raw

from correlator.drill.packets import Route, build_tcp, build_udp
from correlator.probe.packets import parse_packet
from correlator.probe.soundness import Flaw, find_flaw, is_unfinished

FOUR = {"src": "192.0.2.2", "dst": "192.0.2.1"}
SIX = {"src": "2001:db8::2", "dst": "2001:db8::1"}
ROUTES = {4: Route(FOUR["src"], 4444, FOUR["dst"], 22), 6: Route(SIX["src"], 4444, SIX["dst"], 22)}
PROTOCOLS = {4: {"proto": 17}, 6: {"nh": 17}}


def judge(packet: Any, *, is_verified: bool = False, padding: bytes = b"") -> Flaw | None:
    """What is wrong with a packet as its bytes say it."""
    data = bytes(packet) + padding
    found = parse_packet(data[0] >> 4, data, len(data))
    assert found is not None
    return find_flaw(found, data, is_verified=is_verified)


def datagram(**fields: Any) -> Any:
    """A UDP datagram; `len` and `chksum` may lie."""
    return UDP(sport=4444, dport=53, **fields) / Raw(b"hello")


@pytest.mark.parametrize("version", [4, 6])
@given(payload=st.binary(max_size=70), place=st.integers(0, 1 << 16), bit=st.integers(0, 7))
def test_every_right_checksum_is_right_and_no_flipped_bit_goes_unseen(
    version: int, payload: bytes, place: int, bit: int
) -> None:
    """Odd and even lengths, TCP and UDP; padding behind the packet is none of it."""
    for whole in (build_tcp(ROUTES[version], payload=payload), build_udp(ROUTES[version], payload)):
        assert judge(whole, padding=b"\xff\x01\x02") is None
        start = 20 if version == 4 else 40
        damaged = bytearray(whole)
        damaged[start + place % (len(whole) - start)] ^= 1 << bit
        found = parse_packet(version, damaged, len(damaged))
        if found is not None and damaged[start + 6 : start + 8] != b"\0\0":
            assert find_flaw(found, damaged) is not None


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (IP(**FOUR) / datagram(), None),
        (IP(**FOUR) / datagram(chksum=0), None),  # "none given"
        (IPv6(**SIX) / datagram(chksum=0), Flaw.CHECKSUM),  # IPv6 insists on one
        (IP(**FOUR) / datagram(chksum=1), Flaw.CHECKSUM),
        (IP(**FOUR) / TCP(dport=22, flags="S", chksum=1), Flaw.CHECKSUM),
        (IP(**FOUR, chksum=1) / TCP(dport=22, flags="S"), Flaw.CHECKSUM),
        (IP(**FOUR, flags="MF") / datagram(chksum=1), None),  # not all of it is there to be summed up
        (IPv6(**SIX) / IPv6ExtHdrFragment(m=1) / datagram(chksum=1), None),
        (IPv6(**SIX) / IPv6ExtHdrFragment() / datagram(), None),
        (IPv6(**SIX) / IPv6ExtHdrDestOpt() / datagram(chksum=1), Flaw.CHECKSUM),
        (IP(**FOUR) / datagram(len=14), Flaw.FORM),  # one byte more than came
        (IP(**FOUR) / datagram(len=7), Flaw.FORM),  # less than its own header
        (IP(**FOUR) / datagram(len=0), Flaw.FORM),
        (IP(**FOUR) / TCP(dport=22, flags="S", dataofs=6), Flaw.FORM),
        (IP(**FOUR, options=[IPOption_RR(pointer=4, routers=["0.0.0.0"] * 3)]) / datagram(), None),
        (IP(**FOUR, options=[IPOption_LSRR(routers=["192.0.2.1"])]) / datagram(), Flaw.FORM),
        (IP(**FOUR, options=[IPOption_NOP(), IPOption_SSRR(routers=["192.0.2.1"])]) / datagram(), Flaw.FORM),
        (IP(**FOUR, options=[Raw(b"\x94\x04\0\0")]) / datagram(), None),  # router alert
        (IP(**FOUR, options=[Raw(b"\x07\0\x07\0")]) / datagram(), None),  # a length of zero never ends
    ],
)
def test_what_no_service_gets(packet: Any, expected: Flaw | None) -> None:
    """Wrong sums and lengths, source routes; what only looks odd is let through."""
    assert judge(packet) is expected


def test_a_datagram_may_be_shorter_than_the_packet_around_it() -> None:
    """Its own length counts, for the sum too."""
    whole = bytes(IPv6(**SIX) / datagram())
    longer = whole[:4] + struct.pack("!H", 15) + whole[6:] + b"??"
    assert judge(longer) is None


def test_an_ipv6_datagram_of_length_zero_goes_to_the_end() -> None:
    """How jumbograms say their length."""
    whole = bytearray(bytes(IPv6(**SIX) / datagram()))
    sum_before = int.from_bytes(whole[46:48], "big")
    whole[44:46] = bytes(2)
    whole[46:48] = (sum_before + 13).to_bytes(2, "big")
    assert judge(bytes(whole)) is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("build", [build_tcp, build_udp])
def test_an_unfinished_checksum_is_known_and_the_kernel_vouches_for_it(version: int, build: Any) -> None:
    """The sum of the pseudo header, as a sender on the same machine leaves it; lengths count even so."""
    whole = bytearray(build(ROUTES[version]))
    found = parse_packet(version, whole, len(whole))
    at = found.start + (16 if found.protocol == 6 else 6)
    assert not is_unfinished(found, whole)
    pseudo = struct.pack("!IHBB", found.end - found.start, 0, 0, found.protocol)
    words = struct.iter_unpack("!H", found.source + found.destination + pseudo)
    total = sum(word for (word,) in words)
    whole[at : at + 2] = (total % 0xFFFF).to_bytes(2, "big")
    assert is_unfinished(found, whole)
    assert find_flaw(found, whole) is Flaw.CHECKSUM
    assert find_flaw(found, whole, is_verified=True) is None
    assert not is_unfinished(found._replace(end=0), whole)
    assert judge(IP(**FOUR) / datagram(len=14), is_verified=True) is Flaw.FORM


@given(st.sampled_from([4, 6]), st.binary(max_size=200))
def test_no_bytes_make_it_raise(version: int, data: bytes) -> None:
    """Whatever the parser takes for a packet."""
    front = bytes([0x45 if version == 4 else 0x60]) + data
    found = parse_packet(version, front, len(front))
    if found is not None:
        assert find_flaw(found, front) in (None, *Flaw)
        assert is_unfinished(found, front) in (True, False)
