"""Lengths of time and ports, as people write them."""

import pytest

from correlator.config.reader import parse_duration, parse_ports
from correlator.model import SECOND


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("10m", 600), ("1h", 3600), ("2d", 172800), ("1w", 604800), (30, 30), ("5", 5)],
)
def test_durations(text, expected):
    """Lengths of time as people write them."""
    assert parse_duration(text) == expected * SECOND


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1.5h", True, None, [], -5, "1y"])
def test_what_is_no_duration(text):
    """Anything else is none."""
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1-1024", ((1, 1024),)),
        ("1,7, 512-515", ((1, 1), (7, 7), (512, 515))),
        ([1, "5-9"], ((1, 1), (5, 9))),
        ("", ()),
        ("9-1", None),
        ("65536", None),
        ("-1", None),
        ("x", None),
        ([True], None),
    ],
)
def test_ports(value, expected):
    """Ranges, lists, and what is neither."""
    assert parse_ports(value) == expected
