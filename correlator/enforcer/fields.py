"""What the fields of the enforcer's protocol may hold, and the error that says which one did not.

Every text is bounded and free of controls before anything else looks at it. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Any

from correlator.errors import ProtocolError, SourceError
from correlator.model import Micros, Source, parse_prefix, printable

MAX_LINE = 1 << 16
"""Bytes of one line with its line feed, in both directions."""
MAX_UNTIL: Micros = 13_569_465_600_000_000
"""The year 2400: the kernel counts a timeout in nanoseconds, 584 years at most."""
MAX_ID = (1 << 53) - 1
SHOWN = 64
REQUEST_NAME = re.compile(r"[!-~]{1,200}")
JAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PROTOCOL = re.compile(r"[A-Za-z0-9-]{0,16}")
MODE = re.compile(r"(?:[as]?(?:tcp|udp))?")
HOST_NAME = re.compile(r"[A-Za-z0-9._-]{0,253}")
ACTION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MAX_ACTIONS = 8
_MAX_REASON = 500


class RequestError(ProtocolError):
    """A line breaks the protocol: names the field, what it got, what it expected; `id` where it is known."""

    def __init__(self, field: str, got: object, expected: str, id: int | None = None) -> None:  # noqa: A002 -- its name on the wire
        text = printable(got if isinstance(got, str) else repr(got))
        super().__init__(f"{field}: got {text[:SHOWN]}, expected {expected}")
        self.id = id


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the one JSON object of a line; a key twice, NaN, and anything else is refused."""
    if len(line) > MAX_LINE:
        raise RequestError("line", f"{len(line)} bytes", f"at most {MAX_LINE}")
    try:
        found = json.loads(line, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RequestError:
        raise
    except (ValueError, RecursionError) as exc:
        raise RequestError("line", repr(bytes(line[:SHOWN])), "one JSON object in UTF-8") from exc
    if not isinstance(found, dict):
        raise RequestError("line", found, "a JSON object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RequestError("line", "a key twice", "each key once")
    return found


def _no_constant(text: str) -> Any:
    raise RequestError("line", text, "numbers that are numbers")


def read_integer(field: str, value: Any, lowest: int, highest: int) -> int:
    """Return an integer of the range; true and 1.0 are none."""
    if type(value) is not int or not lowest <= value <= highest:
        raise RequestError(field, value, f"an integer from {lowest} to {highest}")
    return value


def read_text(field: str, value: Any, pattern: re.Pattern[str], expected: str) -> str:
    """Return a text that the pattern takes as a whole."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise RequestError(field, value, expected)
    return value


def read_source(field: str, value: Any) -> Source:
    """Return the address or prefix that a text spells."""
    if isinstance(value, str):
        try:
            return parse_prefix(value)
        except SourceError:
            pass
    raise RequestError(field, value, "an address or prefix")


def read_reason(value: Any) -> str:
    """Return a text that is fit to be shown."""
    # isprintable() leaves out controls, line and paragraph separators, lone surrogates and the marks that
    # turn the reading direction: nothing here may change how a terminal shows a line.
    if not isinstance(value, str) or len(value) > _MAX_REASON or not value.isprintable():
        raise RequestError("reason", value, f"at most {_MAX_REASON} printable characters")
    return value


def read_actions(value: Any) -> tuple[str, ...]:
    """Return the names of action files."""
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_ACTIONS:
        raise RequestError("actions", value, f"a list of 1 to {_MAX_ACTIONS} names")
    return tuple(dict.fromkeys(read_text("actions", item, ACTION, "names of action files") for item in value))
