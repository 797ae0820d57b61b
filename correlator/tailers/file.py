"""Follows one file that others append to: no line lost, none read twice.

watchdog only wakes whoever polls; what is read is decided by `fstat` alone (device, inode, size). A file
that was renamed away is read to its end and then watched a little longer, because its writer may still
hold it open; its successor is read from its start. A file that shrank, or whose first bytes are others,
was truncated and starts anew. A position is (device, inode, offset, first bytes), one for each file that
is still read, so after a restart the rest of a file is found under the name it was rotated to.

A last line without its line feed waits for it. A line longer than the bound is skipped to its end and
counted. Nothing here knows what a line means.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from correlator.model import SECOND, Chunk, Micros

_READ_BYTES = 1 << 20
_HEAD_BYTES = 64
_RETIRE_AFTER: Micros = 10 * SECOND
_MAX_LINE_BYTES = 1 << 18
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read; `head` are its first bytes, to tell it from another of its inode."""

    device: int
    inode: int
    offset: int
    head: bytes


class _OpenFile:
    """One inode under our eyes."""

    def __init__(self, descriptor: int, offset: int, head: bytes) -> None:
        status = os.fstat(descriptor)
        self.descriptor = descriptor
        self.device, self.inode = status.st_dev, status.st_ino
        self.offset = offset
        self.head = head
        self.pending = b""
        """What was read after `offset` and has no line feed yet."""
        self.retired_at: Micros | None = None
        self.is_skipping = False

    @property
    def position(self) -> Position:
        return Position(self.device, self.inode, self.offset, self.head)

    def is_still_itself(self, size: int) -> bool:
        """Whether what we have read of it is still there."""
        return size >= self.offset + len(self.pending) and self._first(len(self.head)) == self.head

    def is_copy_of(self, other: _OpenFile) -> bool:
        """Whether it is the other file, or begins as it does: somebody's copy, not a log of its own."""
        if (self.device, self.inode) == (other.device, other.inode):
            return True
        first = self._first(_HEAD_BYTES)
        return bool(first) and first == other._first(_HEAD_BYTES)

    def remember_head(self) -> None:
        """Keep the first bytes of what has been read."""
        known = min(self.offset + len(self.pending), _HEAD_BYTES)
        if len(self.head) < known:
            self.head = self._first(known)

    def _first(self, count: int) -> bytes:
        return os.pread(self.descriptor, count, 0) if count else b""

    def start_anew(self) -> None:
        self.offset, self.head, self.pending, self.is_skipping = 0, b"", b"", False

    def close(self) -> None:
        os.close(self.descriptor)


