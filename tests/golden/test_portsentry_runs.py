"""Our probe's lines are PortSentry's own, to the byte: start, stop and probes of its recorded runs."""

import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from correlator.attackalert import ACTIVE, CONNECT, SHUTTING_DOWN, STARTING, end_for_syslog, format_probe
from correlator.config.filters import load_filter
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.model import Event
from correlator.probe.announce import announce_mode, is_connect, protocol_of
from correlator.probe.packets import TCP, UDP, Packet
from correlator.probe.sockets import Taker
from correlator.probe.techniques import ACK_TECHNIQUE, UDP_TECHNIQUE, name_technique
from correlator.probe.watch import Watch
from correlator.settings import PROBE_MODES, ProbeSettings

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((Path(__file__).parent / "portsentry" / "runs.json").read_text())
CONFIGURATION: dict[str, str] = RECORDED["configuration"]
STARTS = {name: case for name, case in RECORDED["cases"].items() if "start" in case}
PROBED = {
    TCP: (1, 11, 22, 79, 80, 111, 113, 139, 515, 540, 1080, 2000),
    UDP: (1, 7, 9, 53, 67, 69, 69, 137, 161, 161, 513, 520, 2049),
}
SCANS = {"connect": 0x02, "syn": 0x02, "fin": 0x01, "null": 0, "xmas": 0x29, "ack": 0x10, "maimon": 0x11}
VICTIM, SCANNER = (socket.inet_aton(text) for text in ("192.0.2.1", "192.0.2.2"))


def settings_for(mode: str, written: Mapping[str, str | None]) -> ProbeSettings:
    """What portsentry.conf says, as we are told it; "first N ports" are 0 to N-1."""

    def ports(key: str) -> tuple[int, ...]:
        return tuple(int(port) for port in (written.get(key) or "").split(",") if port)

    def first(key: str) -> tuple[tuple[int, int], ...]:
        count = int(written.get(key) or 0)
        return ((0, count - 1),) if count else ()

    return ProbeSettings(
        modes=(mode,),
        tcp_list=ports("TCP_PORTS"),
        udp_list=ports("UDP_PORTS"),
        tcp_ports=first("ADVANCED_PORTS_TCP"),
        udp_ports=first("ADVANCED_PORTS_UDP"),
        exclude_tcp=ports("ADVANCED_EXCLUDE_TCP"),
        exclude_udp=ports("ADVANCED_EXCLUDE_UDP"),
        compat=True,
    )


def start_lines(mode: str, settings: ProbeSettings, in_use: list[int]) -> list[str]:
    """What we send to syslog at a start where these ports are in use, and so cannot be bound."""
    announcement = announce_mode(mode, settings, in_use, in_use)
    ready = [ACTIVE] if announcement.has_started else []
    return [end_for_syslog(text) for text in (STARTING, *announcement.lines, *ready)]


def watch_for(mode: str) -> Watch:
    """A watch as in the recorded runs: Debian's configuration, its services, no socket but theirs."""
    made = Watch(settings_for(mode, CONFIGURATION), lambda _packet, _device: Taker.NOBODY)
    made.own_addresses = frozenset({VICTIM})
    for protocol, name in ((TCP, "TCP"), (UDP, "UDP")):
        made.in_use[protocol].note(RECORDED["in_use"][name], 0)
    return made


def probe_lines(mode: str, scan: str) -> list[str]:
    """What we report of nmap's scan; only a whole handshake ever reaches a connect mode."""
    watch = watch_for(mode)
    protocol = UDP if scan == "udp" else TCP
    lines: list[str] = []
    for port in PROBED[protocol]:
        if is_connect(mode):
            opened = settings_for(mode, CONFIGURATION).tcp_list if mode == "tcp" else ()
            opened = settings_for(mode, CONFIGURATION).udp_list if mode == "udp" else opened
            is_taken = scan in ("connect", "udp") and protocol == protocol_of(mode) and port in opened
            lines += watch.judge_connect(protocol, port, SCANNER, VICTIM, 0) if is_taken else ()
        else:
            packet = Packet(SCANNER, VICTIM, protocol, port, 4444, SCANS.get(scan, 0), has_ip_options=False)
            lines += watch.judge(packet, "eth0", 0, b"")
    return lines


def test_the_recording_is_whole() -> None:
    """Six modes, each scanned in twelve ways; without this an empty file would be green."""
    scans = [*SCANS, "window", "udp", "connect6", "syn6", "udp6"]
    assert {f"{mode}/{scan}" for mode in PROBE_MODES for scan in scans} == set(RECORDED["probes"])
    assert sum(map(len, RECORDED["probes"].values())) == 96
    assert set(RECORDED["start"]) == set(PROBE_MODES)
    assert len(STARTS) == 11


@pytest.mark.parametrize("mode", PROBE_MODES)
def test_start_and_stop_lines_are_portsentrys(mode: str) -> None:
    """In its order, with its trailing spaces and line feeds."""
    in_use = RECORDED["in_use"]["TCP" if protocol_of(mode) == TCP else "UDP"]
    assert RECORDED["start"][mode] == start_lines(mode, settings_for(mode, CONFIGURATION), in_use)
    assert RECORDED["stop"] == [end_for_syslog(text) for text in SHUTTING_DOWN]


