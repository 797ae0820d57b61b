"""Logs that take a line feed in a name as it comes: what somebody else stands in is never proof there."""

import pytest

from correlator.model import SECOND
from tests.golden.recorded_logs import RecordedLogs

LOGS = RecordedLogs("linefeeds", 1_796_034_800 * SECOND)
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


def test_no_recorded_log_is_left_out():
    """A log without expectations would prove nothing and look as if it did."""
    assert LOGS.names == LOGS.there


@pytest.mark.parametrize("log", LOGS.names)
def test_a_recorded_log_is_understood_line_by_line(log, shipped):
    """Every line that a filter should understand it does, as what it is, and no other line by any filter."""
    assert LOGS.understood(log, shipped) == LOGS.expected[log]


@pytest.mark.parametrize("log", LOGS.names)
def test_who_sent_nothing_is_never_denied_for_long(log, shipped):
    """A name of several lines makes a line of the daemon's where it is written raw, and nowhere else."""
    forged = LOGS.about(BYSTANDER, log, shipped)
    assert bool(forged) == (log in RAW)
    assert [event.pattern for event in forged if not event.is_spoofable] == []
