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
        if size < self.offset + len(self.pending):
            return False
        if len(self.head) < _HEAD_BYTES:
            known = len(self.head)
            head = os.pread(self.descriptor, _HEAD_BYTES, 0)
            if head[:known] != self.head:
                return False
            self.head = head
            return True
        return os.pread(self.descriptor, _HEAD_BYTES, 0) == self.head

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
        elif not from_start:
            self._open_at_end()

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
            self.rotations += 1
            newest.retired_at = newest.retired_at or now
        self._files.append(opened)

    def _is_done(self, file: _OpenFile, now: Micros) -> bool:
        return file.retired_at is not None and now - file.retired_at > _RETIRE_AFTER and not file.pending

    def _open(self, path: Path, offset: int, head: bytes) -> _OpenFile | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as exc:
            self.trouble = exc.strerror or str(exc)
            return None
        self.trouble = ""
        return _OpenFile(descriptor, offset, head)

    def _open_at_end(self) -> None:
        opened = self._open(self.path, 0, b"")
        if opened is None:
            return
        size = os.fstat(opened.descriptor).st_size
        tail = os.pread(opened.descriptor, _READ_BYTES, max(0, size - _READ_BYTES))
        opened.offset = size - (len(tail) - tail.rfind(b"\n") - 1) if b"\n" in tail else 0
        opened.head = os.pread(opened.descriptor, _HEAD_BYTES, 0)
        self._files.append(opened)
        self._caught_up = True

    def _resume(self, positions: Sequence[Position]) -> None:
        """Open the files that `positions` speak of, wherever they were moved, and what came after them."""
        candidates = []
        for path in [self.path, *self.path.parent.glob(self.path.name + "[.-]*")]:
            if path.suffix in _COMPRESSED:
                continue
            opened = self._open(path, 0, b"")
            if opened is not None:
                changed = os.fstat(opened.descriptor).st_mtime_ns
                candidates.append((path == self.path, changed, path, opened))
        candidates.sort(key=lambda item: item[:2])  # the path itself is the newest, whatever its time
        for is_current, _changed, _path, opened in candidates:
            known = next((position for position in positions if _is_file_of(opened, position)), None)
            if known is not None:
                opened.offset, opened.head = known.offset, known.head
            elif not self._files and not is_current:
                opened.close()  # older than what we had read
                continue
            if not is_current:
                opened.retired_at = 0
            self._files.append(opened)
            self.lost_position = self.lost_position or (known is None and len(self._files) == 1)


def _is_file_of(opened: _OpenFile, position: Position) -> bool:
    """Whether an open file is the one a position speaks of: same inode, same first bytes, long enough."""
    if (opened.device, opened.inode) != (position.device, position.inode):
        return False
    if os.fstat(opened.descriptor).st_size < position.offset:
        return False
    return os.pread(opened.descriptor, _HEAD_BYTES, 0)[: len(position.head)] == position.head
