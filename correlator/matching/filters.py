"""Filters: what is recognised in a line's body, run as a `FilterDefinition` says.

Three answers to a line: not ours (None), understood (an `Event`), ours but unreadable (an `Unreadable`,
counted and shown, never dropped in silence). A definition carries its own tests; `failed_tests` runs
them, and who loads filters refuses one whose tests fail. Patterns are searched with a time limit: one
that runs over is put in quarantine, named in `quarantined`, and the others go on.

Text that an attacker typed must never choose whom we block: `source` has to be an address, whole.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from correlator.errors import SourceError
from correlator.lines.layout_definition import TEXT
from correlator.matching.filter_definition import (
    ANY_PROGRAM,
    SOURCE,
    FilterDefinition,
    PatternDefinition,
    spell_program,
)
from correlator.matching.logins import Logins, remember
from correlator.matching.needs import Need
from correlator.matching.open_connections import Held, OpenConnections
from correlator.matching.patterns import (
    Expression,
    Line,
    Pattern,
    RecordConditions,
    RecordPattern,
    TextPattern,
    beginnings_of,
    compile_expression,
    may_begin,
)
from correlator.model import SECOND, Entry, Event, Evidence, Micros, parse_source

BEGINNING = 4
"""Characters of a body by which the patterns that may match it are looked up."""
TRANSPORT = "_TRANSPORT"
_KERNEL = "kernel"
_MAX_PORT = 65535
_IGNORE = "ignore"
_HIGHEST = 999_999_999
_MAX_COUNT = 10_000  # a line that says "repeated a million times" is a liar or a flood


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is ours and says something we cannot use."""

    filter: str
    reason: str
    evidence: Evidence


_Candidates = tuple[tuple[Pattern, tuple[str, ...]], ...]
"""Patterns, each with texts of which a body must begin with one."""


