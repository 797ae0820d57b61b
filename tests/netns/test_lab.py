"""The lab itself: real packets cross, answers come back, and nothing at all is left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from correlator.drill.lab import SCANNER4, VICTIM4, VICTIM6, Lab, LabError, Namespace
from correlator.drill.packets import AnswerKind, Flag
from correlator.drill.scanner import Scanner
from correlator.errors import MissingToolError

pytestmark = pytest.mark.netns

BOTH_VERSIONS = pytest.mark.parametrize("victim", [VICTIM4, VICTIM6])
SILENCE = 0.1
"""Seconds after which no answer is taken for none; an answer takes a thousandth of it."""


@pytest.fixture
def scanner(lab: Lab) -> Iterator[Scanner]:
    """A scanner in the lab."""
    with Scanner(lab) as made:
        yield made


@pytest.fixture
def service(lab: Lab) -> Iterator[int]:
    """The port of a service that listens in the victim."""
    with lab.victim.entered():
        listening = socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    with listening:
        yield 22


@BOTH_VERSIONS
def test_a_syn_is_answered_by_open_and_by_closed_ports(scanner: Scanner, service: int, victim: str) -> None:
    """A SYN/ACK means open, an RST closed; both carry the kernel's stamp."""
    before = time.time_ns()
    is_open = scanner.wait_for_answer(scanner.send_tcp(service, destination=victim))
    is_closed = scanner.wait_for_answer(scanner.send_tcp(21, destination=victim))
    assert is_open is not None
    assert is_closed is not None
    assert (is_open.kind, is_closed.kind) == (AnswerKind.OPEN, AnswerKind.CLOSED)
    assert before <= is_open.at <= is_closed.at <= time.time_ns()


@BOTH_VERSIONS
@pytest.mark.parametrize("flags", [Flag.FIN, Flag.NONE, Flag.XMAS, Flag.ACK])
def test_the_victim_believes_our_checksums_for_any_flags(scanner: Scanner, flags: Flag, victim: str) -> None:
    """A kernel answers nothing to a segment whose checksum is wrong."""
    answer = scanner.wait_for_answer(scanner.send_tcp(21, flags, destination=victim, payload=b"odd"))
    assert answer is not None
    assert answer.kind is AnswerKind.CLOSED


def test_an_open_port_keeps_silent_about_a_lone_fin(scanner: Scanner, service: int) -> None:
    """Silence is reported as silence."""
    assert scanner.wait_for_answer(scanner.send_tcp(service, Flag.FIN), SILENCE) is None


@BOTH_VERSIONS
def test_every_closed_udp_port_answers(scanner: Scanner, victim: str) -> None:
    """More probes than the kernel's usual limit of answers, and each has its own answer."""
    routes = [scanner.send_udp(port, destination=victim) for port in range(1, 200)]
    answers = scanner.collect_answers(*routes)
    assert {answer.kind for answer in answers.values()} == {AnswerKind.UNREACHABLE}
    assert set(routes) == set(answers)


def test_answers_to_a_forged_source_are_seen(scanner: Scanner) -> None:
    """The victim sends what belongs to strangers through the scanner."""
    assert scanner.is_answered(113, source="203.0.113.77")


def test_a_dropped_source_is_not_answered_and_the_next_one_is(lab: Lab, scanner: Scanner) -> None:
    """`is_answered` means blocked or not, and nothing else."""
    rule = f"type filter hook input priority 0; ip saddr {SCANNER4} drop;"
    lab.victim.run("nft", f"table ip trial {{ chain guard {{ {rule} }} ; }}")
    assert not scanner.is_answered(113, SILENCE)
    lab.add_scanner_address("192.0.2.4")
    assert scanner.is_answered(113, source="192.0.2.4")


def test_hundreds_of_scanner_addresses(lab: Lab, service: int) -> None:
    """Real connections from every one of them, so the scanner really owns them."""
    addresses = [f"198.51.100.{number}" for number in range(1, 255)] + ["2001:db8:5::9"]
    lab.add_scanner_address(*addresses)
    for address in addresses:
        victim = VICTIM6 if ":" in address else VICTIM4
        with (
            lab.scanner.entered(),
            socket.create_connection((victim, service), timeout=5, source_address=(address, 0)) as connection,
        ):
            assert connection.getsockname()[0] == address


