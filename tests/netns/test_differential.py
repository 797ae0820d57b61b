"""The real PortSentry 1.2 and our probe get the same packets, in all six modes, and write the same lines.

Compared is what goes to syslog, time and process id aside: the lines that report probes as a multiset, and
the lines of start and stop in their order. Left out are the lines of responses ("Host: ... is already
blocked", "Ignoring TCP response ..."), history and blocked files: no probe writes them here.

What remains different has a name and a reason in tests/peers/differences.py, and a test beside this file.
"""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from contextlib import suppress

import pytest

from correlator.drill.lab import GATEWAY4, SCANNER4, VICTIM4
from correlator.drill.packets import Flag, Route, build_tcp, build_udp
from tests.peers.differences import LINGER, NO_LOOPS
from tests.peers.duel import (
    ACTIVE_LINE,
    IN_ALL,
    IN_PAIRS,
    IN_RAW_PAIRS,
    NEEDS_PEER,
    NOTHING,
    SCANS,
    SECONDS,
    SEEN_BY,
    SERVICES,
    Duel,
)
from tests.peers.probes import (
    build_probes,
    probe_line,
    syn_line,
    udp_line,
    with_length,
    with_options,
    without_checksum,
)

pytestmark = NEEDS_PEER

_IP_OPTIONS = (
    b"\x07\x0b\x04" + bytes(9),  # record route
    b"\x01\x01\x01\x01",
    b"\x94\x04\0\0",  # router alert
    b"\x44\x0c\x05\0" + bytes(8),  # time stamps
)


@IN_ALL
def test_scans_of_nmap_give_the_same_lines(duel: Duel, modes: tuple[str, ...]) -> None:
    """Every technique, over ports watched, in use, excluded and out of range; then start and stop."""
    duel.start(*modes, services=SERVICES)
    seen = set()
    for scan in SCANS:
        duel.scan(scan)
        if duel.demand_equal(scan):
            seen.add(scan)
    theirs, ours = duel.stop()
    assert theirs == ours
    assert seen == set().union(*(SEEN_BY[mode] for mode in modes))


@IN_ALL
def test_hand_made_packets_give_the_same_lines(duel: Duel, modes: tuple[str, ...]) -> None:
    """What nmap does not send: any flags, IP options, odd ports, odd senders, fragments."""
    duel.start(*modes, services=SERVICES)
    source_ports = itertools.count(30_000)

    def route(port: int, source: str = SCANNER4) -> Route:
        return Route(source, next(source_ports), VICTIM4, port)

    for first in range(0, 256, 32):  # PortSentry's queue holds some 200 packets
        for flags in range(first, first + 32):
            duel.send(build_tcp(route(79), flags))
        duel.demand_equal(f"flags {first} to {first + 31}")
    for port in (0, 1, 1023, 1024, 65_535):
        duel.send(build_tcp(route(port)))
        duel.send(build_udp(route(port), b"x"))
    stray = (syn_line(0), udp_line(0)) if "stcp" in modes or "sudp" in modes else ()
    duel.demand_equal("edges", but_for=stray)  # NO_STRAY_PORT
    for options in _IP_OPTIONS:
        duel.send(with_options(build_tcp(route(79)), options))
        duel.send(with_options(build_tcp(route(79), Flag.FIN), options))
        duel.send(with_options(build_udp(route(7), b"x"), options))
        duel.send(with_options(build_tcp(route(22)), options))
    duel.demand_equal("IP options")
    for source in ("203.0.113.9", GATEWAY4, "10.0.0.1", "223.255.255.255", "192.0.2.77"):
        duel.send(build_tcp(route(79, source)))
        duel.send(build_udp(route(7, source), b"x"))
    duel.demand_equal("forged senders")
    duel.send(build_udp(route(7)))
    duel.send(build_udp(route(7), bytes(1400)))
    duel.send(without_checksum(build_udp(route(7), b"x")))
    duel.send(build_tcp(route(79), payload=bytes(1400)))
    duel.send(build_tcp(route(79), options=b"\x02\x04\x05\xb4\x01\x03\x03\x07\x04\x02"))
    duel.demand_equal("payloads and options of TCP")
    for options in (("-sS", "-f"), ("-sX", "-f")):
        duel.scan(*options)
    duel.demand_equal("fragments")


@IN_PAIRS
@pytest.mark.parametrize("what", ["source route", "wrong checksum", "cut short"])
def test_what_the_kernel_throws_away_is_no_probe(duel: Duel, modes: tuple[str, ...], what: str) -> None:
    """No host answers it, so nobody scans with it: PortSentry never gets it."""
    duel.start(*modes)
    for packet in build_probes(79, 7):
        if what == "source route":
            duel.send(with_options(packet, bytes([131, 7, 4, 192, 0, 2, 1, 0])))
        elif what == "wrong checksum":
            duel.send(packet[:10] + bytes([packet[10] ^ 0xFF]) + packet[11:])
        else:
            duel.send(with_length(packet, len(packet) + 1))
    assert duel.demand_equal(what) == NOTHING


@IN_RAW_PAIRS
def test_a_service_that_starts_later_is_let_be(duel: Duel, modes: tuple[str, ...]) -> None:
    """From its first moment; when it is gone, PortSentry reports its port at once (`LINGER`)."""
    duel.start(*modes)
    services = [*duel.serve(socket.SOCK_STREAM, 143), *duel.serve(socket.SOCK_DGRAM, 161)]
    duel.probe(143, 161)
    assert duel.demand_equal("while it serves") == NOTHING
    for service in services:
        service.close()
    duel.probe(143, 161)
    assert duel.reports() == (Counter([syn_line(143), udp_line(161)]), NOTHING), LINGER


@pytest.mark.parametrize("mode", ["tcp", "udp", "stcp", "sudp"])
def test_a_mode_whose_ports_are_all_in_use_gives_up_in_the_same_words(duel: Duel, mode: str) -> None:
    """All the lines from its start to its end."""
    duel.start(mode, services=SERVICES, may_refuse=True, TCP_PORTS="22,80", UDP_PORTS="53")
    theirs, ours = duel.stop()
    assert theirs == ours
    assert ACTIVE_LINE not in theirs


@pytest.mark.parametrize("banner", [None, "** UNAUTHORIZED ACCESS PROHIBITED. **"], ids=["none", "some"])
def test_who_connects_reads_the_same_banner(duel: Duel, banner: str | None) -> None:
    """To its end, and so does who comes again."""
    duel.start("tcp", PORT_BANNER=banner)
    for side in duel.sides:
        for _ in range(2):
            with side.lab.scanner.entered():
                client = socket.create_connection((VICTIM4, 79), SECONDS)
            with client:
                assert client.makefile("rb").read() == (banner or "").encode()
    assert duel.demand_equal("connections") == Counter({probe_line("Connect", "TCP", 79): 2})


def test_who_sends_a_datagram_gets_the_same_banner(duel: Duel) -> None:
    """But a port that a service may stand behind gets none (`NO_LOOPS`)."""
    duel.start("udp", PORT_BANNER="closed")
    answered = []
    for side in duel.sides:
        with side.lab.scanner.entered():
            service, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with service, client:
            service.bind((SCANNER4, 7))
            client.settimeout(SECONDS)
            for sending in (service, client):
                sending.sendto(b"x", (VICTIM4, 9))
            assert client.recv(99) == b"closed"  # the one sent first was taken first
            service.setblocking(False)
            with suppress(BlockingIOError):
                answered.append((side, service.recv(99)))
    assert answered == [(duel.theirs, b"closed")], NO_LOOPS
    duel.demand_equal("datagrams")
