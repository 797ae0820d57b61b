"""The enforcer's protocol: one JSON object a line, both ways, spelled for both sides here.

A request has a `verb` of a closed list and an `id` that the answer repeats. Whoever sends it is believed
in nothing: every field is checked for type, length and control characters, an unknown key or a key given
twice is refused, and what cannot be parsed becomes a `RequestError` that names the field. Try it with
`echo '{"id":1,"verb":"status"}' | socat - UNIX-CONNECT:/run/portward/enforcer/enforcer.sock`.

Lines that begin an `event` answer no request: a connection that asked to `watch` gets them as they happen.
Pure: bytes in, frozen values out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from correlator.enforcer.fields import (
    HOST_NAME,
    JAIL,
    MAX_ID,
    MAX_UNTIL,
    MODE,
    PROTOCOL,
    REQUEST_NAME,
    SHOWN,
    RequestError,
    parse_object,
    read_actions,
    read_integer,
    read_reason,
    read_source,
    read_text,
)
from correlator.model import Micros, Outcome, OutcomeKind, Source, json_ready, parse_prefix

MANUAL_JAIL = "manual"
"""The jail that a person's blocks are booked under."""


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """Deny this source until then."""

    id: int
    request: str
    source: Source
    jail: str = MANUAL_JAIL
    until: Micros | None = None
    port: int = 0
    protocol: str = ""
    """`TCP`, `UDP`, or empty where it is not known."""
    reason: str = ""
    actions: tuple[str, ...] = ("nftables",)
    mode: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Deny this source no longer; None: nobody any longer."""

    id: int
    source: Source | None


@dataclass(frozen=True, slots=True)
class LetGoRequest:
    """Take this source out of the tripwire's hold; whether it is blocked is another matter."""

    id: int
    source: Source


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Tell every block in force."""

    id: int


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Tell how the enforcer is."""

    id: int


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Compare belief and kernel now, and mend."""

    id: int


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Tell this connection, from now on, what happens."""

    id: int


ENDINGS = ("done", "told", "there before", "failed", "under way")

Request = (
    BlockRequest | ReleaseRequest | LetGoRequest | ListRequest | StatusRequest | SyncRequest | WatchRequest
)


@dataclass(frozen=True, slots=True)
class BlockInForce:
    """One block as `list` tells it."""

    source: Source
    until: Micros | None
    jail: str
    created: Micros
    request: str
    port: int
    protocol: str
    reason: str
    actions: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    """Of each action, in the same order: one of `ENDINGS`; none where the block is not written down yet."""


@dataclass(frozen=True, slots=True)
class Mend:
    """What a comparison found and mended; `table` is intact, missing, altered, or absent (not needed yet)."""

    table: str
    added: int = 0
    removed: int = 0
    refreshed: int = 0
    detail: str = ""

    @property
    def size(self) -> int:
        """How many elements were touched."""
        return self.added + self.removed + self.refreshed

    @property
    def is_needed(self) -> bool:
        """True where kernel and belief differed."""
        return self.table in {"missing", "altered"} or self.size > 0


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """What became of a block request."""

    id: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ReleasedAnswer:
    """How many blocks were ended; `denied_by` is a prefix that still covers the source."""

    id: int
    count: int
    denied_by: Source | None = None


