"""What tests in the lab share: running probes and enforcers, a scanner, and waiting until all is done."""

import fcntl
import ipaddress
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from correlator.drill.lab import GATEWAY6, SCANNER4, SCANNER6, SCANNER_DEVICE, VICTIM4, VICTIM6, Lab
from correlator.drill.scanner import Scanner
from correlator.settings import Paths
from tests.netns.enforcers import Running
from tests.peers.duel import Duel

WaitUntil = Callable[..., None]
MARKS = itertools.cycle(range(901, 1000))
"""Ports of the probes that only say "everything before this was worked off"."""

PROGRAM = """
import sys
from pathlib import Path
from correlator.model import SECOND
from correlator.probe.service import run_probe
from correlator.settings import Paths, ProbeSettings
folder = Path(sys.argv[1])
paths = Paths(alert_log=folder / "alert.log", run=folder, syslog=folder / "log", ignore=folder / "ignore")
ports = ((1, 1024),)
options = eval(sys.argv[2])
sys.exit(run_probe(ProbeSettings(**{"paths": paths, "linger": SECOND, "echo": "lines", **options})))
"""


class Probe:
    """A running probe in the lab's victim, and what it wrote."""

    def __init__(self, lab: Lab, folder: Path, options: str, *prefix: str, **environment: str) -> None:
        self.folder = folder
        (folder / "ignore").touch()
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notify"))
        self.notices.settimeout(10)
        self.child = lab.victim.popen(
            *prefix,
            sys.executable,
            "-c",
            PROGRAM,
            str(folder),
            options,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), **environment},
        )
        assert self.notices.recv(99) == b"READY=1"

    def texts(self) -> list[str]:
        """What the alert log's lines say, without their headers."""
        try:
            lines = (self.folder / "alert.log").read_text().splitlines()
        except FileNotFoundError:  # between a rotation and the next line
            return []
        found = [re.fullmatch(r"\S+ \S+ portsentry\[\d+\]: (.*)", line) for line in lines]
        return [match[1] for match in found if match is not None]

    def alerts(self) -> list[str]:
        """The lines about probes, without the marks that `settle` sends."""
        return [text for text in self.texts() if text.startswith("attackalert") and not _is_mark(text)]

    def reports(self) -> list[str]:
        """All lines about probes, marks too where a test has made some."""
        return [text for text in self.texts() if text.startswith("attackalert")]

    def status(self) -> dict[str, object]:
        """The counters; empty before they are written first."""
        try:
            found: dict[str, object] = json.loads(Paths(run=self.folder).probe_status.read_text())
        except FileNotFoundError:
            return {}
        return found

    def stop(self) -> tuple[int, str, str]:
        """End it; return status, standard output, standard error."""
        self.child.terminate()
        output, complaint = self.child.communicate(timeout=10)
        return self.child.returncode, output, complaint

    def close(self) -> None:
        """Give the descriptor back; the lab ends the process."""
        self.notices.close()


@pytest.fixture
def duel(tmp_path: Path) -> Iterator[Duel]:
    """Two fresh labs; `start` puts the guards in."""
    with ExitStack() as stack:
        yield Duel(tmp_path, stack)


