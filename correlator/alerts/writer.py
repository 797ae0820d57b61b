"""Writes lines to the alert log, to syslog and, for a person watching, to standard output.

Never blocks and never raises for what the outside does: a full disk, a rotated or deleted file, a dead
syslog. A failure is counted and said once, over the ways that still work; so is its end. The alert log
comes first: the correlator waits for it. Source: syslog(3), RFC 3164; PortSentry's envelope as run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from correlator.alerts.stamps import Stamps
from correlator.alerts.trouble import Trouble
from correlator.attackalert import SYSLOG_IDENTIFIER, SYSLOG_PRIORITY, end_for_syslog
from correlator.kernel.socket_path import reachable
from correlator.model import SECOND, Micros

_MODE = 0o660  # the correlator, in its group, reads it and adds what follows; a umask of 022 takes the rest
_BACKLOG = 1000
"""Lines that wait for a syslog that is slow; more are lost, and counted."""
_LAST_ROUNDS, _LAST_ROUND_MILLISECONDS = 25, 20
_MAX_SAID = 2048
"""Bytes of one line on a pipe: less than any pipe takes at once when it takes anything."""


class AlertLog:
    """The alert log: whole lines appended with one write each, followed through rotation."""

    def __init__(self, path: Path, name: str = "alert log") -> None:
        """`name` is what the file is called where something is said about it."""
        self.path = str(path)
        self.trouble = Trouble(f"{name} {path}")
        self._descriptor = -1
        self._identity = (0, 0)
        self._is_cut = False

    def write(self, line: bytes, now: Micros) -> str | None:
        """Append one line; return what is to be said: that it fails from now on, or works again."""
        try:
            self._follow()
            self._append(b"\n" + line if self._is_cut else line)
        except OSError as exc:
            return self.trouble.failed(os.strerror(exc.errno or 0), now)
        return self.trouble.worked()

    def close(self) -> None:
        """Give the descriptor back; the next write opens the file again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow(self) -> None:
        """Open the file of that name, again where it was moved away, deleted or replaced."""
        if self._descriptor >= 0:
            try:
                status = os.stat(self.path)
            except FileNotFoundError:
                pass
            else:
                if (status.st_dev, status.st_ino) == self._identity:
                    return
            self.close()
        # O_NONBLOCK: should somebody put a FIFO there, opening it must not wait for a reader. O_NOFOLLOW: the
        # folder may be another user's, and we root, as with `portward run` beside an installed package.
        flags = (
            os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
        )
        self._descriptor = os.open(self.path, flags, _MODE)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)
        # a crash of the host may have left half a line: ours must not be glued to it
        self._is_cut = status.st_size > 0 and os.pread(self._descriptor, 1, status.st_size - 1) != b"\n"

    def _append(self, data: bytes) -> None:
        written = os.write(self._descriptor, data)
        if written < len(data):
            self._is_cut = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._is_cut = False


