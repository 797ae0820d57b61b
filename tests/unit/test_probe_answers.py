"""A RST without ACK that our kernel sends is an ACK scan, unless something else explains it."""

import socket
from collections.abc import Iterable
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from correlator.model import SECOND, Micros
from correlator.probe.answers import Answers, Segment, read_segment
from correlator.probe.packets import Packet
from correlator.probe.techniques import ACK, RST, SYN

US, THEM = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")


class Judge:
    """Keeps what it was asked to judge, and reports each."""

    def __init__(self) -> None:
        self.asked: list[Packet] = []
        self.clients: list[int] = []
        self.served: list[Packet] = []

    def judge(self, packet: Packet, _device: str, _now: Micros) -> tuple[str, ...]:
        """Report everything."""
        self.asked.append(packet)
        return ("reported",)

    def note_served(self, packet: Packet, _device: str, _now: Micros) -> None:
        """Remember the packet."""
        self.served.append(packet)

    def note_clients(self, ports: Iterable[int]) -> None:
        """Remember the ports."""
        self.clients += ports


@pytest.fixture
def judge() -> Judge:
    """A judge who reports everything."""
    return Judge()


@pytest.fixture
def answers(judge: Judge) -> Answers:
    """A fresh memory of answers."""
    return Answers(judge.judge, judge.note_clients, judge.note_served)


def reset(number: int = 7, port: int = 80, peer: int = 40_000) -> Segment:
    """What our kernel says to an ACK that acknowledged `number`."""
    return Segment(US, THEM, port, peer, number, 0, RST)


def syn_ack(number: int = 7, port: int = 80, peer: int = 40_000) -> Segment:
    """What a server says to a SYN that somebody sent in our name."""
    return Segment(THEM, US, peer, port, 1, number, SYN | ACK)


def test_a_reset_is_judged_as_the_segment_that_it_answers(answers: Answers, judge: Judge) -> None:
    """From the peer, to our port."""
    assert answers.judge(reset(), "eth0", 0, is_ours=True) == ("reported",)
    assert judge.asked == [Packet(THEM, US, 6, 80, 40_000, 0, has_ip_options=False)]


def test_the_same_reset_on_a_second_device_is_the_same(answers: Answers, judge: Judge) -> None:
    """A later one is not, nor one with another number."""
    times = [(7, 0), (7, 1), (8, 2), (7, SECOND)]
    found = [len(answers.judge(reset(number), "eth0", now, is_ours=True)) for number, now in times]
    assert (found, len(judge.asked)) == ([1, 0, 1, 1], 3)


def test_an_answer_to_a_forged_syn_explains_one_reset(answers: Answers) -> None:
    """Of that number, port and peer, for a second; no other."""
    answers.judge(syn_ack(), "eth0", 0, is_ours=False)
    others = [reset(8), reset(port=81), reset(peer=40_001)]
    assert answers.judge(reset(), "eth0", 1, is_ours=True) == ()
    assert [len(answers.judge(other, "eth0", 1, is_ours=True)) for other in others] == [1, 1, 1]
    answers.judge(syn_ack(), "eth0", 0, is_ours=False)
    assert answers.judge(reset(), "eth0", SECOND, is_ours=True) == ("reported",)


def test_a_syn_of_ours_marks_its_port(answers: Answers, judge: Judge) -> None:
    """Whatever the server says after our client is gone is no scan."""
    answers.judge(Segment(US, THEM, 700, 2049, 1, 0, SYN), "eth0", 0, is_ours=True)
    assert (judge.clients, judge.asked) == ([700], [])


def test_an_answer_of_ours_to_a_syn_tells_of_a_port_that_is_served(answers: Answers, judge: Judge) -> None:
    """By whomever; it is no scan and no client."""
    answers.judge(Segment(US, THEM, 443, 40_000, 1, 8, SYN | ACK), "eth0", 0, is_ours=True)
    assert judge.served == [Packet(THEM, US, 6, 443, 40_000, 0, has_ip_options=False)]
    assert (judge.clients, judge.asked) == ([], [])


def test_a_flood_of_answers_fills_no_memory(answers: Answers) -> None:
    """The oldest leave."""
    for number in range(10_000):
        answers.judge(syn_ack(number), "eth0", 0, is_ours=False)
    assert len(answers._explained) == 4096
    assert answers.judge(reset(9_999), "eth0", 1, is_ours=True) == ()
    assert answers.judge(reset(0), "eth0", 1, is_ours=True) == ("reported",)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=80, dport=9, seq=5, ack=6, flags="R"), True),
        (IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=80, dport=9, seq=5, ack=6, flags="R"), True),
        (IP() / UDP(), False),
        (IPv6() / IPv6ExtHdrDestOpt() / TCP(), False),
    ],
)
def test_segments_are_read_whole_or_not(packet: Any, expected: bool) -> None:
    """Each field; cut short anywhere it is none, and never an error."""
    data = bytes(packet)
    found = read_segment(data, len(data))
    assert expected == (found is not None)
    if found is not None:
        version = socket.AF_INET if data[0] >> 4 == 4 else socket.AF_INET6
        ends = [socket.inet_pton(version, packet[0].src), socket.inet_pton(version, packet[0].dst)]
        assert found == Segment(*ends, 80, 9, 5, 6, RST)
    assert [read_segment(data, size) for size in range(len(data))] == [None] * len(data)
