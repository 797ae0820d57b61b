"""The probe as a process: its start and end, signals, rights, size, and a flood."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from correlator.attackalert import (
    ACTIVE,
    SHUTTING_DOWN,
    STARTING,
    format_excluded,
    format_ignored,
    format_left_out,
    format_monitored,
)
from correlator.drill.lab import SCANNER4, Lab
from correlator.drill.scanner import Scanner
from correlator.kernel.process import CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE
from tests.netns.victim import CONNECT, WaitUntil, connect

pytestmark = pytest.mark.netns


def test_start_and_stop_lines(start_probe: Callable[..., Any]) -> None:
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


def test_a_hangup_opens_the_log_anew_and_an_interrupt_ends(probe: Any, wait_until: WaitUntil) -> None:
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
    start_probe: Callable[..., Any], scanner: Scanner, wait_until: WaitUntil
) -> None:
    """What one source may have of ten lines, and one that counts the rest: nothing is lost uncounted."""
    probe = start_probe('{"lines_a_second": 10, "tcp_ports": ((1, 899),)}')
    for port in range(200, 700):
        scanner.send_tcp(port)

    def count() -> tuple[int, int]:
        found = [re.match(r"adminalert: (\d+) probes left out", text) for text in probe.texts()]
        return len(probe.alerts()), sum(int(match[1]) for match in found if match is not None)

    wait_until(lambda: sum(count()) == 500, what="every probe reported or counted")
    assert format_left_out(492, 10) in probe.texts() or count()[0] > 8  # a slow machine needs more seconds
    wait_until(lambda: probe.status().get("packets") == 500)
    status = probe.status()
    assert (status["reported"], status["left_out"]) == count()


def test_no_rights_are_kept(probe: Any) -> None:
    """Once the sockets are open, no capability is left to steal."""
    status = Path(f"/proc/{probe.child.pid}/status").read_text()
    sets = dict(
        line.split(":\t", 1) for line in status.splitlines() if line.startswith(("Cap", "NoNewPrivs"))
    )
    nothing = "0" * 16
    assert [sets[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")] == [nothing] * 5
    assert sets["NoNewPrivs"] == "1"


def test_the_right_to_see_packets_is_enough(
    start_probe: Callable[..., Any], scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """CAP_NET_RAW and nothing else, as under the service manager."""
    probe = start_probe("{}", "setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all")
    scanner.send_tcp(25)
    settle(probe)
    assert probe.alerts() == [
        f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    ]


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


def test_root_still_writes_into_another_users_folder_after_a_rotation(
    start_probe: Callable[..., Any], settle: Callable[[Any], None], tmp_path: Path
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


def test_the_service_managers_watchdog_is_fed(start_probe: Callable[..., Any]) -> None:
    """Twice in the time that it allows."""
    probe = start_probe(WATCHDOG_USEC="200000")
    assert [probe.notices.recv(99) for _ in range(3)] == [b"WATCHDOG=1"] * 3


def test_it_stays_small(probe: Any) -> None:
    """Under 20 MiB resident."""
    status = Path(f"/proc/{probe.child.pid}/status").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) < 20 * 1024
