"""Reads compressed logs as if they were not: gzip, bzip2, xz, and zstd where the library for it is there.

Offsets count the bytes that come out. What is damaged is read as far as it can be. Used for rotated logs and
for archives.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable
from typing import IO, Any

ZST = ".zst"
_ZSTD_HEADER_BYTES = 18
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


class _ZstdStream:
    """A zstd stream that can also go back, by beginning again."""

    def __init__(self, library: Any, file: IO[bytes]) -> None:
        self._library = library
        self._file = file
        self._reader = self._begin()

    def _begin(self) -> Any:
        self._file.seek(0)
        try:
            self._expected = self._library.frame_content_size(self._file.read(_ZSTD_HEADER_BYTES))
        except self._library.ZstdError as exc:
            raise OSError(str(exc)) from exc
        self._file.seek(0)
        return self._library.ZstdDecompressor().stream_reader(self._file, read_across_frames=True)

    def seek(self, offset: int) -> int:
        if offset < self._reader.tell():
            self._reader = self._begin()
        try:
            return int(self._reader.seek(offset))
        except self._library.ZstdError as exc:
            raise OSError(str(exc)) from exc

    def read1(self, count: int) -> bytes:
        try:
            data = bytes(self._reader.read(count))
        except self._library.ZstdError as exc:
            raise OSError(str(exc)) from exc
        if not data and self._reader.tell() < self._expected:  # the library takes a cut for the end
            raise EOFError(f"cut off, expected {self._expected} bytes")
        return data


def _open_zst(file: IO[bytes]) -> Any:
    try:
        import zstandard
    except ImportError as exc:
        raise OSError("compressed with zstd, and python3-zstandard is not installed") from exc
    return _ZstdStream(zstandard, file)


_OPENERS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ZST: _open_zst,
}
SUFFIXES = tuple(_OPENERS)


class Unpacked:
    """What comes out of a compressed file, read at any offset; going back costs reading from the start."""

    def __init__(self, descriptor: int, suffix: str) -> None:
        """Take a descriptor, which stays the caller's. Raises: OSError where nothing can be read of it."""
        self.fault = ""
        """Why it could not be read to its end."""
        self._stream = _OPENERS[suffix](os.fdopen(descriptor, "rb", closefd=False))
        if not self.read_at(0, 1) and self.fault:
            raise OSError(self.fault)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes; none behind the end, or behind a damage."""
        data = bytearray()
        try:
            if not self.fault and self._stream.seek(offset) >= offset:
                # of what is cut short, `read` would give nothing at all of the last piece
                while len(data) < count and (more := self._stream.read1(count - len(data))):
                    data += more
        except _DAMAGED as exc:
            self.fault = str(exc) or type(exc).__name__
        return bytes(data)
