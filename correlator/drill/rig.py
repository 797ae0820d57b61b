"""The three real processes inside a lab's victim, with files of their own in one temporary folder.

What the drill shows and what tests and benchmarks need of a running Portward: start it, ask its command
line, read its files and the kernel's sets, end or kill any of its processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from correlator.drill.lab import Lab, LabError

PROCESSES = ("enforce", "correlate", "probe")
_SETS = ("source4", "source6", "prefix4", "prefix6")
_START_SECONDS = 45.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.005
_PACKAGE = Path(__file__).resolve().parent.parent

_SETTINGS = """\
mode = "{mode}"
[paths]
alert_log = "{folder}/alert.log"
state = "{folder}/state"
run = "{folder}/run"
syslog = "{folder}/dev-log"
"""
_JAIL = """\
[jail.portscan]
filters = ["portsentry"]
"""


class Rig:
    """Portward in the victim of `lab`, everything it writes below `folder`; use it in a `with`.

    `settings` is TOML that follows `[paths]`; without a jail in it, the jail is the one we ship.
    """

    def __init__(self, lab: Lab, folder: Path, *, mode: str = "block", settings: str = "") -> None:
        self.lab = lab
        self.folder = folder
        self.alert_log = folder / "alert.log"
        self.output = folder / "output.txt"
        self._process: subprocess.Popen[str] | None = None
        self._killed = {0}
        jail = "" if "[jail." in settings else _JAIL
        (folder / "portward.toml").write_text(
            _SETTINGS.format(mode=mode, folder=folder) + settings + "\n" + jail
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start `portward run` and wait until it says that it is ready; whatever interrupts that ends it.

        Raises: LabError, with what it printed, where it does not.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        with self.output.open("a") as output:
            already = output.tell()
            self._process = self.lab.victim.popen(
                *self._command("run"), stdout=output, stderr=subprocess.STDOUT, env=_environment()
            )
        if not wait_for(lambda: self._is_ready(already) or self._has_ended(), _START_SECONDS):
            raise LabError(f"portward run was not ready within {_START_SECONDS} s: {self.printed()}")
        if self._has_ended():
            raise LabError(f"portward run ended at its start: {self.printed()}")

    def stop(self) -> int:
        """End it as a person would with Ctrl-C and return its exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process = None
        return status

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Return what a command of the command line says, as JSON.

        Raises: LabError where it prints none.
        """
        with self.lab.victim.entered():
            done = subprocess.run(
                self._command(*arguments, "--json"),
                env=_environment(),
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError as exc:
            raise LabError(f"portward {' '.join(arguments)}: {done.stdout}{done.stderr}") from exc
        return found

    def process_ids(self) -> dict[str, int]:
        """Return the process id of each of the three by its command's name; those that live."""
        found = {}
        for process in self.lab.victim.inhabitants():
            try:
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            for name in PROCESSES:
                if b"correlator" in words and name.encode() in words:
                    found[name] = process
        return found

    def kill(self, name: str) -> None:
        """End one of the three with SIGKILL, as a crash would; waits for one that is just starting again.

        Raises: LabError where there is none.
        """
        if not wait_for(lambda: self.process_ids().get(name, 0) not in self._killed, _START_SECONDS):
            raise LabError(f"no {name} to kill: {self.printed()}")
        process = self.process_ids()[name]
        self._killed.add(process)
        os.kill(process, signal.SIGKILL)

    def printed(self) -> str:
        """Return all that it has printed."""
        return self.output.read_text(errors="replace")

    def alerts(self) -> list[str]:
        """Return the attackalert lines of the alert log, without their headers."""
        try:
            text = self.alert_log.read_text(errors="replace")
        except FileNotFoundError:
            return []
        return [line.split(": ", 1)[1] for line in text.splitlines() if ": attackalert: " in line]

    def denied(self) -> dict[str, int]:
        """Return what the kernel drops now: source or prefix, with the seconds left (0: for good)."""
        done = self.lab.victim.run("nft", "-j", "list", "table", "inet", "portward", must_succeed=False)
        if done.returncode != 0:
            return {}
        found = {}
        for item in json.loads(done.stdout)["nftables"]:
            if "set" in item and item["set"]["name"] in _SETS:
                for element in item["set"].get("elem", []):
                    value, left = _read_element(element)
                    found[value] = left
        return found

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "correlator", *arguments, "--config", str(self.folder)]

    def _is_ready(self, already: int) -> bool:
        return "\nready " in "\n" + self.printed()[already:]

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Return whether a condition became true within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_PACKAGE.parent), "LC_ALL": "C.UTF-8"}


def _read_element(element: Any) -> tuple[str, int]:
    left = 0
    if isinstance(element, dict) and "elem" in element:
        left = element["elem"].get("expires", 0)
        element = element["elem"]["val"]
    if isinstance(element, dict) and "prefix" in element:
        return f"{element['prefix']['addr']}/{element['prefix']['len']}", left
    return str(element), left