class FileTailer:
    """One followed path. Call `read` whenever something may have changed; it never blocks.

    Without `positions` it starts at the end of what is there now, and at the start of a file that appears
    later; with `from_start` at the start of what is there.
    """

    def __init__(self, path: Path, positions: Sequence[Position] = (), *, from_start: bool = False) -> None:
        self.path = path
        self.rotations = 0
        self.truncations = 0
        self.long_lines = 0
        self.lost_position = False
        """True where the file that a position spoke of is nowhere to be found uncompressed."""
        self.trouble = ""
        """Why the file cannot be read just now; empty where it can."""
        self._files: list[_OpenFile] = []
        self._caught_up = False
        if positions:
            self._resume(positions)
        else:
            self._open_first(at_end=not from_start)

    @property
    def positions(self) -> tuple[Position, ...]:
        """How far whole lines have been handed out, in each file that is still read, oldest first."""
        return tuple(file.position for file in self._files)

    @property
    def backlog(self) -> int:
        """Bytes that lie there unread."""
        return sum(max(0, os.fstat(file.descriptor).st_size - file.offset) for file in self._files)

    def read(self, now: Micros) -> Iterator[Chunk]:
        """Yield what has come, oldest first, as chunks of whole lines; the position moves with each."""
        self._notice_rotation(now)
        for index, file in enumerate(self._files):
            if index and self._files[index - 1].retired_at is None:
                break
            yield from self._drain(file, now)
        self._caught_up = True
        while len(self._files) > 1 and self._is_done(self._files[0], now):
            self._files.pop(0).close()

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._files:
            file.close()
        self._files = []

    def _drain(self, file: _OpenFile, now: Micros) -> Iterator[Chunk]:
        size = os.fstat(file.descriptor).st_size
        if not file.is_still_itself(size):
            self.truncations += 1
            file.start_anew()
        while True:
            at = file.offset + len(file.pending)
            data = os.pread(file.descriptor, _READ_BYTES, at)
            if not data:
                return
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
                yield Chunk(str(self.path), start, whole, now, is_live=self._caught_up)

    def _bound(self, file: _OpenFile) -> None:
        """Skip a line that has no end within the bound."""
        if len(file.pending) > _MAX_LINE_BYTES:
            if not file.is_skipping:
                self.long_lines += 1
            file.is_skipping = True
            file.offset += len(file.pending)
            file.pending = b""

    def _notice_rotation(self, now: Micros) -> None:
        """Open what the path names now, where that is another file than the one we hold."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self.trouble = "not there" if not self._files else ""
            if self._files and self._files[-1].retired_at is None:
                self._files[-1].retired_at = now
            return
        except OSError as exc:
            self.trouble = exc.strerror or str(exc)
            return
        newest = self._files[-1] if self._files else None
        if newest is not None and (newest.device, newest.inode) == (status.st_dev, status.st_ino):
            newest.retired_at = None
            self.trouble = ""
            return
        opened = self._open(self.path, 0, b"")
        if opened is None:
            return
        if newest is not None:
            newest.retired_at = newest.retired_at or now
            self.rotations += 1
            self._files += self._missed_between(newest, now)
        self._files.append(opened)

    def _missed_between(self, newest: _OpenFile, now: Micros) -> list[_OpenFile]:
        """Return files that came and were rotated away again while we did not look (we were stopped)."""
        since = os.fstat(newest.descriptor).st_mtime_ns
        missed: list[_OpenFile] = []
        for changed, opened in self._siblings():
            if changed < since or any(opened.is_copy_of(file) for file in (*self._files, *missed)):
                opened.close()
                continue
            opened.retired_at = now
            self.rotations += 1
            missed.append(opened)
        return missed

    def _siblings(self) -> list[tuple[int, _OpenFile]]:
        """Return the files that the path was rotated to, opened at their start, with their times in order."""
        found = []
        for path in self.path.parent.glob(self.path.name + "[.-]*"):
            opened = None if path.suffix in _COMPRESSED else self._open(path, 0, b"")
            if opened is not None:
                found.append((os.fstat(opened.descriptor).st_mtime_ns, opened))
        return sorted(found, key=lambda item: item[0])

    def _is_done(self, file: _OpenFile, now: Micros) -> bool:
        return file.retired_at is not None and now - file.retired_at > _RETIRE_AFTER and not file.pending

    def _open(self, path: Path, offset: int, head: bytes) -> _OpenFile | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as exc:
            self.trouble = exc.strerror or str(exc)
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            self.trouble = "not a regular file"
            return None
        self.trouble = ""
        return _OpenFile(descriptor, offset, head)

    def _open_first(self, *, at_end: bool) -> None:
        opened = self._open(self.path, 0, b"")
        if opened is None:
            return
        if at_end:
            size = os.fstat(opened.descriptor).st_size
            tail = os.pread(opened.descriptor, _READ_BYTES, max(0, size - _READ_BYTES))
            opened.offset = size - (len(tail) - tail.rfind(b"\n") - 1) if b"\n" in tail else 0
            opened.remember_head()
            self._caught_up = True
        self._files.append(opened)

    def _resume(self, positions: Sequence[Position]) -> None:
        """Open the files that `positions` speak of, wherever they were moved, and what came after them."""
        current = self._open(self.path, 0, b"")
        candidates = [opened for _changed, opened in self._siblings()]
        for opened in [*candidates, *([current] if current is not None else [])]:
            known = next((position for position in positions if _is_file_of(opened, position)), None)
            is_older = not self._files and opened is not current
            if known is not None:
                opened.offset, opened.head = known.offset, known.head
            elif is_older or any(opened.is_copy_of(file) for file in self._files):
                opened.close()
                continue
            if opened is not current:
                opened.retired_at = 0
            self.lost_position = self.lost_position or (known is None and not self._files)
            self._files.append(opened)


def _is_file_of(opened: _OpenFile, position: Position) -> bool:
    """Whether an open file is the one a position speaks of: same inode, same first bytes, long enough."""
    if (opened.device, opened.inode) != (position.device, position.inode):
        return False
    if os.fstat(opened.descriptor).st_size < position.offset:
        return False
    return os.pread(opened.descriptor, _HEAD_BYTES, 0)[: len(position.head)] == position.head
