"""A clock that is set while we run, forth and back: blocks end when their time says, in belief and kernel."""

from collections.abc import Callable
from pathlib import Path

import pytest

from correlator.drill.lab import Lab
from correlator.drill.scanner import Scanner
from tests.faults.hosts import ROOT, Host

pytestmark = pytest.mark.netns

HOUR = 3600


INSTEAD = """
import os, time
_time, _time_ns = time.time, time.time_ns
def _offset():
    with open({path!r}) as file:
        return int(file.read())
time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 10**9
"""


class Clock:
    """What the processes take for the time of day; what nobody can set goes on as it does.

    A module that Python imports at its start; libfaketime changes how poll() waits as well.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        modules = folder / "modules"
        modules.mkdir()
        (modules / "sitecustomize.py").write_text(INSTEAD.format(path=str(self._file)))
        self.environment = {"PYTHONPATH": f"{modules}:{ROOT}"}
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set it so many seconds from the real time."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that the test sets."""
    return Clock(tmp_path)


def test_blocks_end_by_the_clock_that_was_set(
    make_host: Callable[..., Host], clock: Clock, wait_until: Callable[..., None]
) -> None:
    """An hour that is half over, whole again, and over: the kernel follows without being asked."""
    host = make_host()
    host.start("enforce", **clock.environment)
    host.rig.ask("block", "198.51.100.1", "--for", "1h")
    host.rig.ask("block", "198.51.100.2", "--for", "forever")
    for offset, least, most in ((HOUR // 2, HOUR // 2 - 60, HOUR // 2), (0, HOUR - 60, HOUR)):
        clock.set(offset)
        wait_until(lambda least=least, most=most: least < host.rig.denied().get("198.51.100.1", 0) <= most)
    clock.set(2 * HOUR)
    wait_until(lambda: set(host.rig.denied()) == {"198.51.100.2"})
    assert [block["source"] for block in host.rig.ask("blocks")["blocks"]] == ["198.51.100.2"]
    assert host.words().count("expired source=198.51.100.1") == 1
    clock.set(-24 * HOUR)
    host.rig.ask("block", "198.51.100.3")
    host.kill("enforce")
    clock.set(0)
    host.start("enforce", **clock.environment)
    left = host.rig.denied()
    assert set(left) == {"198.51.100.2", "198.51.100.3"}
    assert HOUR - 60 < left["198.51.100.3"] <= HOUR


def test_attackers_are_blocked_whatever_the_clock_does(
    make_host: Callable[..., Host], lab: Lab, clock: Clock, wait_until: Callable[..., None]
) -> None:
    """A day forth, two back: each new one is denied, once, and nobody is denied for ever."""
    sources = ["192.0.2.30", "192.0.2.31", "192.0.2.32", "192.0.2.33"]
    lab.add_scanner_address(*sources)
    host = make_host()
    for name in ("enforce", "correlate", "probe"):
        host.start(name, **clock.environment)
    with Scanner(lab) as scanner:
        for source, offset in zip(sources, (0, 24 * HOUR, -24 * HOUR, 60), strict=True):
            clock.set(offset)
            scanner.send_tcp(79, source=source)
            wait_until(lambda source=source: source in host.rig.denied())
            assert 0 < host.rig.denied()[source] <= 600
    lines = [line.split("/")[-1].split(" ")[0] for line in host.rig.alerts()]
    assert lines == sources
    rows = [block["source"] for block in host.rig.ask("history")["blocks"]]
    assert sorted(rows) == sources
    assert "Traceback" not in host.words()
