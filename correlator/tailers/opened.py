"""One inode of a log under our eyes, and what is kept of how far it has been read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from correlator.model import Micros
from correlator.tailers.unpack import SUFFIXES, Unpacked

_HEAD_BYTES = 64
_LOOK_BYTES = 1 << 18
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read; `head` are its first bytes, to tell it from another of its inode."""

    device: int
    inode: int
    offset: int
    head: bytes
    is_skipping: bool = False
    """Whether `offset` stands inside a line that is too long."""

    def as_row(self) -> dict[str, Any]:
        """Return what can be written as JSON."""
        return {**asdict(self), "head": self.head.hex()}


def read_position(row: Mapping[str, Any]) -> Position:
    """Return the position that `as_row` wrote."""
    head, is_skipping = bytes.fromhex(row["head"]), row.get("is_skipping", False)
    return Position(row["device"], row["inode"], row["offset"], head, is_skipping)


class OpenFile:
    """An open file and how far it has been read; of a compressed one, offsets count what comes out of it.

    Raises: OSError where it is no regular file.
    """

    def __init__(self, descriptor: int, unpacked: Unpacked | None = None) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, expected a file")
        self.device, self.inode = status.st_dev, status.st_ino
        self._unpacked = unpacked
        self.offset, self.head, self.is_skipping = 0, b"", False
        self.pending = b""
        """What was read after `offset` and has no line feed yet."""
        self.retired_at: Micros | None = None

    @property
    def is_packed(self) -> bool:
        """Whether it is compressed."""
        return self._unpacked is not None

    @property
    def fault(self) -> str:
        """Why it could not be read to its end."""
        return "" if self._unpacked is None else self._unpacked.fault

    @property
    def position(self) -> Position:
        """How far whole lines were taken out of it."""
        return Position(self.device, self.inode, self.offset, self.head, self.is_skipping)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes."""
        if self._unpacked is None:
            return os.pread(self.descriptor, count, offset)
        return self._unpacked.read_at(offset, count)

    def first(self, count: int = _HEAD_BYTES) -> bytes:
        """Return how it begins."""
        return self.read_at(0, count)

    def holds(self, head: bytes, offset: int) -> bool:
        """Whether it begins so and is at least that long."""
        return self.first(len(head)) == head and (not offset or bool(self.read_at(offset - 1, 1)))

    def go_to(self, position: Position) -> None:
        """Read on from there: from the next line, where nobody looked whether one begins there."""
        self.offset, self.head, self.pending = position.offset, position.head, b""
        is_unseen = position.offset > 0 and not position.head
        self.is_skipping = position.is_skipping or (
            is_unseen and self.read_at(position.offset - 1, 1) != b"\n"
        )

    def remember_head(self) -> None:
        """Keep the first bytes of what has been read."""
        known = min(self.offset + len(self.pending), _HEAD_BYTES)
        if len(self.head) < known:
            self.head = self.first(known)

    def skip_nuls(self) -> bool:
        """Go to the text behind the NULs or the hole here; stay and return false where only those follow.

        A writer that keeps its offset over a truncation leaves a hole of any size before its next line; one
        that takes room beforehand leaves NULs behind its last, and will write there.
        """
        at = self.offset
        while True:
            if not self.is_packed:
                try:
                    at = os.lseek(self.descriptor, at, os.SEEK_DATA)
                except OSError as exc:
                    if exc.errno == errno.ENXIO:  # only hole up to the end
                        return False
            data = self.read_at(at, _LOOK_BYTES)
            text = data.lstrip(b"\0")
            at += len(data) - len(text)
            if text:
                self.offset = at
                return True
            if not data:
                return False

    def close(self) -> None:
        """Give the descriptor back."""
        with contextlib.suppress(OSError):  # what a failing disk says of a file that is only read
            os.close(self.descriptor)


class Claim(Protocol):
    """What a tailer asks before it reads a file that is new to it."""

    def __call__(self, file: OpenFile, *, is_named: bool) -> bool:
        """Return whether it may; what was read of the file under another name is gone over.

        `is_named`: it lies under the tailer's own name, and not under one of a rotation.
        """


def open_file(path: Path, suffix: str = "") -> OpenFile:
    """Open a file at its start, through what unpacks its suffix. Raises: OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            raise OSError(f"{_KINDS[stat.S_IFSOCK]}, expected a file") from exc
        raise
    try:
        return OpenFile(descriptor, Unpacked(descriptor, suffix) if suffix in SUFFIXES else None)
    except OSError:
        os.close(descriptor)
        raise


def look_at_end(path: Path) -> tuple[tuple[Position, ...], bool]:
    """Return where a file ends that may not be opened; and whether not even that may be known."""
    try:
        status = os.stat(path)
    except OSError:
        return (), True
    if not stat.S_ISREG(status.st_mode):
        return (), False
    return (Position(status.st_dev, status.st_ino, status.st_size, b""),), False
