"""Filters: what is recognised in a line's body, as frozen definitions and as something that runs.

Three answers to a line: not ours (None), understood (an `Event`), ours but unreadable (an `Unreadable`,
counted and shown, never dropped in silence). A definition carries its own tests; `failed_tests` runs
them, and who loads filters refuses one whose tests fail. Patterns are searched with a time limit: one
that runs over is put in quarantine, named in `quarantined`, and the others go on.

Text that an attacker typed must never choose whom we block: `source` has to be an address, whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import regex

from correlator.errors import SourceError
from correlator.journal_match import JournalMatch
from correlator.model import SECOND, Entry, Event, Evidence, Micros, parse_source
from correlator.prefilter import required_literal
from correlator.syslog import Header, parse_header, read_stamp

NOTHING = "nothing"
TRANSPORT = "_TRANSPORT"
_KERNEL = "kernel"
_MAX_PORT = 65535
_MAX_COUNT = 10_000  # a line that says "repeated a million times" is a liar or a flood


@dataclass(frozen=True, slots=True)
class PatternDefinition:
    """One expression of a filter; the named groups are `source` and what else the line tells."""

    name: str
    expression: str
    weight: int = 1
    is_spoofable: bool = False


@dataclass(frozen=True, slots=True)
class FilterTest:
    """A line and what the filter must say of it."""

    line: str
    expect: Mapping[str, str] | None
    """Fields (and `pattern`) that the event must have; None: nothing may be understood."""


@dataclass(frozen=True, slots=True)
class FilterDefinition:
    """A filter as its author wrote it."""

    name: str
    description: str
    where: str
    """The file it came from."""
    identifiers: frozenset[str]
    """Syslog identifiers whose lines it reads; empty: any line."""
    files: tuple[str, ...]
    patterns: tuple[PatternDefinition, ...]
    ignores: tuple[str, ...] = ()
    """Expressions of lines that are ours and mean nothing."""
    claims: str = ""
    """Text that makes a line ours even where no pattern understands it."""
    journal: tuple[JournalMatch, ...] | None = None
    """Which journal entries it reads, besides having one of its identifiers: those that one of these accepts.

    Empty: none. None: all that have one of its identifiers; none where it names no identifier.
    """
    tests: tuple[FilterTest, ...] = ()
    jail: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What its author recommends for a jail that listens to it alone, by the keys of a jail table."""

    @property
    def reads_journal(self) -> bool:
        """Whether there can be a journal entry that it reads."""
        return bool(self.identifiers) if self.journal is None else bool(self.journal)


