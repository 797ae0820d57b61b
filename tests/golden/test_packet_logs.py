"""The filters of packet logs, against lines that real firewalls' rules had the kernel write.

`filters/packet-logs.jsonl` was recorded with ufw, firewalld and Shorewall themselves, each with its own
rules in a name space, and the same packets for all; each line was then looked at. The same is done anew,
with rules that write such lines, in tests/netns/test_packet_logs.py.
"""

import json
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.config.reader import File
from correlator.config.site import build_engine, load_site
from correlator.lines.syslog import format_instant
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter, Unreadable
from correlator.model import SECOND, Chunk
from correlator.probe.packet_log import IPV4, IPV6, LoggedPacket, format_packet
from tests.netns.packet_kinds import NOTHING, PACKETS

ROOT = Path(__file__).parents[2]
RECORDED = [json.loads(line) for line in (ROOT / "tests/golden/filters/packet-logs.jsonl").open()]
ULOGD = [json.loads(line) for line in (ROOT / "tests/golden/filters/ulogd.jsonl").open()]
NAMES = ("netfilter", "netfilter-forward", "ufw", "firewalld", "shorewall")
OWN_VARIABLES = {"prefix", "devices"}
NOON = 1_795_400_000 * SECOND
ONLY_OURS_TELLS = {"esp 6": ("protocol", None, "ESP")}
"""Of which the kernel's log says less than ours."""


@pytest.fixture(scope="module")
def filters():
    """The shipped filters, running."""
    return {name: Filter(load_filter(ROOT / f"filters/{name}.toml")[0]) for name in NAMES}


@pytest.mark.parametrize("stamp", ["[ 2194.823475] ", "[12345.000001][    C0] ", ""])
@pytest.mark.parametrize("program", sorted({record["from"] for record in RECORDED}))
def test_recorded_lines_say_what_they_said(filters, program, stamp):
    """Each line says the same to each filter, with the kernel's own stamp before it and without."""
    wrong = []
    for record in RECORDED:
        if record["from"] != program:
            continue
        line = make_line(f"Nov 23 08:01:02 vm kernel: {stamp}{record['line']}", arrived=NOON)
        answers = {name: filter_.read(line) for name, filter_ in filters.items()}
        assert not any(isinstance(answer, Unreadable) for answer in answers.values()), record["line"]
        got = {
            name: [answer.pattern, str(answer.source), answer.port]
            for name, answer in answers.items()
            if answer is not None
        }
        if got != record["read"]:
            wrong.append((got, record))
    assert wrong == []


def test_recorded_lines_of_ulogd_say_what_they_said():
    """The packets of tests/netns/packet_kinds.py, as ulogd 2.0.8 wrote them, with a prefix and without."""
    filter_ = Filter(load_filter(ROOT / "filters/ulogd.toml")[0])
    wrong = []
    for record in ULOGD:
        line = make_line(record["line"], arrived=NOON)
        assert filter_.wants(line.header.identifier)
        answer = filter_.read(line)
        assert not isinstance(answer, Unreadable), record["line"]
        got = answer and [answer.pattern, str(answer.source), answer.port]
        if got != record["read"]:
            wrong.append((got, record))
    assert wrong == []


@pytest.mark.parametrize("kind", PACKETS)
def test_our_own_packet_log_says_what_the_kernels_says(filters, kind):
    """A packet that a rule hands us (NFLOG) is read as the same packet in the kernel's log is."""
    destination, build, expected = PACKETS[kind]
    expected = ONLY_OURS_TELLS.get(kind, expected)
    source = "2001:db8:51::77" if ":" in destination else "198.51.0.77"
    protocol = IPV6 if ":" in destination else IPV4
    packet = LoggedPacket(
        protocol, build(source), "drop: ", "v0", "", bytes(12) + protocol.to_bytes(2, "big")
    )
    answer = filters["netfilter"].read(
        make_line(f"Nov 23 08:01:02 vm kernel: {format_packet(packet)}", arrived=NOON)
    )
    assert not isinstance(answer, Unreadable)
    got = answer and (answer.pattern, str(answer.source), answer.port, answer.protocol)
    assert got == (NOTHING if expected is NOTHING else (expected[0], source, *expected[1:]))


