"""Finds, in a whole chunk at once, the lines that any filter can want.

It may pass too much, never too little: a property test holds it to that. Each pattern is asked what every
line that it matches must have: the programs that may write it, how its body may begin, texts in it. All of
that becomes one expression over bytes, in which the programs' names stand as a tree, so that a line of
a program that nobody reads costs the same however many filters there are, and never becomes a Python object.
Lines of no program are few in a syslog file and all there are in an application's; they are searched for the
text that the patterns require, each by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from correlator.lines.syslog import REPEATS_LAST
from correlator.matching.line_expressions import (
    PLAIN,
    expression_of_bodies,
    expression_of_lines,
    fewest_texts,
)
from correlator.matching.needs import ANY_PROGRAM, Need

_REPEATED = Need(None, texts=(REPEATS_LAST,))


class Prefilter:
    """Which lines of a chunk are candidates, for one set of needs."""

    def __init__(self, needs: Iterable[Need], *, has_plain: bool = True) -> None:
        """Take the need of every pattern; `has_plain`: whether lines of no program are read at all."""
        every = set(needs)
        anywhere = {need for need in every if need.identifiers is None or _is_for_all(need)}
        named = [need for need in every if need.identifiers is not None and need not in anywhere]
        if anywhere and not named:
            anywhere.add(_REPEATED)
        self._anywhere = fewest_texts(anywhere)
        plain = [need for need in named if "" in (need.identifiers or ())]
        self._plain = fewest_texts([*plain, _REPEATED])
        line = expression_of_lines(named)
        if plain and has_plain:
            line = rb"(?:%s|%s)" % (line, PLAIN)
        self._named = tuple(named)
        self._lines = _Lines(line)
        self._bodies: dict[str, _Lines] = {}

    def candidates(self, data: bytes, *, identifier: str = "") -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each candidate line of whole lines, in order, without line feeds.

        `identifier`: the program that wrote all of them, where the lines are bodies without headers.
        """
        if b"" in self._anywhere:
            return _all_lines(data)
        found = self._of_programs(data, identifier)
        if not self._anywhere:
            return found
        every = dict(found)
        for text in self._anywhere:
            every.update(lines_with(data, text))
        return iter(sorted(every.items()))

    def _of_programs(self, data: bytes, identifier: str) -> Iterator[tuple[int, int]]:
        """Yield the candidates that the expression finds; text of lines of no program is looked at here."""
        if not self._named:
            return
        lines = self._of_program(identifier) if identifier else self._lines
        texts, find = self._plain, data.find
        for match in lines.find(data):
            if lines.has_plain and match.lastgroup is not None:
                line = match.group("plain")
                if not any(text in line for text in texts):
                    continue
            start = match.start() + 1 if match.string is data else 0
            end = find(b"\n", start)
            if end < 0:
                return
            yield start, end

    def _of_program(self, identifier: str) -> _Lines:
        lines = self._bodies.get(identifier)
        if lines is None:
            needs = [need for need in self._named if _is_named(identifier, need.identifiers or ())]
            lines = self._bodies[identifier] = _Lines(expression_of_bodies(needs))
        return lines


class _Lines:
    """An expression, tried where lines begin."""

    def __init__(self, expression: bytes) -> None:
        self._expression = re.compile(rb"\n" + expression)
        self.has_plain = "plain" in self._expression.groupindex

    def find(self, data: bytes) -> Iterator[re.Match[bytes]]:
        """Return a match for each line, from the line feed before it on; the first line's in other bytes."""
        first = self._expression.match(b"\n" + data[: data.find(b"\n") + 1]) if data else None
        others = self._expression.finditer(data, 0, max(len(data) - 1, 0))  # the last begins no line
        return others if first is None else itertools.chain((first,), others)


def _is_for_all(need: Need) -> bool:
    """Whether its text is best looked for in the whole chunk: there may be no program that it is not for."""
    return ANY_PROGRAM in (need.identifiers or ()) and need.literal != ""


def _is_named(identifier: str, names: Iterable[str]) -> bool:
    return any(
        name == identifier
        or (
            ANY_PROGRAM in name
            and re.fullmatch(".*".join(map(re.escape, name.split(ANY_PROGRAM))), identifier)
        )
        for name in names
    )


def _all_lines(data: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield start, end
        start = end + 1


def lines_with(data: bytes, text: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each line with a text in it, in order; of every line for no text."""
    found = data.find(text)
    while found >= 0:
        start = data.rfind(b"\n", 0, found) + 1
        end = data.find(b"\n", found)
        if end < 0:
            return
        yield start, end
        found = data.find(text, end + 1)
