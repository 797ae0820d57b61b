"""What a person does by hand: block, release, ignore, and what each says it did."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from correlator.drill.lab import SCANNER4, Lab
from correlator.drill.rig import Rig
from correlator.drill.scanner import Scanner

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(lab: Lab, tmp_path: Path) -> Iterator[Ask]:
    """The function that runs a command against a running Portward; returns status, output and errors."""
    with Rig(lab, tmp_path):

        def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
            with lab.victim.entered():
                done = subprocess.run(
                    [sys.executable, "-P", "-m", "correlator", *arguments, "--config", str(tmp_path)],
                    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                    capture_output=True,
                    text=True,
                    check=False,
                )
            return done.returncode, done.stdout, done.stderr

        yield run


def test_a_release_says_what_it_undid(ask: Ask) -> None:
    """When, by whom, why, and by which actions; nothing to release is a negative answer."""
    assert ask("block", "198.51.100.7", "--reason", "a test")[0] == 0
    status, output, _ = ask("release", "198.51.100.7")
    assert status == 0
    assert output.startswith("released 198.51.100.7: 1\n  blocked 20")
    assert output.endswith(" by manual: a test\n  undone: nftables\n")
    assert ask("release", "198.51.100.7")[:2] == (1, "198.51.100.7 was not blocked\n")


def test_ignoring_releases_and_keeps_from_blocking(ask: Ask, tmp_path: Path) -> None:
    """At once, for the whole prefix, until it is taken back; other lines of the file stay."""
    file = tmp_path / "portward.ignore"
    file.write_text("# mine\n203.0.113.5\n")
    ask("block", "198.51.100.7")
    status, output, _ = ask("ignore", "198.51.100.0/24", "--reason", "the office")
    assert (status, output) == (0, "198.51.100.0/24 is ignored from now on; 1 blocks of it released\n")
    assert file.read_text().startswith("# mine\n203.0.113.5\n198.51.100.0/24  # the office, 20")
    assert ask("ignore")[1] == "203.0.113.5\n198.51.100.0/24\n"
    assert ask("ignore", "198.51.100.0/24")[0] == 1
    status, _, errors = ask("block", "198.51.100.7")
    assert (status, "is covered by 198.51.100.0/24 in" in errors) == (1, True)
    assert ask("ignore", "198.51.100.0/24", "--remove")[0] == 0
    assert ask("ignore", "198.51.100.0/24", "--remove")[0] == 1
    assert ask("block", "198.51.100.7")[0] == 0
    assert file.read_text() == "# mine\n203.0.113.5\n"


def test_nobody_blocks_where_the_own_login_comes_from(ask: Ask) -> None:
    """Not by mistake, nor by a prefix around it."""
    ssh = "203.0.113.9 40000 192.0.2.1 22"
    status, _, errors = ask("block", "203.0.113.0/24", SSH_CONNECTION=ssh)
    assert (status, "is where this login comes from (203.0.113.9)" in errors) == (1, True)
    assert ask("block", "203.0.113.10", SSH_CONNECTION=ssh)[0] == 0
    assert ask("block", "203.0.113.9", "--even-myself", SSH_CONNECTION=ssh)[0] == 0
    assert ask("ignore", "no address")[0] == 2


BROKEN = """
[action.broken]
check = ["true"]
block = ["sh", "-c", "echo $TARGET$ is stuck; exit 3"]
release = ["true"]
[action.note]
denies = false
block = ["true"]
[jail.portscan]
filters = ["portsentry"]
actions = ["nftables", "broken", "note"]
"""


def test_what_failed_is_shown_and_not_said_to_be_undone(
    lab: Lab, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """In the list, in status with the next try, and by a release, which undoes what was done alone."""

    def run(*arguments: str) -> str:
        with lab.victim.entered():
            return subprocess.run(
                [sys.executable, "-P", "-m", "correlator", *arguments, "--config", str(tmp_path)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            ).stdout

    with Rig(lab, tmp_path, settings=BROKEN), Scanner(lab) as scanner:
        scanner.send_tcp(79)
        wait_until(lambda: "nftables,broken (failed),note " in run("blocks"), what="all three have ended")
        assert re.search(
            rf"^broken +{SCANNER4} +block +1 +in \d+s +.*exit status 3: {SCANNER4} is stuck$",
            run("status"),
            re.MULTILINE,
        )
        said = run("release", SCANNER4)
        assert said.endswith("  undone: nftables\n  nothing to undo: broken (failed), note (told)\n")
        assert "FAILING" not in run("status")
