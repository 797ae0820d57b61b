"""Follows one file that others append to: no line lost, none read twice, and where one is, it is counted.

watchdog only wakes whoever polls; what is read is decided by `fstat` alone (device, inode, size). A file
that was renamed away is read to its end and then watched a little longer, because its writer may still
hold it open; its successor is read from its start. A file that shrank, or whose first bytes are others,
was truncated: the rest is sought in a copy that begins as it did, then it starts anew. A position is
(device, inode, offset, first bytes), one for each file that is still read, so after a restart the rest is
found under the name that logrotate gave it, be it renamed, copied, or compressed with gzip, bzip2 or xz.

A last line without its line feed waits for it, in a rotated file until that is let go. A line longer than
the bound is skipped to its end and counted. Nothing here knows what a line means.

What can still go wrong: a file unpacked by hand without its old times, under a name that logrotate would
give, is taken for a rotation we missed if that happens while we are stopped, or between our last look and
a rotation (or if logrotate renames it and the log had no line since). Two logs with the same first 64
bytes are one to us. Names by `extension` or an unusual `dateformat` are not sought. Lines of a file that
was empty when we last looked are not found again once it was copied or compressed. A clock that is set
back hides what was rotated twice in between. A truncation while we run, without a copy, is only counted.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from correlator.model import SECOND, Chunk, Micros

_READ_BYTES = 1 << 20
_HEAD_BYTES = 64
_RETIRE_AFTER: Micros = 10 * SECOND
_STALE_AFTER: Micros = 30 * SECOND
_CTIME_SLACK: Micros = SECOND  # file times come from a coarser clock than ours
_MAX_LINE_BYTES = 1 << 18
_SEEN_HEADS = 64
_AT_FIRST_READ: Micros = 0
_ROTATED = r"(?:\.\d{1,5}|-\d{8}(?:-?\d{2,10})?)(?:\.(?:gz|bz2|xz|zst))?"
_UNPACK: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read; `head` are its first bytes, to tell it from another of its inode."""

    device: int
    inode: int
    offset: int
    head: bytes
    is_skipping: bool = False
    """Whether `offset` stands inside a line that is too long."""


class _OpenFile:
    """One inode under our eyes; with a `stream` it is compressed, and offsets count what that gives."""

    def __init__(self, descriptor: int, stream: IO[bytes] | None = None) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.device, self.inode = status.st_dev, status.st_ino
        self.stream = stream
        self.fault = ""
        """Why it could not be read to its end."""
        self.offset, self.head, self.is_skipping = 0, b"", False
        self.pending = b""
        """What was read after `offset` and has no line feed yet."""
        self.retired_at: Micros | None = None

    @property
    def position(self) -> Position:
        return Position(self.device, self.inode, self.offset, self.head, self.is_skipping)

    def read_at(self, offset: int, count: int) -> bytes:
        if self.stream is None:
            return os.pread(self.descriptor, count, offset)
        try:
            return b"" if self.fault or self.stream.seek(offset) < offset else self.stream.read(count)
        except _DAMAGED as exc:
            self.fault = str(exc) or type(exc).__name__
            return b""

    def first(self, count: int = _HEAD_BYTES) -> bytes:
        return self.read_at(0, count)

    def holds(self, head: bytes, offset: int) -> bool:
        """Whether it begins so and is at least that long."""
        return self.first(len(head)) == head and (not offset or bool(self.read_at(offset - 1, 1)))

    def go_to(self, position: Position) -> None:
        self.offset, self.head, self.pending = position.offset, position.head, b""
        self.is_skipping = position.is_skipping

    def remember_head(self) -> None:
        """Keep the first bytes of what has been read."""
        known = min(self.offset + len(self.pending), _HEAD_BYTES)
        if len(self.head) < known:
            self.head = self.first(known)

    def close(self) -> None:
        os.close(self.descriptor)


