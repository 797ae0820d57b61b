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

from correlator.attackalert import mode_of
from correlator.daemon.responses import last_probe
from correlator.enforcer.client import EnforcerClient
from correlator.enforcer.protocol import (
    BlockRequest,
    BlocksAnswer,
    DeedEvent,
    ErrorAnswer,
    LetGoRequest,
    ListRequest,
    OutcomeAnswer,
    OutcomeEvent,
    WatchRequest,
)
from correlator.errors import PermissionDeniedError, ProtocolError, UnreachableError
from correlator.model import SECOND, Block, Micros, Outcome, OutcomeKind, Source, printable

_ANSWER_SECONDS = 0.002
_RECONNECT_EVERY: Micros = SECOND // 5
_MAX_REASON = 400
_WINDOW = 256
"""Requests without an answer on one connection; the rest waits here, where it can be counted."""
_MOST = 100_000


class Outbox:
    """Blocks on their way to the enforcer.

    `heard` takes each outcome with its block, None where the block was not ours or was answered before;
    `acted` takes how each action of a block ended;
    `agree` takes, after each connect, every source that the enforcer holds;
    `say` takes a line for people. With `is_used` false (nothing blocks) no connection is made.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        *,
        is_used: bool,
        modes: tuple[str, ...] = (),
        heard: Callable[[Outcome, Block | None], None],
        acted: Callable[[DeedEvent], None],
        agree: Callable[[frozenset[Source]], None],
        say: Callable[[str], None],
    ) -> None:
        self._path = path
        self._selector = selector
        self._is_used = is_used
        self._modes = modes
        self._heard = heard
        self._acted = acted
        self._agree = agree
        self._say = say
        self._client: EnforcerClient | None = None
        self._connect_at: Micros = 0
        self._last_id = 0
        self._held: set[Source] = set()
        self.dropped = 0
        """Blocks that left unsent: their time was over, or there were too many."""
        self._waiting: dict[str, Block] = {}
        self._unsent: list[Block] = []
        """Those of `_waiting` that this connection has not seen, newest last: the newest goes first."""
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

    def use(self, *, is_used: bool, modes: tuple[str, ...]) -> None:
        """Go on for other jails and modes of the probe; connect where there was no need to."""
        self._is_used = is_used or bool(self._waiting)
        self._modes = modes

    def keep(self, blocks: Iterable[Block]) -> None:
        """Take over blocks that a restart found without an outcome; sent with the next connection."""
        self._waiting.update({block.request: block for block in blocks})

    def put(self, block: Block) -> None:
        """Take a new block and send it, if there is a connection with room."""
        self._waiting[block.request] = block
        self._unsent.append(block)
        if len(self._waiting) > _MOST:
            self._waiting.pop(next(iter(self._waiting)))
            self.dropped += 1
        self._send_more()

    def let_go(self, source: Source) -> None:
        """Have the tripwire hold a source no longer: nobody will confirm it. A hint that may be lost."""
        if self._client is not None:
            with contextlib.suppress(UnreachableError):
                self._client.send(LetGoRequest(self._next_id(), source))

    def connect(self, now: Micros) -> None:
        """Connect where that is due, and send all that waits."""
        if self._client is not None or not self._is_used or now < self._connect_at:
            return
        self._connect_at = now + _RECONNECT_EVERY
        try:
            self._client = EnforcerClient(self._path)
            self._selector.register(self._client, selectors.EVENT_READ, self.hear)
            self._client.send(WatchRequest(self._next_id()))
            self._ask_for_list()
        except (UnreachableError, PermissionDeniedError) as exc:
            self._disconnect(str(exc))
            return
        self._unsent = list(self._waiting.values())
        self._send_more()

    def let_enforcer_work(self) -> None:
        """Leave the processor to the enforcer until it answers, before our disk is written.

        With few processors it would otherwise wait for our transaction, and the scanner would not.
        """
        if self._client is not None and self._asked:
            select.select([self._client], [], [], _ANSWER_SECONDS)

    def hear_if_ready(self) -> None:
        """Take what the enforcer has said, if it has."""
        if self._client is not None and select.select([self._client], [], [], 0)[0]:
            self.hear()

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
                case DeedEvent():
                    self._acted(answer)
                case BlocksAnswer(blocks=blocks, has_more=has_more):
                    self._held.update(block.source for block in blocks)
                    if not has_more:
                        self._agree(frozenset(self._held))
                case ErrorAnswer(id=id_, detail=detail):
                    self._fail(id_, detail)
                case _:
                    pass
        self._send_more()

    def close(self) -> None:
        """Give the connection back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def drop_expired(self, now: Micros) -> None:
        """Give up what nobody has to deny any more; called now and then."""
        over = [block for block in self._waiting.values() if block.until is not None and block.until <= now]
        for block in over:
            if block.request not in self._asked.values():
                del self._waiting[block.request]
                self.dropped += 1
                self._heard(Outcome(OutcomeKind.EXPIRED, block.source, block.request), block)

    def _ask_for_list(self) -> None:
        """Ask what the enforcer holds: what we believe to be denied may have been released meanwhile."""
        self._held = set()
        if self._client is not None:
            self._client.send(ListRequest(self._next_id()))

    def _send_more(self) -> None:
        while self._unsent and self._client is not None and len(self._asked) < _WINDOW:
            block = self._unsent.pop()
            if block.request in self._waiting:
                self._send(block)

    def _send(self, block: Block) -> None:
        if self._client is None:
            return
        probe = last_probe(block)
        last = f", last: {printable(block.evidence[-1].line)}" if block.evidence else ""
        request = BlockRequest(
            id=self._next_id(),
            request=block.request,
            source=block.source,
            jail=block.jail,
            until=block.until,
            port=block.port,
            protocol=block.protocol,
            reason=f"{block.strikes} {block.unit} in {block.span / SECOND:g}s{last}"[:_MAX_REASON],
            actions=block.actions,
            mode="" if probe is None else mode_of(probe, self._modes),
            name="" if probe is None or probe.name == probe.address else probe.name,
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
