"""The probe itself on real packets: every technique, both IP versions, and never a service's client."""

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Raw

from correlator.attackalert import (
    ACTIVE,
    SHUTTING_DOWN,
    STARTING,
    format_excluded,
    format_ignored,
    format_left_out,
    format_monitored,
)
from correlator.drill.lab import (
    SCANNER4,
    SCANNER6,
    VICTIM4,
    VICTIM6,
    VICTIM_DEVICE,
    Lab,
)
from correlator.drill.packets import Flag, build_tcp, build_udp, checksum
from correlator.drill.scanner import Scanner
from correlator.kernel.process import CAP_DAC_OVERRIDE

pytestmark = pytest.mark.netns

BOTH_VERSIONS = pytest.mark.parametrize(("victim", "source"), [(VICTIM4, SCANNER4), (VICTIM6, SCANNER6)])
WaitUntil = Callable[..., None]
Probe = Any
"""A running probe, from conftest.py."""


def _serve(lab: Lab, port: int, *, kind: int = socket.SOCK_STREAM, address: str = "::") -> socket.socket:
    """A service in the victim; on `::` it serves both IP versions."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.victim.entered():
        serving = socket.socket(family, kind)
    serving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    serving.bind((address, port))
    if kind == socket.SOCK_STREAM:
        serving.listen(64)
    return serving


@BOTH_VERSIONS
def test_every_technique_has_portsentrys_line(
    start_probe: Callable[..., Probe],
    scanner: Scanner,
    settle: Callable[[Probe], None],
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


@pytest.mark.parametrize("victim", [VICTIM4, VICTIM6])
def test_clients_of_a_service_are_never_reported(
    lab: Lab,
    start_probe: Callable[..., Probe],
    scanner: Scanner,
    settle: Callable[[Probe], None],
    victim: str,
) -> None:
    """Nor is any other packet to its port; one that was there before us, TCP and UDP."""
    with _serve(lab, 22), _serve(lab, 53, kind=socket.SOCK_DGRAM), _serve(lab, 80, address=victim):
        probe = start_probe()
        for port in (22, 80):
            with lab.scanner.entered(), socket.create_connection((victim, port), timeout=5):
                pass
            scanner.send_tcp(port, Flag.FIN, destination=victim)
        scanner.send_udp(53, destination=victim)
        settle(probe)
    assert probe.alerts() == []
    assert [format_ignored("TCP", port) for port in (22, 80, 113, 139)] == [
        text for text in probe.texts() if "Ignored TCP" in text
    ]


@pytest.mark.parametrize("victim", [VICTIM4, VICTIM6])
@pytest.mark.parametrize("bound", ["wildcard", "address", "device"])
def test_a_service_that_opened_in_the_same_millisecond_is_never_reported(
    *,
    lab: Lab,
    probe: Probe,
    scanner: Scanner,
    settle: Callable[[Probe], None],
    victim: str,
    bound: str,
) -> None:
    """A hundred services, each probed right after its `listen`: faster than any table could follow."""
    address = victim if bound == "address" else "::"
    with contextlib.ExitStack() as stack:
        for port in range(200, 250):
            with lab.victim.entered():
                service = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                other = socket.socket(service.family, socket.SOCK_DGRAM)
            stack.enter_context(service)
            stack.enter_context(other)
            for opened in (service, other):
                if bound == "device":
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, VICTIM_DEVICE.encode())
                opened.bind((address, port))
            service.listen()
            scanner.send_tcp(port, destination=victim)
            scanner.send_udp(port, destination=victim)
        settle(probe)
    assert probe.alerts() == []


def test_a_service_that_is_gone_is_watched_again_after_the_linger(
    lab: Lab, probe: Probe, scanner: Scanner, settle: Callable[[Probe], None], wait_until: WaitUntil
) -> None:
    """Within it a restarting service's clients are let be."""
    line = f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    with _serve(lab, 25):
        wait_until(lambda: probe.status().get("ports_in_use") == {"tcp": [25], "udp": []})
    scanner.send_tcp(25)
    settle(probe)
    assert probe.alerts() == []

    def is_reported() -> bool:
        scanner.send_tcp(25)
        return line in probe.alerts()

    wait_until(is_reported)


def test_a_service_on_loopback_does_not_blind_its_port(
    lab: Lab, start_probe: Callable[..., Probe], scanner: Scanner, settle: Callable[[Probe], None]
) -> None:
    """From outside the port is closed; PortSentry misses these probes."""
    with _serve(lab, 25, address="127.0.0.1"), _serve(lab, 25, address="::1"):
        probe = start_probe()
        with lab.victim.entered(), socket.create_connection(("127.0.0.1", 25), timeout=5):
            scanner.send_tcp(25)
        settle(probe)
    expected = f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    assert probe.alerts() == [expected]


