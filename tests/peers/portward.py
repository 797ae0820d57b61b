"""Portward run from a portsentry.conf, as a user would: whole, in a lab's victim, with files of its own.

What it writes below /etc, /run, /var/lib and /var/log lies in `folder`; the host's are never written. The
same options can so be given to the real PortSentry beside it.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from correlator.drill.lab import Lab, LabError
from correlator.drill.rig import wait_for
from tests.peers.portsentry import ROOT, SHIPPED_IGNORES, write_configuration

_LONGEST_SECONDS = 20.0
_STAGE = """
set -e
for name in run lib log; do mkdir -p {folder}/$name; done
mount --bind {folder}/run /run
mount --bind {folder}/lib /var/lib
mount --bind {folder}/log /var/log
mount --bind {folder}/etc /etc
exec {command}
"""


class Portward:
    """`portward run` on PortSentry's own file in one of its modes; with `compat` on what an import writes.

    `options` are directives that replace those that Debian ships; None leaves one out. Ready when made.

    Raises: LabError, with what it printed, where it does not become ready.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        mode: str,
        options: Mapping[str, str | None],
        *,
        ignores: tuple[str, ...] = SHIPPED_IGNORES,
        compat: bool = False,
    ) -> None:
        self._folder = folder
        self._mode = mode
        configuration = folder / "etc/portsentry"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "/etc/.", str(folder / "etc")], check=True)
        configuration.mkdir(exist_ok=True)
        (folder / "etc/hosts.deny").write_text("")
        (folder / "lib/portsentry").mkdir(parents=True)
        (folder / "log/portward").mkdir(parents=True)
        write_configuration(configuration / "portsentry.conf", options)
        (configuration / "portsentry.ignore").write_text("".join(f"{line}\n" for line in ignores))
        protocol = mode[-3:].upper()
        (folder / "etc/default").mkdir(exist_ok=True)
        (folder / "etc/default/portsentry").write_text(f'{protocol}_MODE="{mode}"\n')
        chosen = configuration / "portsentry.conf"
        if compat:
            chosen = folder / "imported"
            self._run(
                "import", "portsentry", str(configuration), "--compat", "--modes", mode, "--out", str(chosen)
            )
        command = [sys.executable, "-P", "-m", "correlator", "run"]
        place = f"/etc/portsentry/{chosen.name}" if not compat else str(chosen)
        self._output = folder / "output.txt"
        with self._output.open("w") as output:
            self._child = lab.victim.popen(
                *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
                _STAGE.format(
                    folder=shlex.quote(str(folder)), command=shlex.join([*command, "--config", place])
                ),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
            )
        if not wait_for(
            lambda: "\nready " in self.printed() or self._child.poll() is not None, _LONGEST_SECONDS
        ):
            self.kill()
            raise LabError(f"Portward did not become ready: {self.printed()}")

    def printed(self) -> str:
        """Return all that it printed."""
        return "\n" + self._output.read_text(errors="replace")

    def lines(self) -> list[str]:
        """Return the lines of its alert log without their headers."""
        path = self._folder / "log/portward/alert.log"
        text = path.read_text() if path.exists() else ""
        return [line.split("]: ", 1)[1] for line in text.splitlines()]

    def state(self, name: str) -> list[str]:
        """Return the lines of a file in /var/lib/portsentry."""
        path = self._folder / "lib/portsentry" / name
        return path.read_text().splitlines() if path.exists() else []

    def hosts_deny(self) -> list[str]:
        """Return the lines of /etc/hosts.deny."""
        path = self._folder / "etc/hosts.deny"
        return path.read_text().splitlines() if path.exists() else []

    def stop(self) -> None:
        """End it as with Ctrl-C, and wait."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
        try:
            self._child.wait(_LONGEST_SECONDS)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise LabError(f"Portward did not stop: {self.printed()}") from exc

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()
        self._child.wait()

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "correlator", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1):
            raise LabError(f"portward {' '.join(arguments)}: {done.stdout}{done.stderr}")
