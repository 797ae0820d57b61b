"""What is wrong with a filter whose file reads well: expressions that cannot run, own tests that fail.

Every fault says where it stands. Of a test that should have been understood it says how far the patterns get.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from correlator.config.reader import File
from correlator.errors import Fault
from correlator.matching.filter_definition import NOTHING, FilterDefinition, FilterTest
from correlator.matching.filter_tests import failed_tests, make_line
from correlator.matching.filters import Filter
from correlator.matching.pattern_review import near_misses
from correlator.matching.patterns import PatternError, compile_expression
from correlator.model import SECOND

_LONGEST_SHOWN = 120
_FOREIGN = ("<HOST>", "<ADDR>", "<IP4>", "<IP6>", "<SUBNET>", "<F-ID>", "<DNS>")
_AT = 1_767_225_600 * SECOND


def faults_of_running(definition: FilterDefinition, file: File) -> list[Fault]:
    """Return what is wrong with its expressions; where nothing is, each of its own tests that fails."""
    faults = list(faults_of_expressions(definition, file))
    if faults:
        return faults
    return [
        Fault(
            file.place_of(test.key),
            f"test {test.line[:_LONGEST_SHOWN]!r}",
            _why_nothing(runs, test) if got == NOTHING else got,
            NOTHING if test.expect is None else _as_table(test.expect),
        )
        for runs in [Filter(definition)]
        for test, got in failed_tests(runs)
    ]


def faults_of_expressions(definition: FilterDefinition, file: File) -> Iterator[Fault]:
    """Yield each expression that cannot run."""
    for number, expression in enumerate(definition.ignores, start=1):
        try:
            compile_expression(expression)
        except PatternError as exc:
            yield Fault(definition.where, f"ignore[{number}].regex", str(exc), "an expression that compiles")
    alone = replace(definition, ignores=(), tests=(), is_proved=False)
    try:
        Filter(replace(alone, patterns=()))
    except PatternError as exc:
        yield Fault(definition.where, "connection or ignore", str(exc), "expressions that compile")
        return
    for pattern in definition.patterns:
        if not definition.layout.is_json and not pattern.expression:
            continue  # what is missing has been said
        try:
            Filter(replace(alone, patterns=(pattern,)))
        except PatternError as exc:
            expected = "an expression that compiles, with ${source} where the address stands"
            foreign = next((token for token in _FOREIGN if token in pattern.expression), None)
            if foreign is not None:
                expected += f"; {foreign} is Fail2ban's word for it"
            if definition.layout.is_json:
                expected = "expressions that compile, and a field called source"
            yield Fault(file.place_of(pattern.key), f"pattern {pattern.name!r}", str(exc), expected)


def _why_nothing(runs: Filter, test: FilterTest) -> str:
    """Return why a line says nothing to a filter."""
    line = make_line(test.line, arrived=_AT, layout=runs.layout)
    program = line.header.identifier
    if not runs.wants(program):
        reads = ", ".join(
            sorted(map(_program, runs.definition.identifiers or {""})),
        )
        return f"{NOTHING}: the line is of {_program(program)}, and the filter reads {reads}"
    for miss in near_misses(runs.definition, line.header.body):
        return (
            f"{NOTHING}: pattern {miss['pattern']!r} takes {miss['matches']!r},"
            f" then wants {miss['wants'][:_LONGEST_SHOWN]}, got {miss['stops_at'][:_LONGEST_SHOWN]!r}"
        )
    return f"{NOTHING}: no pattern begins as {line.header.body[:_LONGEST_SHOWN]!r}, or it is ignored"


def _program(name: str) -> str:
    return {"": "no program", "*": "any program"}.get(name, f"program {name!r}")


def _as_table(expected: Mapping[str, str]) -> str:
    """Return what is expected as it stands in the file: `{ source = "192.0.2.1" }`."""
    inside = ", ".join(f'{name} = "{value}"' for name, value in expected.items())
    return f"{{ {inside} }}" if inside else "{}"
