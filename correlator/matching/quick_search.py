"""Searches short text by Python's own `re`, where its answer is sure to be that of `regex` and comes at once.

`re` takes a third of the time. It is asked only for expressions made of what both read alike: no possessive
repetitions or atomic groups (Python 3.11.2 forgets where they began), no conditionals or references, no
group that is captured again and again or inside a look-around, no folded case; and only for ASCII text, in
which under `re.ASCII` the classes of both are the same. Nothing has a clock beside it, so an expression must
also be proved to try few ways. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from correlator.matching.pattern_cost import bound_tries
from correlator.matching.pattern_tree import parse_expression

SHORT = 256
"""Characters of the longest text that is searched without a clock."""
MOST_TRIES = 25_000  # each looks at no more than the text once more: some ten milliseconds at worst
_ALIKE = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"})
_OWN_FLAGS = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII | re.LOCALE

Search = Callable[[str], Any]


def is_quick(expression: str) -> bool:
    """Whether no text of `SHORT` characters can make a search long: proved, so that it needs no clock."""
    return bound_tries(expression, SHORT) <= MOST_TRIES


def plain_search(expression: str) -> Search | None:
    """Return a search of ASCII text by `re` that finds what `regex` finds; None where that is not sure."""
    parsed = parse_expression(expression)
    if parsed is None or parsed.state.flags & _OWN_FLAGS or not _are_alike(parsed, may_capture=True):
        return None
    try:
        return re.compile(expression, re.ASCII).search
    except ValueError:  # it asks for Unicode itself: (?u)
        return None


def _are_alike(items: Iterable[Any], *, may_capture: bool) -> bool:
    return all(_is_alike(str(name), argument, may_capture) for name, argument in items)


def _is_alike(name: str, argument: Any, may_capture: bool) -> bool:
    match name:
        case "SUBPATTERN":
            group, adds, removes, inner = argument
            if adds or removes or (group is not None and not may_capture):
                return False
            return _are_alike(inner, may_capture=may_capture)
        case "BRANCH":
            return all(_are_alike(branch, may_capture=may_capture) for branch in argument[1])
        case "ASSERT" | "ASSERT_NOT":
            return _are_alike(argument[1], may_capture=False)
        case "MAX_REPEAT" | "MIN_REPEAT":
            return _are_alike(argument[2], may_capture=may_capture and argument[1] <= 1)
    return name in _ALIKE
