"""Knows whom the ignore file names: PortSentry leaves no trace of such a host, and neither does the probe.

The file is looked at before each report, so that an edit counts at once, and read again only where it
changed. One that is gone ignores nobody, as with PortSentry; one that cannot be read keeps what it said
before. Either is said once, and so is each bad line. Never raises for what is in the file.
Source: PortSentry 1.2 as run.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import time
from collections.abc import Callable
from pathlib import Path

from correlator.attackalert import NO_IGNORE_FILE
from correlator.errors import Fault
from correlator.ignores import IgnoreList, parse_ignore_file
from correlator.model import Source, printable

LARGEST_FILE = 1 << 18
"""Bytes. Each entry costs some 600 bytes of memory, and its reading holds up the next line."""
_MOST_FAULTS = 10
_MOST_KNOWN = 4096
_COARSEST_CLOCK = 50_000_000
"""Nanoseconds. File systems stamp by a clock that ticks some hundred times a second: what was read within one
tick of a change may have been changed once more under the same stamp."""
_Stamp = tuple[int, ...]


class IgnoreFile:
    """The ignore file at `path`; `say` takes a line about it. `must_exist`: one never seen is missed too."""

    def __init__(
        self,
        path: Path,
        say: Callable[[str], None],
        *,
        must_exist: bool = False,
        read_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = str(path)
        self._say = say
        self._read_clock = read_clock
        self._entries = IgnoreList()
        self._known: dict[bytes, bool] = {}
        """What was asked lately, because most lines are about few hosts."""
        self._stamp: _Stamp | None = None
        self._is_settled = False
        self._trouble = "" if must_exist else NO_IGNORE_FILE
        """What was said last, or need not be said."""

    def covers(self, packed: bytes) -> bool:
        """True for an address, packed, that an entry of the file as it stands now covers."""
        self._refresh()
        found = self._known.get(packed)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            source = Source(ipaddress.ip_network(ipaddress.ip_address(packed)))
            found = self._known[packed] = self._entries.find(source) is not None
        return found

    def _refresh(self) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            if self._stamp is not None:
                self._stamp = None
                self._take("")
            self._tell(NO_IGNORE_FILE)
            return
        except OSError as exc:
            self._tell(self._explain(exc.strerror))
            return
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if stamp == self._stamp and self._is_settled:
            return
        is_new = stamp != self._stamp
        self._stamp = stamp
        self._is_settled = not 0 <= self._read_clock() - found.st_ctime_ns < _COARSEST_CLOCK
        try:
            text = _read_bounded(self._path)
        except OSError as exc:  # tried again when it changes, its permissions included
            self._tell(self._explain(exc.strerror))
            return
        self._trouble = ""
        faults = self._take(text)
        for fault in faults[:_MOST_FAULTS] if is_new else ():
            self._say(f"adminalert: {printable(str(fault))}")
        if len(faults) > _MOST_FAULTS and is_new:
            self._say(f"adminalert: {printable(self._path)}: {len(faults) - _MOST_FAULTS} more faults")

    def _take(self, text: str) -> tuple[Fault, ...]:
        self._entries, faults = parse_ignore_file(text, self._path)
        self._known.clear()
        return faults

    def _explain(self, reason: str | None) -> str:
        path = printable(self._path)
        return (
            f"adminalert: ERROR: ignore file {path}: {reason}, expected one we may read; its old lines stay"
        )

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(trouble)


def _read_bounded(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO there must not hold us up
    with open(descriptor, "rb") as file:
        data = file.read(LARGEST_FILE + 1) or b""
    if len(data) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"more than {LARGEST_FILE} bytes")
    return data.decode("utf-8", errors="replace")
