"""Reads lines from standard input, as a pipe gives them: `journalctl -f | portward correlate --stdin`.

Their own stamps are believed: a pipe may begin with old lines, and who sends them as new is not known. What
was read cannot be read again, so there is no position. Source: pipe(7).
"""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from typing import Any

from correlator.model import STDIN, Chunk, Micros
from correlator.tailers.piece import Piece

_LEAST_BYTES, _FIRST_BYTES, _READ_BYTES = 1 << 8, 1 << 13, 1 << 16
_PIECES = 8
_HOLES = re.compile(rb"^\0+", re.MULTILINE)
"""What `tail --follow` passes on of a log that was truncated under its writer."""
_MAX_LINE_BYTES = 1 << 18


class StreamTailer:
    """One descriptor. Call `read` when there may be something; it never blocks for longer than a read."""

    origin = kind = STDIN
    positions = ()
    losses = 0
    """Nobody can tell: what was lost never came."""

    def __init__(self, descriptor: int, identifier: str = "") -> None:
        """Take an open descriptor; with `identifier`, lines are bare messages of that program."""
        self.descriptor = descriptor
        self.piece = Piece(_LEAST_BYTES, _FIRST_BYTES, _READ_BYTES)
        self.is_over = False
        """Nothing can come any more."""
        self.long_lines = 0
        self.offset = 0
        self.trouble = ""
        self._identifier = identifier
        self._pending = b""
        self._is_skipping = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    @property
    def state(self) -> str:
        """`following`, or `over`."""
        return "over" if self.is_over else "following"

    @property
    def is_ready(self) -> bool:
        """Whether a read would give something, an end included."""
        return not self.is_over and bool(self._poll.poll(0))

    def read(self, now: Micros) -> Iterator[Chunk]:
        """Yield what has come, a bounded piece of it."""
        for _ in range(_PIECES):
            if not self.is_ready:
                return
            try:
                data = os.read(self.descriptor, self.piece.size)
            except OSError as exc:
                self.trouble, data = exc.strerror or str(exc), b""
            if not data:
                self.is_over = True
                data = b"\n" if self._pending and not self._is_skipping else b""
            whole = self._take(data)
            if whole:
                lines = whole.replace(b"\r\n", b"\n")  # as a container with a terminal ends them
                lines = _HOLES.sub(b"", lines) if b"\0" in lines else lines
                yield Chunk(STDIN, self.offset, lines, now, is_live=False, identifier=self._identifier)
                self.offset += len(whole)

    def describe(self) -> dict[str, Any]:
        """Return what `portward sources` shows of it besides what it shows of any source."""
        return {"offset": self.offset, "long_lines": self.long_lines, "is_over": self.is_over}

    def _take(self, data: bytes) -> bytes:
        """Return the whole lines that there are now; the rest waits for its line feed."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._pending += data
            if len(self._pending) > _MAX_LINE_BYTES:
                self.long_lines += not self._is_skipping
                self._is_skipping = True
                self.offset += len(self._pending)
                self._pending = b""
            return b""
        whole, self._pending = self._pending + data[:end], data[end:]
        if self._is_skipping:
            self._is_skipping = False
            cut = whole.find(b"\n") + 1
            self.offset += cut
            whole = whole[cut:]
        return whole
