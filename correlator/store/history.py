"""PortSentry's history: one line for each block that was carried out, appended for ever.

    1795356540 - 11/22/2026 14:09:00 Host: 192.0.2.2/192.0.2.2 Port: 1 TCP Blocked

Fail2ban's own `portsentry` filter and many scripts read these lines; they change only with a line in
the changelog. The stamp is the block's, in local time, so the same block always gives the same line:
that is how a line is known to be there after a crash.

Source: PortSentry 1.2 as run; portsentry.history.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from correlator.errors import SourceError
from correlator.model import SECOND, Micros, Source, parse_prefix
from correlator.store.atomic import refuse_other_than_file, sync_folder, write_whole

TAIL_BYTES = 1 << 18
"""How far back `append_once` looks for its line; callers append less than this between two `sync`."""
ANY_PROTOCOL = "ANY"

_MODE = 0o640
_LONGEST_LINE = 1024
# 1795357118 - 11/22/2026 14:18:38 Host: scanner.example.net/192.0.2.2 Port: 200 TCP Blocked
# 1795356540 - 11/22/2026 14:09:00 Host: 2001:db8::/64/2001:db8::/64 Port: 0 ANY Blocked
_LINE = re.compile(
    r"(?P<epoch>\d{1,12}) - (?P<stamp>\d\d/\d\d/\d\d\d\d \d\d:\d\d:\d\d) "
    r"Host: (?P<name>\S{1,255}?)/(?P<address>[0-9A-Fa-f.:]{2,45}(?:/\d{1,3})?) "
    r"Port: (?P<port>\d{1,5}) (?P<protocol>[A-Z0-9-]{1,16}) Blocked"
)


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """What one line of a history or blocked file says; `at` has whole seconds."""

    at: Micros
    name: str
    source: Source
    port: int
    protocol: str


def format_history_line(at: Micros, source: Source, port: int, protocol: str, name: str = "") -> str:
    """Return the line with its line feed; an empty `name` repeats the address, as PortSentry does.

    `name` must hold neither space nor slash: it is text that a stranger's name server chose.
    """
    epoch = at // SECOND
    stamp = time.strftime("%m/%d/%Y %H:%M:%S", time.localtime(epoch))
    word = protocol.upper() or ANY_PROTOCOL
    return f"{epoch} - {stamp} Host: {name or source}/{source} Port: {port} {word} Blocked\n"


def parse_history_line(line: str) -> HistoryLine | None:
    """Return what a line says, or None where it is not one of ours or PortSentry's."""
    text = line.removesuffix("\n")
    found = _LINE.fullmatch(text) if len(text) <= _LONGEST_LINE else None
    if found is None or not found["epoch"].isascii() or not found["port"].isascii():
        return None
    name, address = found["name"], found["address"]
    # A prefix holds a slash itself, and so does the name that repeats it: split the pair in its middle.
    pair = f"{name}/{address}"
    half = len(pair) // 2
    if "/" in address and len(pair) % 2 and pair[:half] == pair[half + 1 :]:
        name = address = pair[:half]
    elif "/" in name or "/" in address:
        # NAME has no slash, so what follows the first one is the address.
        name, _, address = pair.partition("/")
    try:
        source = parse_prefix(address)
    except SourceError:
        return None
    port = int(found["port"])
    if port > 65535:
        return None
    return HistoryLine(int(found["epoch"]) * SECOND, name, source, port, found["protocol"])


def append(path: Path, lines: str) -> None:
    """Append whole lines; `sync` makes them durable.

    A last line without line feed (a crash, an editor) is completed first, so that ours stands alone.

    Raises: PermissionDeniedError where `path` is a symbolic link; OSError where it cannot be written.
    """
    descriptor, is_new = _open_for_append(path)
    try:
        _append(descriptor, lines)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def sync(path: Path) -> None:
    """Return when every line of the file is on the disk.

    Raises: OSError where that fails, or the file has gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_once(path: Path, lines: str) -> int:
    """Append durably those of `lines` that do not yet stand in the last 256 KiB; return how many were new.

    For the time after a crash, when nobody knows whether they were written. Two blocks of one source in
    one second have the same line; of those one may be left.
    """
    descriptor, is_new = _open_for_append(path)
    try:
        there = set(_tail(descriptor).split(b"\n"))
        missing = [
            line for line in lines.splitlines(keepends=True) if line.rstrip("\n").encode() not in there
        ]
        if missing:
            _append(descriptor, "".join(missing))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)
    return len(missing)


def read_history(path: Path) -> Iterator[HistoryLine]:
    """Yield what the file's lines say, oldest first; foreign lines are passed over, no file is no line."""
    try:
        file = path.open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            found = parse_history_line(line)
            if found is not None:
                yield found


def _open_for_append(path: Path) -> tuple[int, bool]:
    refuse_other_than_file(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    is_new = not path.exists()
    return os.open(path, flags, _MODE), is_new


def _append(descriptor: int, lines: str) -> None:
    data = lines.encode()
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        data = b"\n" + data
    write_whole(descriptor, data)


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    start = max(0, size - TAIL_BYTES)
    data = os.pread(descriptor, size - start, start)
    return data.partition(b"\n")[2] if start else data
