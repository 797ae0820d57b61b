"""What a filter is, as its author wrote it: patterns, what lines tell of connections, its own tests.

Nothing here runs. Who only asks which filters there are, or whether a site's files are sound, needs no more
than this; what reads lines by it takes many times as long to import.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from correlator.lines.journal_match import JournalMatch
from correlator.lines.layout_definition import TEXT, Layout

NOTHING = "nothing"
SOURCE = "source"
"""The group, or the field, that says who it was."""
ANY_PROGRAM = "*"
"""Stands for any text in the name of a program."""
_GROUP = re.compile(r"\(\?P<(\w+)>")


def name_groups(expression: str) -> frozenset[str]:
    """Return the named groups of an expression, without a need to compile it."""
    return frozenset(_GROUP.findall(expression))


def spell_program(name: str) -> str:
    """Return an expression of the programs that a name means."""
    return ".*".join(map(re.escape, name.split(ANY_PROGRAM)))


def is_named(program: str, names: Collection[str]) -> bool:
    """Whether a program has one of these names; without any, whether the line names no program."""
    return any(
        name == program or (program and ANY_PROGRAM in name and re.fullmatch(spell_program(name), program))
        for name in names or ("",)
    )


@dataclass(frozen=True, slots=True)
class Condition:
    """What a field of a record must hold: one of these texts, or text in which the expression is found."""

    path: str
    values: frozenset[str] = frozenset()
    expression: str = ""
    is_missing: bool = False
    """That there must be no such field."""


@dataclass(frozen=True, slots=True)
class PatternDefinition:
    """One expression of a filter; the named groups are `source` and what else the line tells.

    Without `source` it is about a connection, whose source another line names: see `open_connections`.

    Where lines are records, conditions stand in the place of the expression, and paths beside their groups.
    """

    name: str
    expression: str
    weight: int = 1
    is_spoofable: bool = False
    conditions: tuple[Condition, ...] = ()
    paths: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The field of an event, and where the record has it; of a record's pattern only."""
    key: str = ""
    """What it is called in its file, such as `pattern[2].regex`."""

    @property
    def field_names(self) -> frozenset[str]:
        """What its events may tell."""
        groups = (name_groups(condition.expression) for condition in self.conditions)
        return frozenset(self.paths).union(name_groups(self.expression), *groups)


@dataclass(frozen=True, slots=True)
class ConnectionDefinition:
    """Lines that tell whose a connection is, for patterns whose lines name no address.

    The group `connection` is what the service calls it; without that group the process is the connection.
    """

    begins: str
    """An expression with the group `source`, and what else its lines tell."""
    tells: str = ""
    """One of lines that tell more; empty: there are none."""
    ends: str = ""
    begins_late: bool = False
    """Whether lines about it may stand before the one that begins it."""

    @property
    def field_names(self) -> frozenset[str]:
        """What its lines may tell."""
        return name_groups(self.begins) | name_groups(self.tells)


@dataclass(frozen=True, slots=True)
class LoginDefinition:
    """Lines that tell from where an account is logged in."""

    identifiers: frozenset[str]
    """The programs that say so; no pattern is looked for in what they write."""
    begins: str
    """An expression with the groups `account` and `source`."""
    ends: str = ""
    """One with the group `account`; empty: a login is over a day after it began."""

    @property
    def field_names(self) -> frozenset[str]:
        """What its lines may tell."""
        return name_groups(self.begins)


@dataclass(frozen=True, slots=True)
class WholeLines:
    """What a filter that reads whole lines does with them before its patterns see them."""

    prefix: str = ""
    """An expression that every line must match; its group `content`, if it has one, is what patterns see."""
    date_patterns: tuple[str, ...] = ()
    """See `date_patterns`; none: the defaults."""
    max_lines: int = 1
    """How many lines are looked at together."""
    zone: str = ""
    """What dates without a zone are in; empty: local time."""


@dataclass(frozen=True, slots=True)
class FilterTest:
    """A line and what the filter must say of it."""

    line: str
    expect: Mapping[str, str] | None
    """Fields (and `pattern`, `count`) that the event must have; None: nothing may be understood."""
    key: str = ""
    """What it is called in its file, such as `test[3].line`."""
    before: tuple[str, ...] = ()
    """Lines that came earlier in the same log, oldest first."""


@dataclass(frozen=True, slots=True)
class FilterDefinition:
    """A filter as its author wrote it."""

    name: str
    description: str
    where: str
    """The file it came from."""
    identifiers: frozenset[str]
    """Programs whose syslog lines it reads, `*` standing for any text; empty: lines of no program only.

    Text of any other program is not looked at: it may imitate whatever a stranger can make it say.
    """
    files: tuple[str, ...]
    patterns: tuple[PatternDefinition, ...]
    ignores: tuple[str, ...] = ()
    """Expressions of lines that are ours and mean nothing, whatever pattern is in them."""
    ignored_records: tuple[tuple[Condition, ...], ...] = ()
    """Conditions of records that mean nothing: one of these sets is met as a whole."""
    connections: tuple[ConnectionDefinition, ...] = ()
    logins: tuple[LoginDefinition, ...] = ()
    """Of programs that are among its identifiers; it has either these or connections."""
    claims: str = ""
    """Text that makes a line ours even where no pattern understands it; behind `^`, how its body begins."""
    journal: tuple[JournalMatch, ...] | None = None
    """Which journal entries it reads, besides having one of its identifiers: those that one of these accepts.

    Empty: none. None: all that have one of its identifiers; none where it names no identifier.
    """
    whole_lines: WholeLines | None = None
    """None: its patterns judge the body behind a header. Else whole lines, see `whole_line_filters`."""
    tests: tuple[FilterTest, ...] = ()
    jail: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What its author recommends for a jail that listens to it alone, by the keys of a jail table."""
    layout: Layout = TEXT
    is_proved: bool = False
    """Whether its expressions are known to compile, and its tests to pass."""

    @property
    def field_names(self) -> frozenset[str]:
        """What its events may tell."""
        return frozenset[str]().union(
            *(pattern.field_names for pattern in self.patterns),
            *(connection.field_names for connection in self.connections),
            *(login.field_names for login in self.logins),
        )

    def claims_body(self, body: str) -> bool:
        """Whether it makes a line ours that no pattern understands."""
        text = self.claims.removeprefix("^")
        return bool(text) and (text in body if text == self.claims else body.startswith(text))

    @property
    def knows_its_files_only(self) -> bool:
        """Whether it knows its lines by the log in which they stand, and not by the program."""
        return "*" in self.identifiers and not self.reads_journal

    @property
    def reads_journal(self) -> bool:
        """Whether there can be a journal entry that it reads."""
        return any(self.identifiers) if self.journal is None else bool(self.journal)
