"""Remembers whose a connection is, for services that name the address in one line and the failure in another.

`conn=7 fd=12 ACCEPT from IP=192.0.2.1:40000` and later `conn=7 op=0 RESULT err=49`: the second line names
connection 7 alone. What a later line begins anew under the same name is another connection. Never guesses:
a line about a connection whose beginning was not read names nobody. Where a filter says that a beginning may
come late, as a service of several threads writes it, a line waits two seconds for it.

Pure; bounded: so many connections a filter, the longest silent leaves first, each is forgotten an hour after
its last line, only so much text is kept of each, and few lines wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from correlator.matching.filter_definition import SOURCE, ConnectionDefinition, PatternDefinition
from correlator.matching.needs import Need
from correlator.matching.patterns import Line, PatternError, Search, TextPattern
from correlator.model import SECOND, Micros

CONNECTION = "connection"
"""The group that names a connection, and the name under which its expressions are put in quarantine."""
_MOST_CONNECTIONS = 10_000
_LIFETIME: Micros = 3600 * SECOND
_LONGEST_TEXT = 256
_LONGEST_NAME = 64
_PATIENCE: Micros = 2 * SECOND  # syslog's stamps are whole seconds
_MOST_WAITING = 256
_MOST_HELD = 16

Key = tuple[str, str, str, str]
"""Where the line was read, whose host it names, which process, and what that calls the connection."""


class Known(NamedTuple):
    """What the lines of a connection have told."""

    seen: Micros
    beginning: str
    """The body of the line that began it, cut."""
    fields: Mapping[str, str]


class Held(NamedTuple):
    """A line that waits for the one that began its connection."""

    pattern: PatternDefinition
    """Which understood it."""
    line: Line
    fields: Mapping[str, str]


@dataclass(slots=True)
class _Waiting:
    since: Micros
    fields: dict[str, str] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)


class OpenConnections:
    """The connections that a filter knows of."""

    tellers = frozenset[str]()
    """Programs that tell of connections and of nothing else: none."""
    quarantine = CONNECTION

    def __init__(self, definitions: Sequence[ConnectionDefinition]) -> None:
        is_named = any(f"(?P<{CONNECTION}>" in definition.begins for definition in definitions)
        self.names = (CONNECTION,) * is_named
        """The groups by which a pattern without a source says whom it is about; none: by its process."""
        self._begins = [_pattern(definition.begins, SOURCE) for definition in definitions]
        self._tells = [_pattern(definition.tells) for definition in definitions if definition.tells]
        self._ends = [_pattern(definition.ends) for definition in definitions if definition.ends]
        self._is_patient = any(definition.begins_late for definition in definitions)
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._waiting: OrderedDict[Key, _Waiting] = OrderedDict()
        self._now: Micros = 0
        self.given_up: list[Held] = []
        """Lines whose beginning did not come; whoever takes them empties it."""

    def check(self) -> None:
        """Raise PatternError where an expression cannot run."""
        for pattern in (*self._begins, *self._tells, *self._ends):
            pattern.check()
        if any(SOURCE in pattern.compiled.groupindex for pattern in (*self._tells, *self._ends)):
            raise PatternError(f"only `begins` may have the group (?P<{SOURCE}>...)")

    def __len__(self) -> int:
        """How many are remembered, those of which only later lines came included."""
        return len(self._known) + len(self._waiting)

    def succeed(self, before: OpenConnections) -> None:
        """Know what another has known, which read the same lines so far."""
        self._known, self._now = before._known, before._now
        if self._is_patient:
            self._waiting = before._waiting

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._waiting.clear()
        self.given_up.clear()
        self._now = 0

    def needs(self, identifiers: frozenset[str]) -> Iterator[Need]:
        """Yield what every line has that tells of a connection."""
        for pattern in (*self._begins, *self._tells, *self._ends):
            yield pattern.need(identifiers)

    def advance(self, at: Micros) -> None:
        """Give up what has waited too long at this time; to be called before each line."""
        while self._waiting:
            key, oldest = next(iter(self._waiting.items()))
            if at - oldest.since <= _PATIENCE:
                return
            self.given_up += self._waiting.pop(key).held

    def note(self, line: Line, search: Search) -> tuple[str, Sequence[Held]]:
        """Take what a line tells of a connection.

        Return in words what that is, empty for nothing, and the lines that waited for this one.
        """
        fields = _find(self._begins, line, search, SOURCE)
        if fields is not None:
            return self._begin(line, fields)
        fields = _find(self._tells, line, search)
        if fields is not None:
            return self._tell(_key(line, fields), fields, line.evidence.at), ()
        fields = _find(self._ends, line, search)
        if fields is None:
            return "", ()
        key = _key(line, fields)
        known = None if key is None else self._known.pop(key, None)
        return "ends a connection" + ("" if known is None else f" of {known.fields[SOURCE]}"), ()

    def find(self, line: Line, fields: Mapping[str, str]) -> Known | None:
        """Return what is known of the connection that a line's fields name."""
        key, at = _key(line, fields), line.evidence.at
        known = self._get(key, at)
        if key is not None and known is not None:
            self._keep(key, known, at)
        return known

    def hold(self, held: Held) -> str:
        """Keep a line for when its connection begins, and say so; empty where that is not waited for."""
        waiting = self._wait(_key(held.line, held.fields), held.line.evidence.at)
        if waiting is None or len(waiting.held) >= _MOST_HELD:
            return ""
        waiting.held.append(held._replace(fields={**waiting.fields, **held.fields}))
        return "waits for the line that begins its connection"

    def _begin(self, line: Line, fields: Mapping[str, str]) -> tuple[str, Sequence[Held]]:
        key, at = _key(line, fields), line.evidence.at
        if key is None:
            return "begins a connection that nothing names", ()
        waiting = self._waiting.pop(key, None)
        told = {} if waiting is None else waiting.fields
        beginning = line.header.body[:_LONGEST_TEXT]
        self._keep(key, Known(at, beginning, {**told, **_bounded(fields)}), at)
        return f"begins a connection of {fields[SOURCE]}", () if waiting is None else waiting.held

    def _tell(self, key: Key | None, fields: Mapping[str, str], at: Micros) -> str:
        known = self._get(key, at)
        if key is not None and known is not None:
            self._keep(key, known._replace(fields={**known.fields, **_bounded(fields)}), at)
            return f"tells more of a connection of {known.fields[SOURCE]}"
        waiting = self._wait(key, at)
        if waiting is not None:
            waiting.fields.update(_bounded(fields))
        return "tells more of a connection whose beginning was not read"

    def _wait(self, key: Key | None, at: Micros) -> _Waiting | None:
        if key is None or not self._is_patient:
            return None
        waiting = self._waiting.setdefault(key, _Waiting(at))
        if len(self._waiting) > _MOST_WAITING:
            self.given_up += self._waiting.popitem(last=False)[1].held
        return waiting

    def _get(self, key: Key | None, at: Micros) -> Known | None:
        known = None if key is None else self._known.get(key)
        return None if known is None or _is_old(known, at) else known

    def _keep(self, key: Key, known: Known, at: Micros) -> None:
        self._known[key] = known._replace(seen=max(known.seen, at))
        self._known.move_to_end(key)
        self._now = max(self._now, at)
        while self._known:
            oldest = next(iter(self._known.values()))
            if len(self._known) <= _MOST_CONNECTIONS and not _is_old(oldest, self._now):
                return
            self._known.popitem(last=False)


def _is_old(known: Known, at: Micros) -> bool:
    return at - known.seen >= _LIFETIME


def _pattern(expression: str, *needs: str) -> TextPattern:
    return TextPattern(PatternDefinition(CONNECTION, expression), needs=needs)


def _find(patterns: Sequence[TextPattern], line: Line, search: Search, *groups: str) -> dict[str, str] | None:
    """Return the fields of the first that is in a line with these groups: a choice may leave one out."""
    body = line.header.body
    for pattern in patterns:
        if pattern.literal not in body or not body.startswith(pattern.beginnings or ""):
            continue
        fields = pattern.find(line, search)
        if fields is not None and all(group in fields for group in groups):
            return fields
    return None


def _key(line: Line, fields: Mapping[str, str]) -> Key | None:
    """Return what names a connection; None where nothing does, or a stranger's name of any length would."""
    header, name = line.header, fields.get(CONNECTION, "")
    if not (header.pid or name) or len(name) > _LONGEST_NAME:
        return None
    return (line.evidence.origin, header.host, header.pid, name)


def _bounded(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: text[:_LONGEST_TEXT] for name, text in fields.items()}
