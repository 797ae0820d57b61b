"""Reads a whole log from its start to its end, once: plain, compressed, standard input, or a journal file.

What a file is, its first bytes decide, not its name. A stamp without a year is read as of the file's last
change. A line longer than the bound is skipped to its end and counted; a damaged file is read as far as it
can be, and `trouble` says where that was. Nothing here knows what a line means.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from correlator.errors import MissingToolError
from correlator.model import JOURNAL, STDIN, Chunk, Entries, Micros
from correlator.tailers.journal import JournalTailer, Wanted

_READ_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 18
_ZSTD_READ_BYTES = 1 << 12  # the library has no bound on what comes of it
_ZSTD = b"\x28\xb5\x2f\xfd"
_UNPACK: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_JOURNAL = b"LPKSHHRH"
_HOLE = re.compile(rb"(?<=\n)\0+")
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
_ANYTHING = Wanted(None, frozenset({"_TRANSPORT"}))


class Archive:
    """One log. Read `chunks` once; `position` of `size` bytes have been taken from the disk so far."""

    def __init__(self, path: str, *, wanted: Wanted = _ANYTHING) -> None:
        """Open a file, or with `-` standard input.

        Raises: OSError where it cannot be opened, MissingToolError where nothing here unpacks it.
        """
        self.path = path
        self.origin = STDIN if path == "-" else path
        self.long_lines = 0
        self.trouble = ""
        """Why it could not be read to its end."""
        self._offset = 0
        self._wanted = wanted
        self._damaged: tuple[type[Exception], ...] = _DAMAGED
        self._program: subprocess.Popen[bytes] | None = None
        self._file = io.BufferedReader(
            io.FileIO(0 if path == "-" else path, closefd=path != "-"), _READ_BYTES
        )
        status = os.fstat(self._file.fileno())
        is_file = stat.S_ISREG(status.st_mode)
        self.size = status.st_size if is_file else 0
        """In bytes; 0: nobody knows."""
        self._arrived: Micros = status.st_mtime_ns // 1000 if is_file else time.time_ns() // 1000
        first = self._file.peek(len(_JOURNAL))
        self.is_journal = first.startswith(_JOURNAL) and path != "-"
        if self.is_journal:
            self.origin = JOURNAL
        try:
            self._stream = self._unpacked(first)
            # of what is cut short, `read` would give nothing at all of the last piece
            self._read_some = getattr(self._stream, "read1", self._stream.read)
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> int:
        """How many bytes have been taken from the disk."""
        return self._file.raw.tell() if self.size else 0

    def chunks(self) -> Iterator[Chunk | Entries]:
        """Yield all there is, in pieces of whole lines, or of entries."""
        if self.is_journal:
            yield from self._entries()
            return
        pending, is_skipping = b"", False
        while data := self._read():
            if not pending and not is_skipping:
                data = self._behind_nuls(data)  # as many as there are: a hole is no line over the bound
            end = data.rfind(b"\n") + 1
            if end and is_skipping:
                cut = data.find(b"\n") + 1
                self._offset += len(pending) + cut
                data, end, pending, is_skipping = data[cut:], end - cut, b"", False
            if end:
                whole, pending = pending + data[:end], data[end:]
                yield from self._chunks_of(whole)
                pending = self._behind_nuls(pending)
                continue
            pending += data
            if len(pending) > _MAX_LINE_BYTES:
                self.long_lines += not is_skipping
                self._offset += len(pending)
                pending, is_skipping = b"", True
        if pending and not is_skipping and not self.trouble:  # what a damage cut off may name somebody else
            yield self._chunk(pending + b"\n")

    def close(self) -> None:
        """Give the file back, and the program that unpacks it."""
        if self._program is not None:
            self._program.kill()
            self._program.communicate()
        self._file.close()

    def _behind_nuls(self, data: bytes) -> bytes:
        """Return what begins a line, without the NULs that a truncation under its writer leaves."""
        text = data.lstrip(b"\0")
        self._offset += len(data) - len(text)
        return text

    def _chunks_of(self, lines: bytes) -> Iterator[Chunk]:
        start = 0
        for hole in _HOLE.finditer(lines) if b"\0" in lines else ():
            yield self._chunk(lines[start : hole.start()])
            self._offset += len(hole.group())
            start = hole.end()
        if start < len(lines):
            yield self._chunk(lines[start:])

    def _chunk(self, data: bytes) -> Chunk:
        chunk = Chunk(self.origin, self._offset, data, self._arrived, is_live=False)
        self._offset += len(data)
        return chunk

    def _entries(self) -> Iterator[Entries]:
        tailer = JournalTailer(None, self._wanted, (), files=(Path(self.path),))
        try:
            for entries in tailer.read(time.time_ns() // 1000):
                yield replace(entries, is_live=False)
            self.trouble = tailer.trouble
        finally:
            tailer.close()

    def _read(self) -> bytes:
        if self.trouble:
            return b""
        try:
            data: bytes = self._read_some(_READ_BYTES)
        except self._damaged as exc:
            self.trouble = f"damaged after byte {self._offset} of its text: {exc or type(exc).__name__}"
            return b""
        if not data and self._program is not None and (status := self._program.wait()) != 0:
            self.trouble = f"damaged after byte {self._offset} of its text: zstd ended with status {status}"
        return data

    def _unpacked(self, first: bytes) -> Any:
        for magic, unpack in _UNPACK.items():
            if first.startswith(magic):
                return unpack(self._file)
        return self._unpacked_zstd() if first.startswith(_ZSTD) else self._file

    def _unpacked_zstd(self) -> Any:
        """Return what unpacks zstd: the program, which works beside us, else the library."""
        program = shutil.which("zstd")
        if program is not None and self.size:
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)
            self._program = subprocess.Popen(
                [program, "-dcq"],
                stdin=self._file.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # its exit status says all there is to say
            )
            return self._program.stdout
        try:
            import zstandard
        except ImportError as exc:
            raise MissingToolError(
                f"{self.origin}: compressed with zstd, and neither the program nor the library is here"
                " (standard input needs the library): install zstd, or python3-zstandard"
            ) from exc
        self._damaged = (*_DAMAGED, zstandard.ZstdError)
        return _ZstdStream(self._file, zstandard.ZstdDecompressor().decompressobj)


class _ZstdStream:
    """Unpacks zstd by the library, whose own stream ends in silence where a file was cut short."""

    def __init__(self, file: IO[bytes], begin: Callable[[], Any]) -> None:
        self._file = file
        self._begin = begin
        self._frame: Any = None
        self._rest = b""

    def read(self, count: int) -> bytes:
        """Return some bytes as long as there are any. Raises: EOFError within a frame."""
        del count
        while packed := self._rest or self._file.read(_ZSTD_READ_BYTES):
            self._rest = b""
            self._frame = self._frame or self._begin()
            data: bytes = self._frame.decompress(packed)
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
            if data:
                return data
        if self._frame is not None:
            raise EOFError("the file ends within a frame")
        return b""
