"""How the lines of a log are laid out: the header, and the record where each line is one JSON object.

A record's fields are named by dotted paths (`alert.severity`, `answers.0.rdata`). Text and numbers are both
read as text: writers of JSON disagree on which of them a port is. A key that stands twice in one object makes
the whole record unusable: a writer that does not escape what strangers type lets them write such a key. Pure,
bounded by the length of a line, and raises on no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from correlator.model import Micros
from correlator.syslog import Header, parse_header, read_stamp

_MARKS = ("@cee:", "@json:")
_PLAIN = re.compile(r"(?!(?:true|false|inf|nan)$|[-0-9])[A-Za-z0-9_ .:-]+")  # nor what may stand bare


@dataclass(frozen=True, slots=True)
class Layout:
    """What a filter knows of its lines before any pattern reads them."""

    is_json: bool = False
    time: str = ""
    """Where a record says when it was: a dotted path; empty: only the header says."""


TEXT = Layout()
"""Lines of text, as most filters read them."""


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
    return apply_layout(layout, Reading(header, read_stamp(header.stamp, arrived)), arrived=arrived)


def apply_layout(layout: Layout, reading: Reading, *, arrived: Micros) -> Reading:
    """Return what a layout makes of a line whose header has been read."""
    if not layout.is_json:
        return reading
    record, trouble = _read_record(reading.header.body)
    stamp = None if record is None else find_text(record, layout.time)
    at = reading.stamp if stamp is None else read_stamp(stamp, arrived)
    return Reading(reading.header, at, record, trouble)


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
