"""One client of the enforcer: lines in, lines out, never more memory than its bounds.

A client has its turn for some lines, then the others have theirs. One that sends faster than it reads its
answers is not read from until it catches up; one that lets its answers lie is dropped. Lists are made, and
cut into pages, only as fast as they are taken.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import chain

from correlator.enforcer.fields import MAX_LINE
from correlator.enforcer.peers import Peer
from correlator.enforcer.protocol import (
    Answer,
    BlockInForce,
    BlocksAnswer,
    Event,
    encode_answer,
    encoded_size,
)

HIGH_WATER = 256 * 1024
"""Bytes of answers that may wait before nothing more is read or listed."""
MOST_WAITING = 4 << 20
"""Bytes that may wait in all, events for watchers included; more than that and the client is dropped."""
SLOW_SECONDS = 5.0
"""How long a client may take nothing while something waits for it."""

LINES_A_TURN = 32

_RECEIVE_BYTES = 1 << 16
_PAGE_BYTES = 1 << 14
"""Of a list, made in one turn: some milliseconds of work, however many lists are asked for."""


class Connection:
    """A connected client. `now` counts seconds on any steady clock."""

    def __init__(self, connected: socket.socket, peer: Peer) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.peer = peer
        self.is_watching = False
        self._received = bytearray()
        self._lines: list[bytes] = []
        self._waiting = bytearray()
        self._pages: list[Iterator[Answer]] = []
        self._stuck_since: float | None = None

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """True while something waits to be sent."""
        return bool(self._waiting or self._pages)

    @property
    def wants_to_read(self) -> bool:
        """False while too many answers wait."""
        return len(self._waiting) < HIGH_WATER and not self._pages

    @property
    def has_lines(self) -> bool:
        """True while lines that came wait for their turn."""
        return bool(self._lines)

    @property
    def has_turn(self) -> bool:
        """True where lines wait and their answers would find room."""
        return self.has_lines and self.wants_to_read

    def take_lines(self) -> list[bytes]:
        """Return the lines of one turn, without line feeds.

        A line that is too long comes as it was so far, one byte longer than allowed, for the parser to
        refuse; the client is to be dropped after it.
        """
        if not self.wants_to_read:
            return []
        taken = self._lines[:LINES_A_TURN]
        del self._lines[:LINES_A_TURN]
        return taken

    def receive(self) -> bool:
        """Take what came; false when the client has gone."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        if len(rest) > MAX_LINE:
            lines.append(rest[: MAX_LINE + 1])
        self._lines += [bytes(line) for line in lines]
        return True

    def send(self, answer: Answer | Event) -> None:
        """Queue an answer and send what the client takes now."""
        self._waiting += encode_answer(answer)

    def send_pages(self, pages: Iterator[Answer]) -> None:
        """Queue answers that are made only when there is room for them."""
        self._pages.append(pages)

    def flush(self, now: float) -> bool:
        """Send what the client takes, of a list one page; false where it has gone, or takes too little.

        However fast it takes them: between two pages everybody else has a turn.
        """
        self._fill()
        while self._waiting:
            try:
                sent = self.socket.send(self._waiting)
            except BlockingIOError:
                return self._is_patient(now)
            except OSError:
                return False
            del self._waiting[:sent]
            self._stuck_since = None
        self._stuck_since = now if self._pages else None  # the kernel may have taken what nobody reads
        return True

    def is_stuck(self, now: float) -> bool:
        """Return whether the client has let something lie for too long."""
        return self._stuck_since is not None and now - self._stuck_since > SLOW_SECONDS

    def _fill(self) -> None:
        if self._pages and len(self._waiting) < HIGH_WATER:
            page = next(self._pages[0], None)
            if page is None:
                del self._pages[0]
            else:
                self._waiting += encode_answer(page)

    def _is_patient(self, now: float) -> bool:
        if self._stuck_since is None:
            self._stuck_since = now
        return len(self._waiting) <= MOST_WAITING and not self.is_stuck(now)


def block_pages(id_: int, blocks: Callable[[], Iterator[BlockInForce]]) -> Iterator[Answer]:
    """Yield a list in lines that keep within the protocol's length; it is asked for with the first."""
    page: list[BlockInForce] = []
    size = 0
    for block in chain(blocks(), (None,)):
        taken = encoded_size(block) if block is not None else 0
        if block is None or size + taken > _PAGE_BYTES:
            yield BlocksAnswer(id_, tuple(page), has_more=block is not None)
            page, size = [], 0
        if block is not None:
            page.append(block)
            size += taken
