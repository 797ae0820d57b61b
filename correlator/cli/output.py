"""How commands print: JSON with a schema number, or plain columns; foreign text always escaped."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from correlator.model import SECOND, Micros, json_ready, printable

SCHEMA = 1
_COLOURS = {"bad": "31", "good": "32", "warn": "33", "strong": "1", "faint": "2"}


def print_json(kind: str, **data: Any) -> None:
    """Print one object: `schema`, `kind`, and the data."""
    print(json.dumps({"schema": SCHEMA, "kind": kind, **json_ready(data)}))


def complain(text: str) -> None:
    """Write lines on standard error, escaped; nobody reading them is no reason to stop."""
    if sys.stderr is None:
        return
    try:
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO | None) -> None:
    """Send what a stream cannot write to nobody, so that Python does not fail over it at the exit."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, stream.fileno())
            os.close(nobody)


def escape_what_cannot_be_shown() -> None:
    """Let standard output escape what its encoding lacks, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need; nothing is cut."""
    cells = [list(headings), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(colour(line, "strong") if number == 0 else line)


def colour(text: str, meaning: str) -> str:
    """Return text in the colour of its meaning where standard output is a terminal that wants colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not _is_terminal():
        return text
    return f"\x1b[{_COLOURS[meaning]}m{text}\x1b[0m"


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


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
