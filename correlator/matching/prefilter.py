"""Finds, in a whole chunk at once, the lines that any filter can want.

It may pass too much, never too little: a property test holds it to that. Each pattern is asked what every
line that it matches must have: the programs that may write it, how its body may begin, texts in it. All of
that becomes one expression over bytes, in which the programs' names stand as a tree, so that a line of
a program that nobody reads costs the same however many filters there are, and never becomes a Python object.
Lines of no program are few in a syslog file and all there are in an application's; they are searched for the
text that the patterns require, each by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from correlator.lines.syslog import REPEATS_LAST
from correlator.matching.filter_definition import ANY_PROGRAM, is_named
from correlator.matching.line_expressions import (
    PLAIN,
    expression_of_bodies,
    expression_of_lines,
    fewest_texts,
    with_one_search,
)
from correlator.matching.needs import Need

_REPEATED = Need(None, texts=(REPEATS_LAST,))
Span = tuple[int, int]
"""Where a line begins, and its line feed stands."""


class Prefilter:
    """Which lines of a chunk are candidates, for one set of needs, and which tell of logins."""

    def __init__(self, needs: Iterable[Need], *, logins: Iterable[Need] = (), has_plain: bool = True) -> None:
        """Take the need of every pattern; `has_plain`: whether lines of no program are read at all.

        `logins`: what lines about logins have; they are no candidates, unless by a pattern.
        """
        every, logins = ({need for need in some if need.may_be_in_line} for some in (needs, logins))
        anywhere = {need for need in every if need.identifiers is None or _is_for_all(need)}
        named = [need for need in every if need.identifiers is not None and need not in anywhere]
        if anywhere and not named:
            anywhere.add(_REPEATED)
        self._of_logins = fewest_texts(logins)
        self._anywhere = with_one_search(fewest_texts(anywhere))
        plain = [need for need in named if "" in (need.identifiers or ())]
        self._plain = fewest_texts([*plain, _REPEATED])
        line = expression_of_lines(named, tuple(logins))
        self._has_plain = has_plain and bool(plain)
        if self._has_plain:
            line = rb"(?:%s|%s)" % (line, PLAIN)
        self._named = tuple(named)
        self._has_named = bool(named or logins)
        self._lines = _compiled(line)
        self._bodies: dict[str, re.Pattern[bytes]] = {}

    def candidates(
        self, data: bytes, *, identifier: str = "", told: list[Span] | None = None
    ) -> Iterator[Span]:
        """Yield (start, end) of each candidate line of whole lines, in order, without line feeds.

        `identifier`: the program that wrote all of them, where the lines are bodies without headers.
        `told` is given those that may tell of logins, in order: all that stand before a candidate before it.
        """
        if not self._anywhere:
            return self._of_programs(data, identifier, told)
        if b"" in self._anywhere:
            return self._all_lines(data, told)
        every = dict(self._of_programs(data, identifier, told))
        for text in self._anywhere:
            every.update(lines_with(data, text))
        return iter(sorted(every.items()))

    def _all_lines(self, data: bytes, told: list[Span] | None) -> Iterator[Span]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if told is not None and self._tells(data, start, end):
                told.append((start, end))
            yield start, end
            start = end + 1

    def _tells(self, data: bytes, start: int, end: int) -> bool:
        """Whether a candidate may tell of a login too."""
        for text in self._of_logins:  # noqa: SIM110  half the time of `any`
            if data.find(text, start, end) >= 0:
                return True
        return False

    def _of_programs(self, data: bytes, identifier: str, told: list[Span] | None) -> Iterator[Span]:
        """Yield the candidates that the expression finds; text of lines of no program is looked at here."""
        if not self._has_named or not data:
            return
        expression = self._of_program(identifier) if identifier else self._lines
        # With a line feed in front, a match begins where its line does in the data itself.
        for match in expression.finditer(b"\n" + data, 0, len(data)):
            start, end = match.span()
            if match.lastindex is None or match.lastgroup is not None:
                if match.lastgroup is not None and not self._is_wanted(match.group("plain")):
                    continue
                if told is not None and self._tells(data, start, end - 1):
                    told.append((start, end - 1))
                yield start, end - 1
                continue
            if told is not None:
                told.append((start, end - 1))
            if self._has_plain and self._is_wanted(data[start : end - 1]):
                yield start, end - 1  # its header may be none: "2026-11-22 14:29:22 x sshd: Accepted ..."

    def _is_wanted(self, plain: bytes) -> bool:
        """Whether a line of no program holds a text that is looked for."""
        return any(text in plain for text in self._plain)

    def _of_program(self, identifier: str) -> re.Pattern[bytes]:
        lines = self._bodies.get(identifier)
        if lines is None:
            needs = [need for need in self._named if is_named(identifier, need.identifiers or ())]
            lines = self._bodies[identifier] = _compiled(expression_of_bodies(needs))
        return lines


def _compiled(expression: bytes) -> re.Pattern[bytes]:
    """Return an expression of a line, from the line feed before it on; what took part marks it."""
    return re.compile(rb"\n" + expression + b".*")


def _is_for_all(need: Need) -> bool:
    """Whether its text is best looked for in the whole chunk: there may be no program that it is not for."""
    return ANY_PROGRAM in (need.identifiers or ()) and need.literal != ""


def lines_with(data: bytes, text: bytes) -> Iterator[Span]:
    """Yield (start, end) of each line with a text in it, in order; of every line for no text."""
    found = data.find(text)
    while found >= 0:
        start = data.rfind(b"\n", 0, found) + 1
        end = data.find(b"\n", found)
        if end < 0:
            return
        yield start, end
        found = data.find(text, end + 1)
