"""SIGKILL, more than two hundred times, at random moments under load: nothing is lost, nothing is doubled."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from correlator.drill.lab import SCANNER4, Lab
from correlator.drill.rig import PROCESSES, Rig
from correlator.drill.scanner import Scanner

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 210
LONGEST_START_SECONDS = 20.0
NO_BREAKER = (
    '[jail.portscan]\nfilters = ["portsentry"]\nspoofable_a_minute = 1000000\nactions = ["nftables", "log"]\n'
)
ACTION = """
[action.log]
block = '''echo $TARGET$ >> {folder}/blocked-by-log'''
release = '''true'''
present = '''grep -qx $TARGET$ {folder}/blocked-by-log'''
"""


class Host:
    """The three processes, each started by us as a unit would, and killed by us."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.rig = Rig(lab, folder, settings=NO_BREAKER + ACTION.format(folder=folder))
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(folder / "notify"))
        self._ready.settimeout(LONGEST_START_SECONDS)
        self.children: dict[str, subprocess.Popen[str]] = {}
        self.output = (folder / "processes.txt").open("a")

    def start(self, name: str) -> None:
        """Start one, and wait until it says that it is ready."""
        self.children[name] = self.lab.victim.popen(
            *(sys.executable, "-P", "-m", "correlator", name, "--config", str(self.folder)),
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self.folder / "notify")},
        )
        while b"READY=1" not in self._ready.recv(4096):
            pass

    def kill(self, name: str) -> None:
        """End one at once."""
        self.children[name].send_signal(signal.SIGKILL)
        self.children[name].wait()

    def close(self) -> None:
        """End all."""
        for child in self.children.values():
            child.kill()
            child.wait()
        self._ready.close()
        self.output.close()

    def words(self) -> str:
        """Return all that they printed."""
        return (self.folder / "processes.txt").read_text(errors="replace")


@pytest.fixture
def host(lab: Lab, tmp_path: Path) -> Iterator[Host]:
    """All three, running."""
    made = Host(lab, tmp_path)
    for name in ("enforce", "correlate", "probe"):
        made.start(name)
    yield made
    made.close()


def test_killed_two_hundred_times(host: Host, lab: Lab, wait_until: Callable[..., None]) -> None:
    """Every source in the alert log is denied by each action in the end, with one line of history."""
    chance = random.Random(7)  # noqa: S311 -- the same moments in every run
    sources = iter([f"198.51.{number >> 8}.{number & 255}" for number in range(256, 1600)])
    with Scanner(lab) as scanner:
        for _ in range(ROUNDS):
            victim = chance.choice(PROCESSES)
            burst = [next(sources) for _ in range(chance.randrange(1, 6))]
            at = chance.randrange(len(burst) + 1)
            for number, source in enumerate(burst):
                if number == at:
                    host.kill(victim)
                scanner.send_tcp(79, source=source)
            if at == len(burst):
                host.kill(victim)
            host.start(victim)
        scanner.send_tcp(79)  # what it reports is the last line, so all before it are there
        wait_until(lambda: f"/{SCANNER4} " in host.rig.alert_log.read_text())
    reported = {line.split("/")[-1].split(" ")[0] for line in host.rig.alerts()}
    assert len(reported) > ROUNDS
    wait_until(lambda: set(host.rig.denied()) == reported, 60)
    blocks = host.rig.ask("blocks")["blocks"]
    assert Counter(block["source"] for block in blocks) == dict.fromkeys(reported, 1)
    path = host.folder / "state/portward.history"
    wait_until(lambda: len(path.read_text().splitlines()) >= len(reported), 20)
    lines = [line.split("/")[-1].split(" ")[0] for line in path.read_text().splitlines()]
    assert Counter(lines) == dict.fromkeys(reported, 1)
    log = host.folder / "blocked-by-log"
    wait_until(lambda: set(log.read_text().split()) >= reported, 60)
    assert Counter(log.read_text().split()) == dict.fromkeys(reported, 1)
    assert "Traceback" not in host.words()
