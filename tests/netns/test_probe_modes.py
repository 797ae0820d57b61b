"""The six modes on real packets: PortSentry's lines, ports in use, and the devices that count."""

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from correlator.attackalert import ACTIVE, NOT_STARTED, SHUTTING_DOWN, format_none_bound
from correlator.drill.lab import SCANNER4, VICTIM_DEVICE, Lab
from correlator.drill.scanner import Scanner
from correlator.settings import PROBE_MODES
from tests.netns.victim import BOTH, CONNECT, SYN, WaitUntil, connect, nmap, serve

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("one_address")]

RECORDED = json.loads((Path(__file__).parents[1] / "golden" / "portsentry" / "runs.json").read_text())
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
