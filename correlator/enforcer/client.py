"""The other side of the enforcer's socket: for the command line and for the correlator's loop.

`ask` waits for one answer; `send`, `receive` and `fileno` never wait, and suit a poll loop. One object is
used in one of the two ways. A connection that breaks stays broken: whoever uses it makes a new one.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from pathlib import Path

from correlator.enforcer.protocol import (
    Answer,
    BlockInForce,
    BlocksAnswer,
    DeedEvent,
    ErrorAnswer,
    Event,
    ListRequest,
    MendedEvent,
    OutcomeEvent,
    Request,
    encode_request,
    parse_answer,
)
from correlator.errors import PermissionDeniedError, ProtocolError, UnreachableError
from correlator.kernel.socket_path import reachable

TIMEOUT_SECONDS = 10.0
MOST_WAITING = 4 << 20
"""Bytes of requests that may wait for an enforcer that does not read."""

_RECEIVE_BYTES = 1 << 16
_TIMEVAL = struct.Struct("@ll")


class EnforcerClient:
    """A connection to the enforcer behind the socket `path`.

    Raises: UnreachableError where nobody answers there; PermissionDeniedError where we may not.
    """

    def __init__(self, path: Path, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._path = path
        self._timeout = timeout
        self._received = bytearray()
        self._waiting = bytearray()
        self._unread: list[Answer | Event] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Of a socket that does not block, connect() fails at once where too many others wait just now.
            limit = _TIMEVAL.pack(int(timeout), int(timeout % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            with reachable(path) as name:
                self._socket.connect(name)
            self._socket.setblocking(False)
        except OSError as exc:
            self._socket.close()
            if exc.errno in {errno.EACCES, errno.EPERM}:
                raise PermissionDeniedError(
                    f"{path}: not permitted: run as root, or as a user of the socket's group"
                ) from exc
            raise UnreachableError(
                f"{path}: the enforcer does not answer ({exc.strerror or exc}): start it with"
                " `systemctl start portward-enforcer`, `portward enforce` or `portward run`"
            ) from exc

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """True while requests wait for room in the socket; call `flush` when it may be written."""
        return bool(self._waiting)

    def send(self, request: Request) -> None:
        """Send a request without waiting; what the socket does not take now goes with the next `flush`.

        Raises: UnreachableError where the connection is broken or the enforcer reads nothing any more.
        """
        self._waiting += encode_request(request)
        if len(self._waiting) > MOST_WAITING:
            raise self._lost("it reads no requests")
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as that goes without waiting.

        Raises: UnreachableError where the connection is broken.
        """
        while self._waiting:
            try:
                sent = self._socket.send(self._waiting)
            except BlockingIOError:
                return
            except OSError as exc:
                raise self._lost(exc.strerror or str(exc)) from exc
            del self._waiting[:sent]

    def receive(self) -> list[Answer | Event]:
        """Return the answers and events that are there, none where nothing came; never waits.

        Raises: UnreachableError where the connection is broken; ProtocolError for what is no answer.
        """
        self.flush()
        found, self._unread = self._unread, []
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return found
            except OSError as exc:
                raise self._lost(exc.strerror or str(exc)) from exc
            if not data:
                if found:
                    return found  # what it said last; the next call finds the end again
                raise self._lost("it closed the connection")
            self._received += data
            *lines, self._received = self._received.split(b"\n")
            found += [parse_answer(bytes(line)) for line in lines]

    def ask(self, request: Request) -> Answer:
        """Send a request and wait for its answer; events meanwhile are kept for `receive`.

        Raises: UnreachableError where none comes in time; ProtocolError for what is no answer.
        """
        return self._ask(request)[0]

    def blocks(self) -> tuple[BlockInForce, ...]:
        """Return every block in force.

        Raises: UnreachableError, ProtocolError as `ask`.
        """
        return tuple(
            block
            for answer in self._ask(ListRequest(1))
            if isinstance(answer, BlocksAnswer)
            for block in answer.blocks
        )

    def _ask(self, request: Request) -> list[Answer]:
        end = time.monotonic() + self._timeout
        self.send(request)
        answers: list[Answer] = []
        kept: list[Answer | Event] = []
        while True:
            for heard in self.receive():
                if isinstance(heard, OutcomeEvent | DeedEvent | MendedEvent) or heard.id not in {
                    request.id,
                    None,
                }:
                    kept.append(heard)
                    continue
                answers.append(heard)
                if isinstance(heard, ErrorAnswer) and isinstance(request, ListRequest):
                    raise ProtocolError(f"{self._path}: {heard.detail}")
                if not (isinstance(heard, BlocksAnswer) and heard.has_more):
                    self._unread = kept
                    return answers
            self._wait(end)

    def _wait(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise self._lost(f"no answer in {self._timeout:g} s")
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._waiting else 0))
        poll.poll(left * 1000)

    def _lost(self, why: str) -> UnreachableError:
        return UnreachableError(f"{self._path}: the connection to the enforcer is lost: {why}")
