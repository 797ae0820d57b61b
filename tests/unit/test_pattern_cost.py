"""How often an expression can go back: a bound that holds, or none."""

from pathlib import Path

import pytest

from correlator.config.filters import read_filter
from correlator.matching.pattern_cost import UNBOUNDED, bound_tries
from correlator.matching.pattern_review import find_slow_line
from correlator.matching.quick_search import MOST_TRIES
from correlator.model import SECOND

LENGTH = 256
FILTERS = sorted((Path(__file__).parents[2] / "filters").glob("*.toml"))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (r"^abc$", 1),
        (r"abc", 257),
        (r"^\w+ \d+$", 1),
        (r"^.* from (?P<source>[0-9.]+)$", 257),
        (r"^.{0,9} from \d{1,5} x", 10),
        (r"^.*,.*;", 257 * 257),
        (r"^[a-z]*(?:bb|cc)", 257 * 2),
        (r"^(?:error: )?\d+", 1),
        (r"^(?:ab)?a", 2),
        (r"^[^ ]*\xa0", 257),
        (r"^\d+\w", 256),
        (r"^a+b?$", 1),
        (r"^a+b?", 1),
        (r"^a+b?.", 512),
        (r"^(?>a*)a", 257),
        (r"^(a|aa)+$", UNBOUNDED),
        (r"^(?:a*)*$", UNBOUNDED),
        (r"^(?:\w+\s?)*:", UNBOUNDED),
        (r"^(a*)\1b", UNBOUNDED),
        (r"(?i)^A*a", UNBOUNDED),
        (r"^(?i:A*)a", UNBOUNDED),
        (r"^(?|(a)|(b))", UNBOUNDED),
    ],
)
def test_choices_multiply_where_what_is_taken_could_begin_what_follows(expression, expected):
    """One way where the next character decides; no bound where ways multiply without end."""
    assert bound_tries(expression, LENGTH) == expected


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_what_is_bounded_is_never_slow(path):
    """Of no shipped expression that needs no clock can a line be made that takes a tenth of a second."""
    definition, _faults = read_filter(path)
    slow = [
        pattern.name
        for pattern in definition.patterns
        if pattern.expression
        and bound_tries(pattern.expression, LENGTH) <= MOST_TRIES
        and find_slow_line(pattern.expression, SECOND // 10)
    ]
    assert slow == []
