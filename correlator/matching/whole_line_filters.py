"""Filters whose patterns judge whole lines, as Fail2ban's do, run like any other filter.

What such a filter names may be no address: a host's name, a user. That becomes an `Unreadable`, because only
addresses are ever denied, and names in logs are never resolved to decide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

from correlator.errors import SourceError
from correlator.lines.date_patterns import DatePatternError
from correlator.lines.expressions import ExpressionError, TimeLimit
from correlator.lines.syslog import format_entry
from correlator.matching.filter_definition import FilterDefinition, WholeLines
from correlator.matching.filters import Filter, Unreadable
from correlator.matching.needs import Need
from correlator.matching.patterns import Line, PatternError
from correlator.matching.whole_lines import Finding, WholeLineReader
from correlator.model import JOURNAL, SECOND, Entry, Event, Micros, parse_prefix

UID = "_UID"
UNIT = "_SYSTEMD_UNIT"
_ROOT = "0"
_SESSIONS = ("user@", "session-")


class WholeLineFilter(Filter):
    """A filter that runs. Raises PatternError from the constructor for a bad expression or date pattern."""

    reads_whole_lines = True

    def __init__(
        self, definition: FilterDefinition, how: WholeLines, *, timeout: Micros = SECOND // 20
    ) -> None:
        super().__init__(replace(definition, patterns=(), ignores=()), timeout=timeout)
        self.definition = definition
        try:
            self._reader = WholeLineReader(
                how,
                [(pattern.name, pattern.expression) for pattern in definition.patterns],
                definition.ignores,
                limit=TimeLimit(timeout),
            )
        except (ExpressionError, DatePatternError) as exc:
            raise PatternError(str(exc)) from exc
        self.quarantined = self._reader.quarantined

    def succeed(self, before: Filter) -> None:
        """Know the lines and connections that a filter of this name knew."""
        if isinstance(before, WholeLineFilter):
            self._reader.succeed(before._reader)  # noqa: SLF001  another of our kind

    def needs(self) -> Iterator[Need]:
        """Yield, for each thing it looks for, what every line has that it can be found in."""
        for literal in self._reader.literals():
            yield Need(None, texts=(literal,))

    def wants(self, identifier: str) -> bool:
        """Lines of any program: which one is meant, its expressions say."""
        del identifier
        return True

    def may_understand(self, beginning: str) -> bool:
        """Its expressions look at more than the body."""
        del beginning
        return True

    def takes(self, entry: Entry) -> bool:
        """Whether it reads this journal entry.

        `_COMM` is a name that any process gives itself: what an ordinary user's session wrote is no daemon's,
        whatever it is called, or anybody with an account could have us block whom he likes.
        """
        if not super().takes(entry):
            return False
        is_of_a_session = entry.fields.get(UNIT, "").startswith(_SESSIONS)
        return not is_of_a_session or entry.fields.get(UID) == _ROOT

    def find(self, text: str, now: Micros, *, at: Micros | None = None, origin: str = "") -> Finding | None:
        """Return what a line says; see `WholeLineReader.read`."""
        return self._reader.read(text, now, at=at, origin=origin)

    def read(self, line: Line) -> Event | Unreadable | None:
        """Return what the line says to this filter."""
        text, at, origin = line.evidence.line.rstrip("\r"), None, line.evidence.origin
        if origin == JOURNAL:
            text, at = format_entry(line.header), line.evidence.at
        now = line.evidence.at if line.arrived is None else line.arrived
        found = self.find(text, now, at=at, origin=origin)
        if found is None:
            return None
        try:
            source = parse_prefix(found.identity)
        except SourceError as exc:
            return Unreadable(self.name, str(exc), line.evidence)
        return Event(
            at=found.at,
            filter=self.name,
            pattern=found.pattern,
            source=source,
            evidence=line.evidence._replace(at=found.at),
            fields=MappingProxyType(
                {name: text for name, text in found.fields.items() if isinstance(text, str)}
            ),
        )


def run_filter(definition: FilterDefinition, *, timeout: Micros = SECOND // 20) -> Filter:
    """Return a filter that runs, of the kind that its definition asks for. Raises: PatternError."""
    if definition.whole_lines is None:
        return Filter(definition, timeout=timeout)
    return WholeLineFilter(definition, definition.whole_lines, timeout=timeout)
