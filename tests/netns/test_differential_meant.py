"""What our probe does otherwise than the real PortSentry 1.2, each difference on the same packets.

Names and reasons are in tests/peers/differences.py; that there is no other, test_differential.py demands.
"""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from correlator.drill.lab import SCANNER4, VICTIM4
from correlator.drill.packets import Route, build_ip, build_tcp, build_udp
from correlator.drill.rig import wait_for
from tests.peers.differences import (
    BAD_CHECKSUMS,
    BEFORE_NETFILTER,
    BROKEN_SEGMENTS,
    CLOSED_CONNECTIONS,
    HIDDEN_SCANS,
    LIMIT_WITHOUT_A_LIST,
    LOOPBACK_SERVICE,
    NOT_TO_US,
    OWN_PROBES,
    RESERVED_SOURCE,
    RIGHT_PORTS,
)
from tests.peers.duel import (
    HIDDEN,
    IN_ALL,
    IN_PAIRS,
    IN_RAW_PAIRS,
    MARK,
    NEEDS_PEER,
    NOTHING,
    SCANS,
    SECONDS,
    SERVICES,
    Duel,
    Reports,
)
from tests.peers.probes import build_probes, probe_line, syn_line, udp_line

pytestmark = NEEDS_PEER


@IN_ALL
def test_a_bad_checksum_proves_nothing_to_ours(duel: Duel, modes: tuple[str, ...]) -> None:
    """Nor to any service, so the connect modes never get such a packet (`BAD_CHECKSUMS`)."""
    duel.start(*modes, services=SERVICES)
    for options in (("-sS", "--badsum"), ("-sU", "--badsum")):
        duel.scan(*options)
    theirs, ours = duel.reports()
    assert (bool(theirs), ours) == (not {"tcp", "udp"} & set(modes), NOTHING), BAD_CHECKSUMS


@pytest.mark.parametrize("mode", ["tcp", "udp"])
def test_ours_names_the_port_that_was_probed(duel: Duel, mode: str) -> None:
    """A service on the second port of the list moves the names of those behind it (`RIGHT_PORTS`)."""
    named = {79: 22, 111: 79, 69: 53, 161: 69}
    duel.start(mode, services=SERVICES, TCP_PORTS=f"{MARK},22,79,111", UDP_PORTS=f"{MARK},53,69,161")
    duel.scan("-sT" if mode == "tcp" else "-sU")
    theirs, ours = duel.reports()
    moved: Reports = Counter()
    for line, count in ours.items():
        start, port = line.rsplit(" ", 1)
        moved[f"{start} {named[int(port)]}"] += count
    assert ours
    assert theirs == moved, RIGHT_PORTS
    theirs_life, our_life = duel.stop()
    assert theirs_life == our_life


def test_ours_keeps_to_its_range_where_no_port_is_left_out(duel: Duel) -> None:
    """Nothing in use and nothing excluded: PortSentry watches everything (`LIMIT_WITHOUT_A_LIST`)."""
    duel.start("atcp", "audp", ADVANCED_EXCLUDE_TCP=None, ADVANCED_EXCLUDE_UDP=None)
    duel.probe(79, 7)
    duel.probe(2000, 2049)
    both = Counter([syn_line(79), udp_line(7)])
    assert duel.reports() == (both + Counter([syn_line(2000), udp_line(2049)]), both), LIMIT_WITHOUT_A_LIST
    theirs, ours = duel.stop()
    assert theirs == ours


