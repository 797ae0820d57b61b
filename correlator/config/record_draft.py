"""Drafts a filter file from sample records, one JSON object a line: what all say, where the address is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from correlator.config.filter_draft import (
    ABOUT_OTHERS,
    ARRIVED,
    MOST_SAMPLES,
    DraftError,
    draft_head,
    draft_test,
    draft_text_filter,
    quoted,
)
from correlator.config.line_shapes import (
    BEFORE_SOURCE,
    MOST_SHAPES,
    VICTIMS,
    Shape,
    expression_of,
    hostile_bodies,
    is_address,
    name_of,
    sort_in,
    take_apart,
)
from correlator.config.substitution import BUILT_IN, Substitution
from correlator.lines.layout_definition import Layout
from correlator.lines.layouts import RECORD_BEGINS, find_text, read_line
from correlator.lines.syslog import parse_header
from correlator.matching.filter_definition import Condition, FilterDefinition, PatternDefinition
from correlator.matching.filters import Filter
from correlator.model import parse_source

_KINDS = frozenset({"event_type", "event", "type", "kind", "action", "status", "outcome", "message", "msg"})
_MOST_KINDS = 3
_ABOUT_ALL = ("# Nothing tells these records from all others: add to `match` what they alone say.",)
_USERS = frozenset({"user", "username", "user_name", "login", "account"})
_TIMES = frozenset({"timestamp", "time", "@timestamp", "ts", "date", "datetime"})


def draft_filter(name: str, lines: Sequence[str], *, files: Sequence[str]) -> str:
    """Return the text of a filter file for sample lines, of text or of records. Raises: DraftError."""
    lines = [line for line in lines if line.strip()]
    lines = [
        line
        for line in lines
        if line.isprintable() or not parse_header(line).body.lstrip().startswith(RECORD_BEGINS)
    ]
    if lines and all(parse_header(line).body.lstrip().startswith(RECORD_BEGINS) for line in lines):
        return _draft_record_filter(name, lines, files)
    return draft_text_filter(name, lines, files=files)


def _draft_record_filter(name: str, lines: Sequence[str], files: Sequence[str]) -> str:
    readings = [read_line(line, Layout(is_json=True), arrived=ARRIVED) for line in lines]
    samples = [
        _Sample(line, reading.header.body, dict(_flat(reading.record)))
        for line, reading in zip(lines, readings, strict=True)
        if reading.record is not None
    ]
    if len(samples) < len(lines):
        raise DraftError(next(reading.trouble for reading in readings if reading.record is None))
    shared = set.intersection(*(set(sample.record) for sample in samples))
    time = next((path for path in sorted(shared) if _last(path) in _TIMES), "")
    identifiers = frozenset(reading.header.identifier for reading in readings)
    layout = Layout(is_json=True, time=time)
    definition = FilterDefinition("draft", "", "", identifiers, (), (), layout=layout)
    addresses = [path for path in shared if all(is_address(sample.record[path]) for sample in samples)]
    if addresses:
        texts = _of_field(_likeliest(addresses), samples, shared - set(addresses), definition)
    else:
        spoken = [path for path in shared if all(take_apart(sample.record[path]) for sample in samples)]
        if not spoken:
            raise DraftError(
                "no field that holds an address in every line: a filter must say whom a line is about"
            )
        texts = _of_text(_likeliest(spoken), samples, shared, definition)
    head = (
        f"# Drafted from {len(lines)} record{'s' * (len(lines) > 1)}: look it through before it may block.",
        'format      = "json"',
        *([f"time        = {quoted(time)}"] if time else []),
        *draft_head(name, identifiers, files),
    )
    return "\n".join((*head, *texts)) + "\n"


@dataclass(frozen=True, slots=True)
class _Sample:
    line: str
    body: str
    """What stands behind a header."""
    record: dict[str, str]
    """Its texts by their dotted paths."""

    def with_body(self, record: Any) -> str:
        """Return the line with another record in it."""
        return self.line[: len(self.line) - len(self.body)] + json.dumps(record, ensure_ascii=False)


def _likeliest(paths: Iterable[str]) -> str:
    """Return the field that is the likeliest to say who it was."""
    return max(
        sorted(paths), key=lambda path: (BEFORE_SOURCE.search(path) is not None, "src" in path, -len(path))
    )


def _kinds(samples: Sequence[_Sample], shared: Iterable[str]) -> tuple[Condition, ...]:
    """Return what all records say, and what tells their kind."""
    first = samples[0].record
    same = sorted(path for path in shared if len({sample.record[path] for sample in samples}) == 1)
    kinds = [path for path in same if _last(path) in _KINDS] or [
        path for path in same if first[path].replace(" ", "").isalpha() and _last(path) not in _USERS
    ]
    return tuple(Condition(path, frozenset({first[path]})) for path in kinds[:_MOST_KINDS])


def _of_field(
    source: str, samples: Sequence[_Sample], shared: Iterable[str], definition: FilterDefinition
) -> Iterator[str]:
    """Yield a pattern for records with a field that holds the address alone, and its tests."""
    conditions = _kinds(samples, shared)
    paths = {"source": source, **_user_in(shared)}
    pattern = PatternDefinition("record", "", conditions=conditions, paths=paths)
    filter_ = Filter(replace(definition, patterns=(pattern,)))
    first = samples[0].record
    yield ""
    yield from () if conditions else _ABOUT_ALL
    yield from ("[[pattern]]", 'name   = "record"')
    yield f"match  = {{ {', '.join(map(_spelled, conditions))} }}"
    yield f"fields = {_fields(paths)}"
    for sample in samples[:MOST_SAMPLES]:
        yield from draft_test(filter_, sample.line)
    yield "# What a stranger would try: to write a field himself."
    victim = VICTIMS[parse_source(first[source]).version]
    told = {condition.path: first[condition.path] for condition in conditions}
    yield from draft_test(filter_, samples[0].with_body({"message": f'", "{source}": "{victim}', **told}))


def _of_text(
    path: str, samples: Sequence[_Sample], shared: Iterable[str], definition: FilterDefinition
) -> Iterator[str]:
    """Yield a pattern for each kind of text with an address in it that a field holds, and their tests."""
    conditions = _kinds(samples, set(shared) - {path})
    by_line = {sample.line: sample for sample in samples}
    shapes: list[Shape] = []
    for line, sample in by_line.items():
        sort_in(shapes, take_apart(sample.record[path].rstrip()) or [], line)
    if len(shapes) > MOST_SHAPES:
        raise DraftError(
            f"texts of {len(shapes)} kinds, expected at most {MOST_SHAPES}: give those that matter"
        )
    shapes.sort(key=lambda shape: -shape.words)  # special ones first
    named: dict[str, tuple[Shape, str]] = {}
    for shape in shapes:
        named[name_of(shape, named)] = (shape, expression_of(shape.pieces).removesuffix("$") + r"\s*$")
    words = Substitution(BUILT_IN)
    patterns = {}
    for name, (_shape, expression) in named.items():
        own = Condition(path, expression=words.expression(expression))
        paths = {} if "(?P<user>" in expression else _user_in(shared)
        patterns[name] = PatternDefinition(name, "", conditions=(*conditions, own), paths=paths)
    filter_ = Filter(replace(definition, patterns=tuple(patterns.values())))
    for name, (shape, expression) in named.items():
        asked = [*map(_spelled, conditions), f"{quoted(path)} = {{ regex = {quoted(expression)} }}"]
        yield ""
        yield from ABOUT_OTHERS if shape.has_other_addresses else ()
        yield from ("[[pattern]]", f"name  = {json.dumps(name)}", f"match = {{ {', '.join(asked)} }}")
        yield from [f"fields = {_fields(told)}"] if (told := patterns[name].paths) else []
        for line in shape.lines[:MOST_SAMPLES]:
            yield from draft_test(filter_, line)
        yield "# What a stranger would try: to repeat our words about somebody else, as a name or in a line."
        sample = by_line[shape.lines[0]]
        text = sample.record[path]
        for body in hostile_bodies(shape, text.rstrip()):
            record = json.loads(sample.body[sample.body.index("{") :])
            _put(record, path, body + text[len(text.rstrip()) :])
            yield from draft_test(filter_, sample.with_body(record))


def _last(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _user_in(shared: Iterable[str]) -> dict[str, str]:
    """Return where the name stands that was tried, if that can be told."""
    found = next((path for path in sorted(shared) if _last(path) in _USERS), None)
    return {} if found is None else {"user": found}


def _fields(paths: Mapping[str, str]) -> str:
    return f"{{ {', '.join(f'{name} = {quoted(path)}' for name, path in paths.items())} }}"


def _spelled(condition: Condition) -> str:
    """Return a condition on what a field says as it stands in a file."""
    return f"{quoted(condition.path)} = {quoted(next(iter(condition.values)))}"


def _put(record: dict[str, Any], path: str, text: str) -> None:
    """Write text into a field that `_flat` found."""
    key, _, rest = path.partition(".")
    while rest and path not in record and isinstance(record.get(key), dict):
        record, path = record[key], rest
        key, _, rest = path.partition(".")
    record[path] = text


def _flat(record: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each field that holds text, a number, true or false, by its dotted path."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif (text := find_text({"x": value}, "x")) is not None:
            yield f"{prefix}{key}", text
