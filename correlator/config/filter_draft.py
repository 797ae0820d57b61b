"""Drafts a filter file from sample lines: a beginning that is sound, for its author to look through.

A pattern for each shape that the lines have (see `line_shapes`). Each draft holds the samples as tests, and
beside them what a stranger would try. Says what it does not know instead of guessing. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from correlator.config.line_shapes import (
    DATE,
    MOST_SHAPES,
    VICTIMS,
    Shape,
    expression_of,
    hostile_bodies,
    name_of,
    sort_in,
    take_apart,
)
from correlator.config.substitution import BUILT_IN, Substitution
from correlator.lines.layout_definition import Layout
from correlator.lines.layouts import read_line
from correlator.lines.syslog import Header, parse_header
from correlator.matching.filter_definition import FilterDefinition, PatternDefinition
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.model import SECOND, Event

ARRIVED = 1_767_225_600 * SECOND
MOST_SAMPLES = 3  # tests a pattern: more of the same prove no more
_LIKE_A_DATE = re.compile(r"\W{0,2}(?!\d{1,3}(?:\.\d{1,3}){3}\b)(?:\d{1,4}[-./:]\d\d(?!\d)|[A-Z]\d{4} )")
_ABOUT_DATES = (
    "# These lines begin with what may be a date, of a form that is not known: their arrival is their time,",
    "# and the date stands in the expressions. Say how it is written and take it out, for instance",
    '# dates = ["%d.%m.%Y %H:%M:%S"]',
)
ABOUT_OTHERS = ("# Several addresses stand in it: is ${source} whom it is about? ${address} names nobody.",)
_SYSLOG_FILES = ("/var/log/syslog", "/var/log/messages")


class DraftError(ValueError):
    """No filter can be drafted from these lines; says why."""


def draft_text_filter(name: str, lines: Iterable[str], *, files: Sequence[str]) -> str:
    """Return the text of a filter file for these lines. Raises: DraftError."""
    shapes: list[Shape] = []
    lines = list(lines)
    layout = Layout(dates=tuple(sorted({form for line in lines for form in _dates_in(parse_header(line))})))
    identifiers: set[str] = set()
    missed = 0
    has_own_date = False
    for line in lines:
        header = _header_of(line, layout)
        has_own_date |= not header.stamp and _LIKE_A_DATE.match(header.body) is not None
        pieces = take_apart(header.body)
        if pieces is None or not _is_text(line):
            missed += 1
            continue
        identifiers.add(header.identifier)
        sort_in(shapes, pieces, line)
    if not shapes:
        raise DraftError("no line with an address in it: a filter must say whom a line is about")
    if len(shapes) > MOST_SHAPES:
        raise DraftError(
            f"lines of {len(shapes)} kinds, expected at most {MOST_SHAPES}: give those that matter"
        )
    count = sum(len(shape.lines) for shape in shapes)
    head = [
        f"# Drafted from {count} sample line{'s' * (count > 1)}: look it through before it may block.",
        *([f"# {missed} without an address, or not of UTF-8, were left out."] if missed else []),
        *(_ABOUT_DATES if has_own_date else ()),
        *([f"dates       = {json.dumps(layout.dates)}"] if layout.dates else []),
        *draft_head(name, identifiers, files),
    ]
    definition = FilterDefinition("draft", "", "", frozenset(identifiers), (), (), layout=layout)
    return "\n".join((*head, *_patterns(shapes, definition))) + "\n"


def _dates_in(header: Header) -> Iterator[str]:
    """Yield forms of the first date that stands somewhere in a body, where none begins the line.

    A writer that drops zeros writes no fraction now and then.
    """
    found = None if header.stamp else DATE.search(header.body)
    if found is not None and found.start() > 0:
        for fraction in {"", f"{found['fraction'][0]}%f" if found["fraction"] else ""}:
            yield f"*%Y-%m-%d{found['between']}%H:%M:%S{fraction}{'%z' if found['zone'] else ''}"


def _header_of(line: str, layout: Layout) -> Header:
    return read_line(line, layout, arrived=ARRIVED).header


def draft_head(name: str, identifiers: Iterable[str], files: Sequence[str]) -> tuple[str, ...]:
    """Return what stands before the patterns of any draft."""
    return (
        f"description = {json.dumps(f'{name}: ...')}",
        f"identifiers = {json.dumps(sorted(identifiers))}",
        f"files       = {json.dumps(list(files) or _usual_files(name, identifiers))}",
        "",
        "[jail]",
        "threshold = 5",
        'span      = "10m"',
        'block_for = "1h"',
    )


def _usual_files(name: str, identifiers: Iterable[str]) -> list[str]:
    """Return where such lines usually are: lines of no program count in no file of syslog's."""
    own = [f"/var/log/{name}.log"] if "" in identifiers else []
    return [*own, *(_SYSLOG_FILES if any(identifiers) else ())]


def _patterns(shapes: list[Shape], definition: FilterDefinition) -> Iterator[str]:
    shapes.sort(key=lambda shape: -shape.words)  # special ones first
    named: dict[str, tuple[Shape, str]] = {}
    for shape in shapes:
        named[name_of(shape, named)] = (shape, expression_of(shape.pieces))
    words = Substitution(BUILT_IN)
    patterns = [
        PatternDefinition(name, words.expression(expression)) for name, (_, expression) in named.items()
    ]
    filter_ = Filter(replace(definition, patterns=tuple(patterns)))
    for name, (shape, expression) in named.items():
        yield from ("", f"# {shape.lines[0]}")
        yield from ABOUT_OTHERS if shape.has_other_addresses else ()
        yield from ("[[pattern]]", f"name  = {json.dumps(name)}", f"regex = {quoted(expression)}")
        for line in shape.lines[:MOST_SAMPLES]:
            yield from draft_test(filter_, line)
        yield "# What a stranger would try: to repeat our words about somebody else, as a name or in a line."
        body = _header_of(shape.lines[0], definition.layout).body
        head = shape.lines[0][: len(shape.lines[0]) - len(body)]
        for hostile in hostile_bodies(shape, body):
            yield from draft_test(filter_, head + hostile)


def _is_text(line: str) -> bool:
    """Whether a line can stand in a TOML file: no bytes that are none, no control characters."""
    return all(character.isprintable() or character == "\t" for character in line)


def draft_test(filter_: Filter, text: str) -> Iterator[str]:
    """Yield a test that expects what the filter makes of the line.

    Raises: DraftError where that is what a stranger would want.
    """
    answer = filter_.read(make_line(text, arrived=ARRIVED, layout=filter_.layout))
    expect = '"nothing"'
    if isinstance(answer, Event):
        if str(answer.source) in VICTIMS.values():
            raise DraftError(
                f"text of a stranger could name the source here, expected fixed text: {text[:200]!r}"
            )
        fields = {"pattern": answer.pattern, "source": str(answer.source), **_user(answer)}
        expect = "{ " + ", ".join(f"{name} = {quoted(value)}" for name, value in fields.items()) + " }"
    yield from ("[[test]]", f"line   = {quoted(text)}", f"expect = {expect}")


def _user(event: Event) -> dict[str, str]:
    return {"user": event.fields["user"]} if "user" in event.fields else {}


def quoted(text: str) -> str:
    """Return a TOML string: as it stands where that can be, so that expressions stay readable."""
    if "'" not in text and "\t" not in text:
        return f"'{text}'"
    if "'''" not in text and not text.endswith("'") and "\t" not in text:
        return f"'''{text}'''"
    return json.dumps(text)
