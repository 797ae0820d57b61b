"""Packets of rules with `log group`, from the kernel to a decision, in a network name space."""

import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.model import SECOND
from tests.netns.packet_kinds import NOTHING, PACKETS, make_source
from tests.netns.packet_rules import PREROUTING, log_table
from tests.site_folders import paths_table

GROUP = 5
ICMP_ERROR = re.compile(r"PROTO=(?:ICMP TYPE=(?:3|4|5|11|12)|ICMPv6 TYPE=[1-4]) CODE=\d+$")
"""What they quote is not written: neither the packet nor what the error says of it."""
FILTER = Path(__file__).parents[2] / "filters/netfilter.toml"
NOON = 1_795_400_000 * SECOND
PROGRAM = """
import sys
from pathlib import Path
from correlator.cli import main
sys.exit(main(["probe", "--nflog", "--config", sys.argv[1]]))
"""


class _PacketLog:
    """The reader in the lab's victim, and what it wrote."""

    def __init__(self, lab, folder, limit):
        self.folder = folder
        self.log = folder / "packets.log"
        (folder / "portward.toml").write_text(
            f"[probe]\nnflog = [{GROUP}, 6]\nlines_a_second = {limit}\n"
            + paths_table(folder, ("alert_log", "state", "run", "ignore"))
        )
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with notices:
            notices.bind(str(folder / "notify"))
            notices.settimeout(10)
            self.child = lab.victim.popen(
                sys.executable,
                "-c",
                PROGRAM,
                str(folder),
                stderr=subprocess.PIPE,
                env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            )
            assert notices.recv(99) == b"READY=1"

    def texts(self):
        """What its lines say, each without its header."""
        try:
            return [line.split(" kernel: ", 1)[-1] for line in self.log.read_text().splitlines()]
        except FileNotFoundError:
            return []

    def status(self):
        """Its counters."""
        try:
            return json.loads((self.folder / "run/probe/packet-log.json").read_text())
        except FileNotFoundError:
            return {}


@pytest.fixture
def packet_log(lab, tmp_path, request):
    """A running reader of two groups; the parameter is its limit of lines a second."""
    made = _PacketLog(lab, tmp_path, getattr(request, "param", 1000))
    yield made
    made.child.terminate()
    made.child.communicate(timeout=10)


def test_a_line_is_the_one_that_the_kernel_writes(lab, kernel_log, scanner, packet_log, wait_until):
    """The same packet by `log` and by `log group`: the same text, but for what an ICMP error quotes."""
    lab.victim.run(
        "nft",
        "-f",
        "-",
        text=log_table("inet", PREROUTING, ['log prefix "x: "', f'log group {GROUP} prefix "x: "']),
    )
    sent = {}
    for kind, (destination, build, _expected) in PACKETS.items():
        sent[make_source(destination)] = kind
        scanner.send_packet(build(next(reversed(sent))))
    by_kernel = kernel_log.wait_about(sent, 1)
    ours = {}

    def are_there():
        for text in packet_log.texts():
            address = ipaddress.ip_address(text.partition(" SRC=")[2].partition(" ")[0])
            ours[str(address)] = text
        return ours.keys() >= sent.keys()

    wait_until(are_there)
    wrong = []
    for source, kind in sent.items():
        expected, line = by_kernel[source][0].rstrip(), ours[source]
        if ICMP_ERROR.search(line):
            expected = expected[: len(line)]
        if kind == "esp 6":
            expected += " PROTO=ESP SPI=0x1"
        if line != expected:
            wrong.append((kind, line, expected))
    assert wrong == [], "\n".join(map(repr, wrong))


def test_the_filters_read_the_packet_log(lab, scanner, packet_log, wait_until):
    """As they read the kernel's own log; a shipped filter names the file."""
    definition, _faults = load_filter(FILTER)
    assert "$PACKET_LOG$" in definition.files
    runs = Filter(definition)
    lab.victim.run(
        "nft", "-f", "-", text=log_table("inet", PREROUTING, [f'log group {GROUP} prefix "drop: "'])
    )
    kinds = {kind: row for kind, row in PACKETS.items() if row[2] is not NOTHING}
    sent = {}
    for kind, (destination, build, _expected) in kinds.items():
        sent[make_source(destination)] = kind
        scanner.send_packet(build(next(reversed(sent))))
    wait_until(lambda: len(packet_log.texts()) >= len(sent))
    got = {}
    for line in packet_log.log.read_text().splitlines():
        event = runs.read(make_line(line, arrived=NOON))
        if event is not None:
            got[str(event.source)] = (event.pattern, event.port, event.protocol)
    assert got == {source: kinds[kind][2] for source, kind in sent.items()}


@pytest.mark.parametrize("packet_log", [10], indirect=True)
def test_a_flood_is_bounded_and_counted(lab, scanner, packet_log, wait_until):
    """Ten lines a second here; how many more there were is said in one line."""
    lab.victim.run(
        "nft",
        "-f",
        "-",
        text=log_table("inet", PREROUTING, [f"ip protocol tcp log group {group}" for group in (GROUP, 6)]),
    )
    _destination, build, _expected = PACKETS["syn"]
    for _ in range(300):
        scanner.send_packet(build(make_source("192.0.2.1")))
    wait_until(lambda: any("packets not logged, limit 10 a second" in text for text in packet_log.texts()))
    wait_until(lambda: packet_log.status().get("packets") == 600)
    status = packet_log.status()
    assert status["lines"] + status["left_out"] == 600
    assert (status["groups"], status["kernel_drops"]) == ("5,6", 0)


def test_it_keeps_no_right(packet_log):
    """Once its groups are bound it may do nothing that an ordinary process may not."""
    with open(f"/proc/{packet_log.child.pid}/status") as file:
        rights = dict(line.split(":\t") for line in file.read().splitlines() if line.startswith("Cap"))
    assert {rights[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}


def test_without_the_right_it_says_which_one(lab, tmp_path):
    """CAP_NET_ADMIN, and nothing was read."""
    (tmp_path / "portward.toml").write_text(f'[paths]\nrun = "{tmp_path}/run"\n')
    child = lab.victim.popen(
        *("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"),
        *(sys.executable, "-m", "correlator", "probe", "--nflog", "5", "--config", str(tmp_path)),
        stderr=subprocess.PIPE,
    )
    _out, said = child.communicate(timeout=10)
    assert child.returncode == 77
    assert said.endswith(
        "NFLOG group 5: the kernel refused: EPERM (Operation not permitted): expected CAP_NET_ADMIN\n"
    )


@pytest.mark.usefixtures("packet_log")
def test_a_group_that_somebody_reads_is_refused(lab, tmp_path):
    """Two readers would each believe to have all of it."""
    (tmp_path / "portward.toml").write_text(f'[paths]\nrun = "{tmp_path}/other"\n')
    child = lab.victim.popen(
        *(sys.executable, "-m", "correlator", "probe", "--nflog", "5", "--config", str(tmp_path)),
        stderr=subprocess.PIPE,
    )
    _out, said = child.communicate(timeout=10)
    assert child.returncode == 75
    assert said.endswith(": expected a group that no other process reads\n")
