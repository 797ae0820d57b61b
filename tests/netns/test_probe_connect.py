"""Ports that the probe opens: banners, thousands of connections, datagrams that must not feed a loop."""

import contextlib
import os
import re
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from correlator.drill.lab import SCANNER_DEVICE, VICTIM4, VICTIM6, VICTIM_DEVICE, Lab
from correlator.drill.scanner import Scanner
from tests.netns.victim import BOTH, CONNECT, WaitUntil, connect

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("one_address")]


@BOTH
def test_the_banner_is_shown_and_the_connection_closed(
    lab: Lab, start_probe: Callable[..., Any], wait_until: WaitUntil, victim: str, source: str
) -> None:
    """To a client that has sent much, too: a reset would take the banner from it."""
    probe = start_probe('{"modes": ("tcp",), "tcp_list": (79,), "banner": "GO AWAY \\u2026"}')
    with connect(lab, 79, victim) as client:
        client.sendall(b"x" * 1000)
        shown = b"".join(iter(lambda: client.recv(99), b""))
    assert shown.decode() == "GO AWAY \u2026"
    wait_until(lambda: probe.reports() == [CONNECT.format(source, "TCP", 79)])


def test_without_a_banner_nothing_is_sent(lab: Lab, start_probe: Callable[..., Any]) -> None:
    """Accepted and closed, as PortSentry does."""
    start_probe('{"modes": ("tcp",), "tcp_list": (79,)}')
    with connect(lab, 79) as client:
        assert client.recv(99) == b""


def test_thousands_of_held_connections_cost_next_to_nothing(
    lab: Lab, start_probe: Callable[..., Any], wait_until: WaitUntil
) -> None:
    """Three thousand that never close: each reported, the next one served, memory and descriptors bounded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    options = {
        "modes": ("tcp",),
        "tcp_list": (79, 80, 81),
        "banner": "GO AWAY",
        "lines_a_second": 100_000,
        "to_syslog": False,
    }
    probe = start_probe(repr(options))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for number in range(3000):
            stack.enter_context(connect(lab, 79 + number % 3, (VICTIM4, VICTIM6)[number % 2]))
        wait_until(lambda: len(probe.reports()) == 3000)
        with connect(lab, 79) as client:
            assert client.recv(99) == b"GO AWAY"
        assert len(os.listdir(f"/proc/{probe.child.pid}/fd")) < 1100
        status = Path(f"/proc/{probe.child.pid}/status").read_text()
        assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) < 20 * 1024
        wait_until(lambda: len(os.listdir(f"/proc/{probe.child.pid}/fd")) < 30, what="descriptors given back")


def test_too_few_descriptors_slow_it_down_and_no_more(
    lab: Lab, start_probe: Callable[..., Any], wait_until: WaitUntil
) -> None:
    """A hard limit of 40: lingering connections leave early, and all are served."""
    options = '{"modes": ("tcp",), "tcp_list": (79,), "banner": "GO AWAY"}'
    probe = start_probe(options, "prlimit", "--nofile=40:40")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(connect(lab, 79))
            client.settimeout(10)
        assert client.recv(99) in (b"GO AWAY", b"")
        wait_until(lambda: len(probe.reports()) == 100)


@BOTH
def test_a_datagram_is_reported_and_answered_from_its_port(
    lab: Lab, start_probe: Callable[..., Any], wait_until: WaitUntil, victim: str, source: str
) -> None:
    """The banner as one datagram, whatever was sent."""
    probe = start_probe('{"modes": ("udp",), "udp_list": (69,), "banner": "GO AWAY"}')
    with lab.scanner.entered():
        client = socket.socket(socket.AF_INET6 if ":" in victim else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(10)
        for payload in (b"", b"x" * 1400):
            client.sendto(payload, (victim, 69))
            answer, address = client.recvfrom(99)
            assert (answer, address[:2]) == (b"GO AWAY", (victim, 69))
    wait_until(lambda: probe.reports() == [CONNECT.format(source, "UDP", 69)] * 2)


def test_a_datagram_probe_is_no_amplifier_and_feeds_no_loop(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, wait_until: WaitUntil
) -> None:
    """No banner for other services' ports, from nobody's address, to many; and a hundred a second for all."""
    probe = start_probe('{"modes": ("udp",), "udp_list": (69, 5000), "banner": "GO AWAY"}')
    everybody = lab.victim.run("ip", "-4", "-o", "addr", "show", "dev", VICTIM_DEVICE).stdout
    assert "192.0.2.1/24" in everybody
    with lab.scanner.entered():
        listening = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with listening:
        listening.bind((SCANNER_DEVICE, 0x0800))
        listening.settimeout(10)
        for source_port in (7, 53, 69, 1023, 5000):
            scanner.send_udp(69, source_port=source_port)
        scanner.send_udp(69, source="224.0.0.9")
        scanner.send_udp(69, source="255.255.255.255")
        scanner.send_udp(69, source="127.0.0.1")
        for destination in ("192.0.2.255", "224.0.0.1", "255.255.255.255"):
            scanner.send_udp(69, destination=destination)
        scanner.send_udp(69, source_port=40_001)
        sent = [listening.recvfrom(2048) for _ in range(1)]
        answers = [packet for packet, address in sent if address[2] == socket.PACKET_HOST]
        while not answers:
            packet, address = listening.recvfrom(2048)
            answers = [packet] if address[2] == socket.PACKET_HOST and packet[9] == 17 else []
        assert struct.unpack_from("!HH", answers[0], 20) == (69, 40_001)
        for number in range(200):
            scanner.send_udp(69, source_port=41_000 + number)
        wait_until(lambda: len(probe.reports()) == 206)
        listening.setblocking(False)
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = listening.recvfrom(2048)
                found += address[2] == socket.PACKET_HOST and packet[9] == 17
    assert 0 < found < 200
