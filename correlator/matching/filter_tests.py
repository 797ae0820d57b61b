"""Runs the tests that a filter's file carries: its lines, read as the engine would hand them over. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from correlator.lines.layout_definition import TEXT, Layout
from correlator.lines.layouts import read_line
from correlator.matching.filter_definition import NOTHING, FilterTest
from correlator.matching.filters import Filter, Unreadable
from correlator.matching.patterns import Line
from correlator.model import SECOND, Event, Evidence, Micros

_TESTED: Micros = 1_767_225_600 * SECOND


def make_line(text: str, *, arrived: Micros, origin: str = "test", layout: Layout = TEXT) -> Line:
    """Return one line as the engine would hand it to a filter, its own stamp taken as its time."""
    reading = read_line(text, layout, arrived=arrived)
    at = arrived if reading.stamp is None else reading.stamp
    return Line(reading.header, Evidence(at, origin, 0, text), reading.record, reading.trouble, arrived)


def read_test(filter_: Filter, test: FilterTest, line: str = "") -> Event | Unreadable | None:
    """Return what a filter says of a test's line, or another in its place, after those that came before."""
    filter_.forget()
    answer = None
    for text in (*test.before, line or test.line):
        read = make_line(text, arrived=_TESTED, layout=filter_.layout)
        answer = filter_.read(read) if filter_.wants(read.header.identifier) else None
    return next(iter(filter_.late), None) if answer is None else answer


def failed_tests(filter_: Filter) -> Iterator[tuple[FilterTest, str]]:
    """Yield each of the filter's own tests that fails, with what it got instead."""
    for test in filter_.definition.tests:
        answer = read_test(filter_, test)
        if test.expect is None:
            if isinstance(answer, Event):
                yield test, f"pattern {answer.pattern!r}, source {answer.source}"
            continue
        if not isinstance(answer, Event):
            yield test, NOTHING if answer is None else f"unreadable: {answer.reason}"
            continue
        got = {
            "count": str(answer.count),
            **answer.fields,
            "pattern": answer.pattern,
            "source": str(answer.source),
        }
        wrong = [f"{key}={got.get(key)!r}" for key, value in test.expect.items() if got.get(key) != value]
        if wrong:
            yield test, ", ".join(wrong)
