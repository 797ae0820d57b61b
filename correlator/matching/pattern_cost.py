"""Bounds how often an expression can go back and try again: a proof where there is one.

A repetition goes back only where what it takes could also begin what follows it; how often is at most its
length. Choices multiply. An expression that repeats what can itself be taken in several ways has no bound
here. What stays below the bound on a short line needs no clock beside it; all else has one. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from correlator.matching.pattern_tree import OPENINGS, REPEATS, is_at, parse_expression, taken_of

_CHARACTERS = "".join(chr(code) for code in (*range(128), 0x85, 0xA0, 0xE9, 0x660, 0xDCFF))
"""ASCII, and of the rest a space, a letter, a digit and a byte that is none: classes tell no more apart."""
_END = ""
UNBOUNDED = 1 << 62


def bound_tries(expression: str, length: int) -> int:
    """Return how many ways a search in a text of this length may go at most; `UNBOUNDED` where not known."""
    parsed = parse_expression(expression)
    if parsed is None or parsed.state.flags & re.IGNORECASE:
        return UNBOUNDED
    starts = 1 if is_at(parsed, OPENINGS, 0) else length + 1
    return min(UNBOUNDED, starts * _ways(list(parsed), [], length))


def _ways(items: Sequence[Any], following: Sequence[Any], length: int) -> int:
    total = 1
    for index, (operation, argument) in enumerate(items):
        rest = [*items[index + 1 :], *following]
        match str(operation):
            case "SUBPATTERN" if argument[1] & re.IGNORECASE:
                return UNBOUNDED
            case "SUBPATTERN":
                total *= _ways(list(argument[3]), rest, length)
            case "ATOMIC_GROUP":
                total *= _ways(list(argument), rest, length)
            case "BRANCH":
                total *= sum(_ways(list(branch), rest, length) for branch in argument[1])
            case "ASSERT" | "ASSERT_NOT":
                total *= _ways(list(argument[1]), [], length)
            case name if name in REPEATS:
                total *= _ways_of_repeat(argument, rest, length)
            case "GROUPREF" | "GROUPREF_EXISTS":
                return UNBOUNDED
        if total >= UNBOUNDED:
            return UNBOUNDED
    return total


def _ways_of_repeat(argument: Any, rest: Sequence[Any], length: int) -> int:
    least, most, items = int(argument[0]), int(argument[1]), list(argument[2])
    ways = _ways(items, [*items, *rest] if most > 1 else rest, length)
    is_decided = least == most or not _beginnings(items) & _beginnings(rest)  # by the next character
    if most == 1:
        return ways if is_decided else ways + 1
    if ways > 1:
        return UNBOUNDED
    if is_decided:
        return 1
    return max(1, min(most, length) - least + 1)


def _beginnings(items: Sequence[Any]) -> set[str]:
    """Return the characters with which a sequence can begin; `_END` where it can be empty."""
    found: set[str] = set()
    for operation, argument in items:
        name = str(operation)
        if name == "AT":
            if str(argument) in ("AT_END", "AT_END_STRING"):
                return found  # nothing can follow
            continue
        if name in ("ASSERT", "ASSERT_NOT"):
            continue
        own = _beginnings_of(name, argument)
        found |= own - {_END}
        if _END not in own:
            return found
    return found | {_END}


def _beginnings_of(name: str, argument: Any) -> set[str]:
    match name:
        case "SUBPATTERN":
            return _beginnings(list(argument[3]))
        case "ATOMIC_GROUP":
            return _beginnings(list(argument))
        case "BRANCH":
            return set().union(*(_beginnings(list(branch)) for branch in argument[1]))
        case "GROUPREF" | "GROUPREF_EXISTS":
            return {*_CHARACTERS, _END}
        case _ if name in REPEATS:
            return _beginnings(list(argument[2])) | ({_END} if argument[0] == 0 else set())
    return {*taken_of(_CHARACTERS, name, argument)}
