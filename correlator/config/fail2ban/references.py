"""Reads a reference to a filter or an action: `name[option=value, other="v, w"][more=x]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(r"[^\s\[\]]+")
_OPTION = re.compile(
    r"""\s*(?P<option>[\w.-]+(?:\?[\w.-]+=[\w.-]+)?)\s*=\s*
        (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^,\]]*))\s*(?P<end>[,\]])""",
    re.VERBOSE,
)
_LONGEST = 1 << 16


class BadReferenceError(ValueError):
    """Text that is no reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What is meant, by name, and the parameters it is given."""

    name: str
    parameters: dict[str, str]


def parse_reference(text: str) -> Reference:
    """Return the one reference that a text holds. Raises: BadReferenceError."""
    found = list(split_references(text))
    if len(found) != 1:
        raise BadReferenceError(f"{len(found)} references where one is expected: {text[:80]!r}")
    return found[0]


def split_references(text: str) -> Iterator[Reference]:
    """Yield the references of a text, separated by white space or new lines. Raises: BadReferenceError."""
    if len(text) > _LONGEST:
        raise BadReferenceError(f"longer than {_LONGEST} characters")
    position = _skip_space(text, 0)
    while position < len(text):
        name = _NAME.match(text, position)
        if name is None:
            raise BadReferenceError(f"no name at {text[position : position + 40]!r}")
        parameters: dict[str, str] = {}
        position = name.end()
        while (bracket := _skip_space(text, position)) < len(text) and text[bracket] == "[":
            position = _read_parameters(text, bracket + 1, parameters)
        position = _skip_space(text, position)
        yield Reference(name[0], parameters)


def _read_parameters(text: str, position: int, parameters: dict[str, str]) -> int:
    """Read up to the closing bracket into `parameters`; return where it ends."""
    empty = _skip_space(text, position)
    if text.startswith("]", empty):
        return empty + 1
    while True:
        option = _OPTION.match(text, position)
        if option is None:
            raise BadReferenceError(f"no option=value at {text[position : position + 40]!r}")
        value = next(part for part in option.group("double", "single", "bare") if part is not None)
        parameters[option["option"]] = value.strip()
        position = option.end()
        if option["end"] == "]":
            return position
        after = _skip_space(text, position)
        if text.startswith("]", after):
            return after + 1


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
