"""From an entry of a real journald to a decision, beside `journalctl -f`.

journalctl waits to be told by journald, as most readers of the journal do. Both read the same journal in this
one run, each entry is awaited from both in turn. Nothing here fails because of a time.
"""

import os
import random
import select
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tests import journald as real
from tests.site_folders import paths_table

WHAT = "journal entry to its reader"
IDLE = "idle, processor time"
_SETTINGS = """
[correlator]
journal = "{journal}"
{paths}
[jail.knock]
filters = ["knock"]
threshold = 1
span = "1h"
"""
_FILTER = """
identifiers = ["knockd"]
files       = []
[[pattern]]
name  = "knock"
regex = '''^knock from (?P<source>\\S+)$'''
"""
_SECONDS = 10.0
_IDLE_SECONDS = 5.0


def measure(runs: int) -> dict[tuple[str, str], dict[str, list[float | None]]]:
    """Return milliseconds from entry to decision, of both, and what our waiting costs."""
    with tempfile.TemporaryDirectory(prefix="portward-bench-") as folder, ExitStack() as stack:
        journald = stack.enter_context(real.Journald(Path(folder) / "journald"))
        journald.settle()
        correlator = stack.enter_context(_correlator(Path(folder), journald.folder))
        follower = stack.enter_context(_journalctl(journald.folder))
        stack.callback(correlator.terminate)
        stack.callback(follower.terminate)
        journald.write("ready", SYSLOG_IDENTIFIER="knockd")
        _await(follower.stdout, b"ready")
        before = _processor_time(correlator.pid)
        time.sleep(_IDLE_SECONDS)
        idle = (_processor_time(correlator.pid) - before) / _IDLE_SECONDS * 100
        samples: dict[str, list[float | None]] = {"journalctl --follow": [], "portward": []}
        chance = random.Random(7)  # noqa: S311  moments of no pattern, the same every time
        for number in range(runs):
            time.sleep(chance.uniform(0.01, 0.05))
            address = f"198.18.{number // 256}.{number % 256}"
            written = time.perf_counter()
            journald.write(f"knock from {address}", SYSLOG_IDENTIFIER="knockd")
            for tool, process in (("portward", correlator), ("journalctl --follow", follower)):
                _await(process.stdout, address.encode())
                samples[tool].append((time.perf_counter() - written) * 1000)
    return {(WHAT, "ms"): samples, (IDLE, "%"): {"portward": [idle]}}


def _correlator(folder: Path, journal: Path) -> "subprocess.Popen[bytes]":
    for name in ("filters", "run", "state"):
        (folder / name).mkdir()
    (folder / "portward.toml").write_text(_SETTINGS.format(journal=journal, paths=paths_table(folder)))
    (folder / "filters/knock.toml").write_text(_FILTER)
    process = subprocess.Popen(
        [sys.executable, "-m", "correlator", "correlate", "--config", str(folder)], stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + _SECONDS
    while not (folder / "run/correlator/correlator.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def _journalctl(journal: Path) -> "subprocess.Popen[bytes]":
    command = ["journalctl", "--directory", str(journal), "--follow", "--no-tail", "--output=cat"]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _await(stream: IO[bytes] | None, text: bytes) -> None:
    """Return when a line with this text has come."""
    assert stream is not None
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and select.select([stream], [], [], _SECONDS)[0]:
        if text in os.read(stream.fileno(), 65536):
            return
    raise TimeoutError(text.decode())


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
