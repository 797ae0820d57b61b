"""Reads filter files and jail tables into the frozen definitions that the core runs."""

from __future__ import annotations

from pathlib import Path

from correlator.config.reader import File, Table
from correlator.errors import Fault
from correlator.filters import (
    NOTHING,
    Filter,
    FilterDefinition,
    FilterTest,
    PatternDefinition,
    PatternError,
    failed_tests,
)
from correlator.jails import Count, JailDefinition

ALERT_LOG_TOKEN = "$ALERT_LOG$"  # noqa: S105  a token of ours, not a secret
_HIGHEST_WEIGHT = 1_000_000
_DISTINCT = "distinct "


def load_filter(path: Path, *, alert_log: Path) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter that a file defines, its own tests passed, or None with its faults."""
    faults: list[Fault] = []
    table = File(path, faults).table()
    if faults:
        return None, faults
    files = tuple(str(alert_log) if text == ALERT_LOG_TOKEN else text for text in table.texts("files"))
    table.require("pattern", "at least one [[pattern]]")
    definition = FilterDefinition(
        name=path.stem,
        description=table.text("description", ""),
        where=str(path),
        identifiers=frozenset(table.texts("identifiers")),
        files=files,
        patterns=tuple(_pattern(item) for item in table.tables("pattern")),
        ignores=tuple(_ignore(item) for item in table.tables("ignore")),
        claims=table.text("claims", ""),
        tests=tuple(_test(item) for item in table.tables("test")),
    )
    table.finish()
    if not faults:
        faults += _faults_of_running(definition)
    return (None if faults else definition), faults


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


def read_jail(name: str, table: Table, *, is_blocking: bool) -> JailDefinition:
    """Return the jail that a table `[jail.NAME]` defines; faults are noted in the table's file."""
    defaults = JailDefinition(name=name, where=str(table.file.path), filters=())
    table.require("filters", 'the filters it listens to, such as ["portsentry"]')
    filters = table.texts("filters")
    kind, field = _count(table)
    mode = table.text("mode", "block" if is_blocking else "observe", choices=("observe", "block"))
    jail = JailDefinition(
        name=name,
        where=str(table.file.path),
        filters=filters,
        count=kind,
        field=field,
        threshold=table.number("threshold", defaults.threshold, least=1, most=100_000),
        span=table.duration("span", defaults.span),
        prefix4=table.number("prefix4", defaults.prefix4, least=16, most=32),
        prefix6=table.number("prefix6", defaults.prefix6, least=32, most=128),
        block_for=table.duration_or_forever("block_for", defaults.block_for),
        spoofable_block_for=table.duration("spoofable_block_for", defaults.spoofable_block_for),
        spoofable_a_minute=table.number(
            "spoofable_a_minute", defaults.spoofable_a_minute, least=0, most=1_000_000
        ),
        actions=table.texts("actions", defaults.actions),
        is_blocking=mode == "block",
    )
    table.finish()
    return jail


def _count(table: Table) -> tuple[Count, str]:
    text = table.text("count", "strikes")
    if text.startswith(_DISTINCT) and text[len(_DISTINCT) :].isidentifier():
        return Count.DISTINCT, text[len(_DISTINCT) :]
    if text in ("strikes", "weight"):
        return Count(text), ""
    table.fault("count", text, '"strikes", "weight", or "distinct FIELD" such as "distinct port"')
    return Count.STRIKES, ""
