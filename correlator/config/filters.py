"""Reads filter files into frozen definitions; a filter whose own tests fail does not load."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from correlator.config.jails import read_jail
from correlator.config.proofs import Proofs
from correlator.config.reader import File, Known, Table
from correlator.config.substitution import Substitution, SubstitutionError, read_substitution
from correlator.errors import Fault, JournalMatchError
from correlator.lines.journal_match import EXPECTED, JournalMatch, parse_journal_match
from correlator.lines.layout_definition import TEXT, Layout
from correlator.matching.filter_definition import (
    NOTHING,
    SOURCE,
    Condition,
    ConnectionDefinition,
    FilterDefinition,
    FilterTest,
    LoginDefinition,
    PatternDefinition,
    name_groups,
)

ALERT_LOG_TOKEN = "$ALERT_LOG$"  # noqa: S105  a token of ours, not a secret
PACKET_LOG_TOKEN = "$PACKET_LOG$"  # noqa: S105  the same
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_HIGHEST_WEIGHT = 1_000_000
_MOST_TESTS_A_LINE = 1000
_FORMATS = ("text", "json")


def load_filter(
    path: Path,
    *,
    alert_log: Path | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
    proofs: Proofs | None = None,
) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter that a file defines, its own tests passed, or None with its faults.

    Without `alert_log` the token for it stays among its files: where it lies only the site knows. `options`
    overrule its variables. With `proofs` the tests are not run again of a file that they know.
    """
    file, faults = open_file(path)
    definition = None if faults else define_filter(file, alert_log=alert_log, options=options)
    if definition is None:
        return None, faults
    return prove_filter(definition, file, None if options else proofs)