def test_entering_is_undone_whatever_happens_inside(lab: Lab) -> None:
    """Nested, and with an exception: afterwards we are where we were."""
    home = os.stat("/proc/thread-self/ns/net").st_ino
    with lab.victim.entered():
        victim = os.stat("/proc/thread-self/ns/net").st_ino
        with pytest.raises(RuntimeError, match="inside"), lab.scanner.entered():
            raise RuntimeError("inside")
        assert os.stat("/proc/thread-self/ns/net").st_ino == victim
    assert os.stat("/proc/thread-self/ns/net").st_ino == home != victim


def test_only_the_main_thread_may_enter(lab: Lab) -> None:
    """Another thread would see its own /proc/net and start children elsewhere."""
    raised: list[BaseException] = []

    def enter() -> None:
        try:
            with lab.victim.entered():
                pass
        except RuntimeError as exc:
            raised.append(exc)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_failing_command_says_what_it_wrote(lab: Lab) -> None:
    """Standard error of a tool is never discarded."""
    with pytest.raises(LabError, match=r"ip link show nothing \(victim\): status 1: .*does not exist"):
        lab.victim.run("ip", "link", "show", "nothing")
    with pytest.raises(LabError, match=r"did not end within 0\.01 s"):
        lab.victim.run("sleep", "30", seconds=0.01)
    with pytest.raises(MissingToolError, match="no-such-tool"):
        lab.victim.run("no-such-tool")


def test_without_the_capability_the_refusal_says_what_to_do() -> None:
    """Root without CAP_SYS_ADMIN (a container) gets one line, not a traceback."""
    ended = subprocess.run(
        [
            "setpriv",
            "--bounding-set=-sys_admin",
            sys.executable,
            "-c",
            "import correlator.drill.lab as l; l.Lab()",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr.splitlines()[-1] == (
        "correlator.errors.PermissionDeniedError: network namespaces: Operation not permitted:"
        " run as root (CAP_SYS_ADMIN)"
    )


def test_close_ends_what_lives_inside(wait_until: Callable[..., None]) -> None:
    """Also what a child left behind when it ended, in a session of its own."""
    with Lab() as lab:
        lab.victim.run("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & setsid sleep 600 >/dev/null 2>&1 &")
        child = lab.scanner.popen("sleep", "600")
        orphans = lab.victim.inhabitants()
        assert len(orphans) == 2
    assert child.returncode == -signal.SIGKILL
    wait_until(lambda: not any(_is_running(process) for process in orphans))


def test_close_ends_a_child_that_went_elsewhere() -> None:
    """A child of ours in a namespace of its own is no inhabitant, and ends all the same."""
    with Lab() as lab:
        child = lab.victim.popen(
            "unshare", "--net", "sh", "-c", "echo there; exec sleep 600", stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "there\n"
        assert lab.victim.inhabitants() == ()
    assert child.returncode == -signal.SIGKILL


def test_nothing_is_left_after_close(wait_until: Callable[..., None]) -> None:
    """The kernel takes both namespaces back, and the host's own was never touched."""
    host = socket.if_nameindex()
    observer = Namespace("observer")
    try:
        with Lab() as lab:
            assert _lives(observer, _watch(observer, lab.victim.path, lab.scanner.path))
        wait_until(lambda: not _lives(observer, {"w0", "w1"}), what="both namespaces gone")
    finally:
        observer.close()
    assert socket.if_nameindex() == host


def test_nothing_is_left_after_sigkill(wait_until: Callable[..., None]) -> None:
    """Nobody has to tidy up after a process that could not: neither namespaces nor children remain."""
    program = (
        "import sys; from correlator.drill.lab import Lab; lab = Lab();"
        "child = lab.victim.popen('sleep', '600');"
        "print(lab.victim.path, lab.scanner.path, child.pid, flush=True); sys.stdin.read()"
    )
    observer = Namespace("observer")
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            victim, scanner, child = holder.stdout.readline().split()
            assert _lives(observer, _watch(observer, victim, scanner))
            holder.kill()
        wait_until(lambda: not _lives(observer, {"w0", "w1"}), what="both namespaces gone")
        assert not _is_running(int(child))
    finally:
        observer.close()


def _watch(observer: Namespace, *paths: str) -> set[str]:
    """Join each namespace to the observer by a veth pair: its end here vanishes with the namespace."""
    names = set()
    for number, path in enumerate(paths):
        observer.run("ip", "link", "add", f"w{number}", "type", "veth", "peer", "name", "w", "netns", path)
        names.add(f"w{number}")
    return names


def _is_running(process: int) -> bool:
    """False for what has ended, even where the init of this machine is slow to collect it."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _lives(observer: Namespace, names: set[str]) -> set[str]:
    with observer.entered():
        return names & {name for _, name in socket.if_nameindex()}
