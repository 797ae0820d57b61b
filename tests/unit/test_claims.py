"""Lines that a filter claims though no pattern of it understands them."""

import dataclasses
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.engine import Engine
from correlator.matching.filters import Filter
from correlator.model import SECOND, Chunk

LOG = "/log/alert.log"
HEAD = "Nov 22 14:29:22 vm portsentry[71]: "


@pytest.fixture(scope="module")
def definition():
    """The shipped filter, reading the test's log."""
    found, faults = load_filter(Path(__file__).parents[2] / "filters/portsentry.toml", alert_log=Path(LOG))
    assert faults == []
    return found


@pytest.mark.parametrize(
    ("claims", "bodies"),
    [
        ("strange ", ["strange x", "a strange x"]),
        ("^strange ", ["strange x"]),
        ("^a strange ", ["a strange x"]),
    ],
)
@pytest.mark.parametrize("patterns", [True, False], ids=["beside patterns", "alone"])
def test_a_filter_claims_lines_that_no_pattern_understands(definition, claims, bodies, patterns):
    """By text anywhere in a body, or only where it begins; however its patterns begin."""
    claimed = dataclasses.replace(definition, claims=claims, patterns=definition.patterns if patterns else ())
    other = dataclasses.replace(definition, name="other", claims="")
    engine = Engine(
        [Filter(claimed), Filter(other)],
        [],
        routes={LOG: ["portsentry", "other"]},
        ignored_by=lambda _source: None,
    )
    lines = "".join(f"{HEAD}{body}\n" for body in ["strange x", "a strange x", "Strange", "stranger"])
    engine.feed(Chunk(LOG, 0, lines.encode(), 1_795_357_762 * SECOND))
    assert [item.evidence.line.removeprefix(HEAD) for item in engine.unreadable] == bodies
    assert {(item.filter, item.reason) for item in engine.unreadable} == {
        ("portsentry", "no pattern understands it")
    }
