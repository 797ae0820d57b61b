"""Drafts a filter file from sample records, one JSON object a line: what all say, where the address is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from correlator.config.filter_draft import (
    ARRIVED,
    BEFORE_SOURCE,
    MOST_SAMPLES,
    VICTIMS,
    DraftError,
    draft_head,
    draft_test,
    draft_text_filter,
    is_address,
    quoted,
)
from correlator.lines.layout_definition import Layout
from correlator.lines.layouts import find_text, read_line
from correlator.lines.syslog import parse_header
from correlator.matching.filter_definition import Condition, FilterDefinition, PatternDefinition
from correlator.matching.filters import Filter
from correlator.model import parse_source

_KINDS = frozenset({"event_type", "event", "type", "kind", "action", "status", "outcome", "message", "msg"})
_TIMES = frozenset({"timestamp", "time", "@timestamp", "ts", "date", "datetime"})


def draft_filter(name: str, lines: Sequence[str], *, files: Sequence[str]) -> str:
    """Return the text of a filter file for sample lines, of text or of records. Raises: DraftError."""
    lines = [line for line in lines if line.strip()]
    if lines and all(parse_header(line).body.lstrip().startswith("{") for line in lines):
        return _draft_record_filter(name, lines, files)
    return draft_text_filter(name, lines, files=files)


def _draft_record_filter(name: str, lines: Sequence[str], files: Sequence[str]) -> str:
    readings = [read_line(line, Layout(is_json=True), arrived=ARRIVED) for line in lines]
    records = [dict(_flat(reading.record)) for reading in readings if reading.record is not None]
    if len(records) < len(lines):
        raise DraftError(next(reading.trouble for reading in readings if reading.record is None))
    shared = set.intersection(*(set(record) for record in records))
    addresses = sorted(path for path in shared if all(is_address(record[path]) for record in records))
    if not addresses:
        raise DraftError(
            "no field that holds an address in every line: a filter must say whom a line is about"
        )
    source = max(
        addresses, key=lambda path: (BEFORE_SOURCE.search(path) is not None, "src" in path, -len(path))
    )
    same = sorted(path for path in shared if len({record[path] for record in records}) == 1)
    kinds = [path for path in same if path.rpartition(".")[2] in _KINDS] or [
        path for path in same if path not in addresses and records[0][path].replace(" ", "").isalpha()
    ]
    time = next((path for path in sorted(shared) if path.rpartition(".")[2].lower() in _TIMES), "")
    conditions = ", ".join(f"{quoted(path)} = {quoted(records[0][path])}" for path in kinds[:MOST_SAMPLES])
    pattern = PatternDefinition(
        "record",
        "",
        conditions=tuple(Condition(path, frozenset({records[0][path]})) for path in kinds[:MOST_SAMPLES]),
        paths={"source": source},
    )
    identifiers = frozenset(reading.header.identifier for reading in readings)
    layout = Layout(is_json=True, time=time)
    filter_ = Filter(FilterDefinition("draft", "", "", identifiers, (), (pattern,), layout=layout))
    victim = VICTIMS[parse_source(records[0][source]).version]
    forged = json.dumps(
        {"message": f'", "{source}": "{victim}', **{path: records[0][path] for path in kinds}}
    )
    head = lines[0][: len(lines[0]) - len(readings[0].header.body)]
    texts = (
        f"# Drafted from {len(lines)} records: look it through before it may block.",
        'format      = "json"',
        *([f"time        = {quoted(time)}"] if time else []),
        *draft_head(name, identifiers, files),
        "",
        "[[pattern]]",
        'name   = "record"',
        f"match  = {{ {conditions} }}",
        f"fields = {{ source = {quoted(source)} }}",
        *(text for line in lines[:MOST_SAMPLES] for text in draft_test(filter_, line)),
        "# What a stranger would try: to write a field himself.",
        *draft_test(filter_, head + forged),
    )
    return "\n".join(texts) + "\n"


def _flat(record: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each field that holds text, a number, true or false, by its dotted path."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif (text := find_text({"x": value}, "x")) is not None:
            yield f"{prefix}{key}", text
