"""What real services wrote about logins, read through the whole core by every shipped filter."""

import pytest

from correlator.model import SECOND
from tests.golden.recorded_logs import RecordedLogs

LOGS = RecordedLogs("logins", 1_795_430_000 * SECOND)
BYSTANDER = "198.51.100.66"


def test_no_recorded_log_is_left_out():
    """A log without expectations would prove nothing and look as if it did."""
    assert LOGS.names == LOGS.there


@pytest.mark.parametrize("log", LOGS.names)
def test_a_recorded_log_is_understood_line_by_line(log, shipped):
    """Every line that a filter should understand it does, as what it is, and no other line by any filter."""
    assert LOGS.understood(log, shipped) == LOGS.expected[log]


@pytest.mark.parametrize("log", LOGS.names)
def test_who_sent_nothing_is_never_the_source(log, shipped):
    """User names, banners and certificates told of somebody else in the service's own words."""
    assert LOGS.about(BYSTANDER, log, shipped) == []
