"""What every line has that a pattern can match: who may write it, how it begins, what stands in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from correlator.matching.openings import Opening, as_bytes, literal, may_be_in_line, openings_of, runs_of
from correlator.matching.pattern_tree import REPEATS, parse_expression

_SHORTEST = 3  # shorter text is found in nearly every line: not worth looking for


@dataclass(frozen=True, slots=True)
class Need:
    """What every line has that one pattern can match."""

    identifiers: frozenset[str] | None
    """Programs that may write it, `*` standing for any text, empty for no program; None: whoever it is."""
    beginnings: tuple[str, ...] = ()
    """One of these its body begins with; empty: with anything."""
    texts: tuple[str, ...] = ()
    """All of these it contains, the longest first: that is probably the rarest."""
    openings: frozenset[Opening] = frozenset()
    """One of these its body begins with, as bytes; empty: with anything that `beginnings` allows."""

    @property
    def literal(self) -> str:
        """The text by which it is looked for; empty where none is known."""
        return self.texts[0] if self.texts else ""

    @property
    def may_be_in_line(self) -> bool:
        """Whether a line can have it; else nothing is found by what asks for it."""
        begins = not self.beginnings or any(map(may_be_in_line, self.beginnings))
        return begins and all(map(may_be_in_line, self.texts))

    def ways_to_begin(self) -> frozenset[Opening]:
        """Return the openings, or what the beginnings are as such; empty: with anything."""
        if self.openings:
            return self.openings
        return frozenset(literal(as_bytes(text)) for text in self.beginnings if may_be_in_line(text))

    def fits(self, body: str) -> bool:
        """Whether a body of one of its programs may be matched."""
        return self.literal in body and (not self.beginnings or body.startswith(self.beginnings))


def required_text(pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (how every match begins, texts that every match contains, the longest first).

    Reads the expression as Python's `re` parses it; of one that only `regex` understands nothing is known.
    """
    parsed = parse_expression(pattern)
    if parsed is None or parsed.state.flags & re.IGNORECASE:
        return (), ()
    runs = {run for run in _runs(parsed) if len(run) >= _SHORTEST}
    begun = {runs_of(opening)[0].decode("utf-8", "surrogateescape") for opening in openings_of(pattern)}
    return () if "" in begun else tuple(sorted(begun)), tuple(sorted(runs, key=lambda run: (-len(run), run)))


def required_literal(pattern: str) -> str:
    """Return the longest text that every match of `pattern` contains; empty where none is known."""
    return next(iter(required_text(pattern)[1]), "")


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
        elif name in REPEATS and argument[0] >= 1:
            yield from _runs(argument[2])
    yield "".join(run)
