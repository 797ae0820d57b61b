"""The probe itself on real packets: every technique, both IP versions, whatever wraps them."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Raw

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, VICTIM_DEVICE, Lab
from correlator.drill.packets import Flag, build_tcp, build_udp, checksum
from correlator.drill.scanner import Scanner
from tests.netns.victim import BOTH, WaitUntil, hardware_address

pytestmark = pytest.mark.netns


@BOTH
def test_every_technique_has_portsentrys_line(
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    victim: str,
    source: str,
) -> None:
    """One line a packet, exact; packets with ACK or RST none, as far as we only do what PortSentry does."""
    probe = start_probe('{"compat": True}')
    host = f"from host: {source}/{source} to"
    names = {
        Flag.SYN: "TCP SYN/Normal scan",
        Flag.FIN: "TCP FIN scan",
        Flag.NONE: " TCP NULL scan",
        Flag.XMAS: "TCP XMAS scan",
        Flag.SYN | Flag.FIN: "Unknown Type: TCP Packet Flags: SYN: 1 FIN: 1 ACK: 0 PSH: 0 URG: 0 RST: 0",
    }
    for port, flags in enumerate(names, start=200):
        scanner.send_tcp(port, flags, destination=victim)
    for flags in (Flag.ACK, Flag.RST, Flag.SYN | Flag.ACK, Flag.FIN | Flag.ACK):
        scanner.send_tcp(300, flags, destination=victim)
    scanner.send_udp(7, destination=victim)
    scanner.send_tcp(1025, destination=victim)
    scanner.send_tcp(113, destination=victim)
    settle(probe)
    expected = [
        f"attackalert: {name} {host} TCP port: {port}" for port, name in enumerate(names.values(), 200)
    ]
    assert probe.alerts() == [*expected, f"attackalert: UDP scan {host} UDP port: 7"]


def test_packets_for_others_are_not_reported(
    probe: Any, scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """A router's host sees them too: to its hardware address, for another's IP address."""
    scanner.send_tcp(25, source=SCANNER4, destination="203.0.113.9")
    settle(probe)
    assert probe.alerts() == []


def test_a_new_address_counts_at_once(
    lab: Lab, probe: Any, scanner: Scanner, wait_until: WaitUntil, settle: Callable[[Any], None]
) -> None:
    """And a removed one no longer."""
    added = "198.51.100.7"
    lab.victim.run("ip", "addr", "add", f"{added}/32", "dev", VICTIM_DEVICE)

    def is_reported() -> bool:
        scanner.send_tcp(25, destination=added)
        return bool(probe.alerts())

    wait_until(is_reported)
    settle(probe)
    lab.victim.run("ip", "addr", "del", f"{added}/32", "dev", VICTIM_DEVICE)
    settle(probe)
    before = probe.alerts()
    scanner.send_tcp(26, destination=added)
    settle(probe)
    assert before == probe.alerts()


def test_fragments_of_nmap_are_seen_like_whole_packets(lab: Lab, probe: Any, wait_until: WaitUntil) -> None:
    """Eight bytes a fragment (-f): no fragment alone shows its flags."""
    lab.scanner.run("nmap", "-n", "-Pn", "-f", "-sS", "--max-retries", "0", "-p", "20-22", VICTIM4)
    host = f"from host: {SCANNER4}/{SCANNER4} to TCP port:"
    expected = {f"attackalert: TCP SYN/Normal scan {host} {port}" for port in (20, 21, 22)}
    wait_until(lambda: set(probe.alerts()) == expected, what="three probes")
    assert len(probe.alerts()) == 3


def test_fragments_in_any_order_and_unfinished_ones(
    probe: Any, scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """Each whole packet is one line; what never becomes whole is none."""
    whole = build_tcp(scanner.route(25), Flag.XMAS)[20:]

    def send_piece(identity: int, at: int, *, is_last: bool = False) -> None:
        header = IP(
            src=SCANNER4, dst=VICTIM4, proto=6, id=identity, frag=at // 8, flags=0 if is_last else "MF"
        )
        scanner.send_packet(bytes(header / Raw(whole[at : at + 8])))

    send_piece(7, 16, is_last=True)
    send_piece(7, 8)
    send_piece(7, 0)
    send_piece(8, 0)
    send_piece(8, 8)
    settle(probe)
    expected = f"attackalert: TCP XMAS scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    assert probe.alerts() == [expected]


def test_ip_options_are_reported(probe: Any, scanner: Scanner, settle: Callable[[Any], None]) -> None:
    """IPv4 options and IPv6 extension headers: the probe, then the line about them."""
    four = IP(src=SCANNER4, dst=VICTIM4, options=IPOption_RR(pointer=4, routers=["0.0.0.0"] * 3))
    six = IPv6(src=SCANNER6, dst=VICTIM6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt()
    scanner.send_packet(bytes(four / TCP(sport=4444, dport=25, flags="S")))
    settle(probe)
    scanner.send_packet(bytes(six / UDP(sport=4444, dport=26) / b"x"))
    scanner.send_packet(bytes(IPv6(src=SCANNER6, dst=VICTIM6) / IPv6ExtHdrFragment() / UDP(dport=27) / b"x"))
    settle(probe)
    host4, host6 = (f"from host: {source}/{source} to" for source in (SCANNER4, SCANNER6))
    avoidance = "has IP options set (detection avoidance technique)."
    assert probe.alerts() == [
        f"attackalert: TCP SYN/Normal scan {host4} TCP port: 25",
        f"attackalert: Packet {host4} TCP port: 25 {avoidance}",
        f"attackalert: UDP scan {host6} UDP port: 26",
        f"attackalert: Packet {host6} UDP port: 26 {avoidance}",
        f"attackalert: UDP scan {host6} UDP port: 27",
    ]


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_a_packet_through_a_stacked_device_is_reported_once(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    kind: str,
) -> None:
    """A device on top of another: two devices see the packet, the IP stack once."""
    run = lab.victim.run
    if kind == "bridge":
        run("ip", "link", "add", "top", "type", "bridge")
        run("ip", "link", "set", "top", "address", hardware_address(lab))  # the scanner sends to it
        run("ip", "link", "set", VICTIM_DEVICE, "master", "top")
    else:
        run("ip", "link", "add", "top", "link", VICTIM_DEVICE, "type", "macvlan", "mode", "passthru")
    run("ip", "addr", "flush", "dev", VICTIM_DEVICE)
    run("ip", "link", "set", "top", "up")
    run("ip", "addr", "add", f"{VICTIM4}/24", "dev", "top")
    run("ip", "addr", "add", f"{VICTIM6}/64", "dev", "top", "nodad")
    probe = start_probe()
    for port in (24, 25, 26):
        scanner.send_tcp(port)
    settle(probe)
    host = f"from host: {SCANNER4}/{SCANNER4} to TCP port:"
    assert probe.alerts() == [f"attackalert: TCP SYN/Normal scan {host} {port}" for port in (24, 25, 26)]


def test_a_vlan_tag_neither_hides_nor_doubles_a_packet(
    *, lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """Once for a VLAN with a device here; never for a VLAN without one; once for a mere priority tag."""
    options = ("link", VICTIM_DEVICE, "name", "v0.5", "type", "vlan", "id", "5")
    has_device = lab.victim.run("ip", "link", "add", *options, must_succeed=False).returncode == 0
    if has_device:  # a kernel may be built without VLAN devices; then VLAN 5 is one without a device
        lab.victim.run("ip", "link", "set", "v0.5", "up")
    probe = start_probe()
    for port, tag in ((20, 0), (25, 5), (26, 6)):
        packet = bytes(IP(src=SCANNER4, dst=VICTIM4) / TCP(sport=4444, dport=port, flags="S"))
        frame = scanner.frame(packet)
        scanner.send_frame(frame[:12] + b"\x81\x00" + tag.to_bytes(2, "big") + frame[12:])
    settle(probe)
    host = f"from host: {SCANNER4}/{SCANNER4} to TCP port:"
    reported = (20, 25) if has_device else (20,)
    assert probe.alerts() == [f"attackalert: TCP SYN/Normal scan {host} {port}" for port in reported]


def test_nonsense_on_the_wire_changes_nothing(
    probe: Any, scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """Every truncation of every header, and the probe goes on."""
    for whole in (
        bytes(IP(src=SCANNER4, dst=VICTIM4) / TCP(dport=25, flags="S")),
        bytes(IPv6(src=SCANNER6, dst=VICTIM6) / IPv6ExtHdrHopByHop() / TCP(dport=25, flags="S")),
    ):
        for size in range(1, len(whole)):
            scanner.send_packet(whole[:size])
            scanner.send_packet(whole[:size] + b"\xff" * (len(whole) - size))
    settle(probe)
    assert probe.child.poll() is None


@BOTH
def test_bad_checksums_are_counted_and_prove_nothing(
    *,
    lab: Lab,
    probe: Any,
    scanner: Scanner,
    settle: Callable[[Any], None],
    wait_until: WaitUntil,
    victim: str,
    source: str,
) -> None:
    """A fragmented one too; what a sender on this machine has not finished is right."""
    header = 20 if victim == VICTIM4 else 40
    for build, at in ((build_tcp, 16), (build_udp, 6)):
        packet = build(scanner.route(25, destination=victim))
        scanner.send_packet(
            packet[: header + at] + bytes([packet[header + at] ^ 1]) + packet[header + at + 1 :]
        )
    damaged = build_tcp(scanner.route(27, destination=victim), payload=bytes(1400))[:-1] + b"x"
    for piece in fragment(IP(damaged), 512) if victim == VICTIM4 else [damaged]:
        scanner.send_packet(bytes(piece))
    family = socket.AF_INET6 if victim == VICTIM6 else socket.AF_INET
    with lab.scanner.entered(), socket.socket(family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
        for client in (tcp, udp):
            client.bind((source, 0))
        tcp.connect_ex((victim, 28))
        udp.sendto(b"x", (victim, 29))
    settle(probe)
    host = f"from host: {source}/{source} to"
    assert probe.alerts() == [
        f"attackalert: TCP SYN/Normal scan {host} TCP port: 28",
        f"attackalert: UDP scan {host} UDP port: 29",
    ]
    wait_until(lambda: probe.status().get("bad_checksums") == 3)


@BOTH
def test_a_packet_counts_by_its_own_length(
    probe: Any, scanner: Scanner, settle: Callable[[Any], None], victim: str, source: str
) -> None:
    """Padding behind it is none of it; of a packet that came short our kernel takes nothing."""
    at, header = (2, 0) if victim == VICTIM4 else (4, 40)
    for port, missing in ((25, 0), (26, 1)):
        packet = bytearray(build_udp(scanner.route(port, destination=victim), b"x"))
        packet[at : at + 2] = (len(packet) - header + missing).to_bytes(2, "big")
        if victim == VICTIM4:
            packet[10:12] = bytes(2)
            packet[10:12] = checksum(packet[:20]).to_bytes(2, "big")
        scanner.send_packet(bytes(packet) + (b"" if missing else bytes(20)))
    settle(probe)
    assert probe.alerts() == [f"attackalert: UDP scan from host: {source}/{source} to UDP port: 25"]


def test_a_device_that_goes_down_and_comes_back_is_watched_again(
    lab: Lab, probe: Any, scanner: Scanner, wait_until: WaitUntil
) -> None:
    """Captures that are bound to a device lose it there."""
    lab.victim.run("ip", "link", "set", VICTIM_DEVICE, "down")
    lab.victim.run("ip", "link", "set", VICTIM_DEVICE, "up")

    def is_reported() -> bool:
        scanner.send_tcp(25)
        return bool(probe.alerts())

    wait_until(is_reported)
