"""Real PortSentry 1.2 as a peer: started in a lab's victim, with files of its own, ended with certainty.

Its paths are compiled in (/etc/portsentry/portsentry.conf, /dev/log), so it runs in a private mount
namespace where /etc, /dev, /run and /var/lib are copies or empty; the host's are never written. It forks
away from whoever starts it, so it runs in a private process namespace too: killing that namespace's first
process, our stage below, ends it and nothing else.
"""

import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from correlator.drill.lab import Lab, LabError
from tests.bench.guard import ROOT

BINARY = ROOT / ".cache/peers/portsentry/usr/sbin/portsentry"
SHIPPED_CONFIGURATION = ROOT / ".cache/peers/portsentry/etc/portsentry/portsentry.conf"
OPTIONS = {
    "BLOCK_TCP": "1",
    "KILL_ROUTE": "/sbin/iptables -I INPUT -s $TARGET$ -j DROP",
    "SCAN_TRIGGER": "0",
    "RESOLVE_HOST": "0",
    "ADVANCED_EXCLUDE_TCP": "113,139",
}
"""What differs from the configuration that Debian ships; KILL_HOSTS_DENY stays as shipped."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_UNRELATED_RULE = ("-s", "203.0.113.254", "-j", "ACCEPT")
_LONGEST_START_SECONDS = 30.0


def why_not() -> str | None:
    """Return why PortSentry cannot be compared with, or None where it can."""
    return None if os.access(BINARY, os.X_OK) else f"{BINARY.relative_to(ROOT)} is not there (make peer)"


class PortSentry:
    """`portsentry -atcp` in the victim; it says itself when it listens. `folder` gets its log.

    The kernel's chain exists before, with one rule that has nothing to do with it, so that the first block
    does not pay for making the table.
    """

    name = "PortSentry 1.2 -atcp"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self._log = folder / "portsentry.log"
        lab.victim.run("iptables", "-A", "INPUT", *_UNRELATED_RULE)
        self._child = lab.victim.popen(
            *(
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--propagation",
                "private",
            ),
            *(sys.executable, "-m", "tests.bench.peer_portsentry", str(folder), str(self._log)),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        self._wait_until_ready()

    def demand_running(self) -> None:
        """Raise LabError where it ended."""
        if self._child.poll() is not None:
            raise LabError(f"{self.name} ended with status {self._child.returncode}: {self._read_log()}")

    def release(self, source: str) -> None:
        """Take back the rule of one run."""
        self.lab.victim.run("iptables", "-D", "INPUT", "-s", source, "-j", "DROP", must_succeed=False)

    def stop(self) -> None:
        """Kill the first process of its namespace, and so all of them."""
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _wait_until_ready(self) -> None:
        """Wait for the stage's one line; end of file means that it ended."""
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            is_ready = selector.select(_LONGEST_START_SECONDS) and self._child.stdout.readline() == "ready\n"
        if not is_ready:
            self.stop()
            raise LabError(f"{self.name} did not become ready: {self._read_log()}")

    def _read_log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else "no log"


def write_configuration(path: Path) -> None:
    """Write Debian's configuration with our `OPTIONS` in place of its own."""
    text = SHIPPED_CONFIGURATION.read_text(encoding="ascii", errors="replace")
    for name in OPTIONS:
        text = re.sub(rf"(?m)^{name}\b.*\n", "", text)
    text += "".join(f'{name}="{value}"\n' for name, value in OPTIONS.items())
    path.write_text(text, encoding="ascii")


def _stage(folder: Path, log: Path) -> None:
    """Be the first process of the private namespaces: prepare the files, start the daemon, write its log."""
    _prepare_files(folder / "stage")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog, log.open("w", buffering=1) as file:
        syslog.bind("/dev/log")
        with subprocess.Popen([BINARY, "-atcp"], stdin=subprocess.DEVNULL, stdout=file, stderr=file) as front:
            front.wait()
        while True:
            line = syslog.recv(65_536).decode("ascii", "backslashreplace").rstrip("\n")
            file.write(line + "\n")
            if "now active and listening" in line:
                print("ready", flush=True)
            elif "shutting down" in line:
                return


def _prepare_files(stage: Path) -> None:
    """Give this mount namespace an /etc, /dev, /run and /var/lib that vanish with it."""
    stage.mkdir()
    _mount("-t", "tmpfs", "tmpfs", str(stage))
    for name in ("dev", "run", "lib/portsentry"):
        (stage / name).mkdir(parents=True)
    for name in _DEVICES:
        (stage / "dev" / name).touch()
        _mount("--bind", f"/dev/{name}", str(stage / "dev" / name))
    subprocess.run(["cp", "-a", "/etc/.", str(stage / "etc")], check=True)
    configuration = stage / "etc/portsentry"
    shutil.rmtree(configuration, ignore_errors=True)
    configuration.mkdir()
    write_configuration(configuration / "portsentry.conf")
    (configuration / "portsentry.ignore").write_text("127.0.0.1/32\n0.0.0.0\n", encoding="ascii")
    _mount("--bind", str(stage / "etc"), "/etc")
    _mount("--bind", str(stage / "lib"), "/var/lib")
    _mount("--bind", str(stage / "run"), "/run")
    _mount("--rbind", str(stage / "dev"), "/dev")


def _mount(*argv: str) -> None:
    subprocess.run(["mount", *argv], check=True)


if __name__ == "__main__":
    _stage(Path(sys.argv[1]), Path(sys.argv[2]))