@dataclass(frozen=True, slots=True)
class Line:
    """One candidate line, its header read, its time decided."""

    header: Header
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is ours and says something we cannot use."""

    filter: str
    reason: str
    evidence: Evidence


@dataclass(slots=True)
class _Pattern:
    definition: PatternDefinition
    compiled: Any
    groups: frozenset[str] = field(default_factory=frozenset)


class PatternError(ValueError):
    """An expression that cannot be compiled, or lacks the group `source`."""


def _compile(expression: str) -> Any:
    try:
        return regex.compile(expression, regex.VERSION0)
    except (regex.error, RecursionError, OverflowError) as exc:
        raise PatternError(str(exc)) from exc


class Filter:
    """A filter that runs. Raises PatternError from the constructor for a bad expression."""

    def __init__(self, definition: FilterDefinition, *, timeout: Micros = SECOND // 20) -> None:
        self.definition = definition
        self.name = definition.name
        self.quarantined: dict[str, str] = {}
        self._timeout = timeout / SECOND
        self._ignores = [_compile(expression) for expression in definition.ignores]
        self._patterns: list[_Pattern] = []
        for pattern in definition.patterns:
            compiled = _compile(pattern.expression)
            if "source" not in compiled.groupindex:
                raise PatternError(f"pattern {pattern.name!r} has no group (?P<source>...)")
            self._patterns.append(_Pattern(pattern, compiled, frozenset(compiled.groupindex)))

    def literals(self) -> Iterator[str]:
        """Yield, for each thing it looks for, text that such a line must contain."""
        for pattern in self.definition.patterns:
            yield required_literal(pattern.expression)
        if self.definition.claims:
            yield self.definition.claims

    def wants(self, identifier: str) -> bool:
        """Whether lines of this program are read at all."""
        return not self.definition.identifiers or identifier in self.definition.identifiers

    def takes(self, entry: Entry) -> bool:
        """Whether it reads this journal entry.

        Anybody may call himself `kernel` in a log, and have us block whom he likes by a forged packet log:
        what the kernel did not write is never the kernel's, whatever the filter asks for.
        """
        if entry.identifier == _KERNEL and entry.fields.get(TRANSPORT) != _KERNEL:
            return False
        if not self.definition.reads_journal or not self.wants(entry.identifier):
            return False
        matches = self.definition.journal
        return matches is None or any(match.accepts(entry.fields) for match in matches)

    def read(self, line: Line) -> Event | Unreadable | None:
        """Return what the line says to this filter."""
        body = line.header.body
        for pattern in self._patterns:
            if pattern.definition.name in self.quarantined:
                continue
            found = self._search(pattern.compiled, body, pattern.definition.name)
            if found is not None:
                return self._event(pattern, found, line)
        if not self.definition.claims or self.definition.claims not in body:
            return None
        if any(self._search(compiled, body, "ignore") is not None for compiled in self._ignores):
            return None
        return Unreadable(self.name, "no pattern understands it", line.evidence)

    def _search(self, compiled: Any, body: str, name: str) -> Any:
        try:
            return compiled.search(body, timeout=self._timeout, concurrent=False)
        except TimeoutError:
            self.quarantined[name] = f"ran over {self._timeout:g} s on a line of {len(body)} characters"
            return None

    def _event(self, pattern: _Pattern, found: Any, line: Line) -> Event | Unreadable:
        fields = {name: text for name, text in found.groupdict().items() if text is not None}
        try:
            source = parse_source(fields.get("source", ""))
        except SourceError as exc:
            return Unreadable(self.name, str(exc), line.evidence)
        port = _number(fields.get("port"), _MAX_PORT)
        if port is None and "port" in fields:
            return Unreadable(self.name, f"not a port: {fields['port'][:32]!r}", line.evidence)
        return Event(
            at=line.evidence.at,
            filter=self.name,
            pattern=pattern.definition.name,
            source=source,
            evidence=line.evidence,
            is_spoofable=pattern.definition.is_spoofable,
            weight=pattern.definition.weight,
            count=max(1, _number(fields.get("count"), _MAX_COUNT) or 1),
            port=port,
            protocol=fields.get("protocol"),
            fields=MappingProxyType(fields),
        )


def _number(text: str | None, highest: int) -> int | None:
    """Return a decimal number from 0 to `highest`, or None."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    number = int(text)
    return number if number <= highest else None


def make_line(text: str, *, arrived: Micros, origin: str = "test", offset: int = 0) -> Line:
    """Return one line as the engine would hand it to a filter, its own stamp taken as its time."""
    header = parse_header(text)
    at = read_stamp(header.stamp, arrived)
    return Line(header, Evidence(arrived if at is None else at, origin, offset, text))


def failed_tests(filter_: Filter) -> Iterator[tuple[FilterTest, str]]:
    """Yield each of the filter's own tests that fails, with what it got instead."""
    for test in filter_.definition.tests:
        line = make_line(test.line, arrived=1_767_225_600 * SECOND)
        answer = filter_.read(line) if filter_.wants(line.header.identifier) else None
        if test.expect is None:
            if isinstance(answer, Event):
                yield test, f"pattern {answer.pattern!r}, source {answer.source}"
            continue
        if not isinstance(answer, Event):
            yield test, NOTHING if answer is None else f"unreadable: {answer.reason}"
            continue
        got = {**answer.fields, "pattern": answer.pattern, "source": str(answer.source)}
        wrong = [f"{key}={got.get(key)!r}" for key, value in test.expect.items() if got.get(key) != value]
        if wrong:
            yield test, ", ".join(wrong)
