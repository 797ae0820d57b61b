"""What Suricata really wrote about crafted conversations, read by all filters but that of Snort."""

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filters import Filter
from correlator.model import SECOND
from tests.golden.recorded_logs import FILTERS, RecordedLogs

LOGS = RecordedLogs("ids", 1_796_034_800 * SECOND)
BYSTANDER = "203.0.113.9"
_SAME_FORMAT = "snort"  # it reads the lines of fast.log too: they are made to look like Snort's


@pytest.fixture
def filters(shipped):
    """All shipped filters but Snort's, by name."""
    return {name: filter_ for name, filter_ in shipped.items() if name != _SAME_FORMAT}


def test_no_recorded_log_is_left_out():
    """A log without expectations would prove nothing and look as if it did."""
    assert LOGS.names == LOGS.there


@pytest.mark.parametrize("log", LOGS.names)
def test_a_recorded_log_is_understood_line_by_line(log, filters):
    """Every alert by the filter for its format, as what it is, and nothing else; no line is unreadable."""
    assert LOGS.understood(log, filters) == LOGS.expected[log]
    counters = LOGS.read(log, filters)[1]
    assert (counters.unreadable, counters.cut) == (0, 0)


@pytest.mark.parametrize("log", LOGS.names)
def test_no_alert_is_left_out(log):
    """Whatever Suricata calls an alert somebody understands, but what filters say that they do not count."""
    for number, line in enumerate((LOGS.folder / log).read_text().splitlines(), start=1):
        if '"event_type":"alert"' in line or "[Priority: " in line.partition("{")[0]:
            assert str(number) in LOGS.expected[log], line


@pytest.mark.parametrize("log", LOGS.names)
def test_who_sent_nothing_is_never_denied_for_long(log, filters):
    """Hosts, agents and names told of him, and he stood inside a tunnel, where anybody can write him."""
    events = LOGS.about(BYSTANDER, log, filters)
    assert [event.pattern for event in events if not event.is_spoofable] == []


def test_what_a_rule_said_and_struck_is_told():
    """For jails that count single rules, and for people."""
    (event,) = [
        event
        for number, event in LOGS.read("suricata-7.0-live-eve.json", _one("suricata-eve"))[0]
        if number == 1
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
    (event,) = [
        event for number, event in LOGS.read("suricata-7.0-fast.log", _one("suricata"))[0] if number == 1
    ]
    assert (event.fields["generator"], event.fields["signature"]) == ("1", "2999001")
    assert event.fields["classification"] == "Attempted Administrator Privilege Gain"


def _one(name):
    return {name: Filter(load_filter(FILTERS / f"{name}.toml")[0])}
