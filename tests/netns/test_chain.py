"""The whole chain on real packets: probe, correlator and enforcer, a real nft set, a real scanner."""

import contextlib
import random
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

from correlator.attackalert import ACTIVE
from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6
from correlator.drill.packets import AnswerKind, Flag
from correlator.drill.rig import PROCESSES, Rig
from correlator.drill.scanner import Scanner
from correlator.drill.story import tell
from correlator.kernel.process import CAP_NET_ADMIN

pytestmark = pytest.mark.netns

NO_BREAKER = """
[jail.portscan]
filters = ["portsentry"]
spoofable_a_minute = 1000000
"""


@pytest.fixture
def scanner(lab):
    """A scanner in the lab."""
    with Scanner(lab) as made:
        yield made


@pytest.fixture
def make_rig(lab, tmp_path):
    """Start Portward in the lab's victim, everything in the test's folder; ended with the test."""
    rigs = []

    def make(**options):
        rig = Rig(lab, tmp_path, **options)
        rigs.append(rig)
        rig.start()
        return rig

    yield make
    for rig in rigs:
        rig.stop()


def _listen(lab, port, kind=socket.SOCK_STREAM):
    with lab.victim.entered():
        listener = socket.socket(socket.AF_INET, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        if kind is socket.SOCK_STREAM:
            listener.listen()
    return listener


def test_the_drill_proves_every_step():
    """SYN, FIN, NULL, XMAS and UDP, IPv4 and IPv6: seen, dropped in the kernel, released."""
    steps = list(tell())
    assert [step for step in steps if not step.is_proved] == []
    assert {step.name for step in steps} >= {
        "SYN scan", "FIN scan", "NULL scan", "XMAS scan", "UDP scan", "kernel set", "next probe", "release",
    }  # fmt: skip


def _status_of(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


def test_the_processes_are_small_and_may_do_little(make_rig):
    """Probe under 20 MiB, correlator under 45; no capability but the enforcer's one over the firewall."""
    found = {name: _status_of(process) for name, process in make_rig().process_ids().items()}
    kilobytes = {name: int(status["VmRSS"].split()[0]) for name, status in found.items()}
    assert kilobytes["probe"] < 20 * 1024
    assert kilobytes["correlate"] < 45 * 1024
    effective = {name: int(status["CapEff"], 16) for name, status in found.items()}
    assert effective == {"probe": 0, "correlate": 0, "enforce": 1 << CAP_NET_ADMIN}
    assert {int(status["CapPrm"], 16) for status in found.values()} == {0, 1 << CAP_NET_ADMIN}
    assert {status["NoNewPrivs"].strip() for status in found.values()} == {"1"}


def test_observe_blocks_nothing(make_rig, scanner, wait_until):
    """A new installation says what it would do, and does not touch the firewall."""
    rig = make_rig(mode="observe")
    scanner.send_tcp(79)
    wait_until(lambda: f"observe source={SCANNER4} jail=portscan" in rig.printed())
    assert rig.denied() == {}
    assert "portward" not in rig.lab.victim.run("nft", "list", "ruleset").stdout
    assert scanner.is_answered(79)


def test_a_client_of_an_open_port_is_never_reported(make_rig, scanner, lab, wait_until):
    """Neither of a service that was there at the start, nor of one that opened a moment ago."""
    with contextlib.ExitStack() as services:
        services.enter_context(_listen(lab, 22))
        rig = make_rig()
        assert scanner.wait_for_answer(scanner.send_tcp(22)).kind is AnswerKind.OPEN
        for port in range(200, 240):
            services.enter_context(_listen(lab, port))
            assert scanner.wait_for_answer(scanner.send_tcp(port)).kind is AnswerKind.OPEN
            services.enter_context(_listen(lab, port, socket.SOCK_DGRAM))
            scanner.send_udp(port)
        scanner.send_tcp(79)
        wait_until(rig.alerts)
    told = [f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 79"]
    assert rig.alerts() == told


def test_an_established_connection_of_a_blocked_source_is_cut(make_rig, scanner, lab, wait_until):
    """The drop stands before conntrack: who is blocked cannot go on with what was open."""
    with _listen(lab, 22) as listener:
        rig = make_rig()
        with lab.scanner.entered():
            client = socket.create_connection((VICTIM4, 22), timeout=5)
        accepted, _ = listener.accept()
        client.sendall(b"before")
        assert accepted.recv(100) == b"before"
        scanner.send_tcp(79)
        wait_until(lambda: SCANNER4 in rig.denied())
        client.sendall(b"after")
        accepted.settimeout(0.3)
        with pytest.raises(TimeoutError):
            accepted.recv(100)
        client.close()
        accepted.close()


def test_an_ignored_source_is_never_blocked(make_rig, scanner, lab, tmp_path, wait_until):
    """The ignore file wins, also when a line is added while we run."""
    lab.add_scanner_address("192.0.2.7", "192.0.2.8")
    ignore = tmp_path / "portward.ignore"
    ignore.write_text("127.0.0.1/32\n192.0.2.7  # a friend\n")
    rig = make_rig()
    scanner.send_tcp(79, source="192.0.2.7")
    scanner.send_tcp(79, source="192.0.2.8")
    wait_until(lambda: "192.0.2.8" in rig.denied())
    assert set(rig.denied()) == {"192.0.2.8"}
    ignore.write_text(f"192.0.2.7\n{SCANNER6}\n")
    scanner.send_tcp(79, source="192.0.2.7")
    scanner.send_tcp(79, destination=VICTIM6)
    scanner.send_tcp(79)
    wait_until(lambda: SCANNER4 in rig.denied())
    assert set(rig.denied()) == {"192.0.2.8", SCANNER4}


def test_a_second_probe_in_the_same_mode_is_refused(make_rig, lab):
    """Two would report every packet twice; it says who is there already."""
    rig = make_rig()
    code = "import sys; from correlator.cli import main; sys.exit(main(['probe', '--config', sys.argv[1]]))"
    done = lab.victim.run(sys.executable, "-c", code, str(rig.folder), must_succeed=False)
    assert done.returncode == 75
    assert "another probe in mode atcp runs here already" in done.stderr


def test_the_gateway_is_never_blocked(make_rig, scanner, wait_until):
    """A scan under the gateway's address would otherwise cut the host off."""
    rig = make_rig()
    scanner.send_tcp(79, source="192.0.2.254")
    scanner.send_tcp(79)
    wait_until(lambda: SCANNER4 in rig.denied())
    assert set(rig.denied()) == {SCANNER4}
    assert rig.ask("why", "192.0.2.254")["never_blocked"] == "192.0.2.254 is a gateway of this host"


def test_distinct_ports_in_a_span(make_rig, scanner, wait_until):
    """Knocking on one door ten times is no scan where the jail counts doors."""
    rig = make_rig(settings='[jail.scan]\nfilters = ["portsentry"]\ncount = "distinct port"\nthreshold = 3\n')
    for _ in range(10):
        scanner.send_tcp(79)
    scanner.send_tcp(80)
    wait_until(lambda: len(rig.alerts()) == 11)
    assert rig.denied() == {}
    scanner.send_tcp(81, Flag.FIN)
    wait_until(lambda: SCANNER4 in rig.denied())
    assert rig.ask("why", SCANNER4)["decisions"][0]["body"]["ports"] == [79, 80, 81]


def test_a_block_ends_by_itself(make_rig, scanner, wait_until):
    """The kernel lets the source in again when the time is over, and belief and files follow."""
    rig = make_rig(
        settings='[jail.scan]\nfilters = ["portsentry"]\nblock_for = "2s"\nspoofable_block_for = "2s"\n'
    )
    scanner.send_tcp(79)
    wait_until(lambda: SCANNER4 in rig.denied())
    wait_until(lambda: SCANNER4 not in rig.denied())
    assert scanner.is_answered(113)  # answered by a closed port that is not watched, or not at all
    wait_until(lambda: rig.ask("history")["blocks"][0]["state"] == "expired")
    assert rig.ask("blocks")["blocks"] == []
    wait_until(lambda: (rig.folder / "state/portward.blocked").read_text() == "")
    assert f"expired source={SCANNER4}" in rig.printed()


def test_a_restart_keeps_blocks_and_waiting_strikes(make_rig, scanner, wait_until):
    """What was denied stays denied while we are away, and two strikes before a restart are not forgotten."""
    settings = '[jail.scan]\nfilters = ["portsentry"]\nthreshold = 3\n'
    rig = make_rig(settings=settings)
    for port in (79, 80, 81):
        scanner.send_tcp(port, destination=VICTIM6)
    scanner.send_tcp(79)
    scanner.send_tcp(80)
    wait_until(lambda: SCANNER6 in rig.denied() and len(rig.alerts()) == 5)
    wait_until(lambda: rig.ask("status")["correlator"]["sources"][0]["backlog"] == 0)
    assert rig.stop() == 0
    assert set(rig.denied()) == {SCANNER6}
    rig.start()
    assert set(rig.denied()) == {SCANNER6}
    scanner.send_tcp(81)
    wait_until(lambda: SCANNER4 in rig.denied())


@pytest.mark.parametrize("victim", PROCESSES)
def test_killed_at_any_moment_no_block_is_lost_and_none_doubled(make_rig, scanner, lab, wait_until, victim):
    """Every source in the alert log is denied in the end, with one line in history, whoever was killed."""
    sources = [f"192.0.2.{number}" for number in range(20, 140)]
    lab.add_scanner_address(*sources)
    rig = make_rig(settings=NO_BREAKER)
    chance = random.Random(victim)  # noqa: S311  the same moments in every run
    kill_at = set(chance.sample(range(5, 115), 6))
    starts = rig.alert_log.read_text().count(ACTIVE)
    for number, source in enumerate(sources):
        scanner.send_tcp(79, source=source)
        if number in kill_at:
            rig.kill(victim)
        if (
            victim == "probe"
        ):  # what is still in its socket's queue dies with it, and nobody sees what comes then
            starts += number in kill_at
            wait_until(lambda: number in kill_at or f"/{source} " in rig.alert_log.read_text())  # noqa: B023
            wait_until(lambda: rig.alert_log.read_text().count(ACTIVE) == starts)  # noqa: B023
    wait_until(lambda: set(rig.process_ids()) == set(PROCESSES))
    scanner.send_tcp(79)  # what it reports is the last line, so all before it are there
    wait_until(lambda: f"/{SCANNER4} " in rig.alert_log.read_text())
    reported = {line.split("/")[-1].split(" ")[0] for line in rig.alerts()}
    assert len(reported) >= (115 if victim == "probe" else 121)
    wait_until(lambda: set(rig.denied()) == reported, seconds=20)
    path = rig.folder / "state/portward.history"
    wait_until(lambda: path.exists() and len(path.read_text().splitlines()) >= len(reported))
    history = path.read_text().splitlines()
    assert Counter(line.split("/")[-1].split(" ")[0] for line in history) == dict.fromkeys(reported, 1)
    wait_until(lambda: len((rig.folder / "state/portward.blocked").read_text().splitlines()) == len(reported))
    assert {row["source"] for row in rig.ask("blocks")["blocks"]} == reported
    printed = Counter(
        line.split()[1] for line in rig.printed().splitlines() if line.startswith("block source=")
    )
    assert set(printed.values()) == {1}
    assert "Traceback" not in rig.printed()