@IN_RAW_PAIRS
def test_ours_is_not_blinded_by_a_service_on_loopback(duel: Duel, modes: tuple[str, ...]) -> None:
    """Whether it was there at the start or came later (`LOOPBACK_SERVICE`)."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    for kind in kinds:
        duel.serve(kind, 111 if kind == socket.SOCK_STREAM else 69, "127.0.0.1")
    duel.start(*modes)
    for kind in kinds:
        duel.serve(kind, 540 if kind == socket.SOCK_STREAM else 513, "127.0.0.1")
    duel.probe(111, 69)
    duel.probe(540, 513)
    expected = Counter([syn_line(111), syn_line(540), udp_line(69), udp_line(513)])
    assert duel.reports() == (NOTHING, expected), LOOPBACK_SERVICE
    theirs, ours = duel.stop()
    assert [line for line in theirs if line not in ours] == (
        [
            "adminalert: ERROR: Socket 111 is in use and will not be monitored. Attempting to continue\n",
            "adminalert: ERROR: Socket 69 is in use and will not be monitored. Attempting to continue\n",
        ]
        if "stcp" in modes
        else [
            "adminalert: Advanced Stealth scan detection mode activated. Ignored TCP port: 111\n",
            "adminalert: Advanced Stealth scan detection mode activated. Ignored UDP port: 69\n",
        ]
    )


@IN_PAIRS
def test_ours_does_not_report_the_host_itself(duel: Duel, modes: tuple[str, ...]) -> None:
    """By the address that others know it by (`OWN_PROBES`); 127.0.0.1 is in PortSentry's ignore file."""
    duel.start(*modes)
    for side in duel.sides:
        with (
            side.lab.victim.entered(),
            socket.socket() as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.settimeout(SECONDS)
            tcp.connect_ex((VICTIM4, 79))
            udp.sendto(b"x", (VICTIM4, 7))
    names = ("Connect", "Connect") if "tcp" in modes else ("TCP SYN/Normal scan", "UDP scan")
    expected = Counter([probe_line(names[0], "TCP", 79, VICTIM4), probe_line(names[1], "UDP", 7, VICTIM4)])
    assert duel.reports() == (expected, NOTHING), OWN_PROBES


@IN_PAIRS
def test_ours_reports_only_what_is_sent_to_this_host(duel: Duel, modes: tuple[str, ...]) -> None:
    """A datagram to the network's broadcast address is everyday noise (`NOT_TO_US`)."""
    duel.start(*modes)
    duel.send(build_udp(Route(SCANNER4, 30_000, "192.0.2.255", 7), b"x"))
    duel.send(build_tcp(Route(SCANNER4, 30_000, "192.0.2.255", 79)))
    datagram, segment = probe_line("Connect", "UDP", 7), None
    if "tcp" not in modes:
        datagram, segment = udp_line(7), syn_line(79)
    expected = Counter(line for line in (datagram, segment) if line is not None)
    assert duel.reports() == (expected, NOTHING), NOT_TO_US


@IN_PAIRS
def test_ours_does_not_report_senders_that_exist_nowhere(duel: Duel, modes: tuple[str, ...]) -> None:
    """The last class of addresses, never given out (`RESERVED_SOURCE`)."""
    duel.start(*modes)
    source = "240.0.0.9"
    for packet in build_probes(79, 7, source):
        duel.send(packet)
    expected = Counter(
        [probe_line("UDP scan", "UDP", 7, source), probe_line("TCP SYN/Normal scan", "TCP", 79, source)]
    )
    if "tcp" in modes:
        expected = Counter([probe_line("Connect", "UDP", 7, source)])
    assert duel.reports() == (expected, NOTHING), RESERVED_SOURCE


@IN_RAW_PAIRS
def test_ours_looks_in_front_of_the_firewall(duel: Duel, modes: tuple[str, ...]) -> None:
    """A dropped packet is still a probe (`BEFORE_NETFILTER`); in the connect modes it never arrives."""
    duel.start(*modes)
    duel.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "79", "-j", "DROP")
    duel.run("iptables", "-A", "INPUT", "-p", "udp", "--dport", "7", "-j", "DROP")
    duel.probe(79, 7)
    assert duel.reports() == (NOTHING, Counter([syn_line(79), udp_line(7)])), BEFORE_NETFILTER


@pytest.mark.parametrize("modes", [("stcp",), ("atcp",)], ids="+".join)
def test_ours_sees_scans_that_portsentry_does_not(duel: Duel, modes: tuple[str, ...]) -> None:
    """And not one line is added by any other scan (`HIDDEN_SCANS`)."""
    duel.start(*modes, services=SERVICES, hidden_scans=True)
    for scan in SCANS:
        duel.scan(scan)
        theirs, ours = duel.reports()
        assert (scan, theirs - ours) == (scan, NOTHING)
        assert (scan, bool(ours - theirs)) == (scan, scan in HIDDEN), HIDDEN_SCANS


@IN_RAW_PAIRS
def test_ours_reports_no_broken_segments(duel: Duel, modes: tuple[str, ...]) -> None:
    """Cut anywhere, or with lengths that cannot be (`BROKEN_SEGMENTS`)."""
    duel.start(*modes)
    tcp, udp = build_probes(79, 7)
    for size in range(20):
        duel.send(build_ip(SCANNER4, VICTIM4, socket.IPPROTO_TCP, tcp[20 : 20 + size]))
    for size in range(8):
        duel.send(build_ip(SCANNER4, VICTIM4, socket.IPPROTO_UDP, udp[20 : 20 + size]))
    for words in (4, 6):
        duel.send(tcp[:32] + bytes([words << 4]) + tcp[33:])
    for length in (7, len(udp) - 19):
        duel.send(udp[:24] + length.to_bytes(2, "big") + udp[26:])
    theirs, ours = duel.reports()
    assert (bool(theirs), ours) == (True, NOTHING), BROKEN_SEGMENTS


def test_ours_is_not_blinded_by_closed_connections(duel: Duel) -> None:
    """The service closed a connection first, and is gone (`CLOSED_CONNECTIONS`)."""
    duel.start("atcp", linger="0s")
    for side, serving in zip(duel.sides, duel.serve(socket.SOCK_STREAM, 143), strict=True):
        with side.lab.scanner.entered():
            client = socket.create_connection((VICTIM4, 143), SECONDS)
        with serving, client:
            serving.accept()[0].close()
            assert client.recv(1) == b""

    def is_reported() -> bool:
        duel.send(build_probes(143, 7)[0])
        return syn_line(143) in duel.ours.logs[0].texts()

    assert wait_for(is_reported, SECONDS), "not watched again"
    theirs, ours = duel.reports()
    assert (theirs, set(ours)) == (NOTHING, {syn_line(143)}), CLOSED_CONNECTIONS