class KernelLog:
    """What the kernel says from now on; its packet logs also from name spaces that are not the first.

    Only one test on this machine may hold it at a time, in whatever process: the setting is the machine's.
    """

    SETTING = Path("/proc/sys/net/netfilter/nf_log_all_netns")

    def __init__(self, wait_until: WaitUntil) -> None:
        self._wait_until = wait_until
        self._descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._before = self.SETTING.read_text()
        self.SETTING.write_text("1")
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self._lines: list[str] = []

    def lines(self, *words: str) -> list[str]:
        """The texts with all these words in them, other tests' and strangers' too; without stamps.

        The kernel's log is a ring: who sends much has to call this meanwhile.
        """
        while True:
            try:
                record = os.read(self._descriptor, 8192)
            except BlockingIOError:
                return [line for line in self._lines if all(word in line for word in words)]
            except BrokenPipeError:  # the ring has overtaken us; what is missing will be missed
                continue
            # 4,2130,11544479444,-;IN=v0 OUT= ...\n DEVICE=...
            self._lines.append(record.decode().split(";", 1)[1].split("\n", 1)[0])

    def wait_for(self, *words: str, count: int = 1) -> list[str]:
        """Return the lines with these words as soon as there are so many."""
        self._wait_until(lambda: len(self.lines(*words)) >= count, what=f"{count} lines with {words}")
        return self.lines(*words)

    def wait_about(self, sources: Iterable[str], count: int) -> dict[str, list[str]]:
        """Return, for each sender, the lines about its packets as soon as there are so many of each."""
        needles = {source: f" SRC={ipaddress.ip_address(source).exploded} " for source in sources}

        def find(needle: str) -> list[str]:
            return [line for line in self.lines(needle) if needle in line.split("[SRC=")[0]]

        for source, needle in needles.items():
            self._wait_until(
                lambda needle=needle: len(find(needle)) >= count, what=f"{count} lines about {source}"
            )
        return {source: find(needle) for source, needle in needles.items()}

    def close(self) -> None:
        """Put the machine's setting back."""
        self.SETTING.write_text(self._before)
        os.close(self._descriptor)


@pytest.fixture
def kernel_log(wait_until: WaitUntil) -> Iterator[KernelLog]:
    """The kernel's log, with the packet logs of all name spaces in it."""
    if not KernelLog.SETTING.exists():
        pytest.skip(f"no {KernelLog.SETTING} here: packet logs of a name space reach no kernel log")
    try:
        log = KernelLog(wait_until)
    except PermissionError as exc:
        pytest.skip(f"the kernel log may not be read here: {exc}")
    yield log
    log.close()


@pytest.fixture
def scanner(lab: Lab) -> Iterator[Scanner]:
    """A scanner in the lab."""
    with Scanner(lab) as made:
        yield made


@pytest.fixture
def running(lab: Lab, tmp_path: Path, wait_until: WaitUntil) -> Iterator[Running]:
    """Enforcers to start in the lab."""
    made = Running(lab, tmp_path, wait_until)
    yield made
    made.close()


@pytest.fixture
def one_address(lab: Lab) -> None:
    """Let the scanner's kernel have no choice of its IPv6 source; nothing goes through the gateway then."""
    lab.scanner.run("ip", "addr", "del", f"{GATEWAY6}/64", "dev", SCANNER_DEVICE)


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    """A syslog daemon's socket where the probe looks for one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.settimeout(10)
        yield daemon


@pytest.fixture
def start_probe(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Probe]]:
    """A function that starts the probe with these settings and returns when it is ready."""
    started: list[Probe] = []

    def start(options: str = "{}", *prefix: str, **environment: str) -> Probe:
        started.append(Probe(lab, tmp_path, options, *prefix, **environment))
        return started[-1]

    yield start
    for probe in started:
        probe.close()


@pytest.fixture
def probe_program() -> str:
    """What runs a probe: the folder of its files and its settings are the arguments."""
    return PROGRAM


@pytest.fixture
def probe(start_probe: Callable[..., Probe]) -> Probe:
    """A running probe that watches 1 to 1024 and lingers for a second."""
    return start_probe()


@pytest.fixture
def settle(scanner: Scanner, wait_until: WaitUntil) -> Callable[[Probe], None]:
    """A function that returns when the probe has worked off all that was sent before, of both versions."""

    def wait(probe: Probe) -> None:
        for destination, source in ((VICTIM4, SCANNER4), (VICTIM6, SCANNER6)):
            port = next(MARKS)
            end = f"/{source} to TCP port: {port}"  # in front of it its name may stand
            before = _count(probe, end)
            scanner.send_tcp(port, destination=destination)
            wait_until(lambda end=end, before=before: _count(probe, end) > before)

    return wait


def _count(probe: Probe, end: str) -> int:
    return sum(text.endswith(end) for text in probe.texts())


def _is_mark(text: str) -> bool:
    return int(re.search(r"port: (\d+)", text)[1]) > 900