def test_a_host_that_scans_itself_is_not_reported(
    lab: Lab, probe: Probe, settle: Callable[[Probe], None]
) -> None:
    """Over loopback and by its own address, TCP and UDP; PortSentry would block 127.0.0.1."""
    for address in ("127.0.0.1", VICTIM4, "::1", VICTIM6):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with (
            lab.victim.entered(),
            socket.socket(family) as tcp,
            socket.socket(family, socket.SOCK_DGRAM) as udp,
        ):
            assert tcp.connect_ex((address, 25)) != 0
            udp.sendto(b"x", (address, 25))
    settle(probe)
    assert probe.alerts() == []


def test_our_own_clients_are_not_reported(
    lab: Lab, start_probe: Callable[..., Probe], settle: Callable[[Probe], None]
) -> None:
    """Answers to what we asked, with every port watched: they find our socket."""
    probe = start_probe('{"tcp_ports": ((0, 65535),), "udp_ports": ((0, 65535),)}')
    with lab.scanner.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening = socket.create_server((SCANNER4, 80))
    with server, listening, lab.victim.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.bind((SCANNER4, 53))
        client.sendto(b"question", (SCANNER4, 53))
        _, asker = server.recvfrom(99)
        server.sendto(b"answer", asker)
        assert client.recv(99) == b"answer"
        socket.create_connection((SCANNER4, 80), timeout=5).close()
        settle(probe)
    assert probe.alerts() == []


def test_packets_for_others_are_not_reported(
    probe: Probe, scanner: Scanner, settle: Callable[[Probe], None]
) -> None:
    """A router's host sees them too: to its hardware address, for another's IP address."""
    scanner.send_tcp(25, source=SCANNER4, destination="203.0.113.9")
    settle(probe)
    assert probe.alerts() == []


