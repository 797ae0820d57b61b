"""A real systemd-journald for a test: in a mount namespace of its own, on folders of the test.

It has its own /run and /var/log, so the host's journal, if there is one, never hears of it. Entries go in
through its sockets, as programs send them. Source: systemd-journald.service(8), sd_journal_send(3).
"""

import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

DAEMON = Path("/lib/systemd/systemd-journald")
_CONFIGURATION = """[Journal]
Storage=persistent
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
RateLimitIntervalSec=0
RateLimitBurst=0
SystemMaxUse=64M
Seal=no
"""
_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class Journald:
    """One journald. Use as a context manager; `folder` is what a reader reads.

    With `reads_kernel` it also takes what the kernel says and has said: that is the whole machine's.
    """

    def __init__(self, base: Path, *, reads_kernel: bool = False) -> None:
        self.base = base
        self._run, self._log = base / "run", base / "log"
        self.folder = self._log / "journal"
        for folder in (self._run / "systemd/journald.conf.d", self._run / "systemd/journal", self.folder):
            folder.mkdir(parents=True)
        kernel = "ReadKMsg=yes" if reads_kernel else "ReadKMsg=no"
        configuration = _CONFIGURATION.replace("ReadKMsg=no", kernel)
        (self._run / "systemd/journald.conf.d/test.conf").write_text(configuration)
        (self._run / "systemd/journal/flushed").touch()
        self._settled = 0
        self._said = (base / "said").open("w+")
        script = f"mount --bind {self._run} /run && mount --bind {self._log} /var/log && exec {DAEMON}"
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        self._process = subprocess.Popen(
            ["unshare", *user, "--mount", "--propagation", "private", "sh", "-c", script],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_LOG_TARGET": "console"},
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            preexec_fn=_die_with_us,  # noqa: PLW1509  nothing here has threads yet
        )
        self._native, self._syslog = (
            self._connect(self._run / "systemd/journal" / name) for name in ("socket", "dev-log")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def write(self, message: bytes | str, **fields: str) -> None:
        """Send one entry as a program does that knows journald; the message may hold any bytes."""
        body = message.encode() if isinstance(message, str) else message
        text = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
        self._native.send(text + b"MESSAGE\n" + struct.pack("<Q", len(body)) + body + b"\n")

    def write_as(self, user: int, message: str) -> None:
        """Send one entry as this user: journald keeps what people write in files of their own."""
        for folder in (self.base, *self.base.parents[:3]):
            folder.chmod(folder.stat().st_mode | 0o111)
        program = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
            " s.connect(sys.argv[1]); s.send(sys.argv[2].encode())"
        )
        path = str(self._run / "systemd/journal/socket")
        command = ["/usr/bin/python3", "-c", program, path, f"SYSLOG_IDENTIFIER=test\nMESSAGE={message}\n"]
        subprocess.run(command, check=True, user=user, group=user, extra_groups=[], cwd="/")

    def write_syslog(self, line: str) -> None:
        """Send one line to journald's /dev/log."""
        self._syslog.send(line.encode())

    def settle(self) -> None:
        """Return when all that was sent so far stands in the journal."""
        from systemd import journal

        self._settled += 1
        mark = f"settled {self._settled}"
        self.write(mark, SYSLOG_IDENTIFIER="journald-settles")
        with journal.Reader(path=str(self.folder)) as reader:
            reader.fileno()
            reader.add_match(SYSLOG_IDENTIFIER="journald-settles")
            _wait(lambda: reader.process() >= 0 and reader.get_next().get("MESSAGE") == mark, mark)

    def rotate(self) -> None:
        """Have it begin new files, and return when it has."""
        self.settle()
        before = len(self.files())
        self._process.send_signal(signal.SIGUSR2)
        _wait(lambda: len(self.files()) > before, "journald rotates")

    def vacuum(self) -> None:
        """Remove what was rotated, as `journalctl --vacuum` does."""
        for path in self.files():
            if "@" in path.name:
                path.unlink()

    def files(self) -> list[Path]:
        """Return the journal's files."""
        return sorted(self.folder.glob("*/*.journal"))

    def close(self) -> None:
        """Stop it."""
        for sender in (self._native, self._syslog):
            sender.close()
        self._process.terminate()
        self._process.wait(_SECONDS)
        self._said.close()

    def _connect(self, path: Path) -> socket.socket:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        _wait(lambda: self._has_died() or _try_connect(sender, path), f"journald opens {path.name}")
        if self._has_died():
            sender.close()
            self._said.seek(0)
            said = self._said.read()
            self._said.close()
            raise RuntimeError(f"journald did not start: {said}")
        return sender

    def _has_died(self) -> bool:
        return self._process.poll() is not None


def why_none() -> str | None:
    """Return why a journald cannot be had here, or None."""
    if not DAEMON.exists():
        return f"{DAEMON} is not there"
    if shutil.which("unshare") is None:
        return "unshare is not there"
    tried = subprocess.run(
        ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no mount namespaces: {tried.stderr.strip()}"


def _try_connect(sender: socket.socket, path: Path) -> bool:
    try:
        sender.connect(os.fspath(path))
    except OSError:
        return False
    return True


def _wait(condition, what: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_SECONDS:g} s: {what}")
        time.sleep(0.002)


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
