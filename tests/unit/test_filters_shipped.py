"""Every shipped filter proves itself: its own tests, enough of them, and what a stranger's text cannot do.

The tests that say what a filter reads stand in its file. Here is what all of them owe: each expression is
shown to match, lines that must not match are there too, and text that the stranger chose (a user, a name,
a path) never becomes the source, whatever of the service's own wording it repeats.
"""

import ipaddress
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filter_tests import failed_tests, make_line, read_test
from correlator.matching.filters import Filter
from correlator.matching.logins import Logins
from correlator.matching.open_connections import OpenConnections
from correlator.model import SECOND, Event, parse_source

FOLDER = Path(__file__).parents[2] / "filters"
PATHS = sorted(FOLDER.glob("*.toml"))
ARRIVED = 1_795_400_000 * SECOND
VICTIM = "198.51.100.66"
VICTIM6 = "2001:db8:66::66"
_WRITTEN_BY_THE_SERVICE = frozenset({"source", "port", "protocol", "technique", "count", "connection"})
_LEAST_MATCHING = 3
_LEAST_OTHER = 2
_SHORTEST_LITERAL = 4
_MOST_BEGINNINGS = 8
_LONGEST = 8000  # characters of a line that the engine reads
_ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w)|(?<!:)[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:.]))"
)

shipped = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def _load(path):
    definition, faults = load_filter(path)
    assert [str(fault) for fault in faults] == []
    return definition


def _answer(filter_, text):
    line = make_line(text, arrived=ARRIVED, layout=filter_.layout)
    return filter_.read(line) if filter_.wants(line.header.identifier) else None


def _addresses(text):
    found = set()
    for match in _ADDRESS.findall(text):
        try:
            found.add(str(ipaddress.ip_address(match)))
        except ValueError:
            continue  # a time of day, a fingerprint
    return found


def _understood(definition):
    """Yield (test, event) for each test in the file that expects an event."""
    filter_ = Filter(definition)
    for test in definition.tests:
        if test.expect is not None:
            yield test, read_test(filter_, test)


@shipped
def test_it_loads_and_says_what_it_reads(path):
    """A filter has a description, names its logs, and its own tests pass."""
    definition = _load(path)
    assert list(failed_tests(Filter(definition))) == []
    assert definition.description
    assert definition.files
    assert len({pattern.name for pattern in definition.patterns}) == len(definition.patterns)


@shipped
def test_every_shipped_filter_passes_its_own_tests(path):
    """What we ship loads, and proves both what it understands and what it must not."""
    definition, faults = load_filter(path, alert_log=Path("/var/log/portward/alert.log"))
    assert faults == []
    assert any(test.expect is None for test in definition.tests)
    assert any(test.expect is not None for test in definition.tests)
    assert definition.description != ""


@shipped
def test_it_recommends_a_jail(path):
    """Enabling a shipped filter is one line, because the rest of its jail stands in its file."""
    assert {"threshold", "span", "block_for"} <= set(_load(path).jail)


@shipped
def test_it_has_enough_tests_of_its_own(path):
    """Lines that match, lines that must not, and one in which another address than the source's stands."""
    definition = _load(path)
    matching = [test for test in definition.tests if test.expect is not None]
    others = [test for test in definition.tests if test.expect is None]
    hostile = [
        test
        for test in definition.tests
        if len({address for line in (*test.before, test.line) for address in _addresses(line)}) > 1
    ]
    assert len(matching) >= _LEAST_MATCHING
    assert len(others) >= _LEAST_OTHER
    assert hostile
    assert all("source" in test.expect for test in matching)


@shipped
def test_each_expression_is_shown_to_match(path):
    """An expression that no sample line reaches is a guess, or hidden behind one that stands before it."""
    definition = _load(path)
    reached = {event.pattern for _test, event in _understood(definition)}
    assert {pattern.name for pattern in definition.patterns} - reached == set()


@shipped
def test_each_expression_is_anchored_and_can_be_searched_for(path):
    """Unanchored text is found inside a stranger's text; without known text every line is read in Python."""
    filter_ = Filter(_load(path))
    for pattern in filter_._patterns:
        assert filter_.layout.is_json or pattern.definition.expression.startswith("^"), (
            pattern.definition.name
        )
        assert len(pattern.literal) >= _SHORTEST_LITERAL, pattern.definition.name


@shipped
def test_text_that_a_stranger_chose_never_names_the_source(path):
    """Whatever stood in a free field is replaced by the service's own wording about somebody else."""
    definition = _load(path)
    filter_ = Filter(definition)
    understood = _one_a_pattern(_understood(definition))
    forged = {
        text
        for _test, event in understood
        for whole, fragments in [_about_the_victim(event)]
        for text in (
            *(frame.format(whole) for frame in ("{}", "x {}", "{} x", "x{}", "x' {}", 'x" {}', "x) {}")),
            *fragments,
        )
    }
    wrong = []
    for test, event in understood:
        planted = (
            _records(filter_, event, forged)
            if filter_.layout.is_json
            else (*_lines(filter_, test, event, forged), *_lines_before(filter_, test, forged))
        )
        for field, before, hostile in planted:
            answer = read_test(filter_, replace(test, before=before), hostile)
            if isinstance(answer, Event) and str(answer.source) in (VICTIM, VICTIM6):
                wrong.append((field, answer.pattern, hostile))
    assert wrong == []


