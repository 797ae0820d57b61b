"""What is wrong with a pattern: where it can match, whom a stranger can name in it, how long it can take."""

from pathlib import Path

import pytest

from correlator.config.filters import read_filter
from correlator.lines.layout_definition import Layout
from correlator.matching.filter_definition import Condition, FilterDefinition, FilterTest, PatternDefinition
from correlator.matching.pattern_review import find_reach, find_slow_line, review_expression, review_filter
from correlator.model import SECOND

FILTERS = sorted((Path(__file__).parents[2] / "filters").glob("*.toml"))
ADDRESS = r"(?P<source>[0-9a-fA-F.:]{2,45})"
_UNANCHORED = "not anchored with ^"
_OPEN_END = "does not end with $"
_BOTH_SIDES = "before the address and behind it"
_NO_TEXT = "no text of three letters"
_SLOW = "it back-tracks"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (rf"^Invalid user (?P<user>.*) from {ADDRESS} port \d+$", []),
        (rf"^(?:Invalid|Illegal) user \S+ from {ADDRESS}$", []),
        (rf"(?:^Invalid|^Illegal) user from {ADDRESS}$", []),
        (rf"Invalid user from {ADDRESS}$", [_UNANCHORED]),
        (rf"(?:^Invalid|Illegal) user from {ADDRESS}$", [_UNANCHORED]),
        (rf"^Invalid user (?P<user>.*) from {ADDRESS}", [_OPEN_END]),
        (rf"^Invalid user (?P<user>.*?) from {ADDRESS}", [_OPEN_END]),
        (rf"^Invalid user (?P<user>\S+) from {ADDRESS}", [_OPEN_END]),
        (rf"^Invalid user .+ from {ADDRESS} port (?P<rest>.*)$", [_BOTH_SIDES]),
        (rf'^user "(?P<user>[^"]*)" from {ADDRESS}', []),
        (rf'^user "(?P<user>[^"]*)": no, from {ADDRESS} to .*$', []),
        (rf"^name=[\w.-]+ from {ADDRESS}", []),
        (rf"^user (?P<user>(?:(?! from ).)*) from {ADDRESS}", []),
        (rf"^from {ADDRESS}: user (?P<user>.*)$", []),
        (rf"^user .{{0,5}} from {ADDRESS}", []),
        (rf"^(?:a|b) {ADDRESS}$", [_NO_TEXT]),
        (rf"^(a|aa)+ from {ADDRESS}$", [_SLOW]),
        (rf"^(.*?,){{20}}P from {ADDRESS}$", [_SLOW]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_else(expression, expected):
    """Sound expressions raise no warning, so that a warning is worth reading."""
    found = list(review_expression(expression))
    assert len(found) == len(expected)
    assert [text in warning for text, warning in zip(expected, found, strict=True)] == [True] * len(expected)


@pytest.mark.parametrize("expression", [r"^(?|(a)|(b)) (?P<source>\S+)$", "^(?P<source>.) to (?P<source>.)$"])
def test_what_cannot_be_reviewed_is_said(expression):
    """Silence would be taken for praise, also where a group that stands twice lets the second one win."""
    (warning,) = review_expression(expression)
    assert warning.startswith("it cannot be reviewed: Python's re cannot read it")


def test_a_slow_line_is_shown():
    """The warning holds how the line begins, so that it can be tried."""
    assert "'abb' and so on" in find_slow_line(r"^a(b|b)*$", SECOND // 100)


def test_a_line_holds_what_must_follow():
    """An engine that looks for the last word first would else give up before it has begun."""
    assert find_slow_line(r"^(\w+\s?)*: from$", SECOND // 1000)


@pytest.mark.parametrize(
    ("expression", "taken", "wants"),
    [
        (r"^bad user (?P<user>.*) from \S+: wrong PIN$", "bad user x from 192.0.2.1: ", "wrong PIN$"),
        (r"^bad user \S+ from [\])0-9.]{7,15}, twice$", "bad user x from 192.0.2.1", ", twice$"),
        (r"^bad (?:user|name) x\[", "bad user x", r"\["),
        (r"^good", "", "good"),
        (r"^bad|^good", "", ""),
        (r"^bad {1,2}user x {2}from", "bad user x", " {2}from"),
    ],
)
def test_how_far_an_expression_gets(expression, taken, wants):
    """And what it asks for next: whoever writes a pattern sees where it parts from the line."""
    line = "bad user x from 192.0.2.1: too late"
    assert find_reach(expression, line) == (len(taken), wants)


def _filter(expression, *lines, **settings):
    pattern = PatternDefinition("p", expression, **settings)
    tests = tuple(FilterTest(line, {"source": "192.0.2.1"}) for line in lines)
    return FilterDefinition("f", "", "test", frozenset({"a"}), (), (pattern,), tests=tests)


@pytest.mark.parametrize(
    ("expression", "accused"),
    [
        (rf"^bad user '(?P<user>.*)' from {ADDRESS}$", []),
        (rf"^bad user '(?P<user>.*?)' from {ADDRESS}", ["p"]),
        (rf"^bad user '(?P<user>[^']*)' from {ADDRESS}", []),
    ],
)
def test_the_services_own_words_are_planted_in_each_field(expression, accused):
    """The filter's own tests show which fields there are, and each is made to name somebody else."""
    found = review_filter(_filter(expression, "Nov 22 14:29:22 vm a[1]: bad user 'x' from 192.0.2.1"))
    assert [name for name, warning in found if "'user' can choose the source" in warning] == accused


def test_the_expressions_of_records_are_tried_too():
    """Their text is a stranger's as any other."""
    pattern = PatternDefinition(
        "p", "", conditions=(Condition("x.y", expression="^(a|a)*$"),), paths={"source": "s"}
    )
    definition = FilterDefinition("f", "", "test", frozenset(), (), (pattern,), layout=Layout(is_json=True))
    assert ["field x.y: it back-tracks" in warning for _name, warning in review_filter(definition)] == [True]


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_no_shipped_filter_deserves_a_warning(path):
    """So `check` looks at the site's own filters alone."""
    definition, faults = read_filter(path)
    assert faults == []
    assert list(review_filter(definition)) == []
