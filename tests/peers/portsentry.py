"""Real PortSentry 1.2 as a peer, in any of its six modes: started in a lab's victim, ended with certainty.

Its paths are compiled in (/etc/portsentry/portsentry.conf, /dev/log), so it runs in a private mount
namespace where /etc, /dev, /run and /var/lib are copies or empty; the host's are never written. It forks
away from whoever starts it, so it runs in a private process namespace too: killing that namespace's first
process, our stage below, ends it and nothing else. The stage reads /dev/log at once: syslog(3) waits for
its reader, and a daemon that waits loses packets.
"""

import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from correlator.drill.lab import Lab, LabError

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / ".cache/peers/portsentry/usr/sbin/portsentry"
SHIPPED_CONFIGURATION = ROOT / ".cache/peers/portsentry/etc/portsentry/portsentry.conf"
SHIPPED_IGNORES = ("127.0.0.1/32", "0.0.0.0")

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PRIVATE = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
_STATE = "lib/portsentry"
_CONFIGURATION = "etc"
_LONGEST_START_SECONDS = 30.0
_LONGEST_STOP_SECONDS = 10.0
_READY = "now active and listening"
_LAST_WORDS = "adminalert: PortSentry is shutting down"


def why_not() -> str | None:
    """Return why PortSentry cannot be compared with, or None where it can."""
    return None if os.access(BINARY, os.X_OK) else f"{BINARY.relative_to(ROOT)} is not there (make peer)"


class PortSentry:
    """`portsentry -MODE` in the victim of `lab`; everything it writes lies below `folder`, which must exist.

    `options` are directives of portsentry.conf that replace those that Debian ships; None leaves one out.
    Ready when made: it said that it listens, or (with `may_refuse`) that it shuts down.

    Raises: LabError, with its log, where it does neither.
    """

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        mode: str,
        options: Mapping[str, str | None],
        *,
        ignores: tuple[str, ...] = SHIPPED_IGNORES,
        hosts: str = "",
        may_refuse: bool = False,
    ) -> None:
        self.name = f"PortSentry 1.2 -{mode}"
        self.lab = lab
        self._mode = mode
        self._folder = folder
        (folder / _STATE).mkdir(parents=True)
        (folder / _CONFIGURATION).mkdir()
        self.ignore_file = folder / _CONFIGURATION / "portsentry.ignore"
        """May be changed or taken away at any time."""
        write_configuration(folder / _CONFIGURATION / "portsentry.conf", options)
        (folder / "hosts").write_text(hosts, encoding="ascii")
        self.ignore_file.write_text("".join(f"{line}\n" for line in ignores), encoding="ascii")
        self._child = lab.victim.popen(
            *("unshare", *_PRIVATE, sys.executable, "-m", "tests.peers.portsentry", str(folder), mode),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._wait_until_ready(may_refuse=may_refuse)

    def datagrams(self) -> list[str]:
        """Return what it sent to /dev/log so far, each datagram whole, line feeds and all."""
        try:
            written = (self._folder / "syslog.json").read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        # the stage may be in the middle of the last line
        return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]

    def history(self) -> list[str]:
        """Return the lines of portsentry.history."""
        return self._read_state("portsentry.history")

    def blocked(self) -> list[str]:
        """Return the lines of its mode's portsentry.blocked."""
        return self._read_state(f"portsentry.blocked.{self._mode}")

    def demand_running(self) -> None:
        """Raise LabError where it ended."""
        if self._child.poll() is not None:
            raise LabError(f"{self.name} ended with status {self._child.returncode}: {self._read_log()}")

    def stop(self) -> None:
        """End it with SIGTERM; what it says then is in `datagrams` when this returns.

        Raises: LabError where it does not end.
        """
        try:
            self._child.communicate("stop\n", timeout=_LONGEST_STOP_SECONDS)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise LabError(f"{self.name} did not stop: {self._read_log()}") from exc

    def kill(self) -> None:
        """Kill the first process of its namespace, and so all of them."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()

    def _wait_until_ready(self, *, may_refuse: bool) -> None:
        """Wait for the stage's one line; end of file means that it ended."""
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            said = self._child.stdout.readline() if selector.select(_LONGEST_START_SECONDS) else "nothing"
        if said != "ready\n" and not (may_refuse and said == "refused\n"):
            self.kill()
            raise LabError(f"{self.name} did not become ready: {self._read_log()}")

    def state(self, name: str) -> list[str]:
        """Return the lines of a file in /var/lib/portsentry."""
        return self._read_state(name)

    def hosts_deny(self) -> list[str]:
        """Return the lines of /etc/hosts.deny."""
        path = self._folder / "hosts.deny"
        return path.read_text(encoding="ascii").splitlines() if path.exists() else []

    def _read_state(self, name: str) -> list[str]:
        path = self._folder / _STATE / name
        return path.read_text(encoding="ascii").splitlines() if path.exists() else []

    def _read_log(self) -> str:
        return "".join(self.datagrams())[-2000:] or "no log"


