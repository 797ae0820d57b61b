"""The six modes on real packets: PortSentry's lines, banners, ports in use, and thousands of connections."""

import contextlib
import json
import os
import re
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from correlator.attackalert import ACTIVE, NOT_STARTED, SHUTTING_DOWN, format_none_bound
from correlator.drill.lab import (
    GATEWAY6,
    SCANNER4,
    SCANNER6,
    SCANNER_DEVICE,
    VICTIM4,
    VICTIM6,
    VICTIM_DEVICE,
    Lab,
)
from correlator.drill.packets import Flag, build_tcp, build_udp
from correlator.drill.scanner import Scanner
from correlator.kernel.process import CAP_NET_BIND_SERVICE
from correlator.settings import PROBE_MODES

pytestmark = pytest.mark.netns

WaitUntil = Callable[..., None]
RECORDED = json.loads((Path(__file__).parents[1] / "golden" / "portsentry" / "runs.json").read_text())
CONNECT = "attackalert: Connect from host: {0}/{0} to {1} port: {2}"
ACK = "attackalert: TCP ACK scan from host: {0}/{0} to TCP port: {1}"
SYN = "attackalert: TCP SYN/Normal scan from host: {0}/{0} to TCP port: {1}"
BOTH = pytest.mark.parametrize(("victim", "source"), [(VICTIM4, SCANNER4), (VICTIM6, SCANNER6)])
TCP_PORTS = "1,11,22,79,80,111,113,139,515,540,1080,2000"
UDP_PORTS = "1,7,9,53,67,69,137,161,513,520,2049"
SCANS = {
    # those that a mode does not see come first: when the others are worked off, so are these
    "ack": "-sA",
    "maimon": "-sM",
    "window": "-sW",
    "udp": "-sU",
    "syn": "-sS",
    "fin": "-sF",
    "null": "-sN",
    "xmas": "-sX",
    "connect": "-sT",
}


def serve(lab: Lab, port: int, *, kind: int = socket.SOCK_STREAM, address: str = "::") -> socket.socket:
    """A service in the victim; on `::` it serves both IP versions."""
    with lab.victim.entered():
        serving = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    if kind == socket.SOCK_STREAM:
        serving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    serving.bind((address, port))
    if kind == socket.SOCK_STREAM:
        serving.listen(64)
    return serving


def nmap(lab: Lab, option: str, ports: str, victim: str = VICTIM4) -> str:
    """Scan these ports once each and return what nmap says."""
    version = ["-6"] if ":" in victim else []
    argv = ["nmap", "-n", "-Pn", "-r", "--max-retries", "0", option, "-p", ports, *version, victim]
    return lab.scanner.run(*argv).stdout


def connect(lab: Lab, port: int, victim: str = VICTIM4) -> socket.socket:
    """A finished handshake from the scanner."""
    with lab.scanner.entered():
        return socket.create_connection((victim, port), timeout=5)


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    """A syslog daemon's socket where the probe looks for one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.settimeout(10)
        yield daemon


@pytest.fixture(autouse=True)
def _one_address(lab: Lab) -> None:
    """Let the scanner's kernel have no choice of its IPv6 source; nothing here goes through the gateway."""
    lab.scanner.run("ip", "addr", "del", f"{GATEWAY6}/64", "dev", SCANNER_DEVICE)


def datagrams(syslog: socket.socket, last: str) -> list[str]:
    """Texts that came up to the one that begins so, line feeds included."""
    found = [""]
    while not found[-1].startswith(last):
        found.append(read_text(syslog))
    return found[1:]


def read_text(syslog: socket.socket) -> str:
    """The next datagram without its header."""
    return re.sub(r"^<29>.{15} portsentry\[\d+\]: ", "", syslog.recv(9999).decode())


