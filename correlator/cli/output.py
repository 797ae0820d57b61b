"""How commands print: JSON with a schema number, or plain columns; foreign text always escaped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from correlator.model import SECOND, Micros, json_ready, printable

SCHEMA = 1
_COLOURS = {"bad": "31", "good": "32", "warn": "33", "strong": "1", "faint": "2"}


def print_json(kind: str, **data: Any) -> None:
    """Print one object: `schema`, `kind`, and the data."""
    print(json.dumps({"schema": SCHEMA, "kind": kind, **json_ready(data)}, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need; nothing is cut."""
    cells = [list(headings), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(colour(line, "strong") if number == 0 else line)


def colour(text: str, meaning: str) -> str:
    """Return text in the colour of its meaning where standard output is a terminal that wants colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return f"\x1b[{_COLOURS[meaning]}m{text}\x1b[0m"


def format_left(until: Micros | None, now: Micros) -> str:
    """Return how long a block still lasts: `9m 58s`, `forever`, `over`."""
    if until is None:
        return "forever"
    seconds = (until - now + SECOND - 1) // SECOND
    if seconds <= 0:
        return "over"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, seconds = divmod(seconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2])
