"""The three processes, each started by us as a unit would, and broken by us."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from correlator.drill.lab import Lab
from correlator.drill.rig import PROCESSES, Rig

ROOT = Path(__file__).resolve().parents[2]
LONGEST_START_SECONDS = 20.0


class Host:
    """Three processes with everything below one folder; what they print is in one file."""

    def __init__(self, lab: Lab, folder: Path, settings: str = "") -> None:
        self.lab = lab
        self.folder = folder
        self.rig = Rig(lab, folder, settings=settings)
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(folder / "notify"))
        self._ready.settimeout(LONGEST_START_SECONDS)
        self.children: dict[str, subprocess.Popen[str]] = {}
        self.output = (folder / "processes.txt").open("a")
        self._mounts: subprocess.Popen[str] | None = None

    def keep_mounts(self, prepare: str) -> None:
        """Have all that is started from now on live with these mounts, which outlive each process."""
        script = f"set -e; {prepare}; echo; exec sleep infinity"
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        self._mounts = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._mounts.stdout is not None
        assert self._mounts.stdout.readline() == "\n"

    def command(self, name: str, prepare: str = "", *options: str) -> list[str]:
        """Return what starts a process; `prepare` is run before, by a shell, in mounts of its own."""
        argv = [sys.executable, "-P", "-m", "correlator", name, "--config", str(self.folder), *options]
        if self._mounts is not None:
            argv = ["nsenter", f"--mount=/proc/{self._mounts.pid}/ns/mnt", "--", *argv]
        if not prepare:
            return argv
        script = f'set -e; {prepare}; exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *argv]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process of ours."""
        notify = str(self.folder / "notify")
        return {**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": notify, **more}

    def begin(self, name: str, prepare: str = "", *options: str, **environment: str) -> None:
        """Start a process, and do not wait until it is ready."""
        self.children[name] = self.lab.victim.popen(
            *self.command(name, prepare, *options),
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=self.environment(**environment),
        )

    def start(self, name: str, prepare: str = "", *options: str, **environment: str) -> None:
        """Start a process, and wait until it says that it is ready."""
        self.begin(name, prepare, *options, **environment)
        while b"READY=1" not in self._ready.recv(4096):
            pass

    def refuse(self, name: str, prepare: str = "", *options: str) -> tuple[int, str]:
        """Start a process that is to end by itself; return its exit status and what it said."""
        with self.lab.victim.entered():
            done = subprocess.run(
                self.command(name, prepare, *options),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )
        return done.returncode, done.stderr

    def start_all(self) -> Self:
        """Start all three in their order."""
        for name in PROCESSES:
            self.start(name)
        return self

    def kill(self, name: str) -> None:
        """End one at once."""
        self.children[name].send_signal(signal.SIGKILL)
        self.children.pop(name).wait()

    def end(self, name: str) -> int:
        """End one as a service manager does; return its exit status."""
        self.children[name].send_signal(signal.SIGTERM)
        return self.children.pop(name).wait(LONGEST_START_SECONDS)

    def inside(self, name: str, path: Path) -> Path:
        """Return a path as this process sees it, with its mounts."""
        process = self._mounts if self._mounts is not None else self.children[name]
        return Path(f"/proc/{process.pid}/root{path}")

    def close(self) -> None:
        """End all."""
        for child in (*self.children.values(), *filter(None, [self._mounts])):
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        self._ready.close()
        self.output.close()

    def words(self) -> str:
        """Return all that they printed."""
        return (self.folder / "processes.txt").read_text(errors="replace")
