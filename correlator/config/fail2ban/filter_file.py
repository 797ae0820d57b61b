"""Reads a filter of Fail2ban, a filter.d file with all that belongs to it, into our own frozen definition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from correlator.config.fail2ban.expression_tags import expand_expression
from correlator.config.fail2ban.resolver import DEFINITION, Resolver
from correlator.config.fail2ban.sections import load_sections
from correlator.errors import Fault, JournalMatchError
from correlator.lines.date_patterns import DatePatternError, expand_patterns
from correlator.lines.expressions import ExpressionError, compile_expression
from correlator.lines.journal_match import EXPECTED, JournalMatch, parse_journal_match
from correlator.matching.filter_definition import FilterDefinition, PatternDefinition, WholeLines
from correlator.matching.whole_lines import IDENTITIES

OPTIONS = ("prefregex", "failregex", "ignoreregex", "maxlines", "datepattern", "journalmatch", "usedns")
_MOST_LINES = 1000
_ANY_YEAR = 2029
_NAMES_SOMEBODY = (*IDENTITIES, "mlfid")


@dataclass(frozen=True, slots=True)
class Fail2banFilter:
    """What a filter's files say, every `%(...)s` and `<tag>` put in, its lines still text."""

    where: str
    options: Mapping[str, str]
    files: tuple[Path, ...]
    """What to watch: every file that was read, or would be if it were there."""


def read_options(
    base: Path,
    parameters: Mapping[str, str],
    *,
    is_journal: bool,
    faults: list[Fault],
    jail: Mapping[str, str] | None = None,
) -> Fail2banFilter | None:
    """Return the options of the filter at `base` (a path without suffix), None where it has faults.

    `jail`: what `%(...)s` sees beside the parameters, which win.
    """
    before = len(faults)
    sections = load_sections(base, faults)
    if sections is None:
        faults.append(Fault(f"{base}.conf", "file", "no such file", "a filter of Fail2ban"))
        return None
    if len(faults) > before:
        return None
    if not sections.has(DEFINITION):
        faults.append(
            Fault(sections.where, f"[{DEFINITION}]", "no such section", "a section with a failregex")
        )
        return None
    given = dict(parameters)
    if "logtype" not in given and "logtype" not in sections.names(DEFINITION):
        given["logtype"] = "journal" if is_journal else "file"
    options = Resolver(sections, OPTIONS, given, variables=jail or {}, faults=faults).resolve()
    if len(faults) > before:
        return None
    return Fail2banFilter(sections.where, options, tuple(sections.files))


def define_filter(name: str, read: Fail2banFilter, faults: list[Fault]) -> FilterDefinition | None:
    """Return the definition that a filter's options give, None where it has faults."""
    before = len(faults)
    options = read.options
    takes_names = options.get("usedns", "warn").strip().lower() != "no"
    prefix = "\n".join(_lines(options.get("prefregex", "")))
    patterns = tuple(
        PatternDefinition(f"failregex {number}", expand_expression(line, takes_names=takes_names))
        for number, line in enumerate(_lines(options.get("failregex", "")), start=1)
    )
    if not patterns:
        faults.append(Fault(read.where, "failregex", "nothing", "at least one expression"))
    definition = FilterDefinition(
        name=name,
        description="",
        where=read.where,
        identifiers=frozenset(),
        files=(),
        patterns=patterns,
        ignores=tuple(
            expand_expression(line, takes_names=takes_names)
            for line in _lines(options.get("ignoreregex", ""))
        ),
        whole_lines=WholeLines(
            prefix=expand_expression(prefix, takes_names=takes_names) if prefix else "",
            date_patterns=tuple(_lines(options.get("datepattern", ""))),
            max_lines=_max_lines(read, faults),
        ),
        journal=tuple(_journal_matches(read, faults)),
    )
    _check_expressions(definition, faults)
    return None if len(faults) > before else definition


def _check_expressions(definition: FilterDefinition, faults: list[Fault]) -> None:
    """Note every expression that does not compile, and every pattern that can name nobody."""
    how = definition.whole_lines or WholeLines()
    names: frozenset[str] = frozenset()
    if how.prefix:
        names = _groups_of(how.prefix, "prefregex", definition, faults) or names
    for number, expression in enumerate(definition.ignores, start=1):
        _groups_of(expression, f"ignoreregex {number}", definition, faults)
    for pattern in definition.patterns:
        found = _groups_of(pattern.expression, pattern.name, definition, faults)
        if found is not None and not (found | names).intersection(_NAMES_SOMEBODY):
            got = repr(pattern.expression[:80])
            faults.append(
                Fault(definition.where, pattern.name, got, "<HOST>, <ADDR>, <F-ID> or <F-MLFID> in it")
            )
    try:
        expand_patterns(how.date_patterns, latest_year=_ANY_YEAR)
    except DatePatternError as exc:
        faults.append(Fault(definition.where, "datepattern", str(exc), "a date pattern"))


def _groups_of(
    expression: str, key: str, definition: FilterDefinition, faults: list[Fault]
) -> frozenset[str] | None:
    try:
        return frozenset(compile_expression(expression).groupindex)
    except ExpressionError as exc:
        faults.append(Fault(definition.where, key, str(exc), "an expression that compiles"))
        return None


def _journal_matches(read: Fail2banFilter, faults: list[Fault]) -> Iterator[JournalMatch]:
    """Yield the alternatives: each line, and each part between `+`."""
    for line in _lines(read.options.get("journalmatch", "")):
        for part in re.split(r"(?:^|\s)\+(?:\s|$)", line):
            try:
                yield parse_journal_match(part)
            except JournalMatchError as exc:
                faults.append(Fault(read.where, "journalmatch", str(exc), EXPECTED))


def _max_lines(read: Fail2banFilter, faults: list[Fault]) -> int:
    text = read.options.get("maxlines", "1").strip()
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST_LINES:
        return int(text)
    faults.append(Fault(read.where, "maxlines", repr(text[:40]), f"a number from 1 to {_MOST_LINES}"))
    return 1


def _lines(value: str) -> list[str]:
    return [line for line in value.split("\n") if line.strip()]
