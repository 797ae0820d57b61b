"""A real rsyslogd for a test, unpacked by `make peer`: its own socket, its own files, nothing of the host's.

It writes what it receives in each form that it knows to a file of its own: traditional, as before Debian 12;
ISO 8601, Debian's since; RFC 5424. Source: rsyslog.conf(5).
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "peers" / "rsyslog"
PROGRAM = FOLDER / "usr/sbin/rsyslogd"
FORMS = {
    "traditional": "RSYSLOG_TraditionalFileFormat",
    "iso": "RSYSLOG_FileFormat",
    "rfc5424": "RSYSLOG_SyslogProtocol23Format",
}
_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class Rsyslog:
    """One rsyslogd on the socket `socket_path`. Use as a context manager; `logs` are its files by form."""

    def __init__(self, folder: Path, socket_path: Path) -> None:
        self.logs = {form: folder / f"{form}.log" for form in FORMS}
        libraries = next(FOLDER.glob("usr/lib/*-linux-gnu"))
        actions = "".join(
            f'action(type="omfile" file="{self.logs[form]}" template="{template}")\n'
            for form, template in FORMS.items()
        )
        configuration = folder / "rsyslog.conf"
        configuration.write_text(
            'module(load="imuxsock" SysSock.Use="off")\n'
            f'input(type="imuxsock" Socket="{socket_path}" RateLimit.Interval="0")\n{actions}'
        )
        self._process = subprocess.Popen(
            [PROGRAM, "-n", "-f", configuration, "-i", folder / "rsyslog.pid", "-M", libraries / "rsyslog"],
            env={"LD_LIBRARY_PATH": str(libraries), "PATH": "/usr/bin:/bin"},
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_us,  # noqa: PLW1509  nothing here has threads yet
        )
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self._sender.connect(os.fspath(socket_path))
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.close()
                    raise
                time.sleep(0.002)
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def send(self, datagram: bytes) -> None:
        """Send one datagram to its socket, as any program may."""
        self._sender.send(datagram)

    def reopen(self) -> None:
        """Have it open its files anew, as logrotate does."""
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """Stop it."""
        self._sender.close()
        self._process.terminate()
        self._process.wait(_SECONDS)


def is_there() -> bool:
    """Whether `make peer` found it."""
    return PROGRAM.exists()


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
