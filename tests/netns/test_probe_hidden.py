"""ACK, window and Maimon scans, seen by our own kernel's answers; and what only looks like them."""

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from correlator.drill.lab import SCANNER4, VICTIM4, VICTIM_DEVICE, Lab
from correlator.drill.packets import Flag, build_tcp, build_udp
from correlator.drill.scanner import Scanner
from tests.netns.victim import ACK, BOTH, WaitUntil, connect, hardware_address, nmap, serve

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("one_address")]


@BOTH
@pytest.mark.parametrize("option", ["-sA", "-sW", "-sM"])
def test_ack_window_and_maimon_scans_are_seen(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    wait_until: WaitUntil,
    victim: str,
    source: str,
    option: str,
) -> None:
    """By our own kernel's answers, once a port; not on a service's port, nor on one that is not watched."""
    with serve(lab, 22):
        probe = start_probe('{"tcp_ports": ((1, 899),)}')
        nmap(lab, option, "21,22,23,113,899,900", victim)
    wait_until(lambda: len(probe.reports()) == 3)
    assert sorted(probe.reports()) == sorted(ACK.format(source, port) for port in (21, 23, 899))


@pytest.mark.parametrize("way", ["dnat to 192.0.2.2:8080", "redirect to :8443"])
def test_a_port_that_leads_elsewhere_is_learned_from_its_first_answer(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    wait_until: WaitUntil,
    settle: Callable[[Any], None],
    way: str,
) -> None:
    """Nobody listens on it here: who visits the container behind it is no scanner."""
    lab.victim.run(
        *("nft", "-f", "-"),
        text="table ip nat {\n chain forwards {\n type nat hook prerouting priority dstnat\n"
        f" tcp dport 443 {way}\n }}\n}}\n",
    )
    lab.victim.set_kernel("net/ipv4/ip_forward", "1")
    lab.victim.run(
        "nft", "add table ip nat; add chain ip nat back { type nat hook postrouting priority 100; }"
    )
    lab.victim.run("nft", "add rule ip nat back tcp dport 8080 masquerade")
    with lab.scanner.entered():
        behind = socket.create_server((SCANNER4, 8080))
    with behind, serve(lab, 8443):
        probe = start_probe()
        connect(lab, 443, VICTIM4).close()
        wait_until(lambda: len(probe.reports()) == 1)
        for _ in range(3):
            connect(lab, 443, VICTIM4).close()
        settle(probe)
    assert sum(line.endswith(" port: 443") for line in probe.reports()) == 1


@BOTH
def test_what_looks_like_an_ack_scan_and_is_none(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    wait_until: WaitUntil,
    settle: Callable[[Any], None],
    victim: str,
    source: str,
) -> None:
    """Late clients of a service, late servers of a client, aborts, answers to forgers."""
    with serve(lab, 25, address=victim) as service:
        probe = start_probe()
        client = connect(lab, 25, victim)
        taken, _ = service.accept()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    taken.close()  # an abort: a RST with ACK
    client.close()
    with lab.scanner.entered():
        server = socket.create_server(
            (source, 2049), family=socket.AF_INET6 if ":" in source else socket.AF_INET
        )
    with lab.victim.entered():  # as NFS does: from a port below 1024
        low = socket.create_connection((source, 2049), timeout=5, source_address=(victim, 700))
    accepted, _ = server.accept()
    low.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
    low.close()
    accepted.close()
    server.close()
    wait_until(lambda: probe.status().get("ports_in_use") == {"tcp": [], "udp": []}, what="the linger over")
    for port, peer in ((25, 40_000), (700, 2049)):
        for flags in (Flag.ACK, Flag.ACK | Flag.PSH, Flag.FIN | Flag.ACK):
            scanner.send_tcp(port, flags, source_port=peer, destination=victim)
    route = scanner.route(80, source_port=443, destination=victim)
    for acknowledgement in (7, 8, 8):
        scanner.send_packet(build_tcp(route, Flag.SYN | Flag.ACK, acknowledgement=acknowledgement))
    scanner.send_tcp(81, Flag.ACK, destination=victim)
    wait_until(lambda: ACK.format(source, 81) in probe.reports())
    settle(probe)
    assert probe.alerts() == [ACK.format(source, 81)]


def test_a_packet_that_two_devices_show_is_one_ack_scan(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, wait_until: WaitUntil
) -> None:
    """A bridge and its port both send our answer."""
    run = lab.victim.run
    run("ip", "link", "add", "top", "type", "bridge")
    run("ip", "link", "set", "top", "address", hardware_address(lab))
    run("ip", "link", "set", VICTIM_DEVICE, "master", "top")
    run("ip", "addr", "flush", "dev", VICTIM_DEVICE)
    run("ip", "link", "set", "top", "up")
    run("ip", "addr", "add", f"{VICTIM4}/24", "dev", "top")
    probe = start_probe()
    for port in (21, 23, 24):
        scanner.send_tcp(port, Flag.ACK)
    expected = [ACK.format(SCANNER4, port) for port in (21, 23, 24)]
    wait_until(lambda: probe.reports()[-1:] == expected[-1:])
    assert probe.reports() == expected


def test_forwarded_packets_are_no_answers_of_ours(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, wait_until: WaitUntil
) -> None:
    """A router sends on what others answer."""
    lab.victim.set_kernel("net/ipv4/ip_forward", "1")
    probe = start_probe()
    route = scanner.route(50_000, source="203.0.113.9", source_port=25, destination="198.51.100.9")
    scanner.send_packet(build_tcp(route, Flag.RST))
    scanner.send_packet(build_udp(scanner.route(25, destination="198.51.100.9"), b"x"))
    scanner.send_tcp(26, Flag.ACK)
    wait_until(lambda: probe.reports() == [ACK.format(SCANNER4, 26)])
