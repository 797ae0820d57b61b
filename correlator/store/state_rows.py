"""Rows of the correlator's database and what they stand for: strikes that wait, decisions that were made."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from correlator.model import (
    Block,
    Evidence,
    Ignore,
    Micros,
    Strike,
    json_ready,
    parse_prefix,
    parse_source,
)

REQUESTED = "requested"
OBSERVED = "observed"
ALL = "true"
"""Conditions on strikes."""
OF_SOURCE = "source = ?"
OF_WINDOW = "jail = ? AND key = ?"


@dataclass(frozen=True, slots=True)
class KeptDecision:
    """A decision as it was recorded, with what became of it."""

    request: str
    kind: str
    """`block`, `observe` or `ignore`."""
    source: str
    jail: str
    at: Micros
    until: Micros | None
    state: str
    """`requested`, `observed`, `ignored`, or the outcome."""
    detail: str
    body: Mapping[str, Any]
    """Strikes, span, ports, evidence, as in `model.Block`."""


def read_strikes(database: sqlite3.Connection, which: str = ALL, *values: str) -> Iterator[Strike]:
    """Yield the strikes that wait, oldest first: all, or those that meet one of the conditions above."""
    rows = database.execute(
        "SELECT jail, key, at, source, weight, value, spoofable, port, protocol, origin, offset, line,"  # noqa: S608
        f" filter, pattern FROM strike WHERE {which} ORDER BY at, rowid",
        values,
    )
    for jail, key, at, source, weight, value, spoofable, port, protocol, *rest in rows:
        origin, offset, line, filter_, pattern = rest
        yield Strike(
            jail=jail,
            key=key,
            source=parse_source(source),
            at=at,
            weight=weight,
            value=value,
            is_spoofable=bool(spoofable),
            port=port,
            protocol=protocol,
            evidence=Evidence(at, read_path(origin), offset, line),
            filter=filter_,
            pattern=pattern,
        )


def read_block(body: Mapping[str, Any]) -> Block:
    """Return the block that `json_ready` wrote."""
    values = dict(body)
    values["source"] = parse_prefix(values["source"])
    values["ports"] = tuple(values["ports"])
    values["actions"] = tuple(values["actions"])
    values["evidence"] = tuple(Evidence(**item) for item in values["evidence"])
    return Block(**values)


def read_decision(row: tuple[Any, ...]) -> KeptDecision:
    """Return a decision as it was recorded."""
    request, kind, source, jail, at, until, state, detail, body = row
    return KeptDecision(request, kind, source, jail, at, until, state, detail, json.loads(body))


def strike_row(strike: Strike) -> tuple[Any, ...]:
    """Return what is written down of a strike."""
    evidence = strike.evidence
    return (
        strike.jail,
        storable(strike.key),
        strike.at,
        str(strike.source),
        strike.weight,
        storable(strike.value),
        strike.is_spoofable,
        strike.port,
        strike.protocol,
        path_row(evidence.origin),
        evidence.offset,
        storable(evidence.line),
        strike.filter,
        strike.pattern,
    )


def decision_row(decision: Block | Ignore) -> tuple[Any, ...]:
    """Return what is written down of a decision that has no outcome yet."""
    body = json.dumps(json_ready(decision))
    if isinstance(decision, Ignore):
        request = f"ignore:{decision.jail}:{decision.source}:{decision.at}"
        return (
            request,
            "ignore",
            str(decision.source),
            decision.jail,
            decision.at,
            None,
            "ignored",
            decision.reason,
            body,
        )
    kind, state = ("observe", OBSERVED) if decision.is_observed else ("block", REQUESTED)
    return (
        decision.request,
        kind,
        str(decision.source),
        decision.jail,
        decision.at,
        decision.until,
        state,
        "",
        body,
    )


def path_row(path: str) -> str | bytes:
    """Return what SQLite takes of a file's name, and `read_path` gives back: it may be no UTF-8."""
    kept = path.encode("utf-8", "surrogateescape")
    return path if kept.decode("utf-8", "ignore") == path else kept


def read_path(kept: str | bytes) -> str:
    """Return the name of which `path_row` was made."""
    return kept if isinstance(kept, str) else kept.decode("utf-8", "surrogateescape")


def storable(text: str) -> str:
    """Return text that SQLite takes: bytes that were no UTF-8 become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