@pytest.mark.parametrize("mode", PROBE_MODES)
def test_each_mode_sees_of_nmaps_scans_what_portsentry_saw(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    syslog: socket.socket,
    mode: str,
) -> None:
    """The same ports, services and scans as recorded; start and stop lines as they were on the wire."""
    ports = {"tcp_ports": ((0, 1023),), "udp_ports": ((0, 1023),)}
    with serve(lab, 22), serve(lab, 80), serve(lab, 53, kind=socket.SOCK_DGRAM):
        probe = start_probe(repr({"modes": (mode,), "compat": True, **ports}))
        assert RECORDED["start"][mode] == datagrams(syslog, ACTIVE)
        expected: list[str] = []
        for scan, option in SCANS.items():
            nmap(lab, option, UDP_PORTS if scan == "udp" else TCP_PORTS)
            expected += RECORDED["probes"][f"{mode}/{scan}"]
        sent = [read_text(syslog) for _ in expected]
        status, _, _ = probe.stop()
    assert sorted(expected) == sorted(probe.reports()) == sorted(sent)
    assert RECORDED["stop"] == datagrams(syslog, SHUTTING_DOWN[0]) + datagrams(syslog, SHUTTING_DOWN[1])
    assert status == 0


@BOTH
def test_all_modes_at_once_in_one_process(
    lab: Lab, start_probe: Callable[..., Any], wait_until: WaitUntil, victim: str, source: str
) -> None:
    """Connects, listed ports and ranges, each reported once; over IPv6 as over IPv4."""
    options = {
        "modes": ("tcp", "udp", "stcp", "sudp", "atcp", "audp"),
        "tcp_list": (79, 5000),
        "udp_list": (69, 5001),
        "tcp_ports": ((1, 100),),
        "udp_ports": ((1, 100),),
    }
    probe = start_probe(repr(options))
    # what the connect modes opened is in use for the others, as it is for a second PortSentry
    assert probe.texts().count(NOT_STARTED) == 2
    nmap(lab, "-sS", "79,80,5000,6000", victim)
    nmap(lab, "-sT", "79,5000", victim)
    nmap(lab, "-sU", "68,69", victim)
    expected = {
        SYN.format(source, 80),
        CONNECT.format(source, "TCP", 79),
        CONNECT.format(source, "TCP", 5000),
        CONNECT.format(source, "UDP", 69),
        f"attackalert: UDP scan from host: {source}/{source} to UDP port: 68",
    }
    wait_until(lambda: set(probe.reports()) == expected)
    assert probe.reports().count(CONNECT.format(source, "TCP", 79)) == 1


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


def test_ports_in_use_are_told_and_the_others_keep_their_numbers(
    lab: Lab, start_probe: Callable[..., Any], syslog: socket.socket, wait_until: WaitUntil
) -> None:
    """PortSentry said 22 and 79 for 79 and 111: its lists of sockets and of ports ran apart."""
    with serve(lab, 22), serve(lab, 80):
        probe = start_probe('{"modes": ("tcp",), "tcp_list": (11, 22, 79, 80, 111)}')
        assert RECORDED["cases"]["someinuse-tcp"]["start"] == datagrams(syslog, ACTIVE)
        for port in (11, 79, 111, 22):
            connect(lab, port).close()
    expected = [CONNECT.format(SCANNER4, "TCP", port) for port in (11, 79, 111)]
    wait_until(lambda: sorted(probe.reports()) == sorted(expected))


@pytest.mark.parametrize("mode", ["tcp", "stcp"])
def test_a_mode_without_a_free_port_ends_the_probe(
    *, lab: Lab, tmp_path: Path, probe_program: str, syslog: socket.socket, mode: str
) -> None:
    """In PortSentry's words; with a status that a service manager understands, where PortSentry said 0."""
    options = repr({"modes": (mode,), "tcp_list": (22, 80), "compat": True})
    argv = [os.sys.executable, "-c", probe_program, str(tmp_path), options]  # type: ignore[attr-defined]
    with serve(lab, 22), serve(lab, 80):
        ended = lab.victim.run(*argv, must_succeed=False)
    case = RECORDED["cases"][f"allinuse-{mode}"]
    assert [*case["start"], *case["stop"]] == datagrams(syslog, SHUTTING_DOWN[1])
    assert f"BusyError: probe -{mode}: all listed ports are in use" in ended.stderr


