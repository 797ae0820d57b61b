"""How the lines of a log are laid out: header, dates of a form of their own, records of one JSON object each.

A record's fields are named by dotted paths (`alert.severity`, `answers.0.rdata`). Text and numbers are both
read as text: writers of JSON disagree on which of them a port is. A key that stands twice in one object makes
the whole record unusable: a writer that does not escape what strangers type lets them write such a key. Pure,
bounded by the length of a line, and raises on no text.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from correlator.lines.layout_definition import Layout
from correlator.lines.syslog import Header, parse_header, read_stamp
from correlator.model import SECOND, Micros

if TYPE_CHECKING:
    from correlator.lines.dates import DateReader, Stamp

_MARKS = ("@cee:", "@json:")
RECORD_BEGINS = ("{", *_MARKS)
"""How a body begins that may be a record."""
_LATEST_YEAR = 2099
_OPENING = 2  # signs before a date: `[`, `<`
_CLOSING = re.compile(r"\A[\])>]?[:|,]? *")
_LITERAL = re.compile(r"[^%A-Za-z0-9 ]")  # a token is a percent sign and letters: none of these
_PLAIN = re.compile(r"(?!(?:true|false|inf|nan)$|[-0-9])[A-Za-z0-9_ .:-]+")  # nor what may stand bare


@dataclass(frozen=True, slots=True)
class Reading:
    """One line, taken apart as a layout says."""

    header: Header
    stamp: Micros | None
    """The instant the line names; None where it names none."""
    record: Mapping[str, Any] | None = None
    trouble: str = ""
    """Why there is no record, where there should be one."""


def read_line(text: str, layout: Layout, *, arrived: Micros) -> Reading:
    """Take one line apart, given without its line feed."""
    header = parse_header(text)
    reading = Reading(header, read_stamp(header.stamp, arrived))
    return apply_layout(layout, reading, text, arrived=arrived)


def apply_layout(layout: Layout, reading: Reading, text: str, *, arrived: Micros) -> Reading:
    """Return what a layout makes of a line whose header has been read."""
    if layout.is_json:
        return _apply_record(layout, reading, arrived)
    if not layout.dates:
        return reading
    header = reading.header
    subject = header.body if header.identifier else text.rstrip("\r")
    found = _find_date(layout.dates, subject, arrived)
    if found is None:
        return reading
    stamp, body = subject[found.start : found.end], subject
    if found.start <= _OPENING:
        body = _CLOSING.sub("", subject[found.end :], count=1)
    return Reading(header._replace(stamp=stamp, body=body), found.at)


def spell_date(form: str) -> str:
    """Return the date pattern of a form: `%d.%m.%Y %H:%M:%S`, text beside the tokens taken as it stands.

    The tokens are those of strptime(3), and `EPOCH`. The date stands where the line begins, behind two signs
    at most; with `*` in front of the form it may stand anywhere. A fraction may have nine digits.
    """
    from correlator.lines.date_patterns import LINE_START

    anywhere, plain = form.startswith("*"), form.removeprefix("*")
    spelled = plain if plain == "EPOCH" else _LITERAL.sub(lambda found: re.escape(found.group()), plain)
    spelled = spelled.replace("%f", r"%f\d{0,3}")
    return spelled if anywhere else LINE_START + spelled


def check_dates(forms: Sequence[str]) -> None:
    """Find out whether these are forms of dates. Raises: DatePatternError."""
    from correlator.lines.date_patterns import DatePatternError

    for form in forms:
        if "%" not in form and form != "EPOCH":
            raise DatePatternError("no token in it")
    _date_reader(tuple(forms))


def find_text(record: Any, path: str) -> str | None:
    """Return what stands at a dotted path, as text; None for nothing, null, an object or a list.

    A key that holds dots itself is found by its whole name.
    """
    found = _find(record, path)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        return found
    return str(found) if isinstance(found, int | float) else None


def json_literal(text: str) -> str:
    """Return how JSON must spell `text` as a whole value or key; empty where there are several ways.

    Letters and digits could be escaped too; no writer does that, and such a line is not ours.
    """
    return f'"{text}"' if _PLAIN.fullmatch(text) else ""


def _apply_record(layout: Layout, reading: Reading, arrived: Micros) -> Reading:
    record, trouble = _read_record(reading.header.body)
    stamp = None if record is None else find_text(record, layout.time)
    if stamp is None:
        return Reading(reading.header, reading.stamp, record, trouble)
    found = _find_date(layout.dates, stamp, arrived) if layout.dates else None
    return Reading(reading.header, read_stamp(stamp, arrived) if found is None else found.at, record, trouble)


def _find_date(forms: tuple[str, ...], text: str, arrived: Micros) -> Stamp | None:
    try:
        return _date_reader(forms).find(text, arrived)
    except TimeoutError:
        return None


@functools.lru_cache(maxsize=64)
def _date_reader(forms: tuple[str, ...]) -> DateReader:
    from correlator.lines.date_patterns import expand_patterns
    from correlator.lines.dates import DateReader
    from correlator.lines.expressions import TimeLimit

    patterns = [spell_date(form) for form in forms]
    return DateReader(expand_patterns(patterns, latest_year=_LATEST_YEAR), limit=TimeLimit(SECOND // 20))


def _read_record(body: str) -> tuple[Mapping[str, Any] | None, str]:
    text = body.lstrip()
    for mark in _MARKS:
        text = text.removeprefix(mark)
    if not text.lstrip().startswith("{"):
        return None, "no JSON object"
    try:
        record = json.loads(text, object_pairs_hook=_object)
    except _TwiceError as exc:
        return None, f"key {exc.args[0][:64]!r} stands twice in one object"
    except (ValueError, RecursionError) as exc:
        return None, f"no JSON: {exc}"
    return record, ""


class _TwiceError(Exception):
    """A key stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _value in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


def _find(value: Any, path: str) -> Any:
    while path:
        if isinstance(value, dict):
            if path in value:
                return value[path]
            key, _, path = path.partition(".")
            value = value.get(key)
        elif isinstance(value, list):
            key, _, path = path.partition(".")
            if not (key.isascii() and key.isdigit()) or int(key[:9]) >= len(value):
                return None
            value = value[int(key[:9])]
        else:
            return None
    return value
