"""A Debian 12 with a real systemd as its first process, in namespaces of its own: started, asked, removed.

Needs root and systemd-nspawn. Nothing of the host is shared: its own root folder, network, processes, /run.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

BASE_PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "dbus",
        "nftables",
        "iproute2",
        "iptables",
        "iputils-ping",
        "logrotate",
        "procps",
    ),
    *("tcpd", "ufw", "python3", "python3-regex", "python3-systemd", "python3-watchdog"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CGROUPS = Path("/sys/fs/cgroup")


def why_none() -> str | None:
    """Return why there can be no container here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("systemd-nspawn", "mmdebstrap", "unshare") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


def make_base(archive: Path, packages=BASE_PACKAGES, options=()) -> str | None:
    """Make the archive of a minimal Debian 12 with what our package needs; return why it cannot be made."""
    folder = Path("/etc/apt/sources.list.d")
    sources = [
        Path("/etc/apt/sources.list"),
        *sorted(folder.glob("*.list")),
        *sorted(folder.glob("*.sources")),
    ]
    found = [str(path) for path in sources if path.is_file() and path.stat().st_size]
    include = [f"--include={','.join(packages)}"] if packages else []
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", *include, *options, "bookworm", str(archive), *found],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"no base from the mirror: {done.stderr[-300:]}"


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a base into a new folder and return it."""
    folder.mkdir()
    subprocess.run(
        ["tar", "--extract", "--file", archive, "--directory", folder, "--numeric-owner"], check=True
    )
    return folder


class Machine:
    """A container that boots; `run` does something in it."""

    def __init__(self, root: Path, wait_until) -> None:
        self.root = root
        self.wait = wait_until
        self._cgroups_before = self._cgroups()
        self._log = (root.parent / "console").open("w")
        # nspawn keeps its own things in /run: a private one, so that the host's is not touched
        begin = "mount -t tmpfs run /run && mkdir -p /run/systemd && exec systemd-nspawn"
        options = "--boot --register=no --keep-unit --private-network --console=read-only"
        options += " --settings=no --link-journal=no"
        self._nspawn = subprocess.Popen(
            [
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                f'{begin} {options} -D "$1"',
                "sh",
                root,
            ],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        self._first: int | None = None
        self.wait(self._finds_first, 30, what="the container's first process")
        self.wait(self._is_up, 60, what="the container has booted")

    def run(self, *argv, check=True, stdin=None):
        """Run a command inside and return how it ended, output and complaints in one."""
        done = subprocess.run(
            [*self._enter(), *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            input=stdin,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout}"
        return done

    def popen(self, *argv):
        """Start a command inside."""
        return subprocess.Popen(
            [*self._enter(), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def read(self, path) -> str:
        """Return what stands in a file inside."""
        return self._outside(path).read_text()

    def write(self, path, text: str) -> None:
        """Write a file inside."""
        self._outside(path).write_text(text)

    def close(self) -> None:
        """Power it off and wait for its end; then nothing of it is left but its folder."""
        if self._first is not None:
            os.kill(self._first, signal.SIGRTMIN + 4)  # systemd(1): poweroff.target
        try:
            self._nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._log.close()
        for folder in sorted(self._cgroups() - self._cgroups_before, reverse=True):
            for below in sorted(folder.rglob("*"), reverse=True):
                if below.is_dir():
                    below.rmdir()
            folder.rmdir()

    def _outside(self, path) -> Path:
        return self.root / str(path).removeprefix("/")

    def _enter(self):
        names = ("-m", "-u", "-i", "-n", "-p", "-r", "-w")
        return ["nsenter", "-t", str(self._first), *names, "env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8"]

    def _finds_first(self) -> bool:
        assert self._nspawn.poll() is None, (self.root.parent / "console").read_text()
        for child in self._descendants(self._nspawn.pid):
            with contextlib.suppress(FileNotFoundError):  # it ended while we looked
                status = Path(f"/proc/{child}/status").read_text()
                name = Path(f"/proc/{child}/comm").read_text()
                inner = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid")]
                if inner and len(inner[0]) > 1 and inner[0][-1] == "1" and "systemd" in name:
                    self._first = child
                    return True
        return False

    def _descendants(self, process: int) -> list[int]:
        found = []
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                found += [child, *self._descendants(child)]
        return found

    def _is_up(self) -> bool:
        done = self.run("systemctl", "is-system-running", check=False)
        return done.stdout.strip() in ("running", "degraded")

    def _cgroups(self) -> set[Path]:
        """The groups that nspawn makes for what it runs; two names, in each hierarchy."""
        return {
            path
            for name in ("payload", "supervisor")
            for path in (*_CGROUPS.glob(name), *_CGROUPS.glob(f"*/{name}"))
        }
