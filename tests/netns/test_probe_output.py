"""What a probe shows on standard output: nothing, PortSentry's text, or one JSON object a line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import correlator
from correlator.attackalert import ACTIVE, SHUTTING_DOWN, STARTING
from correlator.drill.lab import SCANNER4, Lab
from correlator.drill.scanner import Scanner

pytestmark = pytest.mark.netns

ROOT = Path(correlator.__file__).resolve().parents[1]
WaitUntil = Callable[..., None]
LINE = f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
SETTINGS = """\
[probe]
{probe}
syslog = false
[paths]
alert_log = "{folder}/alert.log"
run = "{folder}"
ignore = "{folder}/ignore"
"""


@pytest.mark.parametrize(
    ("setting", "options", "expected"),
    [
        ("", (), "none"),
        ("", ("--echo",), "lines"),
        ("", ("--json",), "json"),
        ("", ("--echo", "--json"), "json"),
        ('echo = "none"', ("--echo",), "lines"),
        ('echo = "lines"', (), "lines"),
        ('echo = "lines"', ("--json",), "json"),
        ('echo = "json"', (), "json"),
        ('echo = "json"', ("--echo",), "json"),
    ],
)
def test_lines_are_shown_as_chosen(
    *,
    lab: Lab,
    scanner: Scanner,
    wait_until: WaitUntil,
    tmp_path: Path,
    setting: str,
    options: tuple[str, ...],
    expected: str,
) -> None:
    """The command line has the last word; the alert log is PortSentry's in any case."""
    (tmp_path / "portward.toml").write_text(SETTINGS.format(probe=setting, folder=tmp_path))
    child = lab.victim.popen(
        *(sys.executable, "-P", "-m", "correlator", "probe", "--config", str(tmp_path), *options),
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    log = tmp_path / "alert.log"

    def written() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.partition("]: ")[2] for line in lines]

    wait_until(lambda: ACTIVE in written())
    scanner.send_tcp(25)
    wait_until(lambda: LINE in written())
    child.terminate()
    output, _ = child.communicate(timeout=10)
    assert (written()[0], written()[-1]) == (STARTING, SHUTTING_DOWN[1])
    shown = output.splitlines()
    if expected == "none":
        assert shown == []
        return
    if expected == "json":
        objects: list[dict[str, Any]] = [json.loads(line) for line in shown]
        stamps = [line.split()[0] for line in log.read_text().splitlines()]
        assert [told["at"] for told in objects] == stamps
        (probe,) = (told for told in objects if "source" in told)
        assert (probe["source"], probe["port"], probe["technique"]) == (SCANNER4, 25, "TCP SYN/Normal scan")
        shown = [told["text"] for told in objects]
    assert shown == written()


def test_a_reader_that_does_not_read_costs_no_line(
    *, start_probe: Callable[..., Any], scanner: Scanner, settle: Callable[[Any], None], wait_until: WaitUntil
) -> None:
    """Its pipe is full: the alert log goes on, and what was not shown is counted."""
    probe = start_probe('{"echo": "json", "lines_a_second": 100_000}')
    sources = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(600)]
    for source in sources:
        scanner.send_tcp(25, source=source)
    settle(probe)
    assert len(probe.alerts()) == len(sources)
    wait_until(lambda: probe.status().get("lines_not_shown", 0) > 0)