def test_no_packet_counts_twice_in_one_filter():
    """Ufw tells of one packet up to twice, AUDIT and BLOCK: no filter counts both."""
    told = {}
    for record in RECORDED:
        if record["from"].startswith("ufw") and "IN=v0" in record["line"]:
            packet = record["line"].split("SRC=")[1]
            told.setdefault(packet, []).append(record)
    assert max(len(records) for records in told.values()) == 2
    assert max(sum("ufw" in record["read"] for record in records) for records in told.values()) == 1


def test_all_filters_of_packet_logs_know_one_grammar():
    """The kernel's words stand in five files: whoever mends one mends all."""
    variables, patterns = {}, {}
    for name in NAMES:
        path = ROOT / f"filters/{name}.toml"
        table = File(path, []).table()
        shared = dict(table.table("variables").any_values())
        variables[name] = {key: text for key, text in shared.items() if key not in OWN_VARIABLES}
        patterns[name] = [
            (item.text("name", ""), item.text("regex", ""), item.number("weight", 1, least=1, most=99))
            for item in table.tables("pattern")
        ]
    assert [name for name in NAMES if variables[name] != variables["netfilter"]] == []
    assert [name for name in NAMES if patterns[name] != patterns["netfilter"]] == []


DENIED = {
    "ipchains": "Packet log: input DENY eth0 PROTO=6 192.0.2.2:1234 192.0.2.1:{port} L=60 S=0x00 I=1234"
    " F=0x4000 T=64 SYN (#1)",
    "netfilter": "Denied IN=eth0 OUT= MAC= SRC=192.0.2.2 DST=192.0.2.1 LEN=40 TOS=0x00 PREC=0x00 TTL=64 ID=1"
    " PROTO=TCP SPT=40000 DPT={port} WINDOW=1024 RES=0x00 SYN URGP=0 ",
}


@pytest.mark.parametrize(("filter_", "denied"), DENIED.items(), ids=DENIED)
def test_lines_that_our_own_block_causes_are_no_reason_to_block_again(tmp_path, filter_, denied):
    """The seed's KILL_ROUTE logs what it denies (`-j DENY -l`): a thousand such lines lengthen nothing.

    The probe's own line blocks; the rules go on writing for as long as the scanner goes on.
    """
    (tmp_path / "portward.toml").write_text(
        f'enabled = ["{filter_}"]\n[jail.portscan]\nfilters = ["portsentry"]\nspoofable_block_for = "1h"\n'
    )
    engine = build_engine(load_site(tmp_path, mode="block"), ignored_by=lambda _source: None)
    said = "portsentry[7]: attackalert: TCP SYN/Normal scan from host: 192.0.2.2/192.0.2.2 to TCP port: 79"
    (block,) = _feed(engine, "/var/log/portward/alert.log", "portsentry", said, NOON)
    for second in range(1, 1000):
        line = f"kernel: {denied.format(port=second)}"
        assert _feed(engine, "/var/log/kern.log", filter_, line, NOON + second * SECOND) == []
    assert block.until == NOON + 3600 * SECOND
    assert engine.jails[filter_].counters.denied_already == 999
    later = []
    for port in range(1, 7):
        line = f"kernel: {denied.format(port=port)}"
        later += _feed(engine, "/var/log/kern.log", filter_, line, block.until + port * SECOND)
    assert [len(decision.ports) for decision in later] == [6]


def _feed(engine, log, filter_, text, at):
    engine.follow(log, [filter_])
    stamp = format_instant(at).replace("Z", "+00:00")
    return engine.feed(Chunk(log, 0, f"{stamp} vm {text}\n".encode(), at)).decisions
