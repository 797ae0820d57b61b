"""What is reported and what is not, with a stand-in for the kernel's answer."""

import socket
from typing import Any

import pytest

from correlator.drill.packets import Route, build_tcp
from correlator.model import SECOND
from correlator.probe.kernel_filter import PortRanges
from correlator.probe.packets import TCP, UDP, Packet, parse_packet
from correlator.probe.sockets import Taker
from correlator.probe.watch import Watch
from correlator.settings import ProbeSettings

SETTINGS = ProbeSettings(tcp_ports=((1, 1024),), udp_ports=((1, 512),), lines_a_second=1000)
SYN = 0x02


class Kernel:
    """Answers who would take a packet as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer = Taker.NOBODY
        self.asked: list[tuple[int, str]] = []

    def find_taker(self, packet: Packet, device: str) -> Taker:
        """Answer, and remember the port and the device."""
        self.asked.append((packet.destination_port, device))
        return self.answer


@pytest.fixture
def kernel() -> Kernel:
    """A kernel without sockets."""
    return Kernel()


@pytest.fixture
def watch(kernel: Kernel) -> Watch:
    """A watch over 192.0.2.1 and 2001:db8::1."""
    return make_watch(kernel, SETTINGS)


def make_watch(kernel: Kernel, settings: ProbeSettings) -> Watch:
    """A watch with our two own addresses."""
    made = Watch(settings, kernel.find_taker)
    made.own_addresses = frozenset({pack("192.0.2.1"), pack("2001:db8::1"), pack("127.0.0.1"), pack("::1")})
    return made


def pack(text: str) -> bytes:
    """The packed address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def probe(
    port: int = 22,
    *,
    source: str = "192.0.2.2",
    to: str = "192.0.2.1",
    protocol: int = TCP,
    flags: int = SYN,
    options: bool = False,
) -> Packet:
    """A packet that would be reported as it stands."""
    return Packet(pack(source), pack(to), protocol, port, 4444, flags, options)


def test_lines_are_portsentrys(watch: Watch, kernel: Kernel) -> None:
    """NULL with its two spaces, UDP, IPv6 in canonical text; the device is passed on to the kernel."""
    assert watch.judge(probe(flags=0), "eth0", 0, b"") == (
        "attackalert:  TCP NULL scan from host: 192.0.2.2/192.0.2.2 to TCP port: 22",
    )
    assert watch.judge(probe(53, protocol=UDP, flags=0), "eth1", 0, b"") == (
        "attackalert: UDP scan from host: 192.0.2.2/192.0.2.2 to UDP port: 53",
    )
    assert watch.judge(probe(1, source="2001:db8:0:0::2", to="2001:db8::1"), "eth0", 0, b"") == (
        "attackalert: TCP SYN/Normal scan from host: 2001:db8::2/2001:db8::2 to TCP port: 1",
    )
    assert kernel.asked == [(22, "eth0"), (53, "eth1"), (1, "eth0")]
    assert watch.counters.reported == 3


def test_options_have_a_line_of_their_own(watch: Watch) -> None:
    """After the probe's line, as PortSentry writes it."""
    second = (
        "attackalert: Packet from host: 192.0.2.2/192.0.2.2 to TCP port: 22"
        " has IP options set (detection avoidance technique)."
    )
    first = "attackalert: TCP SYN/Normal scan from host: 192.0.2.2/192.0.2.2 to TCP port: 22"
    assert watch.judge(probe(options=True), "eth0", 0, b"") == (first, second)


