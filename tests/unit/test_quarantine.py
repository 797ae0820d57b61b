"""A pattern that a stranger can hold up is put away, and all else goes on: the real process shows it."""

import json
import subprocess
import sys

import pytest

from correlator.cli import main
from tests.site_folders import paths_table

SLOW = """
identifiers = ["knockd"]
files       = ["{log}"]
[[pattern]]
name  = "slow"
regex = '''^(a|aa)+ from (?P<source>\\S+)$'''
[[pattern]]
name  = "sound"
regex = '''^knock from (?P<source>\\S+)$'''
"""
SOUND = """
identifiers = ["knockd"]
files       = ["{log}"]
[[pattern]]
name  = "other"
regex = '''^tap from (?P<source>\\S+)$'''
"""


@pytest.fixture
def correlate(tmp_path):
    """Start the correlator with two filters on one log; returns its configuration folder."""
    for name in ("filters", "run", "state"):
        (tmp_path / name).mkdir()
    for name, text in (("slow", SLOW), ("sound", SOUND)):
        (tmp_path / f"filters/{name}.toml").write_text(text.format(log=tmp_path / "knock.log"))
    (tmp_path / "portward.toml").write_text(
        'enabled = ["slow", "sound"]\n[correlator]\npattern_timeout = "20ms"\n' + paths_table(tmp_path)
    )
    (tmp_path / "knock.log").write_text("")
    command = [sys.executable, "-m", "correlator", "correlate", "--config", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield tmp_path
        process.terminate()


def _status(folder):
    try:
        return json.loads((folder / "run/correlator/correlator.json").read_text())
    except (OSError, ValueError):
        return {}


def test_a_pattern_that_runs_over_is_named_and_the_others_go_on(correlate, wait_until, capsys):
    """Of the same filter and of another on the same log, in lines that come after."""
    wait_until(lambda: _status(correlate).get("sources"))
    with (correlate / "knock.log").open("a") as log:
        head = "Nov 22 14:29:22 vm knockd: "
        log.write(
            f"{head}{'a' * 200}! from 192.0.2.1\n{head}knock from 192.0.2.2\n{head}tap from 192.0.2.3\n"
        )
    wait_until(lambda: sum(item.get("events", 0) for item in _status(correlate)["sources"]) == 2)
    wait_until(lambda: _status(correlate)["quarantined"])
    assert list(_status(correlate)["quarantined"]["slow"]) == ["slow"]
    main(["status", "--config", str(correlate)])
    assert "quarantined: filter slow, pattern slow: ran over 0.02 s on a line of 216 characters" in (
        capsys.readouterr().out
    )
