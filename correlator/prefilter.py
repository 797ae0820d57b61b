"""Finds, in a whole chunk at once, the lines that any filter can want.

It may pass too much, never too little: a property test holds it to that. Each pattern is asked for text
that every line it matches must contain; a chunk is searched for that text as bytes, at the speed of
`bytes.find`, and a line without any of it never becomes a Python object. A pattern of which no such text
is known lets every line pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from correlator.pattern_tree import parse_expression

_SHORTEST = 3  # shorter text is found in nearly every line: not worth looking for


def required_literal(pattern: str, *, ignores_case: bool = False) -> str:
    """Return the longest text that every match of `pattern` contains; empty where none is known.

    Reads the expression as Python's `re` parses it; one that only `regex` understands gives none.
    """
    if ignores_case:
        return ""
    parsed = parse_expression(pattern)
    if parsed is None:
        return ""
    if parsed.state.flags & re.IGNORECASE:
        return ""
    longest = max(_runs(parsed), key=len, default="")
    return longest if len(longest) >= _SHORTEST else ""


def _runs(parsed: Any) -> Iterator[str]:
    """Yield the literal runs that a sequence of the parse tree cannot do without."""
    run: list[str] = []
    for operation, argument in parsed:
        name = str(operation)
        if name == "LITERAL":
            run.append(chr(argument))
            continue
        if name == "AT":
            continue  # an anchor takes no text: the run goes on
        yield "".join(run)
        run = []
        if name == "SUBPATTERN":
            _group, adds, _removes, inner = argument
            if not adds & re.IGNORECASE:
                yield from _runs(inner)
        elif name == "ATOMIC_GROUP":
            yield from _runs(argument)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and argument[0] >= 1:
            yield from _runs(argument[2])
    yield "".join(run)


class Prefilter:
    """Which lines of a chunk are candidates, for one set of patterns."""

    def __init__(self, literals: Iterable[str]) -> None:
        """Take the required literal of every pattern; an empty one lets all lines pass."""
        wanted = {literal.encode("utf-8", "surrogateescape") for literal in literals}
        self._passes_all = b"" in wanted
        # text that contains other wanted text is found by the shorter one already
        self._wanted = [text for text in wanted if not any(other in text for other in wanted - {text})]

    def candidates(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each candidate line of whole lines, in order, without line feeds."""
        if self._passes_all:
            start = 0
            while (end := data.find(b"\n", start)) >= 0:
                yield start, end
                start = end + 1
            return
        starts: dict[int, int] = {}
        for text in self._wanted:
            found = data.find(text)
            while found >= 0:
                start = data.rfind(b"\n", 0, found) + 1
                end = data.find(b"\n", found)
                if end < 0:
                    break
                starts[start] = end
                found = data.find(text, end + 1)
        for start in sorted(starts):
            yield start, starts[start]