@pytest.mark.parametrize(
    "packet",
    [
        probe(0),
        probe(1025),
        probe(113),
        probe(600, protocol=UDP),
        probe(to="192.0.2.99"),
        probe(source="192.0.2.1"),
        probe(source="127.0.0.1"),
        probe(source="127.9.9.9"),
        probe(source="0.0.0.0"),
        probe(source="224.0.0.1"),
        probe(source="255.255.255.255"),
        probe(source="::1", to="2001:db8::1"),
        probe(source="::", to="2001:db8::1"),
        probe(source="ff02::1", to="2001:db8::1"),
        probe(source="::ffff:203.0.113.5", to="2001:db8::1"),
        probe(flags=0x12),
        probe(flags=0x04),
        None,
    ],
)
def test_no_line_and_no_question(watch: Watch, kernel: Kernel, packet: Packet | None) -> None:
    """Unwatched, excluded, not to us, from us or from nobody, no probe: cheap, and counted."""
    assert watch.judge(packet, "eth0", 0, b"") == ()
    assert kernel.asked == []
    counters = watch.counters
    assert (counters.packets, counters.unwatched + counters.own + counters.unreadable) == (1, 1)


def test_a_service_that_just_opened_is_remembered(watch: Watch, kernel: Kernel) -> None:
    """The kernel knows it before our table does; then its port is quiet for the linger, unasked."""
    kernel.answer = Taker.SERVICE
    assert watch.judge(probe(), "eth0", 0, b"") == ()
    kernel.answer = Taker.NOBODY
    assert watch.judge(probe(), "eth0", 0, b"") == ()
    assert kernel.asked == [(22, "eth0")]
    watch.in_use[TCP].forget(SETTINGS.linger)
    assert len(watch.judge(probe(), "eth0", SETTINGS.linger, b"")) == 1
    assert watch.counters.in_use == 2


def test_a_connection_does_not_blind_its_port(watch: Watch, kernel: Kernel) -> None:
    """One that we opened ourselves takes its peer's packets; a stranger's to that port is a probe."""
    kernel.answer = Taker.PEER
    assert watch.judge(probe(), "eth0", 0, b"") == ()
    kernel.answer = Taker.NOBODY
    assert len(watch.judge(probe(), "eth0", 0, b"")) == 1


def test_a_flood_asks_the_kernel_no_more_than_it_writes(kernel: Kernel) -> None:
    """Both are bounded by the lines a second, and the rest is counted."""
    watch = make_watch(kernel, ProbeSettings(lines_a_second=10, compat=True))
    lines = [watch.judge(probe(1 + number % 100), "eth0", number, b"") for number in range(1000)]
    assert sum(map(len, lines)) == len(kernel.asked) == 10
    assert watch.counters.left_out == 990
    assert watch.limit.take_left_out(10 + SECOND) == 990


def test_one_host_that_floods_hides_no_other_scan(kernel: Kernel) -> None:
    """However fast it sends, blocked as it may be: our socket stands before the firewall's drops."""
    watch = make_watch(kernel, ProbeSettings(lines_a_second=100))
    other = build_tcp(Route("192.0.2.3", 4444, "192.0.2.1", 79))
    scan = parse_packet(4, other, len(other))
    found = 0
    for number in range(10_000):
        watch.judge(probe(1 + number % 100), "eth0", number, b"")
        if number % 5000 == 4999:
            found += len(watch.judge(scan, "eth0", number, other))
    assert found == 2
    assert watch.counters.reported == 75 + 2


def test_a_flood_of_options_is_bounded_too(kernel: Kernel) -> None:
    """Two lines a packet must not be twice the limit."""
    watch = make_watch(kernel, ProbeSettings(lines_a_second=11, compat=True))
    lines = [watch.judge(probe(options=True), "eth0", number, b"") for number in range(1000)]
    assert sum(map(len, lines)) == 11


@pytest.mark.parametrize("damage", [16, 17, 6])
def test_a_wrong_checksum_is_counted_and_proves_nothing(kernel: Kernel, damage: int) -> None:
    """However many come, they take no other line's place; the kernel can vouch for the transport's sum."""
    watch = make_watch(kernel, ProbeSettings(lines_a_second=2))
    data = bytearray(build_tcp(Route("192.0.2.2", 4444, "192.0.2.1", 22)))
    good = parse_packet(4, data, len(data))
    data[damage if damage < 10 else 20 + damage] ^= 0x01  # the identity in the IP header, or the checksum
    for number in range(100):
        assert watch.judge(good, "eth0", number, data) == ()
    assert (watch.counters.bad_checksums, watch.counters.left_out, kernel.asked) == (100, 0, [])
    assert len(watch.judge(good, "eth0", 100, data, is_verified=True)) == (damage > 10)
    assert len(watch.judge(probe(), "eth0", 100, b"")) == 1