def _open_file(path: Path, suffix: str = "") -> _OpenFile:
    """Open a file at its start, through what unpacks its suffix. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    problem = "not a regular file" if not stat.S_ISREG(os.fstat(descriptor).st_mode) else ""
    if problem or suffix == ".zst":
        os.close(descriptor)
        raise OSError(problem or "compressed with zstd")
    if suffix not in _UNPACK:
        return _OpenFile(descriptor)
    opened = _OpenFile(descriptor, _UNPACK[suffix](os.fdopen(descriptor, "rb", closefd=False)))
    if not opened.first() and opened.fault:
        opened.close()
        raise OSError(opened.fault)
    return opened


_Siblings = list[tuple[Path, _OpenFile | None]]
_Found = dict[_OpenFile, Position]


class FileTailer:
    """One followed path. Call `read` whenever something may have changed; it never blocks.

    Without `positions` (never seen) it starts at the end of what is there now, and at the start of a file
    that appears later; with `from_start`, or with empty positions (seen, and nothing was there), at the
    start of what is there.
    """

    def __init__(
        self, path: Path, positions: Sequence[Position] | None = None, *, from_start: bool = False
    ) -> None:
        self.path = path
        self.rotations = 0
        self.truncations = 0
        self.long_lines = 0
        self.unfinished_lines = 0
        """Last lines of rotated files that never got their line feed; they were handed out with one."""
        self.losses = 0
        """Files of which lines may have been lost: the rest is nowhere to be found, or cannot be read."""
        self.lost_position = False
        self._loss = ""
        self._trouble = ""
        self._files: list[_OpenFile] = []
        self._awaited: tuple[Position, ...] = ()
        """Positions of a file that could not be opened yet, for want of a mount or a permission."""
        self._seen: deque[bytes] = deque(maxlen=_SEEN_HEADS)
        """How the files began that were read and let go."""
        self._caught_up = False
        self._looked_at: Micros | None = None
        if positions:
            self._resume(positions)
        else:
            self._open_first(at_end=positions is None and not from_start)

    @property
    def trouble(self) -> str:
        """Why the file cannot be read just now, else what was lost last; empty where all is well."""
        return self._trouble or self._loss

    @property
    def positions(self) -> tuple[Position, ...]:
        """How far whole lines have been handed out, in each file that is still read, oldest first."""
        return tuple(file.position for file in self._files) or self._awaited

    @property
    def backlog(self) -> int:
        """Bytes that lie there unread; what is compressed is not counted."""
        plain = [file for file in self._files if file.stream is None]
        return sum(max(0, os.fstat(file.descriptor).st_size - file.offset) for file in plain)

    def read(self, now: Micros) -> Iterator[Chunk]:
        """Yield what has come, oldest first, as chunks of whole lines; the position moves with each.

        What comes first after a long pause (we were stopped, the host slept) is not live.
        """
        self._notice_truncation()
        self._notice_rotation(now)
        is_fresh = self._looked_at is None or now - self._looked_at <= _STALE_AFTER
        is_live = self._caught_up and is_fresh
        for file in self._files:
            if file.retired_at == _AT_FIRST_READ:
                file.retired_at = now
            yield from self._drain(file, now, is_live=is_live)
        self._caught_up = True
        self._looked_at = now
        while len(self._files) > 1 and self._is_done(self._files[0], now):
            yield from self._finish(self._files[0], now, is_live=is_live)
            self._files.pop(0).close()

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._files:
            file.close()
        self._files = []

    def _drain(self, file: _OpenFile, now: Micros, *, is_live: bool) -> Iterator[Chunk]:
        while data := file.read_at(file.offset + len(file.pending), _READ_BYTES):
            file.pending += data
            file.remember_head()
            end = file.pending.rfind(b"\n") + 1
            if not end:
                self._bound(file)
                continue
            whole, file.pending = file.pending[:end], file.pending[end:]
            start, file.offset = file.offset, file.offset + end
            if file.is_skipping:
                file.is_skipping = False
                cut = whole.find(b"\n") + 1
                whole, start = whole[cut:], start + cut
            if whole:
                yield Chunk(str(self.path), start, whole, now, is_live=is_live)

    def _bound(self, file: _OpenFile) -> None:
        """Skip a line that has no end within the bound."""
        if len(file.pending) > _MAX_LINE_BYTES:
            if not file.is_skipping:
                self.long_lines += 1
            file.is_skipping = True
            file.offset += len(file.pending)
            file.pending = b""

    def _finish(self, file: _OpenFile, now: Micros, *, is_live: bool) -> Iterator[Chunk]:
        """Hand out the last line of a rotated file, for which no line feed will come any more."""
        start, rest = file.offset, file.pending
        file.offset, file.pending = start + len(rest), b""
        self._seen.append(file.first())
        if file.fault:
            self._lose(f"a compressed file is damaged after byte {file.offset}: {file.fault}")
        if rest and not file.is_skipping:
            self.unfinished_lines += 1
            yield Chunk(str(self.path), start, rest + b"\n", now, is_live=is_live)

    def _is_done(self, file: _OpenFile, now: Micros) -> bool:
        is_old = file.retired_at is not None and now - file.retired_at > _RETIRE_AFTER
        return is_old or file.stream is not None

    def _lose(self, what: str) -> None:
        self.losses, self.lost_position = self.losses + 1, True
        self._loss = f"lines may be lost: {what}"

    def _notice_truncation(self) -> None:
        """Start files anew whose content is another, after the rest of what they held."""
        for file in tuple(self._files):
            if file.stream is not None or file.holds(file.head, file.offset + len(file.pending)):
                continue
            self.truncations += 1
            copies = [copy for _path, copy in self._siblings() if copy is not None]
            found = _match([file.position], copies, None)
            for copy in copies:
                if copy not in found:
                    copy.close()
                    continue
                copy.go_to(file.position)
                copy.retired_at = _AT_FIRST_READ
                self._files.insert(self._files.index(file), copy)
            file.go_to(Position(file.device, file.inode, 0, b""))

    def _notice_rotation(self, now: Micros) -> None:
        """Open what the path names now, where that is another file than the one we hold."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._trouble = "not there" if not self._files else ""
            if self._files and self._files[-1].retired_at is None:
                self._files[-1].retired_at = now
            return
        except OSError as exc:
            self._trouble = exc.strerror or str(exc)
            return
        if self._awaited:
            self._resume(self._awaited)
            return
        newest = self._files[-1] if self._files else None
        if newest is not None and (newest.device, newest.inode) == (status.st_dev, status.st_ino):
            newest.retired_at, self._trouble = None, ""
            return
        opened = self._open()
        if opened is None:
            return
        if newest is not None:
            newest.retired_at = newest.retired_at or now
            self.rotations += 1
            known, written = len(self._files), os.fstat(newest.descriptor).st_mtime_ns
            looked = ((self._looked_at or 0) - _CTIME_SLACK) * 1000
            self._take(self._siblings(written, looked), opened, {})
            self.rotations += len(self._files) - known
        self._files.append(opened)

    def _take(self, siblings: _Siblings, current: _OpenFile | None, found: _Found) -> None:
        """Follow the siblings that were found, and those younger than what we follow and not read yet."""
        for path, opened in siblings:
            others = self._files if current is None else [*self._files, current]
            inodes = [(other.device, other.inode) for other in others]
            heads = [*self._seen, *(other.first() for other in others)]
            if opened is None:
                if self._files:
                    self._lose(f"{path.name} cannot be read")
            elif opened not in found and (
                not self._files or (opened.device, opened.inode) in inodes or opened.first() in heads
            ):
                opened.close()
            else:
                opened.retired_at = _AT_FIRST_READ
                self._files.append(opened)

    def _siblings(self, written_since: int = 0, changed_since: int = 0) -> _Siblings:
        """Return what logrotate made of the path, oldest first, at its start; None where it is unreadable."""
        name = re.compile(re.escape(self.path.name) + _ROTATED)
        found: list[tuple[int, Path, _OpenFile | None]] = []
        paths: list[Path] = []
        with contextlib.suppress(OSError):  # opening the path itself says why
            paths = [entry for entry in self.path.parent.iterdir() if name.fullmatch(entry.name)]
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)
                is_new = status.st_mtime_ns >= written_since and status.st_ctime_ns >= changed_since
                if not status.st_size or not is_new or path.with_suffix("") in paths:
                    continue  # what it is being compressed from is still there
                opened = None
                with contextlib.suppress(OSError):
                    opened = _open_file(path, path.suffix)
                if opened is not None or status.st_mtime_ns > written_since:
                    found.append((status.st_mtime_ns, path, opened))
        return [(path, opened) for _written, path, opened in sorted(found, key=lambda item: item[0])]

    def _open(self) -> _OpenFile | None:
        try:
            opened = _open_file(self.path)
        except OSError as exc:
            self._trouble = "not there" if isinstance(exc, FileNotFoundError) else exc.strerror or str(exc)
            return None
        self._trouble = ""
        return opened

    def _open_first(self, *, at_end: bool) -> None:
        opened = self._open()
        if opened is None:
            return
        if at_end:
            size = os.fstat(opened.descriptor).st_size
            tail = opened.read_at(max(0, size - _READ_BYTES), _READ_BYTES)
            opened.is_skipping = len(tail) < size and b"\n" not in tail
            opened.offset = size - len(tail) + tail.rfind(b"\n") + 1 if not opened.is_skipping else size
            opened.remember_head()
            self._caught_up = True
        self._files.append(opened)

    def _resume(self, positions: Sequence[Position]) -> None:
        """Open the files that `positions` speak of, wherever they were moved, and what came after them."""
        self._caught_up, self._awaited = False, ()
        current = self._open()
        siblings = self._siblings()
        found = _match(positions, [opened for _path, opened in siblings if opened is not None], current)
        if current is None and not found:
            self._awaited = tuple(positions)
        self._take(siblings, current, found)
        if current is not None:
            self._files.append(current)
        for opened, position in found.items():
            opened.go_to(position)
        for position in positions:
            if not self._awaited and position not in found.values() and (position.offset or not found):
                self._lose(f"what came after byte {position.offset} of a file that is gone")


def _match(positions: Sequence[Position], siblings: Sequence[_OpenFile], current: _OpenFile | None) -> _Found:
    """Return the file of each position: by its inode, else one that begins as it did and is long enough.

    The rest is sought in what is not compressed first, then in the newest, last in what the path names.
    """
    files = list(siblings[::-1])
    files.sort(key=lambda file: file.stream is not None)
    files += [current] if current is not None else []
    found: _Found = {}
    for is_by_inode in (True, False):
        for position in positions:
            for file in files:
                is_same = (file.device, file.inode) == (position.device, position.inode)
                is_eligible = is_same if is_by_inode else bool(position.head)
                is_free = file not in found and position not in found.values()
                if is_eligible and is_free and file.holds(position.head, position.offset):
                    found[file] = position
    return found
