"""What is searched by `re` finds what `regex` finds, of every shipped pattern, in lines nearly theirs."""

from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.config.filters import read_filter
from correlator.lines.syslog import HeaderReader, parse_header
from correlator.matching.quick_search import SHORT, is_quick, plain_search

FILTERS = Path(__file__).parents[2] / "filters"
DEFINITIONS = [read_filter(path)[0] for path in sorted(FILTERS.glob("*.toml"))]
LINES = sorted({test.line for definition in DEFINITIONS for test in definition.tests})
BODIES = sorted({parse_header(line).body for line in LINES})
EXPRESSIONS = sorted(
    {
        expression
        for definition in DEFINITIONS
        for expression in (*(pattern.expression for pattern in definition.patterns), *definition.ignores)
        if expression and is_quick(expression) and plain_search(expression) is not None
    }
)
TEXT = st.characters(max_codepoint=127)


@st.composite
def nearly_known(draw) -> str:
    """Return the body of a filter's test with a few characters changed, taken out or put in."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.text(TEXT, max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body[:SHORT]


def test_most_of_what_needs_no_clock_is_searched_by_re():
    """The list above is not empty by mistake."""
    assert len(EXPRESSIONS) > 150


@given(body=nearly_known())
@settings(max_examples=300, deadline=None)
def test_both_find_the_same(body):
    """The same match or none, and the same text in every group."""
    if not body.isascii():
        return
    for expression in EXPRESSIONS:
        one = plain_search(expression)(body)
        other = regex.search(expression, body)
        assert (one and (one.span(), one.groupdict())) == (other and (other.span(), other.groupdict()))


@pytest.mark.parametrize(
    "expression",
    [
        r"^a++b",
        r"^(?>a*)b",
        r"^(?i)a",
        r"^(?:(a)|b)*c",
        r"^(?=(a))a",
        r"^(a)\1",
        r"^(?:a(?i:b))",
        r"^(a)?(?(1)b|c)",
        r"^[[:digit:]]x",
        r"^abc{e<=1}",
        r"^\p{L}",
    ],
)
def test_what_both_may_read_differently_is_left_to_regex(expression):
    """Case, captures that are made again, and what only one of them knows."""
    assert plain_search(expression) is None


@given(lines=st.lists(st.sampled_from(LINES), min_size=2), data=st.data())
@settings(deadline=None)
def test_headers_read_one_after_the_other_are_those_read_alone(lines, data):
    """Whatever came before, and where a line begins as the one before and then goes on otherwise."""
    reader = HeaderReader()
    for before in lines:
        cut = data.draw(st.integers(0, len(before)))
        for line in (before, before[:cut] + data.draw(st.text(st.sampled_from("a: []<>1-\tT"), max_size=6))):
            assert reader.read(line) == parse_header(line)
