"""Patterns: one expression of a filter each, or conditions on a record; what they find are fields.

An expression is compiled when a line comes that may match it, and only then: of a hundred filters most never
meet one. Who must know earlier whether it compiles asks `check`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import regex

from correlator.lines.layouts import find_text, json_literal
from correlator.lines.syslog import Header
from correlator.matching.filter_definition import SOURCE, Condition, PatternDefinition
from correlator.matching.needs import Need, required_text
from correlator.matching.openings import openings_of
from correlator.matching.quick_search import SHORT, is_quick, plain_search
from correlator.model import Evidence, Micros

_FEW_BEGINNINGS = 4  # more are looked for no quicker than the expression itself
_SHOWN = 24  # characters of an expression that stand before what is wrong in it


class Line(NamedTuple):
    """One candidate line, its header read, its time decided."""

    header: Header
    evidence: Evidence
    record: Mapping[str, Any] | None = None
    trouble: str = ""
    """Why there is no record, where the layout has one."""
    arrived: Micros | None = None
    """When it came; None: at its own time."""


class PatternError(ValueError):
    """An expression that cannot be compiled, or lacks the group `source`."""


def compile_expression(expression: str) -> Any:
    """Return an expression that can be searched. Raises: PatternError where it is none."""
    try:
        return regex.compile(expression, regex.VERSION0)
    except regex.error as exc:
        behind = expression[max(0, exc.pos - _SHOWN) : exc.pos] if exc.pos is not None else ""
        raise PatternError(f"{exc.msg}, behind {behind!r}") from exc
    except (RecursionError, OverflowError) as exc:
        raise PatternError(str(exc)) from exc


Search = Callable[[str, Any, str], Any]
"""Searches text for an expression, both for a pattern of this name; None where it is not found in time."""


class Expression:
    """An expression and how it is searched, for a pattern of this name."""

    def __init__(self, name: str, expression: str) -> None:
        self.name = name
        self.expression = expression

    @functools.cached_property
    def compiled(self) -> Any:
        """What is searched. Raises: PatternError for a bad expression."""
        return compile_expression(self.expression)

    @functools.cached_property
    def _quick(self) -> tuple[Callable[[str], Any], Callable[[str], Any]] | None:
        """Searches of short text, in ASCII and in any; None where only one with a clock is safe."""
        if not is_quick(self.expression):
            return None
        whole = self.compiled.search
        return plain_search(self.expression) or whole, whole

    def warm(self) -> None:
        """Make ready for the first search."""
        _ = self._quick

    def match_in(self, text: str, search: Search) -> Any:
        """Return the match; None where there is none, or none in time."""
        if len(text) <= SHORT and (quick := self._quick) is not None:
            return quick[0 if text.isascii() else 1](text)
        return search(self.name, self.compiled, text)


class TextPattern(Expression):
    """An expression, searched in the body; raises PatternError for a bad one, or one that lacks a group."""

    def __init__(self, definition: PatternDefinition, *, needs: Sequence[str] = (SOURCE,)) -> None:
        super().__init__(definition.name, definition.expression)
        self.definition = definition
        self._needs = needs

    @functools.cached_property
    def compiled(self) -> Any:
        """What is searched."""
        compiled = compile_expression(self.definition.expression)
        for group in self._needs:
            if group not in compiled.groupindex:
                raise PatternError(f"pattern {self.name!r} has no group (?P<{group}>...)")
        return compiled

    @functools.cached_property
    def _required(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return required_text(self.definition.expression)

    @functools.cached_property
    def beginnings(self) -> tuple[str, ...]:
        """How a body begins that it is found in: with one of these; empty: anyhow."""
        return self._required[0]

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """All that stand in a body that it is found in, the longest first."""
        return self._required[1]

    @functools.cached_property
    def literal(self) -> str:
        """The longest of them."""
        return self.texts[0] if self.texts else ""

    def need(self, programs: frozenset[str]) -> Need:
        """Return what every line has that it is found in, of these programs."""
        return Need(programs, self.beginnings, self.texts, openings_of(self.expression))

    def check(self) -> None:
        """Raise PatternError where it cannot run."""
        _ = self.compiled

    def find(self, line: Line, search: Search) -> dict[str, str] | None:
        """Return the fields, or None where the pattern is not in the line."""
        found = self.match_in(line.header.body, search)
        if found is None:
            return None
        fields: dict[str, str] = found.groupdict()
        if None in fields.values():
            fields = {name: text for name, text in fields.items() if text is not None}
        return fields


class RecordConditions:
    """Conditions on the fields of a record, all of which must be met."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = conditions

    @functools.cached_property
    def tests(self) -> list[tuple[Condition, Any]]:
        """What is asked of each field, with the expression that can be searched. Raises: PatternError."""
        return [
            (one, compile_expression(one.expression) if one.expression else None) for one in self._conditions
        ]

    def are_met(self, record: Mapping[str, Any], name: str, search: Search) -> bool:
        """Whether a record meets them, searched for a pattern of this name."""
        return self.find(record, name, search) is not None

    def find(self, record: Mapping[str, Any], name: str, search: Search) -> dict[str, str] | None:
        """Return what the groups of the expressions take; None where a condition is not met."""
        fields: dict[str, str] = {}
        for condition, compiled in self.tests:
            text = find_text(record, condition.path)
            if text is None and condition.is_missing:
                continue
            if text is None or condition.is_missing or (condition.values and text not in condition.values):
                return None
            if compiled is not None:
                found = search(name, compiled, text)
                if found is None:
                    return None
                fields |= {group: taken for group, taken in found.groupdict().items() if taken is not None}
        return fields