class Nudge:
    """Tells the correlator, without waiting, that there is a line; the file says which.

    A directory watcher would tell it too, a few tenths of a millisecond later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def give(self) -> None:
        """Send one byte; nobody there, or one too many, is nothing to worry about."""
        with contextlib.suppress(OSError), reachable(self._path) as name:
            self._socket.sendto(b"\n", name)

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()


class Syslog:
    """The local syslog socket, one datagram a line; tried again at most once a second when it is gone.

    A Unix socket takes only a few datagrams (10, on most hosts) before its reader wakes: lines that it
    does not take yet wait here, in order and bounded, for `flush`.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.trouble = Trouble(f"syslog {path}")
        self._waiting: deque[bytes] = deque()
        self._socket: socket.socket | None = None
        self._next_try: Micros | None = None

    def send(self, datagram: bytes, now: Micros) -> str | None:
        """Send one datagram at monotonic time `now`; return what is to be said, as `AlertLog.write` does."""
        self._waiting.append(datagram)
        return self.flush(now)

    @property
    def is_waiting(self) -> bool:
        """True while lines wait for room: call `flush` soon."""
        return bool(self._waiting)

    def flush(self, now: Micros) -> str | None:
        """Send what waits, as far as it is taken; return what is to be said."""
        news = None
        while self._waiting:
            try:
                self._deliver(self._waiting[0], now)
            except BlockingIOError as exc:
                if len(self._waiting) <= _BACKLOG:
                    return news
                self._waiting.pop()
                return self.trouble.failed(os.strerror(exc.errno or 0), now)
            except OSError as exc:
                self._waiting.popleft()
                news = self.trouble.failed(os.strerror(exc.errno or 0), now) or news
            else:
                self._waiting.popleft()
                news = self.trouble.worked() or news
        return news

    def drain(self, now: Micros) -> None:
        """Wait, half a second at most, until what waits was taken: the last lines say why we end."""
        waiting = select.poll()
        if self._socket is not None:
            waiting.register(self._socket, select.POLLOUT)
        for _ in range(_LAST_ROUNDS):
            if not self._waiting or self._socket is None:
                return
            waiting.poll(_LAST_ROUND_MILLISECONDS)
            self.flush(now)

    def close(self) -> None:
        """Give the descriptor back; a later `send` connects again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _deliver(self, datagram: bytes, now: Micros) -> None:
        if self._socket is not None:
            try:
                self._socket.send(datagram)
            except BlockingIOError:  # its queue is full, the connection is good
                raise
            except OSError:  # syslog was restarted: the name may lead to a new socket by now
                self.close()
            else:
                return
        self._connect(now)
        if self._socket is not None:
            self._socket.send(datagram)

    def _connect(self, now: Micros) -> None:
        if self._next_try is not None and now < self._next_try:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED), self.path)
        self._next_try = now + SECOND
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        connecting = socket.socket(socket.AF_UNIX, kind)
        try:
            connecting.connect(self.path)
        except OSError:
            connecting.close()
            raise
        self._socket = connecting


class Writer:
    """All the ways out of one line. Times: `at` nanoseconds since 1970, `now` monotonic microseconds."""

    def __init__(
        self,
        log: AlertLog,
        syslog: Syslog | None,
        *,
        host: str,
        echo: Callable[[str, str], str] | None = None,
        nudge: Nudge | None = None,
    ) -> None:
        """`echo` makes of the alert log's stamp and the text what is shown on standard output."""
        self.log = log
        self._nudge = nudge
        self.syslog = syslog
        self._echo = echo
        self.unshown = 0
        """Lines that standard output did not take, because its reader is slow or gone."""
        self._stamps = Stamps()
        tag = f"{SYSLOG_IDENTIFIER}[{os.getpid()}]:"
        self._log_tag = f" {host} {tag} "
        self._syslog_tag = f" {tag} "

    def write(self, text: str, at: int, now: Micros) -> None:
        """Write one line everywhere, and say what newly fails or works again."""
        log_news = self.log.write(self._log_line(text, at), now)
        if self._nudge is not None:
            self._nudge.give()
        syslog_news = None
        if self.syslog is not None:
            syslog_news = self.syslog.send(self._datagram(text, at), now)
        if self._echo is not None and not say(1, self._echo(self._stamps.alert_log(at), text)):
            self.unshown += 1
        for news in (log_news, syslog_news):
            if news is not None:
                self._tell(news, at, now)

    @property
    def is_waiting(self) -> bool:
        """True while lines wait for room in syslog: call `flush` soon."""
        return self.syslog is not None and self.syslog.is_waiting

    def flush(self, at: int, now: Micros) -> None:
        """Send what waits for syslog, as far as it is taken."""
        if self.syslog is not None:
            news = self.syslog.flush(now)
            if news is not None:
                self._tell(news, at, now)

    def reopen(self) -> None:
        """Open the alert log anew with the next line (SIGHUP)."""
        self.log.close()

    def close(self, now: Micros = 0) -> None:
        """Give the descriptors back, once syslog has taken what waits or half a second has gone."""
        if self.syslog is not None:
            self.syslog.drain(now)
        self.log.close()
        for other in (self.syslog, self._nudge):
            if other is not None:
                other.close()

    def _tell(self, news: str, at: int, now: Micros) -> None:
        """Say on standard error, and over the ways that work, what became of one of them."""
        say(2, news)
        if not self.log.trouble.is_failing:
            self.log.write(self._log_line(news, at), now)
        if self.syslog is not None and not self.syslog.trouble.is_failing:
            self.syslog.send(self._datagram(news, at), now)

    def _log_line(self, text: str, at: int) -> bytes:
        return f"{self._stamps.alert_log(at)}{self._log_tag}{text}\n".encode()

    def _datagram(self, text: str, at: int) -> bytes:
        return (
            f"<{SYSLOG_PRIORITY}>{self._stamps.syslog(at)}{self._syslog_tag}{end_for_syslog(text)}".encode()
        )


def say(descriptor: int, text: str) -> bool:
    """Write one line to an inherited descriptor where it takes one now; return whether it did.

    Never waits and never raises: whoever reads our standard output may be stuck or gone. The descriptor
    stays blocking, because the process that gave it to us uses it too.
    """
    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT)
    try:
        if not any(ready & select.POLLOUT for _, ready in waiting.poll(0)):
            return False
        os.write(descriptor, text.encode(errors="replace")[:_MAX_SAID] + b"\n")
    except OSError:
        return False
    return True
