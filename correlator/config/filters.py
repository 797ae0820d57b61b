"""Reads filter files into frozen definitions; a filter whose own tests fail does not load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from correlator.config.jails import read_jail
from correlator.config.reader import File, Table
from correlator.errors import Fault, JournalMatchError
from correlator.filters import (
    NOTHING,
    Filter,
    FilterDefinition,
    FilterTest,
    PatternDefinition,
    PatternError,
    failed_tests,
)
from correlator.journal_match import EXPECTED, JournalMatch, parse_journal_match

ALERT_LOG_TOKEN = "$ALERT_LOG$"  # noqa: S105  a token of ours, not a secret
_HIGHEST_WEIGHT = 1_000_000


def load_filter(path: Path, *, alert_log: Path | None = None) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter that a file defines, its own tests passed, or None with its faults.

    Without `alert_log` the token for it stays among its files: where it lies only the site knows.
    """
    faults: list[Fault] = []
    table = File(path, faults).table()
    if faults:
        return None, faults
    table.require("pattern", "at least one [[pattern]]")
    definition = FilterDefinition(
        name=path.stem,
        description=table.text("description", ""),
        where=str(path),
        identifiers=frozenset(table.texts("identifiers")),
        files=tuple(
            str(alert_log or file) if file == ALERT_LOG_TOKEN else file for file in table.texts("files")
        ),
        patterns=tuple(_pattern(item) for item in table.tables("pattern")),
        ignores=tuple(_ignore(item) for item in table.tables("ignore")),
        claims=table.text("claims", ""),
        journal=_journal(table),
        tests=tuple(_test(item) for item in table.tables("test")),
        jail=_recommendation(path.stem, table),
    )
    table.finish()
    if not faults:
        faults += _faults_of_running(definition)
    return (None if faults else definition), faults


def _recommendation(name: str, table: Table) -> Mapping[str, Any]:
    """Return the table `[jail]`: any key of a jail but whom it listens to and whether it blocks."""
    jail = table.table("jail")
    for key in ("filters", "mode"):
        if jail.has(key):
            jail.fault(key, jail.any_value(key), "no such key here: the site decides on it, not the filter")
    recommended = jail.any_values()
    read_jail(name, jail.over({"filters": [name]}), is_blocking=False)
    return recommended


def _journal(table: Table) -> tuple[JournalMatch, ...] | None:
    if not table.has("journal"):
        return None
    found = []
    for text in table.texts("journal"):
        try:
            found.append(parse_journal_match(text))
        except JournalMatchError as exc:
            table.fault("journal", f"no condition: {exc}", EXPECTED)
    return tuple(found)


def _pattern(table: Table) -> PatternDefinition:
    table.require("name", "a name for the pattern")
    table.require("regex", "an expression with a group (?P<source>...)")
    pattern = PatternDefinition(
        name=table.text("name", ""),
        expression=table.text("regex", ""),
        weight=table.number("weight", 1, least=1, most=_HIGHEST_WEIGHT),
        is_spoofable=table.truth("spoofable", default=False),
    )
    table.finish()
    return pattern


def _ignore(table: Table) -> str:
    table.require("regex", "an expression of lines that mean nothing")
    expression = table.text("regex", "")
    table.finish()
    return expression


def _test(table: Table) -> FilterTest:
    table.require("line", "a log line")
    table.require("expect", f'"{NOTHING}", or a table of fields such as {{ source = "192.0.2.1" }}')
    line = table.text("line", "")
    expect = table.any_value("expect")
    table.finish()
    if isinstance(expect, dict):
        return FilterTest(line, {str(key): str(value) for key, value in expect.items()})
    if expect is not None and expect != NOTHING:
        table.fault("expect", expect, f'"{NOTHING}" or a table of fields')
    return FilterTest(line, None)


def _faults_of_running(definition: FilterDefinition) -> list[Fault]:
    try:
        runs = Filter(definition)
    except PatternError as exc:
        return [Fault(definition.where, "regex", str(exc), "an expression that compiles")]
    return [
        Fault(
            definition.where,
            f"test {test.line[:120]!r}",
            got,
            NOTHING if test.expect is None else str(dict(test.expect)),
        )
        for test, got in failed_tests(runs)
    ]