class Filter:
    """A filter that runs. Raises PatternError from the constructor for a bad expression.

    Not where its definition says that it is proved: then nothing is compiled before a line needs it.
    """

    reads_whole_lines = False
    """Whether its patterns judge whole lines, whoever wrote them."""

    def __init__(self, definition: FilterDefinition, *, timeout: Micros = SECOND // 20) -> None:
        self.definition = definition
        self.name = definition.name
        self.layout = definition.layout
        self.quarantined: dict[str, str] = {}
        self._timeout = timeout / SECOND
        self.told = ""
        """What the line that was read last told of a connection, in words."""
        self.late: Sequence[Event | Unreadable] = ()
        """What the line that was read last made known of earlier ones."""
        self._connections = remember(definition.connections, definition.logins)
        names = () if self._connections is None else self._connections.names
        self._patterns = [_run_pattern(definition, pattern, names) for pattern in definition.patterns]
        self._has_ignores = bool(definition.ignores or definition.ignored_records)
        self._identifiers = frozenset(definition.identifiers) or frozenset({""})
        self._has_globs = any(ANY_PROGRAM in name for name in self._identifiers)
        if not definition.is_proved:
            self._check()

    def _check(self) -> None:
        """Raise PatternError where an expression cannot run."""
        for pattern in self._patterns:
            pattern.check()
        if self._connections is not None:
            self._connections.check()
        _ = [ignore.compiled for ignore in self._ignores], [one.tests for one in self._ignored_records]

    def warm(self) -> None:
        """Make ready for its first line."""
        self._check()
        for pattern in self._patterns:
            pattern.warm()
        _ = self._by_beginning, self._beginning_anyhow

    @functools.cached_property
    def _ignores(self) -> list[Expression]:
        return [Expression(_IGNORE, expression) for expression in self.definition.ignores]

    @functools.cached_property
    def _ignored_records(self) -> list[RecordConditions]:
        return [RecordConditions(conditions) for conditions in self.definition.ignored_records]

    @functools.cached_property
    def _globs(self) -> Any:
        globs = [name for name in self._identifiers if ANY_PROGRAM in name]
        return compile_expression("|".join(map(spell_program, globs)))

    @functools.cached_property
    def _by_beginning(self) -> dict[str, _Candidates]:
        """The patterns that may match a body, by its first characters, where any pattern says them."""
        return {
            key: tuple((one, beginnings_of(one, key)) for one in self._patterns if may_begin(one, key))
            for key in self.beginnings
        }

    @functools.cached_property
    def _beginning_anyhow(self) -> _Candidates:
        return tuple(
            (pattern, pattern.beginnings or ("",))
            for pattern in self._patterns
            if any(len(text) < BEGINNING for text in pattern.beginnings or ("",))
        )

    @functools.cached_property
    def beginnings(self) -> frozenset[str]:
        """First characters of bodies by which some of its patterns are looked up, see `may_understand`."""
        return frozenset(text[:BEGINNING] for pattern in self._patterns for text in pattern.beginnings)

    def may_understand(self, beginning: str) -> bool:
        """Whether a pattern may match a body of these first `BEGINNING` characters, or it tells of others."""
        if self.layout is not TEXT or self._connections is not None:
            return True
        return bool(self._by_beginning.get(beginning, self._beginning_anyhow))

    def is_told_by(self, identifier: str) -> bool:
        """Whether the lines of this program tell it of others, and are never failures."""
        return self._connections is not None and identifier in self._connections.tellers

    def needs_of_logins(self) -> Iterator[Need]:
        """Yield what every line has that tells of a login; nothing where it follows none."""
        if isinstance(self._connections, Logins):
            yield from self._connections.needs()

    def needs(self) -> Iterator[Need]:
        """Yield, for each thing it looks for but logins, what every line has that it can be found in."""
        has_dates = bool(self.layout.dates)  # then a body begins behind a date that only the layout knows
        told = self._connections
        programs = self._identifiers if told is None else self._identifiers - told.tellers
        needs = [pattern.need(programs) for pattern in self._patterns]
        if isinstance(told, OpenConnections):
            needs += told.needs(programs)
        if claims := self.definition.claims.removeprefix("^"):
            is_first = claims != self.definition.claims
            needs.append(Need(programs, (claims,) if is_first else (), (claims,)))
        for need in needs:
            yield replace(need, beginnings=(), openings=frozenset()) if has_dates else need

    def succeed(self, before: Filter) -> None:
        """Know the connections that a filter of this name knew, which read the same lines so far."""
        match self._connections, before._connections:
            case (OpenConnections() as ours, OpenConnections() as theirs):
                ours.succeed(theirs)
            case (Logins() as ours, Logins() as theirs):
                ours.succeed(theirs)

    def forget(self) -> None:
        """Forget what earlier lines told."""
        if self._connections is not None:
            self._connections.clear()

    def wants(self, identifier: str) -> bool:
        """Whether lines of this program are read at all; the identifier is empty for lines of no program."""
        if identifier in self._identifiers:
            return True
        return self._has_globs and identifier != "" and self._globs.fullmatch(identifier) is not None

    def may_take(self, identifier: str) -> bool:
        """Whether there can be journal entries of this program that it reads."""
        if not self.definition.reads_journal:
            return False
        return not self.definition.identifiers or self.wants(identifier)

    def takes(self, entry: Entry) -> bool:
        """Whether it reads this journal entry.

        Anybody may call himself `kernel` in a log, and have us block whom he likes by a forged packet log:
        what the kernel did not write is never the kernel's, whatever the filter asks for.
        """
        if entry.identifier == _KERNEL and entry.fields.get(TRANSPORT) != _KERNEL:
            return False
        if not self.may_take(entry.identifier):
            return False
        matches = self.definition.journal
        return matches is None or any(match.accepts(entry.fields) for match in matches)

    def read(self, line: Line) -> Event | Unreadable | None:
        """Return what the line says to this filter; those of one log are given in their order."""
        connections, body = self._connections, line.header.body
        if connections is not None:
            self.told, self.late = "", ()
            connections.advance(line.evidence.at)
            if line.header.identifier in connections.tellers:
                self._note(connections, line)
                return None
        try:
            for pattern, beginnings in self._by_beginning.get(body[:BEGINNING], self._beginning_anyhow):
                if pattern.literal not in body or not body.startswith(beginnings):
                    continue  # another pattern brought the line here; this is far cheaper than an expression
                if self.quarantined and pattern.name in self.quarantined:
                    continue
                fields = pattern.find(line, self._search)
                if fields is not None:
                    if self._has_ignores and self._is_ignored(line):
                        return None
                    if connections is not None and SOURCE not in fields:
                        return self._of_connection(connections, pattern.definition, line, fields)
                    return self._event(pattern.definition, fields, line)
            if line.trouble and any(pattern.literal in body for pattern in self._patterns):
                return Unreadable(self.name, line.trouble, line.evidence)
            if not self.definition.claims_body(body) or self._is_ignored(line):
                return None
            return Unreadable(self.name, "no pattern understands it", line.evidence)
        finally:
            if connections is not None:
                self._note(connections, line)

    def _note(self, connections: OpenConnections | Logins, line: Line) -> None:
        """Take what a line tells of a connection, and what that makes known of earlier lines."""
        if connections.quarantine in self.quarantined:
            return
        told, released = connections.note(line, self._search)
        self.told = told or self.told
        late: list[Event | Unreadable | None] = [self._nobodys(held.line) for held in connections.given_up]
        late += [self._of_connection(connections, held.pattern, held.line, held.fields) for held in released]
        self.late = [each for each in late if each is not None]
        connections.given_up.clear()

    def _is_ignored(self, line: Line) -> bool:
        record, body = line.record, line.header.body
        return any(ignore.match_in(body, self._search) is not None for ignore in self._ignores) or (
            record is not None
            and any(conditions.are_met(record, _IGNORE, self._search) for conditions in self._ignored_records)
        )

    def _search(self, name: str, compiled: Any, text: str) -> Any:
        try:
            return compiled.search(text, timeout=self._timeout, concurrent=False)
        except TimeoutError:
            self.quarantined[name] = f"ran over {self._timeout:g} s on a line of {len(text)} characters"
            return None

    def _of_connection(
        self,
        connections: OpenConnections | Logins,
        pattern: PatternDefinition,
        line: Line,
        fields: Mapping[str, str],
    ) -> Event | Unreadable | None:
        """Return what happened on a connection, its source known from another line."""
        known = connections.find(line, fields)
        if known is None:
            self.told = connections.hold(Held(pattern, line, fields))
            return None if self.told else self._nobodys(line)
        shown = line.evidence._replace(line=f"{line.evidence.line} [{known.beginning}]")
        return self._event(pattern, {**known.fields, **fields}, line._replace(evidence=shown))

    def _nobodys(self, line: Line) -> Unreadable:
        return Unreadable(self.name, "the line that began its connection was not read", line.evidence)

    def _event(self, pattern: PatternDefinition, fields: dict[str, str], line: Line) -> Event | Unreadable:
        try:
            source = parse_source(fields.get("source", ""))
        except SourceError as exc:
            return Unreadable(self.name, str(exc), line.evidence)
        port = None
        if "port" in fields and (port := _number(fields["port"], _MAX_PORT)) is None:
            return Unreadable(self.name, f"not a port: {fields['port'][:32]!r}", line.evidence)
        count = line.header.repeats
        if "count" in fields:
            count *= max(1, _number(fields["count"][:9], _HIGHEST) or 1)
        return Event(  # by place: half the time of by name
            line.evidence.at,
            self.name,
            pattern.name,
            source,
            line.evidence,
            pattern.is_spoofable,
            pattern.weight,
            min(_MAX_COUNT, count),
            port,
            fields.get("protocol"),
            MappingProxyType(fields),
        )


def _run_pattern(definition: FilterDefinition, pattern: PatternDefinition, names: Sequence[str]) -> Pattern:
    """Return a pattern that runs; one without a source needs these groups, where another line has it."""
    if definition.layout.is_json:
        return RecordPattern(pattern)
    if not (definition.connections or definition.logins) or f"(?P<{SOURCE}>" in pattern.expression:
        return TextPattern(pattern)
    return TextPattern(pattern, needs=names)


def _number(text: str, highest: int) -> int | None:
    """Return a decimal number from 0 to `highest`, or None."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    number = int(text)
    return number if number <= highest else None
