"""Logs that take a line feed in a name as it comes: what somebody else stands in is never proof there."""

import json
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filters import Filter
from correlator.model import SECOND, Chunk
from correlator.reading import Reader

FILTERS = Path(__file__).parents[2] / "filters"
LOGS = Path(__file__).parent / "filters" / "linefeeds"
EXPECTED: dict[str, dict[str, list[str]]] = json.loads((LOGS / "expected.json").read_text())
ARRIVED = 1_796_034_800 * SECOND
BYSTANDER = "198.51.100.66"
RAW = {
    "asterisk-22-security.log",
    "asterisk-22.log",
    "mariadb-10.11.log",
    "monit-5.33.log",
    "murmur-1.3.log",
    "postgresql-15.log",
    "proftpd-1.3.8-sftp.log",
    "xrdp-0.9.log",
}
"""Logs in which a filter takes the stranger's line for the daemon's."""


@pytest.fixture(scope="module")
def shipped():
    """All shipped filters, by name."""
    definitions = [load_filter(path)[0] for path in sorted(FILTERS.glob("*.toml"))]
    return {definition.name: Filter(definition, timeout=SECOND) for definition in definitions if definition}


def _events(log, filters):
    """Yield (number of the line, event) for a log that all filters read."""
    data = (LOGS / log).read_bytes()
    reader = Reader(filters, routes={log: tuple(filters)}, max_line=8192)
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
def test_who_sent_nothing_is_never_denied_for_long(log, shipped):
    """A name of several lines makes a line of the daemon's where it is written raw, and nowhere else."""
    forged = [event for _number, event in _events(log, shipped) if str(event.source) == BYSTANDER]
    assert bool(forged) == (log in RAW)
    assert [event.pattern for event in forged if not event.is_spoofable] == []