def read_filter(path: Path) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter that a file defines without trying whether it runs, or None with its faults."""
    file, faults = open_file(path)
    return None if faults else define_filter(file), faults


def open_file(path: Path, *, known: Known = lambda _data: None) -> tuple[File, list[Fault]]:
    """Return a filter file, and the list that its faults come into; `known`: see `File`."""
    faults: list[Fault] = []
    return File(path, faults, known=known), faults


def prove_filter(
    definition: FilterDefinition, file: File, proofs: Proofs | None = None
) -> tuple[FilterDefinition | None, list[Fault]]:
    """Return the filter with its tests passed, now or as `proofs` know, or None with its faults."""
    if proofs is None or not proofs.has(definition.name, file.text):
        from correlator.config.filter_faults import faults_of_running

        if faults := faults_of_running(definition, file):
            return None, faults
        if proofs is not None:
            proofs.add(definition.name, file.text)
    return replace(definition, is_proved=True), []


def define_filter(
    file: File,
    *,
    alert_log: Path | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
    is_proved: bool = False,
) -> FilterDefinition | None:
    """Return the filter that a file defines; None where it has faults, which it has noted then.

    Of one that is known to be proved nothing is tried that takes long.
    """
    path, table = file.path, file.table()
    words = read_substitution(table, options)
    is_json = table.text("format", "text", choices=_FORMATS) == "json"
    table.require("pattern", "at least one [[pattern]]")
    files = _files(table, words)
    ignores = table.tables("ignore")
    definition = FilterDefinition(
        name=path.stem,
        description=table.text("description", ""),
        where=str(path),
        identifiers=frozenset(_texts(table, "identifiers", words)),
        files=tuple(str(alert_log or file) if file == ALERT_LOG_TOKEN else file for file in files),
        patterns=_patterns(table, words, is_json=is_json),
        ignores=tuple(_ignore(item, words) for item in ignores if not (is_json and item.has("match"))),
        ignored_records=tuple(
            _ignored_record(item, words) for item in ignores if is_json and item.has("match")
        ),
        connections=tuple(_connection(item, words) for item in table.tables("connection")),
        logins=tuple(_login(item, words) for item in table.tables("login")),
        claims=_expanded(table, "claims", words.literal),
        journal=_journal(table),
        tests=tuple(test for item in table.tables("test") for test in _tests(item, words)),
        jail=_recommendation(path.stem, table),
        layout=_layout(table, is_json=is_json, is_proved=is_proved),
        is_proved=is_proved,
    )
    table.finish()
    if definition.claims == "^":
        table.fault("claims", "^", "text, behind ^ where a body begins with it")
    _check_lines_before(table, definition)
    if not file.faults:
        return definition
    from correlator.config.filter_faults import faults_of_expressions

    known = {fault.where for fault in file.faults}
    file.faults += (fault for fault in faults_of_expressions(definition, file) if fault.where not in known)
    return None


def _expanded(table: Table, key: str, expand: Callable[[str], str]) -> str:
    text = table.text(key, "")
    try:
        return expand(text)
    except SubstitutionError as exc:
        table.fault(key, text, str(exc))
        return ""


def _texts(table: Table, key: str, words: Substitution) -> tuple[str, ...]:
    """Return a list of text; a name of a list among it is each of its words."""
    try:
        return tuple(word for text in table.texts(key) for word in words.words(text))
    except SubstitutionError as exc:
        table.fault(key, table.any_value(key), str(exc))
        return ()


def _files(table: Table, words: Substitution) -> tuple[str, ...]:
    files = _texts(table, "files", words)
    for file in files:
        if not file.startswith("/") and file not in (ALERT_LOG_TOKEN, PACKET_LOG_TOKEN):
            table.fault("files", file, "absolute paths, or patterns of them such as /var/log/app/*.log")
    return files


def _recommendation(name: str, table: Table) -> Mapping[str, Any]:
    """Return the table `[jail]`: any key of a jail but whom it listens to and whether it blocks."""
    jail = table.table("jail")
    for key in ("filters", "mode"):
        if jail.has(key):
            jail.fault(key, jail.any_value(key), "no such key here: the site decides on it, not the filter")
    recommended = jail.any_values()
    read_jail(name, jail.over({"filters": [name]}), is_blocking=False)
    return recommended


def _layout(table: Table, *, is_json: bool, is_proved: bool) -> Layout:
    dates = table.texts("dates")
    if dates and not is_proved and not _are_dates(table, dates):
        return TEXT
    time = table.text("time", "") if is_json else ""
    return Layout(is_json, time, dates) if is_json or dates else TEXT


def _are_dates(table: Table, forms: Iterable[str]) -> bool:
    """Whether these are forms of dates; a fault where one is none. What reads dates is imported for them."""
    from correlator.lines.date_patterns import DatePatternError
    from correlator.lines.layouts import check_dates

    for form in forms:
        try:
            check_dates([form])
        except DatePatternError as exc:
            table.fault(
                "dates", form, f"a date such as %d.%m.%Y %H:%M:%S, with the tokens of strptime: {exc}"
            )
            return False
    return True


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


def _patterns(table: Table, words: Substitution, *, is_json: bool) -> tuple[PatternDefinition, ...]:
    found: dict[str, PatternDefinition] = {}
    for item in table.tables("pattern"):
        pattern = _record_pattern(item, words) if is_json else _pattern(item, words)
        if pattern.name and pattern.name in found:
            item.fault("name", pattern.name, "a name that no other pattern of the filter has")
        found[pattern.name or item.path] = pattern
    return tuple(found.values())


def _pattern(table: Table, words: Substitution) -> PatternDefinition:
    table.require("name", "a name for the pattern")
    of_records = [key for key in ("match", "fields") if table.has(key)]
    for key in of_records:
        table.fault(key, table.any_value(key), 'no such key, unless the filter says format = "json"')
    if not of_records:
        table.require("regex", "an expression with ${source} where the address stands")
    pattern = PatternDefinition(
        name=table.text("name", ""),
        expression=_expanded(table, "regex", words.expression),
        weight=table.number("weight", 1, least=1, most=_HIGHEST_WEIGHT),
        is_spoofable=table.truth("spoofable", default=False),
        key=table.name_of("regex"),
    )
    table.finish()
    return pattern


def _record_pattern(table: Table, words: Substitution) -> PatternDefinition:
    table.require("name", "a name for the pattern")
    fields = table.table("fields")
    conditions = tuple(_conditions(table.table("match"), words))
    groups = [name for condition in conditions for name in name_groups(condition.expression)]
    if not table.has("fields") and SOURCE not in groups:
        expected = (
            'where the record has what, such as { source = "src_ip" }, or ${source} in a regex of `match`'
        )
        table.require("fields", expected)
    for name in fields.any_values():
        if name in groups:
            fields.fault(name, fields.any_value(name), "a field that no regex of `match` has as a group")
    pattern = PatternDefinition(
        name=table.text("name", ""),
        expression="",
        weight=table.number("weight", 1, least=1, most=_HIGHEST_WEIGHT),
        is_spoofable=table.truth("spoofable", default=False),
        conditions=conditions,
        paths={name: fields.text(name, "") for name in fields.any_values()},
        key=table.name_of("name"),
    )
    table.finish()
    return pattern


def _conditions(match: Table, words: Substitution) -> Iterator[Condition]:
    """Yield the conditions of `match`: text, a list of texts, or `{ regex = "..." }` by dotted path."""
    for path, value in match.any_values().items():
        try:
            if isinstance(value, dict) and set(value) == {"regex"} and isinstance(value["regex"], str):
                yield Condition(path, expression=words.expression(value["regex"]))
            elif value == {"missing": True}:
                yield Condition(path, is_missing=True)
            elif isinstance(value, dict) and value:
                inner = match.table(path)
                for condition in _conditions(inner, words):
                    yield replace(condition, path=f"{path}.{condition.path}")
            else:
                values = value if isinstance(value, list) and value else [value]
                yield Condition(path, frozenset(word for item in values for word in _spellings(item, words)))
        except SubstitutionError as exc:
            match.fault(path, value, str(exc))
        except TypeError:
            match.fault(
                path,
                value,
                'text, a number, true or false, a list of them, { regex = "..." } or { missing = true }',
            )


def _spellings(value: Any, words: Substitution) -> tuple[str, ...]:
    """Return how a record may spell a value of a condition. Raises: TypeError for a table or a list."""
    if isinstance(value, str):
        return words.words(value)
    if not isinstance(value, int | float):
        raise TypeError
    return (json.dumps(value),)


def _ignore(table: Table, words: Substitution) -> str:
    table.require("regex", "an expression of lines that mean nothing")
    expression = _expanded(table, "regex", words.expression)
    table.finish()
    return expression


def _ignored_record(table: Table, words: Substitution) -> tuple[Condition, ...]:
    conditions = tuple(_conditions(table.table("match"), words))
    table.finish()
    return conditions


def _connection(table: Table, words: Substitution) -> ConnectionDefinition:
    table.require("begins", "an expression of lines with the address, in a group (?P<source>...)")
    connection = ConnectionDefinition(
        begins=_expanded(table, "begins", words.expression),
        tells=_expanded(table, "tells", words.expression),
        ends=_expanded(table, "ends", words.expression),
        begins_late=table.truth("begins_late", default=False),
    )
    table.finish()
    return connection


def _login(table: Table, words: Substitution) -> LoginDefinition:
    table.require("identifiers", "the programs that say who logs in from where")
    table.require("begins", "an expression of lines with the groups (?P<account>...) and (?P<source>...)")
    login = LoginDefinition(
        identifiers=frozenset(_texts(table, "identifiers", words)),
        begins=_expanded(table, "begins", words.expression),
        ends=_expanded(table, "ends", words.expression),
    )
    table.finish()
    return login


def _check_lines_before(table: Table, definition: FilterDefinition) -> None:
    """Note a fault where what lines before tell cannot be used."""
    for key, told in (("connection", definition.connections), ("login", definition.logins)):
        if told and definition.layout.is_json:
            table.fault(key, f"[[{key}]]", "no such table here: records are not told apart by lines before")
    if definition.connections and definition.logins:
        table.fault("login", "[[login]]", "either this or [[connection]]: a pattern is about one of them")
    for login in definition.logins:
        if unread := sorted(login.identifiers - definition.identifiers):
            table.fault("login", unread[0], "programs that are among the filter's identifiers")
        if globs := sorted(name for name in login.identifiers if "*" in name or not name):
            table.fault("login", globs[0], "programs by their whole names: it is they that are believed")


def _tests(table: Table, words: Substitution) -> Iterator[FilterTest]:
    """Yield the test, once for each word of a list that its line names."""
    table.require("line", "a log line")
    table.require("expect", f'"{NOTHING}", or a table of fields such as {{ source = "192.0.2.1" }}')
    line = table.text("line", "")
    expect = table.any_value("expect")
    before = table.texts("before")
    table.finish()
    fields = None
    if isinstance(expect, dict):
        fields = {str(key): str(value) for key, value in expect.items()}
    elif expect is not None and expect != NOTHING:
        table.fault("expect", expect, f'"{NOTHING}" or a table of fields')
    for text in islice(words.lines(line), _MOST_TESTS_A_LINE):
        yield FilterTest(text, fields, table.name_of("line"), before)
