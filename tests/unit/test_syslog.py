"""Headers of log lines: the three forms, their times, and lines that have none."""

import time

import pytest

from correlator.model import SECOND
from correlator.syslog import format_instant, parse_header, read_stamp

MOMENT = 1_795_357_762 * SECOND  # 2026-11-22T14:29:22Z
BODY = "attackalert: TCP SYN/Normal scan from host: 192.0.2.2/192.0.2.2 to TCP port: 1"


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 22 14:29:22 vm portsentry[71]: {BODY}",
        f"2026-11-22T14:29:22.311584+00:00 vm portsentry[71]: {BODY}",
        f"<29>1 2026-11-22T14:29:22.311584+00:00 vm portsentry 71 - -  {BODY}".replace("-  att", "- att"),
        f'<29>1 2026-11-22T14:29:22Z vm portsentry 71 - [x@1 a="b \\] c"] {BODY}',
        f"<29>Nov 22 14:29:22 vm portsentry[71]: {BODY}",
    ],
)
def test_every_form_gives_the_same_parts(line):
    """The form of a header never changes what a filter sees."""
    header = parse_header(line)
    assert (header.host, header.identifier, header.pid, header.body) == ("vm", "portsentry", "71", BODY)


def test_a_datagram_has_no_host():
    """What a program sends to /dev/log lacks the host name."""
    header = parse_header(f"<29>Nov 22 14:09:00 portsentry[71]: {BODY}")
    assert (header.host, header.identifier, header.body) == ("", "portsentry", BODY)


def test_the_body_keeps_its_second_space():
    """PortSentry's NULL scan has two spaces after the colon, and a filter must see both."""
    header = parse_header("Nov  2 14:29:22 vm portsentry[71]: attackalert:  TCP NULL scan")
    assert header.body == "attackalert:  TCP NULL scan"


@pytest.mark.parametrize("line", ["", " ", "no header at all", "Nov 22", "2026-11-22T14:29:22 vm", "<999>"])
def test_a_line_without_header_is_all_body(line):
    """What is no header is left for filters that want whole lines."""
    assert parse_header(line).body == line


def test_an_identifier_is_not_taken_from_the_body():
    """A program that quotes another's line stays the one that wrote it."""
    assert parse_header(f"Nov 22 14:29:22 vm logger: portsentry[71]: {BODY}").identifier == "logger"


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-11-22T14:29:22.311584+00:00", "2026-11-22T14:29:22Z"),
        ("2026-11-22T15:29:22+01:00", "2026-11-22T14:29:22Z"),
        ("2026-11-22T14:29:22Z", "2026-11-22T14:29:22Z"),
    ],
)
def test_stamps_with_a_zone_name_one_instant(stamp, expected):
    """A zone in the stamp is believed."""
    at = read_stamp(stamp, MOMENT)
    assert at is not None
    assert format_instant(at) == expected


@pytest.fixture
def in_utc(monkeypatch):
    """Local time is UTC while the test runs."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_utc")
@pytest.mark.parametrize(
    ("stamp", "arrived", "expected"),
    [
        ("Nov 22 14:29:22", "2026-11-22T14:29:23Z", "2026-11-22T14:29:22Z"),
        ("Dec 31 23:59:59", "2027-01-01T00:00:01Z", "2026-12-31T23:59:59Z"),
        ("Jan  1 00:00:00", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        ("Feb 29 12:00:00", "2025-03-01T00:00:00Z", "2024-02-29T12:00:00Z"),
    ],
)
def test_a_stamp_without_year_takes_the_nearest(stamp, arrived, expected):
    """In January a line of December belongs to the old year."""
    moment = read_stamp(arrived, 0)
    assert moment is not None
    at = read_stamp(stamp, moment)
    assert at is not None
    assert format_instant(at) == expected


@pytest.mark.parametrize("stamp", ["", "Foo 22 14:29:22", "2026-99-22T14:29:22Z", "Nov 40 14:29:22"])
def test_what_is_no_stamp_is_none(stamp):
    """An unreadable stamp is a value, not an error."""
    assert read_stamp(stamp, MOMENT) is None
