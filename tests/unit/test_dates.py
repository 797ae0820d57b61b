"""Dates in lines: where they are found, what is cut out, and which instant they mean.

Each expectation was seen with real Fail2ban 1.0.2; tests/differential compares more of them with it.
"""

import os
import time
from datetime import UTC, datetime

import pytest

from correlator.lines.date_patterns import DatePatternError, expand_patterns
from correlator.lines.dates import DateReader
from correlator.lines.expressions import TimeLimit
from correlator.model import SECOND

NOW = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * SECOND


@pytest.fixture(autouse=True)
def _zurich():
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Zurich"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def _reader(*patterns):
    return DateReader(expand_patterns(patterns, latest_year=2029), limit=TimeLimit(SECOND))


def _read(line, *patterns, now=NOW):
    """Return what is left of a line, and its time in UTC."""
    stamp = _reader(*patterns).find(line, now)
    if stamp is None:
        return line, None
    at = None if stamp.at is None else datetime.fromtimestamp(stamp.at / SECOND, UTC)
    return line[: stamp.start] + line[stamp.end :], at and at.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("line", "left", "at"),
    [
        ("Nov 20 10:00:00 x", " x", "2026-11-20 09:00:00"),
        ("[Nov 20 10:00:00] x", "[] x", "2026-11-20 09:00:00"),
        ("[Fri Nov 20 10:00:00.5 2026] x", "[] x", "2026-11-20 09:00:00"),
        ("2026-11-20T10:00:00.123456+05:30 x", " x", "2026-11-20 04:30:00"),
        ("2026-11-20 10:00:00,5 UTC x", " x", "2026-11-20 10:00:00"),
        ('192.0.2.1 - - [20/Nov/2026:10:00:00 -0300] "x', '192.0.2.1 - - [] "x', "2026-11-20 13:00:00"),
        ("1795168800.500 x", " x", "2026-11-20 10:00:00"),
        ("type=x msg=audit(1795168800.123:5) y", "type=x msg=audit(:5) y", "2026-11-20 10:00:00"),
        ("@4000000052df927439eeb9bc x", " x", "2014-01-22 09:42:12"),
        ("MSK Nov 20 10:00:00 x", " x", "2026-11-20 07:00:00"),
        ("Nov 20, 2026 12:00:00 AM x", " x", "2026-11-19 23:00:00"),
        ("foo Nov 20 10:00:00 bar", " bar", None),
        (
            "a - b Nov 20 10:00:00 - 2026-11-21 10:00:00",
            "a - b  - 2026-11-21 10:00:00",
            "2026-11-20 09:00:00",
        ),
        ("Feb 30 10:00:00 x", " x", None),
        ("xNov 20 10:00:00 y", "xNov 20 10:00:00 y", None),
        ("no date", "no date", None),
    ],
)
def test_the_default_patterns_find_and_cut(line, left, at):
    """The first hit at the beginning of a line wins, else the leftmost; an impossible date is cut too."""
    assert _read(line) == (left, at)


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("Nov 24 12:59:00 x", "2026-11-24 11:59:00"),
        ("Nov 24 13:01:00 x", "2025-11-24 12:01:00"),
        ("Feb 29 10:00:00 x", None),
        ("12:59:59 x", "2026-11-23 11:59:59"),
        ("13:00:01 x", "2026-11-22 12:00:01"),
    ],
)
def test_what_a_date_leaves_out_is_taken_from_now(line, at):
    """It is this year unless that is more than a day ahead; today unless that is ahead."""
    assert _read(line)[1] == at


@pytest.mark.parametrize(
    ("line", "now", "at"),
    [
        ("2026-10-25 02:30:00 x", NOW, "2026-10-25 01:30:00"),
        ("2026-03-29 02:30:00 x", NOW, "2026-03-29 01:30:00"),
        ("2026-10-25 02:30:00 x", NOW - 120 * 86_400 * SECOND, "2026-10-25 00:30:00"),
    ],
)
def test_an_hour_that_stands_twice_or_never_is_taken_as_the_zone_is_now(line, now, at):
    """In the hour after summer time ends the same clock face means two instants."""
    assert _read(line, now=now)[1] == at


@pytest.mark.parametrize(
    ("pattern", "line", "left", "at"),
    [
        ("{^LN-BEG}", "x Nov 20 10:00:00", "x Nov 20 10:00:00", None),
        ("^L %d/%m/%Y - %H:%M:%S", "L 20/11/2026 - 10:00:00: x", ": x", "2026-11-20 09:00:00"),
        (r"^[^\[]*\[({DATE})", "a [20/Nov/2026:10:00:00 +0000] b", "a [] b", "2026-11-20 10:00:00"),
        (r"^t=%Y-%m-%dT%H:%M:%S%z", "t=2026-11-20T10:00:00+0000 x", " x", "2026-11-20 10:00:00"),
        ("^WARNING:()**", "WARNING: x", "WARNING: x", None),
        ("{NONE}", "Nov 20 10:00:00 x", "Nov 20 10:00:00 x", None),
        ("{UNB}%H:%M", "Nov 20 10:00:59 x", "Nov 20 :59 x", "2026-11-23 09:00:00"),
        ("{^LN-BEG}LEPOCH", "[1795168800123] x", "[] x", "2026-11-20 10:00:00"),
        (r"x ({EPOCH})", "a x 1795168800 b", "a x  b", "2026-11-20 10:00:00"),
        ("%Y %j", "2026 324 x", " x", "2026-11-19 23:00:00"),
        ("%Y-W%W %a", "2026-W46 fri x", " x", "2026-11-19 23:00:00"),
    ],
)
def test_own_patterns_find_and_cut(pattern, line, left, at):
    """Group 1 is cut out, everything where the pattern has no group of its own."""
    assert _read(line, pattern) == (left, at)


@pytest.mark.parametrize("pattern", ["%q", "[({DATE})", "%H:%H", "%"])
def test_a_pattern_that_is_none_is_refused(pattern):
    """A filter with it could never read the time of a line."""
    with pytest.raises(DatePatternError):
        _reader(pattern)


def test_a_pattern_that_takes_too_long_is_given_up():
    """A stranger's line must not stop the reading of the others."""
    reader = DateReader(expand_patterns([r"^(?:a|aa)+$%H"], latest_year=2029), limit=TimeLimit(SECOND // 100))
    with pytest.raises(TimeoutError):
        reader.find("a" * 60 + "b", NOW)
