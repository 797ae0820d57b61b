"""SIGKILL, more than two hundred times, at random moments under load: nothing is lost, nothing is doubled."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from correlator.drill.lab import SCANNER4, Lab
from correlator.drill.rig import PROCESSES
from correlator.drill.scanner import Scanner
from tests.faults.hosts import Host

pytestmark = pytest.mark.netns

ROUNDS = 210
NO_BREAKER = (
    '[jail.portscan]\nfilters = ["portsentry"]\nspoofable_a_minute = 1000000\nactions = ["nftables", "log"]\n'
)
ACTION = """
[action.log]
block = '''echo $TARGET$ >> {folder}/blocked-by-log'''
release = '''true'''
present = '''grep -qx $TARGET$ {folder}/blocked-by-log'''
"""


@pytest.fixture
def host(make_host: Callable[..., Host], tmp_path: Path) -> Host:
    """All three, running."""
    return make_host(NO_BREAKER + ACTION.format(folder=tmp_path)).start_all()


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