class RecordPattern:
    """Conditions on the fields of a record; raises PatternError for a bad expression or no source."""

    def __init__(self, definition: PatternDefinition) -> None:
        self.definition = definition
        self.name = definition.name
        if SOURCE not in definition.field_names:
            raise PatternError(f"pattern {definition.name!r} does not say which field is the source")
        conditions = definition.conditions
        self._conditions = RecordConditions(conditions)
        spelled = [json_literal(next(iter(one.values))) for one in conditions if len(one.values) == 1]
        paths = [one.path for one in conditions if not one.is_missing]
        paths += [definition.paths[SOURCE]] if SOURCE in definition.paths else []
        keys = [json_literal(path.rpartition(".")[2])[1:] for path in paths]
        self.beginnings: tuple[str, ...] = ()
        self.literal = max(spelled, key=len, default="") or max(keys, key=len)
        self.texts = (self.literal,) if self.literal else ()

    def need(self, programs: frozenset[str]) -> Need:
        """Return what every line has that it is found in, of these programs."""
        return Need(programs, texts=self.texts)

    def check(self) -> None:
        """Raise PatternError where it cannot run."""
        _ = self._conditions.tests

    def warm(self) -> None:
        """Make ready for the first record."""
        self.check()

    def find(self, line: Line, search: Search) -> dict[str, str] | None:
        """Return the fields, or None where the record does not meet the conditions."""
        fields = None if line.record is None else self._conditions.find(line.record, self.name, search)
        if fields is None:
            return None
        paths = self.definition.paths.items()
        told = {name: text for name, path in paths if (text := find_text(line.record, path)) is not None}
        return fields | told


Pattern = TextPattern | RecordPattern


def may_begin(pattern: Pattern, key: str) -> bool:
    """Whether the pattern can match a body whose first characters are `key`."""
    return not pattern.beginnings or any(text.startswith(key[: len(text)]) for text in pattern.beginnings)


def beginnings_of(pattern: Pattern, key: str) -> tuple[str, ...]:
    """Return texts of which a body that begins with `key` begins with one, where looking is worth it."""
    texts = tuple(text for text in pattern.beginnings if text.startswith(key[: len(text)]))
    return texts if 0 < len(texts) <= _FEW_BEGINNINGS else ("",)
