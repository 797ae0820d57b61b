"""What the correlator has decided and the enforcer has not answered yet, and the connection between them.

A block stays here, by its request, until there is an outcome: sent at once, sent again after every reconnect,
handed back by a restart. The enforcer knows a request that it has carried out: sent twice, it is done once.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from collections.abc import Callable, Iterable
from pathlib import Path

from correlator.enforcer.client import EnforcerClient
from correlator.enforcer.protocol import (
    BlockRequest,
    ErrorAnswer,
    OutcomeAnswer,
    OutcomeEvent,
    WatchRequest,
)
from correlator.errors import ProtocolError, UnreachableError
from correlator.model import SECOND, Block, Micros, Outcome, OutcomeKind, printable

_ANSWER_SECONDS = 0.002
_RECONNECT_EVERY: Micros = SECOND // 5
_MAX_REASON = 400


class Outbox:
    """Blocks on their way to the enforcer.

    `heard` takes each outcome with its block, None where the block was not ours or was answered before;
    `say` takes a line for people. With `is_used` false (nothing blocks) no connection is made.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        *,
        is_used: bool,
        heard: Callable[[Outcome, Block | None], None],
        say: Callable[[str], None],
    ) -> None:
        self._path = path
        self._selector = selector
        self._is_used = is_used
        self._heard = heard
        self._say = say
        self._client: EnforcerClient | None = None
        self._connect_at: Micros = 0
        self._last_id = 0
        self._waiting: dict[str, Block] = {}
        self._asked: dict[int, str] = {}
        """The requests of the answers that are awaited on this connection."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def state(self) -> str:
        """How the connection is, in words for `status`."""
        if not self._is_used:
            return "not needed"
        return "connected" if self._client is not None else "unreachable"

    def keep(self, blocks: Iterable[Block]) -> None:
        """Take over blocks that a restart found without an outcome; sent with the next connection."""
        self._waiting.update({block.request: block for block in blocks})

    def put(self, block: Block) -> None:
        """Take a new block and send it, if there is a connection."""
        self._waiting[block.request] = block
        self._send(block)

    def connect(self, now: Micros) -> None:
        """Connect where that is due, and send all that waits."""
        if self._client is not None or not self._is_used or now < self._connect_at:
            return
        self._connect_at = now + _RECONNECT_EVERY
        try:
            self._client = EnforcerClient(self._path)
            self._selector.register(self._client, selectors.EVENT_READ, self.hear)
            self._client.send(WatchRequest(self._next_id()))
        except UnreachableError as exc:
            self._disconnect(str(exc))
            return
        for block in list(self._waiting.values()):
            self._send(block)

    def let_enforcer_work(self) -> None:
        """Leave the processor to the enforcer until it answers, before our disk is written.

        With few processors it would otherwise wait for our transaction, and the scanner would not.
        """
        if self._client is not None and self._asked:
            select.select([self._client], [], [], _ANSWER_SECONDS)

    def hear(self) -> None:
        """Take what the enforcer has said."""
        if self._client is None:
            return
        try:
            answers = self._client.receive()
        except (UnreachableError, ProtocolError) as exc:
            self._disconnect(str(exc))
            return
        for answer in answers:
            match answer:
                case OutcomeAnswer(id=id_, outcome=outcome):
                    self._asked.pop(id_, None)
                    self._heard(outcome, self._waiting.pop(outcome.request, None))
                case OutcomeEvent(outcome=outcome):
                    if outcome.kind in (OutcomeKind.EXPIRED, OutcomeKind.RELEASED):
                        self._heard(outcome, self._waiting.pop(outcome.request, None))
                case ErrorAnswer(id=id_, detail=detail):
                    self._fail(id_, detail)
                case _:
                    pass

    def close(self) -> None:
        """Give the connection back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _send(self, block: Block) -> None:
        if self._client is None:
            return
        last = f", last: {printable(block.evidence[-1].line)}" if block.evidence else ""
        request = BlockRequest(
            id=self._next_id(),
            request=block.request,
            source=block.source,
            jail=block.jail,
            until=block.until,
            port=block.port,
            protocol=block.protocol,
            reason=f"{block.strikes} strikes in {block.span / SECOND:g}s{last}"[:_MAX_REASON],
            actions=block.actions,
        )
        self._asked[request.id] = block.request
        try:
            self._client.send(request)
        except UnreachableError as exc:
            self._disconnect(str(exc))

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _fail(self, id_: int | None, detail: str) -> None:
        request = self._asked.pop(id_, None) if id_ is not None else None
        block = self._waiting.pop(request, None) if request is not None else None
        if block is not None:
            self._heard(Outcome(OutcomeKind.FAILED, block.source, block.request, detail=detail), block)

    def _disconnect(self, reason: str) -> None:
        if self._client is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._client)
            self._client.close()
            self._client = None
            self._say(f"disconnected from=enforcer waiting={len(self)} reason={printable(reason)!r}")
        self._asked.clear()