@pytest.mark.parametrize("name", sorted(STARTS))
def test_starts_that_go_wrong_are_told_in_portsentrys_words(name: str) -> None:
    """Ports in use, all of them, none listed; limits of 0 and of all."""
    case: dict[str, Any] = STARTS[name]
    settings = settings_for(case["mode"], {**CONFIGURATION, **case["configuration"]})
    assert case["start"] == start_lines(case["mode"], settings, case["in_use"])
    assert case["stop"] == [end_for_syslog(text) for text in SHUTTING_DOWN]


@pytest.mark.parametrize("run", sorted(run for run in RECORDED["probes"] if not run.endswith("6")))
def test_each_scan_in_each_mode_gives_portsentrys_lines(run: str) -> None:
    """Seen where PortSentry sees it and nowhere else, in its words and order."""
    mode, scan = run.split("/")
    assert RECORDED["probes"][run] == probe_lines(mode, scan.replace("window", "ack"))


def test_every_flag_byte_is_named_as_recorded() -> None:
    """All 256, byte N to port 200 + N: 64 lines."""
    watch = watch_for("atcp")
    lines: list[str] = []
    for flags in range(256):
        lines += watch.judge(
            Packet(SCANNER, VICTIM, TCP, 200 + flags, 4444, flags, has_ip_options=False), "", 0, b""
        )
    assert RECORDED["cases"]["flags-atcp"]["probes"] == lines


def test_ip_options_follow_the_probe_as_recorded() -> None:
    """Each probe, then the line about its options."""
    recorded: list[str] = RECORDED["cases"]["ipopts-atcp"]["probes"]
    watch = watch_for("atcp")
    lines: list[str] = []
    for text in recorded[::2]:
        source, port = re.search(r"host: ([\d.]+)/.* port: (\d+)$", text).groups()
        flags = 0 if "NULL" in text else 0x02
        packet = Packet(socket.inet_aton(source), VICTIM, TCP, int(port), 4444, flags, has_ip_options=True)
        lines += watch.judge(packet, "eth0", 0, b"")
    assert recorded == lines


def test_ipv6_was_invisible_to_portsentry_and_is_not_to_us() -> None:
    """A difference that we chose: the same words with the other address."""
    assert [RECORDED["probes"][run] for run in RECORDED["probes"] if run.endswith("6")] == [[]] * 18
    ours = Watch(settings_for("atcp", CONFIGURATION), lambda _packet, _device: Taker.NOBODY)
    victim, scanner = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::1", "2001:db8::2"))
    ours.own_addresses = frozenset({victim})
    expected = format_probe("TCP SYN/Normal scan", "2001:db8::2", "2001:db8::2", "TCP", 1)
    packet = Packet(scanner, victim, TCP, 1, 4444, 0x02, has_ip_options=False)
    assert (expected,) == ours.judge(packet, "eth0", 0, b"")


READERS = {
    "logwatch": r"attackalert: (.+) scan from host: [^/]+/(\S+) to (\w+) port: (\d+)",
    "Prelude": r"attackalert:.*?(\S+) scan from\s+host: \S+/([\d\.]+|[\dA-Fa-f\:]+) to (TCP|UDP) port: (\d+)",
}
"""As the packages ship them (logwatch 7.7, Prelude LML)."""


@pytest.mark.parametrize("address", ["192.0.2.2", "2001:db8::2"])
@pytest.mark.parametrize("technique", [ACK_TECHNIQUE, UDP_TECHNIQUE, name_technique(0), name_technique(0x29)])
def test_readers_of_portsentrys_log_understand_ours(technique: str, address: str) -> None:
    """Also what PortSentry never wrote: ACK scans and IPv6."""
    line = format_probe(technique, address, address, "TCP", 7)
    kind = technique.removesuffix(" scan")
    found = {name: re.search(pattern, line) for name, pattern in READERS.items()}
    assert {name: match.groups() for name, match in found.items() if match} == {
        "logwatch": (kind, address, "TCP", "7"),
        "Prelude": (kind.split()[-1], address, "TCP", "7"),
    }


@pytest.mark.parametrize(
    "technique",
    sorted({ACK_TECHNIQUE, UDP_TECHNIQUE, CONNECT, *filter(None, map(name_technique, range(256)))}),
)
def test_our_own_filter_reads_every_line_that_the_probe_writes(technique: str) -> None:
    """Sender, port, and whether the sender may be forged."""
    definition, faults = load_filter(ROOT / "filters" / "portsentry.toml", alert_log=Path("/alert.log"))
    assert definition is not None, faults
    header = "2026-11-22T14:29:22.311584+00:00 vm portsentry[71]: "
    line = header + format_probe(technique, "2001:db8::2", "2001:db8::2", "TCP", 7)
    event = Filter(definition).read(make_line(line, arrived=0))
    assert isinstance(event, Event)
    assert (str(event.source), event.port, event.protocol) == ("2001:db8::2", 7, "TCP")
    assert event.is_spoofable == (technique != CONNECT)
