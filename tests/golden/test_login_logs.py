"""What real services wrote about logins, read through the whole core by every shipped filter."""

import json
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filters import Filter
from correlator.model import SECOND, Chunk
from correlator.reading import Reader

FILTERS = Path(__file__).parents[2] / "filters"
LOGS = Path(__file__).parent / "filters" / "logins"
EXPECTED: dict[str, dict[str, list[str]]] = json.loads((LOGS / "expected.json").read_text())
ARRIVED = 1_795_430_000 * SECOND
BYSTANDER = "198.51.100.66"
_MAX_LINE = 8192


@pytest.fixture(scope="module")
def shipped():
    """All shipped filters, by name."""
    definitions = [load_filter(path)[0] for path in sorted(FILTERS.glob("*.toml"))]
    return {definition.name: Filter(definition, timeout=SECOND) for definition in definitions if definition}


def _events(log, filters):
    """Yield (number of the line, event) for a log that all filters read."""
    data = (LOGS / log).read_bytes()
    for filter_ in filters.values():
        filter_.forget()  # who logged in elsewhere
    reader = Reader(filters, routes={log: tuple(filters)}, max_line=_MAX_LINE)
    for event in reader.read(Chunk(log, 0, data, ARRIVED, is_live=False)):
        yield data.count(b"\n", 0, event.evidence.offset) + 1, event


def test_no_recorded_log_is_left_out():
    """A log without expectations would prove nothing and look as if it did."""
    assert sorted(EXPECTED) == sorted(path.name for path in LOGS.glob("*.log"))


@pytest.mark.parametrize("log", sorted(EXPECTED))
def test_a_recorded_log_is_understood_line_by_line(log, shipped):
    """Every line that a filter should understand it does, as what it is, and no other line by any filter."""
    found: dict[str, list[str]] = {}
    for number, event in _events(log, shipped):
        found.setdefault(str(number), []).append(f"{event.filter} {event.pattern} {event.source}")
    assert found == EXPECTED[log]


@pytest.mark.parametrize("log", sorted(EXPECTED))
def test_who_sent_nothing_is_never_the_source(log, shipped):
    """User names, banners and certificates told of somebody else in the service's own words."""
    assert [event for _number, event in _events(log, shipped) if str(event.source) == BYSTANDER] == []
