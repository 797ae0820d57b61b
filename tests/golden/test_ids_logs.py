"""What Suricata really wrote about crafted conversations, read by all filters but that of Snort."""

import json
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filters import Filter
from correlator.model import SECOND, Chunk
from correlator.reading import Reader

FILTERS = Path(__file__).parents[2] / "filters"
LOGS = Path(__file__).parent / "filters" / "ids"
EXPECTED: dict[str, dict[str, list[str]]] = json.loads((LOGS / "expected.json").read_text())
ARRIVED = 1_796_034_800 * SECOND
BYSTANDER = "203.0.113.9"
_SAME_FORMAT = "snort"  # it reads the lines of fast.log too: they are made to look like Snort's
_MAX_LINE = 8192


@pytest.fixture(scope="module")
def shipped():
    """All shipped filters but Snort's, by name."""
    paths = [path for path in sorted(FILTERS.glob("*.toml")) if path.stem != _SAME_FORMAT]
    definitions = [load_filter(path)[0] for path in paths]
    return {definition.name: Filter(definition, timeout=SECOND) for definition in definitions if definition}


def _read(log, filters):
    """Return [(number of the line, event)] for a log that all filters read, and what the reader counted."""
    data = (LOGS / log).read_bytes()
    reader = Reader(filters, routes={log: tuple(filters)}, max_line=_MAX_LINE)
    events = reader.read(Chunk(log, 0, data, ARRIVED, is_live=False))
    found = [(data.count(b"\n", 0, event.evidence.offset) + 1, event) for event in events]
    return found, reader.origins[log]


def test_no_recorded_log_is_left_out():
    """A log without expectations would prove nothing and look as if it did."""
    logs = {path.name for path in LOGS.iterdir() if path.suffix in (".log", ".json")} - {"expected.json"}
    assert sorted(EXPECTED) == sorted(logs)


@pytest.mark.parametrize("log", sorted(EXPECTED))
def test_a_recorded_log_is_understood_line_by_line(log, shipped):
    """Every alert by the filter for its format, as what it is, and nothing else; no line is unreadable."""
    found: dict[str, list[str]] = {}
    events, counters = _read(log, shipped)
    for number, event in events:
        found.setdefault(str(number), []).append(f"{event.filter} {event.pattern} {event.source}")
    assert found == EXPECTED[log]
    assert (counters.unreadable, counters.cut) == (0, 0)


@pytest.mark.parametrize("log", sorted(EXPECTED))
def test_no_alert_is_left_out(log):
    """Whatever Suricata calls an alert somebody understands, but what filters say that they do not count."""
    for number, line in enumerate((LOGS / log).read_text().splitlines(), start=1):
        if '"event_type":"alert"' in line or "[Priority: " in line.partition("{")[0]:
            assert str(number) in EXPECTED[log], line


@pytest.mark.parametrize("log", sorted(EXPECTED))
def test_who_sent_nothing_is_never_denied_for_long(log, shipped):
    """Hosts, agents and names told of him, and he stood inside a tunnel, where anybody can write him."""
    events = [event for _number, event in _read(log, shipped)[0] if str(event.source) == BYSTANDER]
    assert [event.pattern for event in events if not event.is_spoofable] == []


def test_what_a_rule_said_and_struck_is_told():
    """For jails that count single rules, and for people."""
    (event,) = [
        event for number, event in _read("suricata-7.0-live-eve.json", _one("suricata-eve"))[0] if number == 1
    ]
    assert {**event.fields} == {
        "source": "192.0.2.10",
        "destination": "198.51.100.1",
        "port": "80",
        "protocol": "TCP",
        "generator": "1",
        "signature": "2999001",
        "message": "LOCAL high in a request",
        "classification": "Attempted Administrator Privilege Gain",
        "priority": "1",
    }
    (event,) = [event for number, event in _read("suricata-7.0-fast.log", _one("suricata"))[0] if number == 1]
    assert (event.fields["generator"], event.fields["signature"]) == ("1", "2999001")
    assert event.fields["classification"] == "Attempted Administrator Privilege Gain"


def _one(name):
    return {name: Filter(load_filter(FILTERS / f"{name}.toml")[0])}
