"""Scans that show in packet logs alone: ports, addresses, flags, protocols; and who is no scanner."""

import shutil
import time
from datetime import UTC, datetime

import pytest

from correlator.config.site import build_engine, load_site
from correlator.drill.lab import SCANNER4, VICTIM4, VICTIM_DEVICE
from correlator.drill.packets import Flag, build_ip
from correlator.model import JOURNAL, SECOND, Block, Chunk, Entries, Entry
from correlator.tailers.journal import JournalTailer, Wanted
from tests import journald
from tests.netns.packet_kinds import icmp, make_source, tcp
from tests.netns.packet_rules import PREROUTING, log_table

pytestmark = pytest.mark.netns

KERN_LOG = "/var/log/kern.log"
ALERT_LOG = "/var/log/portward/alert.log"
NOON = 1_795_400_000 * SECOND
STAMP = datetime.fromtimestamp(NOON // SECOND, UTC).isoformat()


@pytest.fixture
def make_engine(tmp_path):
    """A function that returns the engine of a site with these settings, nobody ignored."""

    def make(settings):
        (tmp_path / "portward.toml").write_text(f'mode = "block"\n{settings}')
        site = load_site(tmp_path)
        assert [str(fault) for fault in site.faults] == []
        return build_engine(site, ignored_by=lambda _source: None)

    return make


@pytest.fixture
def logging_rules(lab):
    """Rules in the victim that log and drop whatever comes."""
    lab.victim.run("nft", "-f", "-", text=log_table("inet", PREROUTING, ['log prefix "drop: "']))


def _feed(engine, lines):
    data = "".join(f"{STAMP} vm kernel: [ 2194.823475] {line}\n" for line in lines).encode()
    return engine.feed(Chunk(KERN_LOG, 0, data, NOON)).decisions


def _names(decisions):
    return [(str(block.source), block.jail) for block in decisions if isinstance(block, Block)]


@pytest.mark.usefixtures("logging_rules")
def test_a_scan_of_ports_is_blocked_with_one_line_of_settings(scanner, kernel_log, make_engine):
    """Six ports are a scan, five are not, and one port tried ten times is none."""
    engine = make_engine('enabled = ["netfilter"]\n')
    scan, few, client = (make_source(VICTIM4) for _ in range(3))
    for port in range(1, 7):
        scanner.send_packet(tcp(scan, Flag.SYN, port))
    for port in range(1, 6):
        scanner.send_packet(tcp(few, Flag.SYN, port))
    for _ in range(10):
        scanner.send_packet(tcp(client, Flag.SYN, 22))
    kernel_log.wait_for(f"SRC={client} ", count=10)
    (block,) = _feed(engine, kernel_log.lines("drop: "))
    assert (str(block.source), block.ports) == (scan, (1, 2, 3, 4, 5, 6))
    assert block.is_spoofable
    assert block.until == block.at + 600 * SECOND


@pytest.mark.usefixtures("logging_rules")
def test_who_is_blocked_is_not_blocked_anew_by_the_lines_that_follow(scanner, kernel_log, make_engine):
    """The rules go on logging what a blocked source sends."""
    engine = make_engine('enabled = ["netfilter"]\n')
    for port in range(1, 31):
        scanner.send_packet(tcp(SCANNER4, Flag.SYN, port))
    lines = kernel_log.wait_for("drop: ", f"SRC={SCANNER4} ", count=30)
    assert _names(_feed(engine, lines)) == [(SCANNER4, "netfilter")]
    assert _feed(engine, lines) == []


@pytest.mark.parametrize(
    "probe",
    [
        lambda address: tcp(SCANNER4, Flag.SYN, 22, destination=address),
        lambda address: icmp(SCANNER4, 8, 0, b"\0\0\0\1", destination=address),
    ],
    ids=["a port", "a ping"],
)
@pytest.mark.usefixtures("logging_rules")
def test_a_sweep_over_our_addresses(lab, scanner, kernel_log, make_engine, probe):
    """One port on many of our machines or addresses is a sweep, however slow the single machine is probed."""
    engine = make_engine(
        '[jail.sweep]\nfilters = ["netfilter"]\ncount = "distinct destination"\nthreshold = 5\nspan = "1h"\n'
    )
    ours = [f"192.0.2.{number}" for number in range(101, 106)]
    for address in ours:
        lab.victim.run("ip", "address", "add", f"{address}/24", "dev", VICTIM_DEVICE)
    for destination in ours:
        scanner.send_packet(probe(destination))
    lines = kernel_log.wait_for("drop: ", f"SRC={SCANNER4} ", count=5)
    assert _names(_feed(engine, lines)) == [(SCANNER4, "sweep")]


@pytest.mark.usefixtures("logging_rules")
def test_stealth_weighs_more_where_weight_counts(scanner, kernel_log, make_engine):
    """Two packets that no client sends are as much as six connection attempts."""
    engine = make_engine('[jail.odd]\nfilters = ["netfilter"]\ncount = "weight"\nthreshold = 6\n')
    stealthy, plain = make_source(VICTIM4), make_source(VICTIM4)
    for flags in (Flag.XMAS, Flag.NONE):
        scanner.send_packet(tcp(stealthy, flags, 22))
    for _ in range(5):
        scanner.send_packet(tcp(plain, Flag.SYN, 22))
    kernel_log.wait_for(f"SRC={plain} ", count=5)
    assert _names(_feed(engine, kernel_log.lines("drop: "))) == [(stealthy, "odd")]


@pytest.mark.usefixtures("logging_rules")
def test_a_scan_of_protocols(scanner, kernel_log, make_engine):
    """Asking which protocols we speak (nmap -sO) is a scan without ports."""
    engine = make_engine(
        '[jail.protocols]\nfilters = ["netfilter"]\ncount = "distinct protocol"\nthreshold = 6\n'
    )
    for protocol in (47, 50, 51, 88, 103, 132):
        scanner.send_packet(build_ip(SCANNER4, VICTIM4, protocol, b"\0\0\0\1" * 4))
    lines = kernel_log.wait_for("drop: ", f"SRC={SCANNER4} ", count=6)
    assert _names(_feed(engine, lines)) == [(SCANNER4, "protocols")]


@pytest.mark.usefixtures("logging_rules")
def test_probe_and_packet_log_add_up(scanner, kernel_log, make_engine):
    """Three ports that the probe saw and three that only the firewall saw are one scan of six."""
    engine = make_engine(
        '[jail.scan]\nfilters = ["portsentry", "netfilter"]\ncount = "distinct port"\nthreshold = 6\n'
    )
    alerts = "".join(
        f"{STAMP} vm portsentry[7]: attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4}"
        f" to TCP port: {port}\n"
        for port in (1, 2, 3)
    )
    assert engine.feed(Chunk(ALERT_LOG, 0, alerts.encode(), NOON)).decisions == []
    for port in (3, 4, 5, 6):
        scanner.send_packet(tcp(SCANNER4, Flag.SYN, port))
    lines = kernel_log.wait_for("drop: ", f"SRC={SCANNER4} ", count=4)
    (block,) = _feed(engine, lines)
    assert block.ports == (1, 2, 3, 4, 5, 6)


@pytest.mark.usefixtures("logging_rules")
@pytest.mark.parametrize("technique", ["-sS", "-sX", "-sN", "-sF", "-sU"])
def test_nmap_is_seen(lab, kernel_log, make_engine, technique):
    """A real scanner, as it comes."""
    if shutil.which("nmap") is None:
        pytest.skip("nmap is not installed")
    engine = make_engine('enabled = ["netfilter"]\n')
    ports = "1-12" if technique != "-sU" else "7,9,11,13,17,19,69,161,162,514"
    lab.scanner.run("nmap", technique, "-Pn", "-n", "--max-retries", "0", "-T4", "-p", ports, VICTIM4)
    lines = kernel_log.wait_for("drop: ", f"SRC={SCANNER4} ", count=6)
    assert _names(_feed(engine, lines)) == [(SCANNER4, "netfilter")]


@pytest.mark.usefixtures("logging_rules")
def test_in_the_journal_only_the_kernel_is_the_kernel(scanner, kernel_log, make_engine):
    """`logger -t kernel` writes the same text; what journald vouches for tells them apart."""
    engine = make_engine('enabled = ["netfilter"]\n')
    for port in range(1, 7):
        scanner.send_packet(tcp(SCANNER4, Flag.SYN, port))
    lines = kernel_log.wait_for("drop: ", f"SRC={SCANNER4} ", count=6)

    def told(**fields):
        entries = tuple(
            Entry(NOON + number, "vm", "kernel", "", line.rstrip(), fields)
            for number, line in enumerate(lines)
        )
        return _names(engine.feed(Entries(JOURNAL, entries, NOON)).decisions)

    assert told(_TRANSPORT="syslog", _UID="1000") == []
    assert told(_TRANSPORT="stdout", _UID="0") == []
    assert told(_TRANSPORT="kernel") == [(SCANNER4, "netfilter")]


@pytest.mark.usefixtures("logging_rules", "kernel_log")
def test_a_real_journal_tells_the_kernel_from_who_calls_himself_so(
    scanner, make_engine, tmp_path, wait_until
):
    """Journald has the kernel's lines from the kernel, and a liar's from him, whatever he calls himself."""
    if (why := journald.why_none()) is not None:
        pytest.skip(why)
    pytest.importorskip("systemd.journal", reason="python3-systemd is not installed")
    engine = make_engine('enabled = ["netfilter"]\n')
    source, victim = make_source(VICTIM4), "203.0.113.66"
    with journald.Journald(tmp_path / "journald", reads_kernel=True) as daemon:
        daemon.settle()
        tailer = JournalTailer(daemon.folder, Wanted(None, frozenset({"_TRANSPORT"})))
        for port in range(1, 7):
            scanner.send_packet(tcp(source, Flag.SYN, port))
            daemon.write_syslog(
                f"<4>Nov 23 08:01:02 kernel: drop: IN=v0 OUT= MAC= SRC={victim} DST={VICTIM4} LEN=40 TOS=0x00"
                f" PREC=0x00 TTL=64 ID=1 PROTO=TCP SPT=1 DPT={port} WINDOW=1024 RES=0x00 SYN URGP=0 "
            )
        seen, decided = [], []

        def is_decided():
            for entries in tailer.read(time.time_ns() // 1000):
                seen.extend(entries.entries)
                decided.extend(_names(engine.feed(entries).decisions))
            return decided and sum(victim in entry.body for entry in seen) == 6

        wait_until(is_decided)
        tailer.close()
    assert {entry.identifier for entry in seen if victim in entry.body} == {"kernel"}
    assert decided == [(source, "netfilter")]