def test_a_mode_without_a_free_port_does_not_stop_the_others(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """PortSentry has a process for each; here the others go on."""
    with serve(lab, 22):
        probe = start_probe('{"modes": ("tcp", "atcp"), "tcp_list": (22,)}')
        scanner.send_tcp(25)
        settle(probe)
    assert format_none_bound("TCP") in probe.texts()
    assert probe.alerts() == [SYN.format(SCANNER4, 25)]


def test_the_right_to_bind_low_ports_is_enough_and_given_up(
    lab: Lab, start_probe: Callable[..., Any], wait_until: WaitUntil
) -> None:
    """A connect mode needs no packet socket, so not CAP_NET_RAW."""
    rights = ("--bounding-set=-all,+net_bind_service", "--inh-caps=-all")
    probe = start_probe('{"modes": ("tcp", "udp")}', "setpriv", *rights)
    status = Path(f"/proc/{probe.child.pid}/status").read_text()
    assert f"CapEff:\t{0:016x}" in status
    assert f"CapBnd:\t{1 << CAP_NET_BIND_SERVICE:016x}" in status  # without CAP_SETPCAP it cannot shrink
    connect(lab, 1).close()
    wait_until(lambda: probe.reports() == [CONNECT.format(SCANNER4, "TCP", 1)])


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


@pytest.mark.parametrize("is_compat", [False, True])
def test_services_come_and_go_in_a_stealth_mode(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    wait_until: WaitUntil,
    is_compat: bool,
) -> None:
    """One from before is watched once it is gone, with compat never; one that comes later is let be."""
    options = {"modes": ("stcp",), "tcp_list": (22, 79, 2000), "compat": is_compat}
    with serve(lab, 22):
        probe = start_probe(repr(options))
        with serve(lab, 79):
            scanner.send_tcp(22)
            scanner.send_tcp(79)
            scanner.send_tcp(80)
            scanner.send_tcp(2000)
            wait_until(lambda: probe.reports() == [SYN.format(SCANNER4, 2000)])

    def is_reported(port: int) -> bool:
        scanner.send_tcp(port)
        return SYN.format(SCANNER4, port) in probe.reports()

    wait_until(lambda: is_reported(79))
    if is_compat:
        assert not is_reported(22)
    else:
        wait_until(lambda: is_reported(22))


def test_only_the_named_devices_count(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """The named one as ever."""
    options = {"modes": ("tcp", "atcp"), "tcp_list": (5000,), "interfaces": (VICTIM_DEVICE,)}
    probe = start_probe(repr(options))
    scanner.send_tcp(25)
    connect(lab, 5000).close()
    settle(probe)
    assert probe.alerts() == [SYN.format(SCANNER4, 25)] or len(probe.reports()) == 2


def test_another_device_is_neither_watched_nor_opened(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, wait_until: WaitUntil
) -> None:
    """Its packets are passed over, and the connect ports are closed there."""
    options = {"modes": ("tcp", "udp", "atcp"), "tcp_list": (5000,), "interfaces": ("lo", "later0")}
    probe = start_probe(repr(options))
    scanner.send_tcp(25)
    with pytest.raises(ConnectionRefusedError):
        connect(lab, 5000)
    scanner.send_tcp(26)
    wait_until(lambda: probe.status().get("own") == 2)
    assert probe.reports() == []


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
    shown = run("ip", "-o", "link", "show", "dev", VICTIM_DEVICE).stdout
    run("ip", "link", "set", "top", "address", shown.split("link/ether ")[1].split()[0])
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