@dataclass(frozen=True, slots=True)
class BlocksAnswer:
    """A part of the list; more of the same id follow while `has_more`."""

    id: int
    blocks: tuple[BlockInForce, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """Counters and states by name; names are only ever added."""

    id: int
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SyncedAnswer:
    """What a comparison found and mended."""

    id: int
    mend: Mend


@dataclass(frozen=True, slots=True)
class WatchingAnswer:
    """Events follow on this connection."""

    id: int


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The request was not understood, or could not be done at all; `id` None where it had none."""

    id: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class OutcomeEvent:
    """A block was carried out, expired or was released; for watchers."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DeedEvent:
    """One action of a block ended; for watchers. The kernel's own set is told of only where it failed."""

    request: str
    source: Source
    jail: str
    mode: str
    name: str
    protocol: str
    action: str
    says: str
    ending: str
    """`done`, `exists`, `failed` or `unknown`."""
    detail: str


@dataclass(frozen=True, slots=True)
class MendedEvent:
    """Kernel and belief differed and were made equal; for watchers."""

    mend: Mend


Answer = (
    OutcomeAnswer | ReleasedAnswer | BlocksAnswer | StatusAnswer | SyncedAnswer | WatchingAnswer | ErrorAnswer
)
Event = OutcomeEvent | DeedEvent | MendedEvent


def parse_request(line: bytes) -> Request:
    """Return what one line asks, with or without its line feed.

    Raises: RequestError, and nothing else whatever the bytes are.
    """
    found = parse_object(line)
    id_ = read_integer("id", found.pop("id", None), 0, MAX_ID)
    try:
        verb = found.pop("verb", None)
        reader = _READERS.get(verb) if isinstance(verb, str) else None
        request = reader(id_, found) if reader is not None else None
    except RequestError as exc:
        exc.id = id_
        raise
    if request is None:
        raise RequestError("verb", verb, "one of " + ", ".join(_READERS), id_)
    for key in found:
        raise RequestError(key[:SHOWN], "this key", f"none but the keys of {verb}", id_)
    return request


def encode_request(request: Request) -> bytes:
    """Return the line that `parse_request` reads back as `request`."""
    match request:
        case BlockRequest():
            body = {"verb": "block", **json_ready(request)}
        case ReleaseRequest(source=None):
            body = {"verb": "release", "id": request.id, "all": True}
        case ReleaseRequest():
            body = {"verb": "release", "id": request.id, "source": str(request.source)}
        case LetGoRequest():
            body = {"verb": "let-go", "id": request.id, "source": str(request.source)}
        case ListRequest() | StatusRequest() | SyncRequest() | WatchRequest():
            body = {"verb": _BARE_VERBS[type(request)], "id": request.id}
        case _:
            assert_never(request)
    return _encode(body)


def encode_answer(answer: Answer | Event) -> bytes:
    """Return the line that `parse_answer` reads back as `answer`."""
    key = "event" if isinstance(answer, OutcomeEvent | DeedEvent | MendedEvent) else "answer"
    return _encode({key: _KIND_NAMES[type(answer)], **json_ready(answer)})


def parse_answer(line: bytes) -> Answer | Event:
    """Return what one line of the enforcer says.

    Raises: RequestError for anything that `encode_answer` does not write.
    """
    found = parse_object(line)
    kind = found.get("answer", found.get("event"))
    reader = _ANSWER_READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise RequestError("answer", kind, "one of " + ", ".join(_ANSWER_READERS))
    try:
        return reader(found)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise RequestError(str(kind), f"{type(exc).__name__}: {exc}", "the fields of that answer") from exc


def encoded_size(block: BlockInForce) -> int:
    """Return how many bytes a block takes in a list; the server cuts its pages by it."""
    return len(json.dumps(json_ready(block), separators=(",", ":"))) + 1


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _read_block(id_: int, found: dict[str, Any]) -> BlockRequest:
    until = found.pop("until", None)
    return BlockRequest(
        id=id_,
        request=read_text(
            "request", found.pop("request", None), REQUEST_NAME, "1 to 200 visible ASCII characters"
        ),
        source=read_source("source", found.pop("source", None)),
        jail=read_text("jail", found.pop("jail", MANUAL_JAIL), JAIL, "letters, digits, `_.-`, at most 64"),
        until=None if until is None else read_integer("until", until, 0, MAX_UNTIL),
        port=read_integer("port", found.pop("port", 0), 0, 65535),
        protocol=read_text("protocol", found.pop("protocol", ""), PROTOCOL, "at most 16 letters and digits"),
        reason=read_reason(found.pop("reason", "")),
        actions=read_actions(found.pop("actions", ["nftables"])),
        mode=read_text("mode", found.pop("mode", ""), MODE, "one of PortSentry's modes, or nothing"),
        name=read_text("name", found.pop("name", ""), HOST_NAME, "a host name of letters, digits and `._-`"),
    )


def _read_release(id_: int, found: dict[str, Any]) -> ReleaseRequest:
    if "all" in found:
        if found.pop("all") is not True:
            raise RequestError("all", "something else", "true, or `source` instead")
        return ReleaseRequest(id_, None)
    return ReleaseRequest(id_, read_source("source", found.pop("source", None)))


_BARE_VERBS: dict[type, str] = {
    ListRequest: "list",
    StatusRequest: "status",
    SyncRequest: "sync",
    WatchRequest: "watch",
}
_READERS: dict[str, Callable[[int, dict[str, Any]], Request]] = {
    "block": _read_block,
    "release": _read_release,
    "let-go": lambda id_, found: LetGoRequest(id_, read_source("source", found.pop("source", None))),
    "list": lambda id_, _: ListRequest(id_),
    "status": lambda id_, _: StatusRequest(id_),
    "sync": lambda id_, _: SyncRequest(id_),
    "watch": lambda id_, _: WatchRequest(id_),
}


def _read_outcome(found: Any) -> Outcome:
    texts = (found[name] for name in ("request", "until", "detail"))
    return Outcome(OutcomeKind(found["kind"]), parse_prefix(found["source"]), *texts)


def _read_deed(found: dict[str, Any]) -> DeedEvent:
    values = {name: found[name] for name in DeedEvent.__dataclass_fields__}
    return DeedEvent(**{**values, "source": parse_prefix(found["source"])})


def _read_in_force(found: Any) -> BlockInForce:
    lists = {name: tuple(found[name]) for name in ("actions", "endings")}
    return BlockInForce(**{**found, **lists, "source": parse_prefix(found["source"])})


_ANSWER_READERS: dict[str, Callable[[dict[str, Any]], Answer | Event]] = {
    "outcome": lambda found: OutcomeAnswer(found["id"], _read_outcome(found["outcome"])),
    "released": lambda found: ReleasedAnswer(
        found["id"], found["count"], None if found["denied_by"] is None else parse_prefix(found["denied_by"])
    ),
    "blocks": lambda found: BlocksAnswer(
        found["id"], tuple(_read_in_force(block) for block in found["blocks"]), found["has_more"]
    ),
    "status": lambda found: StatusAnswer(found["id"], dict(found["status"])),
    "synced": lambda found: SyncedAnswer(found["id"], Mend(**found["mend"])),
    "watching": lambda found: WatchingAnswer(found["id"]),
    "error": lambda found: ErrorAnswer(found["id"], found["detail"]),
    "happened": lambda found: OutcomeEvent(_read_outcome(found["outcome"])),
    "deed": _read_deed,
    "mended": lambda found: MendedEvent(Mend(**found["mend"])),
}
_KIND_NAMES: dict[type, str] = {
    OutcomeAnswer: "outcome",
    ReleasedAnswer: "released",
    BlocksAnswer: "blocks",
    StatusAnswer: "status",
    SyncedAnswer: "synced",
    WatchingAnswer: "watching",
    ErrorAnswer: "error",
    OutcomeEvent: "happened",
    DeedEvent: "deed",
    MendedEvent: "mended",
}
