"""Who reads PortSentry's files and lines reads ours: their own expressions, and the real Fail2ban."""

import re
from pathlib import Path

import pytest

from correlator.attackalert import (
    Probe,
    format_already_blocked,
    format_not_blocked,
    format_probe,
    format_response,
    mode_of,
    parse_probe,
)
from correlator.model import SECOND, parse_prefix
from correlator.store.history import format_history_line
from tests.peers import fail2ban

NOW = 1_795_356_540 * SECOND
SOURCES = ("192.0.2.9", "2001:db8::9")


@pytest.mark.skipif(not fail2ban.is_there(), reason="Fail2ban is not there (make peer)")
def test_fail2bans_own_filter_reads_our_history(tmp_path: Path) -> None:
    """Debian's filter.d/portsentry.conf, as it stands: each line, IPv4 and IPv6, with a name and without."""
    lines = [
        format_history_line(NOW, parse_prefix(source), 79, "TCP", name).rstrip("\n")
        for source in SOURCES
        for name in ("", "scanner.example.net")
    ]
    found = fail2ban.ask("portsentry", lines, tmp_path)
    assert [[answer.identity for answer in answers] for answers in found] == [
        [source] for source in SOURCES for _ in range(2)
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_the_readers_of_the_log_read_ours(source: str) -> None:
    """The expressions of logwatch, Wazuh and Prelude, as they stand in their packages."""
    scan = format_probe("TCP SYN/Normal", source, source, "TCP", 1).replace(" from host", " scan from host")
    connect = format_probe("Connect", source, source, "TCP", 1)
    logwatch = r"attackalert: (.+) scan from host: [^/]+/(\S+) to (\w+) port: (\d+)"
    assert re.search(logwatch, scan)[2] == source
    prelude = r"attackalert: Connect from host: (\S+)/([\d\.]+|[\dA-Fa-f\:]+) to (TCP|UDP) port: (\d+)"
    assert re.search(prelude, connect)[2] == source
    wazuh = r"attackalert: Connect from host: (\S+)/\S+ to (\S+) port: (\d+)$"
    assert re.search(wazuh, connect)[1] == source
    assert re.search(
        r"Host: (\S+) is already blocked. Ignoring$", format_already_blocked(source, source, "tcp")
    )
    assert re.search(r"Host (\S+) has been blocked", format_response("route", source, "x"))[1] == source


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tcp", "attackalert: ERROR: Could not block host 192.0.2.9 !!"),
        ("stcp", "attackalert: ERROR: Could not block host a/192.0.2.9 !!"),
        ("atcp", "attackalert: ERROR: Could not block host a/192.0.2.9!!"),
    ],
)
def test_the_three_spellings_of_a_failure(mode: str, expected: str) -> None:
    """As the real one's."""
    assert format_not_blocked("a", "192.0.2.9", mode) == expected


@pytest.mark.parametrize("technique", ["TCP SYN/Normal scan", " TCP NULL scan", "UDP scan", "Connect"])
@pytest.mark.parametrize("name", ["192.0.2.9", "scanner.example.net", "a/203.0.113.1 to TCP port: 1"])
def test_a_probes_line_is_read_back(technique: str, name: str) -> None:
    """With its header; a name that could be a trap is not taken, the address behind the last slash is."""
    protocol = "UDP" if technique.startswith("UDP") else "TCP"
    line = "Nov 22 14:29:22 vm portsentry[71]: " + format_probe(technique, name, "192.0.2.9", protocol, 79)
    probe = parse_probe(line)
    assert probe is not None
    assert (probe.address, probe.protocol, probe.port) == ("192.0.2.9", protocol, 79)
    assert probe.name == ("192.0.2.9" if "/" in name else name)
    assert probe.technique.strip() == technique.strip()
    assert parse_probe(line + " ") is None
    assert parse_probe(line.replace("port: 79", "port: 70000")) is None


def test_which_mode_saw_a_probe() -> None:
    """A connection is a connect mode's; of stealth and advanced the one that runs."""
    syn = Probe("TCP SYN/Normal scan", "a", "192.0.2.9", "TCP", 79)
    connect = Probe("Connect", "a", "192.0.2.9", "UDP", 79)
    assert mode_of(connect, ("atcp", "audp")) == "udp"
    assert mode_of(syn, ("atcp", "stcp")) == "atcp"
    assert mode_of(syn, ("stcp", "audp")) == "stcp"