def write_configuration(path: Path, options: Mapping[str, str | None]) -> None:
    """Write Debian's configuration with `options` in place of its own."""
    text = SHIPPED_CONFIGURATION.read_text(encoding="ascii", errors="replace")
    for name in options:
        text = re.sub(rf"(?m)^{name}\b.*\n", "", text)
    text += "".join(f'{name}="{value}"\n' for name, value in options.items() if value is not None)
    path.write_text(text, encoding="ascii")


def _stage(folder: Path, mode: str) -> None:
    """Be the first process of the private namespaces: prepare the files, start the daemon, keep its log.

    Says "ready" or "refused", and ends with the daemon; whatever comes in on standard input stops that.
    """
    _prepare_files(folder)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog,
        (folder / "syslog.json").open("w", buffering=1) as file,
        selectors.DefaultSelector() as selector,
    ):
        syslog.bind("/dev/log")
        selector.register(syslog, selectors.EVENT_READ)
        with subprocess.Popen(
            [BINARY, f"-{mode}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as front:
            front.wait()
        selector.register(sys.stdin, selectors.EVENT_READ)
        is_ready = False
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    selector.unregister(sys.stdin)
                    _terminate_others()
                    continue
                datagram = syslog.recv(65_536).decode("ascii", "backslashreplace")
                file.write(json.dumps(datagram) + "\n")
                if _READY in datagram:
                    is_ready = True
                    print("ready", flush=True)
                elif _LAST_WORDS in datagram:
                    if not is_ready:
                        print("refused", flush=True)
                    return


def _terminate_others() -> None:
    """End whatever else lives in this process namespace: the daemon."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            os.kill(int(name), signal.SIGTERM)


def _prepare_files(folder: Path) -> None:
    """Give this mount namespace an /etc, /dev, /run and /var/lib of its own; the last lies in `folder`."""
    stage = folder / "stage"
    stage.mkdir()
    _mount("-t", "tmpfs", "tmpfs", str(stage))
    for name in ("dev", "run"):
        (stage / name).mkdir()
    for name in _DEVICES:
        (stage / "dev" / name).touch()
        _mount("--bind", f"/dev/{name}", str(stage / "dev" / name))
    subprocess.run(["cp", "-a", "/etc/.", str(stage / "etc")], check=True)
    shutil.copy(folder / "hosts", stage / "etc/hosts")
    configuration = stage / "etc/portsentry"
    shutil.rmtree(configuration, ignore_errors=True)
    configuration.mkdir()
    _mount("--bind", str(folder / _CONFIGURATION), str(configuration))
    (folder / "hosts.deny").touch()
    (stage / "etc/hosts.deny").touch()
    _mount("--bind", str(folder / "hosts.deny"), str(stage / "etc/hosts.deny"))
    _mount("--bind", str(folder / "lib"), "/var/lib")
    _mount("--rbind", str(stage / "etc"), "/etc")
    _mount("--bind", str(stage / "run"), "/run")
    _mount("--rbind", str(stage / "dev"), "/dev")


def _mount(*argv: str) -> None:
    subprocess.run(["mount", *argv], check=True)


if __name__ == "__main__":
    _stage(Path(sys.argv[1]), sys.argv[2])