@shipped
def test_long_hostile_lines_do_not_outrun_the_limit(path):
    """What a filter's own lines consist of, repeated to the longest line we read, stays below a second."""
    definition = _load(path)
    filter_ = Filter(definition, timeout=SECOND)
    for test, _event in _one_a_pattern(_understood(definition)):
        full = test.line
        body = make_line(full, arrived=ARRIVED, layout=filter_.layout).header.body
        head = full[: len(full) - len(body)]
        words = body.split(" ")
        step = max(1, len(words) // _MOST_BEGINNINGS)
        pieces = {body, *words[::step], *(" ".join(words[:n]) + " " for n in range(1, len(words), step))}
        for piece in pieces - {""}:
            pumped = piece * (_LONGEST // len(piece))
            _answer(filter_, head + pumped)
            _answer(filter_, head + (body + pumped)[:_LONGEST])
    assert filter_.quarantined == {}


@pytest.mark.parametrize("half", ["tcp", "udp"])
def test_the_halves_of_the_filter_read_what_the_whole_reads(half):
    """Each understands its protocol's lines as `portsentry` does, and finds nothing in the other's."""

    def load(name):
        definition, faults = load_filter(FOLDER / f"{name}.toml", alert_log=Path("/x"))
        assert faults == []
        return definition

    whole, part = load("portsentry"), load(f"portsentry-{half}")
    other = "UDP" if half == "tcp" else "TCP"
    tests = [
        replace(test, expect=None if f" to {other} port: " in test.line else test.expect)
        for test in whole.tests
    ]
    assert list(failed_tests(Filter(replace(part, tests=tuple(tests))))) == []


def _one_a_pattern(understood):
    """Return the first event of each pattern for each IP version: enough to know the service's words."""
    found = {}
    for test, event in understood:
        found.setdefault((event.pattern, event.source.version), (test, event))
    return list(found.values())


def _about_the_victim(event):
    """Return the body of the event's line about somebody else, and pieces of it around his address."""
    body = make_line(event.evidence.line, arrived=ARRIVED).header.body
    shown = event.fields["source"]
    victim = VICTIM if parse_source(shown).version == 4 else VICTIM6
    start, end = body.index(shown), body.index(shown) + len(shown)
    pieces = [
        body[max(0, start - before) : start] + victim + body[end : end + after]
        for before in (0, 1, 3, 8, 20)
        for after in (0, 1, 3, 20)
    ]
    return body.replace(shown, victim), [text for piece in pieces for text in (piece, "x" + piece)]


def _lines(filter_, test, event, forged):
    """Yield (field, lines before, line), each field that holds a stranger's text replaced in turn.

    The line in which the pattern is found is the test's, or one of those before it.
    """
    pattern = next(pattern for pattern in filter_._patterns if pattern.definition.name == event.pattern)
    lines = (*test.before, test.line)
    for index, line in enumerate(lines):
        for field, hostile in _planted(pattern, line, forged):
            *before, last = (*lines[:index], hostile, *lines[index + 1 :])
            yield field, tuple(before), last


def _lines_before(filter_, test, forged):
    """Yield the same for the lines before that tell more of a connection, or of a login."""
    for pattern in _of_lines_before(filter_):
        for index, line in enumerate(test.before):
            for field, hostile in _planted(pattern, line, forged):
                yield field, (*test.before[:index], hostile, *test.before[index + 1 :]), test.line


def _of_lines_before(filter_):
    match filter_._connections:
        case Logins(begins=begins, ends=ends):
            return [pattern for _programs, pattern in (*begins, *ends)]
        case OpenConnections():
            return filter_._connections._tells
    return ()


def _planted(pattern, full, forged):
    """Yield (field, line), where the pattern is found in a line."""
    header = make_line(full, arrived=ARRIVED).header
    start = len(full) - len(header.body)
    found = pattern.compiled.search(header.body)
    if found is None or header.repeats > 1:
        return  # a repeated body is not what the line ends with
    for field in set(pattern.compiled.groupindex) - _WRITTEN_BY_THE_SERVICE:
        low, high = found.span(field)
        if low >= 0:
            for text in forged:
                planted = _as_the_service_lets_it(field, pattern.definition.expression, text)
                if header.body.startswith("{"):
                    planted = json.dumps(planted)[1:-1]
                yield field, full[: start + low] + planted + full[start + high :]


def _records(filter_, event, forged):
    """Yield (field, nothing before, line) for a record, whose writer escapes what strangers type."""
    pattern = next(pattern for pattern in filter_._patterns if pattern.definition.name == event.pattern)
    full = event.evidence.line
    for field in set(pattern.definition.paths) - _WRITTEN_BY_THE_SERVICE:
        shown = json.dumps(event.fields.get(field, ""))
        for text in forged:
            yield field, (), full.replace(shown, json.dumps(text))


def _as_the_service_lets_it(field, expression, text):
    """Return the text as a field can hold it that the service itself writes with some characters only.

    A class of what it may not hold says how the filter reads, not what the service writes.
    """
    kind = re.search(rf"\(\?P<{field}>(\[(?!\^)(?:\\.|[^\]\\])+\])[*+{{]", expression)
    allowed = re.compile(kind[1] if kind else r"[\s\S]")
    return "".join(character if allowed.match(character) else "_" for character in text)