def test_a_new_address_counts_at_once(
    lab: Lab, probe: Probe, scanner: Scanner, wait_until: WaitUntil, settle: Callable[[Probe], None]
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


def test_fragments_of_nmap_are_seen_like_whole_packets(lab: Lab, probe: Probe, wait_until: WaitUntil) -> None:
    """Eight bytes a fragment (-f): no fragment alone shows its flags."""
    lab.scanner.run("nmap", "-n", "-Pn", "-f", "-sS", "--max-retries", "0", "-p", "20-22", VICTIM4)
    host = f"from host: {SCANNER4}/{SCANNER4} to TCP port:"
    expected = {f"attackalert: TCP SYN/Normal scan {host} {port}" for port in (20, 21, 22)}
    wait_until(lambda: set(probe.alerts()) == expected, what="three probes")
    assert len(probe.alerts()) == 3


def test_fragments_in_any_order_and_unfinished_ones(
    probe: Probe, scanner: Scanner, settle: Callable[[Probe], None]
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


def test_ip_options_are_reported(probe: Probe, scanner: Scanner, settle: Callable[[Probe], None]) -> None:
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
    start_probe: Callable[..., Probe],
    scanner: Scanner,
    settle: Callable[[Probe], None],
    kind: str,
) -> None:
    """A device on top of another: two devices see the packet, the IP stack once."""
    run = lab.victim.run
    if kind == "bridge":
        run("ip", "link", "add", "top", "type", "bridge")
        run("ip", "link", "set", "top", "address", _hardware_address(lab))  # the scanner sends to it
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


def _hardware_address(lab: Lab) -> str:
    shown = lab.victim.run("ip", "-o", "link", "show", "dev", VICTIM_DEVICE).stdout
    return shown.split("link/ether ")[1].split()[0]


def test_a_vlan_tag_neither_hides_nor_doubles_a_packet(
    *, lab: Lab, start_probe: Callable[..., Probe], scanner: Scanner, settle: Callable[[Probe], None]
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
    probe: Probe, scanner: Scanner, settle: Callable[[Probe], None]
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


@BOTH_VERSIONS
def test_bad_checksums_are_counted_and_prove_nothing(
    *,
    lab: Lab,
    probe: Probe,
    scanner: Scanner,
    settle: Callable[[Probe], None],
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


@BOTH_VERSIONS
def test_a_packet_counts_by_its_own_length(
    probe: Probe, scanner: Scanner, settle: Callable[[Probe], None], victim: str, source: str
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


def test_start_and_stop_lines(start_probe: Callable[..., Probe]) -> None:
    """PortSentry's, TCP before UDP; shown on standard output too; a termination ends with status 0."""
    probe = start_probe('{"tcp_ports": ((1, 512),), "udp_ports": ports, "exclude_udp": frozenset()}')
    status, output, _ = probe.stop()
    expected = [
        STARTING,
        format_monitored(512),
        *(format_excluded(port) for port in (113, 139)),
        *(format_ignored("TCP", port) for port in (113, 139)),
        format_monitored(1024),
        format_excluded(None),
        ACTIVE,
        *SHUTTING_DOWN,
    ]
    assert (status, output.splitlines()) == (0, expected)
    assert [text for text in probe.texts() if "syslog" not in text] == expected


def test_a_hangup_opens_the_log_anew_and_an_interrupt_ends(probe: Probe, wait_until: WaitUntil) -> None:
    """Also when the file of that name did not change, which only a closed descriptor shows."""

    def is_open() -> bool:
        folder = Path(f"/proc/{probe.child.pid}/fd")
        return any(os.readlink(link).endswith("alert.log") for link in folder.iterdir() if link.is_symlink())

    assert is_open()
    probe.child.send_signal(signal.SIGHUP)
    wait_until(lambda: not is_open())
    probe.child.send_signal(signal.SIGINT)
    probe.child.communicate(timeout=10)
    assert (probe.child.returncode, probe.texts()[-1]) == (0, SHUTTING_DOWN[-1])


def test_a_flood_is_bounded_and_summed_up(
    start_probe: Callable[..., Probe], scanner: Scanner, wait_until: WaitUntil
) -> None:
    """Ten lines and one that counts the rest; nothing is lost without a count."""
    probe = start_probe('{"lines_a_second": 10, "tcp_ports": ((1, 899),)}')
    for port in range(200, 700):
        scanner.send_tcp(port)

    def count() -> tuple[int, int]:
        found = [re.match(r"adminalert: (\d+) probes left out", text) for text in probe.texts()]
        return len(probe.alerts()), sum(int(match[1]) for match in found if match is not None)

    wait_until(lambda: sum(count()) == 500, what="every probe reported or counted")
    assert format_left_out(490, 10) in probe.texts() or count()[0] > 10  # a slow machine needs more seconds
    wait_until(lambda: probe.status().get("packets") == 500)
    status = probe.status()
    assert (status["reported"], status["left_out"]) == count()


def test_no_rights_are_kept(probe: Probe) -> None:
    """Once the sockets are open, no capability is left to steal."""
    status = Path(f"/proc/{probe.child.pid}/status").read_text()
    sets = dict(
        line.split(":\t", 1) for line in status.splitlines() if line.startswith(("Cap", "NoNewPrivs"))
    )
    nothing = "0" * 16
    assert [sets[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")] == [nothing] * 5
    assert sets["NoNewPrivs"] == "1"


def test_the_right_to_see_packets_is_enough(
    start_probe: Callable[..., Probe], scanner: Scanner, settle: Callable[[Probe], None]
) -> None:
    """CAP_NET_RAW and nothing else, as under the service manager."""
    probe = start_probe("{}", "setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all")
    scanner.send_tcp(25)
    settle(probe)
    assert probe.alerts() == [
        f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    ]


def test_a_device_that_goes_down_and_comes_back_is_watched_again(
    lab: Lab, probe: Probe, scanner: Scanner, wait_until: WaitUntil
) -> None:
    """Captures that are bound to a device lose it there."""
    lab.victim.run("ip", "link", "set", VICTIM_DEVICE, "down")
    lab.victim.run("ip", "link", "set", VICTIM_DEVICE, "up")

    def is_reported() -> bool:
        scanner.send_tcp(25)
        return bool(probe.alerts())

    wait_until(is_reported)


def test_root_still_writes_into_another_users_folder_after_a_rotation(
    start_probe: Callable[..., Probe], settle: Callable[[Probe], None], tmp_path: Path
) -> None:
    """`portward run` by root on a host where the package gave the log folder to the probe's own user."""
    nobody = 65534
    os.chown(tmp_path, nobody, nobody)
    probe = start_probe()
    (tmp_path / "alert.log").rename(tmp_path / "alert.log.1")
    settle(probe)
    assert probe.status().get("log_failures", 0) == 0
    status = Path(f"/proc/{probe.child.pid}/status").read_text()
    assert f"CapEff:\t{1 << CAP_DAC_OVERRIDE:016x}" in status


def test_without_the_right_the_refusal_says_how_to_get_it(
    lab: Lab, tmp_path: Path, probe_program: str
) -> None:
    """One error of ours, not a bare EPERM."""
    argv = ["setpriv", "--bounding-set=-net_raw", sys.executable, "-c", probe_program, str(tmp_path), "{}"]
    ended = lab.victim.run(*argv, must_succeed=False)
    assert ended.stderr.splitlines()[-1].startswith(
        "correlator.errors.PermissionDeniedError: packet socket: permission denied, expected CAP_NET_RAW"
    )


def test_the_service_managers_watchdog_is_fed(start_probe: Callable[..., Probe]) -> None:
    """Twice in the time that it allows."""
    probe = start_probe(WATCHDOG_USEC="200000")
    assert [probe.notices.recv(99) for _ in range(3)] == [b"WATCHDOG=1"] * 3


def test_it_stays_small(probe: Probe) -> None:
    """Under 20 MiB resident."""
    status = Path(f"/proc/{probe.child.pid}/status").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) < 20 * 1024