def test_ignored_hosts_leave_no_trace_but_a_count(kernel: Kernel) -> None:
    """In each way of being seen; nor do they take another's place among the second's lines."""
    watch = Watch(ProbeSettings(lines_a_second=1), kernel.find_taker, lambda source: source[-1] == 2)
    watch.own_addresses = frozenset({pack("192.0.2.1")})
    ours, friend = pack("192.0.2.1"), pack("192.0.2.2")
    for number in range(3):
        assert watch.judge(probe(), "eth0", number, b"") == ()
        assert watch.judge_connect(UDP, 69, friend, ours, number) == ()
        assert watch.judge_answered(probe(flags=0), "eth0", number) == ()
    assert (watch.counters.ignored, watch.counters.reported, watch.counters.left_out) == (9, 0, 0)
    assert len(watch.judge(probe(source="192.0.2.3"), "eth0", 3, b"")) == 1


def test_hits_below_the_trigger_are_counted_and_take_nobodys_place(kernel: Kernel) -> None:
    """A ring for each of PortSentry's processes: TCP and UDP, opened ports and watched ones."""
    watch = make_watch(kernel, ProbeSettings(lines_a_second=1, scan_trigger=2))
    source, ours = pack("192.0.2.2"), pack("192.0.2.1")
    assert watch.judge(probe(), "eth0", 0, b"") == ()
    assert watch.judge(probe(53, protocol=UDP, flags=0), "eth0", 0, b"") == ()
    assert watch.judge_connect(TCP, 79, source, None, 0) == ()
    assert watch.judge_connect(UDP, 69, source, ours, 0) == ()
    assert (watch.counters.below_trigger, watch.counters.reported) == (4, 0)
    assert len(watch.judge_answered(probe(flags=0), "eth0", 0)) == 1
    assert watch.judge(probe(), "eth0", 0, b"") == ()
    assert (watch.counters.left_out, watch.counters.reported) == (1, 1)


def test_what_a_service_takes_is_no_hit(kernel: Kernel) -> None:
    """Nor what is ignored, or thrown away: PortSentry never gets to count it."""
    watch = Watch(ProbeSettings(scan_trigger=2), kernel.find_taker, lambda source: source[-1] == 3)
    watch.own_addresses = frozenset({pack("192.0.2.1")})
    kernel.answer = Taker.PEER
    assert watch.judge(probe(), "eth0", 0, b"") == ()
    kernel.answer = Taker.NOBODY
    assert watch.judge(probe(source="192.0.2.3"), "eth0", 0, b"") == ()
    assert [len(watch.judge(probe(), "eth0", 0, b"")) for _ in range(3)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("options", "in_use", "expected"),
    [
        ({"exclude_tcp": ()}, (), ((0, 65535),)),
        ({"exclude_tcp": ()}, (2000,), ((0, 65535),)),
        ({"exclude_tcp": ()}, (1023,), ((0, 1023),)),
        ({"exclude_tcp": (2000,)}, (), ((0, 1023),)),
        ({"exclude_tcp": (), "modes": ("stcp",), "tcp_list": (7,)}, (), ((7, 7),)),
    ],
)
def test_without_a_port_to_leave_out_all_are_watched(
    kernel: Kernel, options: dict[str, Any], in_use: tuple[int, ...], expected: PortRanges
) -> None:
    """What an empty list means to PortSentry; one port in use or excluded, and its limit holds."""
    watch = make_watch(kernel, ProbeSettings(tcp_ports=((0, 1023),), **options))
    watch.watch_without_a_list({TCP: in_use, UDP: ()})
    assert watch.watched_ranges(TCP) == expected
