"""The action `hosts-deny`: lines in /etc/hosts.deny, for services that use TCP wrappers.

A line is appended with one write; it is taken away by replacing the file. A line that stood there before
us is not ours and stays. Comments, order, owner and mode of the file are kept.

Source: hosts_access(5): IPv6 in brackets, IPv4 networks with a mask. PortSentry 1.2 as run: the line is
KILL_HOSTS_DENY with its tokens replaced, appended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from correlator.actions import ActionDefinition, Order, expand
from correlator.enforcer.action import Ended, Ending, Result, Survey, Surveyed
from correlator.errors import PermissionDeniedError
from correlator.model import Micros, Source
from correlator.store.atomic import refuse_other_than_file, write_whole

_LARGEST = 16 << 20
_MODE = 0o644
_TRIES = 3


class HostsDeny:
    """See `Action`."""

    denies = True
    is_quick = True
    expires_by_itself = False
    can_release = True
    can_survey = True

    def __init__(self, definition: ActionDefinition) -> None:
        self.name = definition.name
        self.says = definition.says
        self._path = Path(definition.file)
        self._line = definition.line

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Append the line, unless it is there."""
        del now
        line = self._line_of(order)
        try:
            is_there = self._holds(line)
            if not is_there:
                self._append(line)
        except (OSError, PermissionDeniedError) as exc:
            ended(Result(Ending.FAILED, self._why(exc)))
            return
        # After a death of ours the line may be the one that we had written.
        ended(Result(Ending.EXISTS if is_there and not is_again else Ending.DONE, line))

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Take the line away."""
        del now
        line = self._line_of(order)
        try:
            for _ in range(_TRIES):
                if self._remove(line.encode()):
                    break
            else:
                ended(Result(Ending.FAILED, f"{self._path}: somebody else writes it all the time"))
                return
        except (OSError, PermissionDeniedError) as exc:
            ended(Result(Ending.FAILED, self._why(exc)))
            return
        ended(Result(Ending.DONE, line))

    def trace(self, order: Order) -> str:
        """Return the line."""
        return self._line_of(order)

    def finds(self, order: Order) -> bool:
        """True where the line is there."""
        try:
            return self._holds(self._line_of(order))
        except (OSError, PermissionDeniedError):
            return False  # adding it will say why

    def survey(self, orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        """Find the orders whose line is not in the file; whose the other lines are nobody can tell."""
        del now
        try:
            there = set(self._read().split(b"\n"))
        except (OSError, PermissionDeniedError) as exc:
            surveyed(Survey(problem=self._why(exc)))
            return
        surveyed(Survey(tuple(order for order in orders if self._line_of(order).encode() not in there)))

    def restore(self, orders: Sequence[Order], now: Micros, ended: Ended) -> bool:
        """One line costs as much as another."""
        del orders, now, ended
        return False

    def check(self, now: Micros, ended: Ended) -> None:
        """Find out whether the file can be read; whether it can be written shows with the first line."""
        self.survey((), now, lambda found: ended(_checked(found)))

    def _line_of(self, order: Order) -> str:
        """Return the line, the same for as long as the block lasts: what is left of its time is not in it."""
        line = self._line.replace("$TARGET$", spell_client(order.source))
        return expand(line, replace(order, reason=""), order.created)

    def _holds(self, line: str) -> bool:
        return b"\n%b\n" % line.encode() in b"\n%b\n" % self._read()

    def _read(self) -> bytes:
        refuse_other_than_file(self._path)
        try:
            data = self._path.read_bytes() if self._path.stat().st_size <= _LARGEST else None
        except FileNotFoundError:
            return b""
        if data is None:
            raise PermissionDeniedError(f"{self._path}: larger than {_LARGEST} bytes")
        return data

    def _append(self, line: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, _MODE)
        try:
            size = os.fstat(descriptor).st_size
            end = os.pread(descriptor, 2, max(0, size - 2))
            # cut, or going on in the next (hosts_access(5)), the last line would take ours for its own
            is_open = size > 0 and (end[-1:] != b"\n" or end == b"\\\n")
            write_whole(descriptor, (b"\n" if is_open else b"") + line.encode() + b"\n")
        finally:
            os.close(descriptor)

    def _remove(self, line: bytes) -> bool:
        """Replace the file by one without the line; false where somebody wrote to it meanwhile."""
        try:
            before = os.stat(self._path)
        except FileNotFoundError:
            return True
        lines = self._read().split(b"\n")
        if line not in lines:
            return True
        temporary = self._path.with_name(f".{self._path.name}.portward")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with contextlib.suppress(PermissionError):  # without the capability it is ours: so be it
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, before.st_mode & 0o7777)
            write_whole(descriptor, b"\n".join(other for other in lines if other != line))
            os.fsync(descriptor)
            now = os.stat(self._path)
            is_same = (now.st_ino, now.st_size, now.st_mtime_ns) == (
                before.st_ino,
                before.st_size,
                before.st_mtime_ns,
            )
            if is_same:
                os.rename(temporary, self._path)
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return is_same

    def _why(self, exc: OSError | PermissionDeniedError) -> str:
        return f"{self._path}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)


def _checked(survey: Survey) -> Result:
    return Result(Ending.FAILED if survey.problem else Ending.DONE, survey.problem)


def spell_client(source: Source) -> str:
    """Return a source as hosts_access(5) wants it: `192.0.2.0/255.255.255.0`, `[2001:db8::]/64`."""
    network = source.network
    if source.version == 4:
        return str(source) if source.is_single else f"{network.network_address}/{network.netmask}"
    bracketed = f"[{network.network_address}]"
    return bracketed if source.is_single else f"{bracketed}/{network.prefixlen}"
