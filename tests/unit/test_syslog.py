"""Headers of log lines: the three forms, their times, and lines that have none."""

import time

import pytest

from correlator.lines.syslog import format_instant, parse_header, read_stamp, repeats_of_last
from correlator.model import SECOND

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
        f"Nov 22 14:29:22.311 vm portsentry[71]: {BODY}",
        f"<29>Nov 22 14:29:22.311584123 vm portsentry[71]: {BODY}",
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


@pytest.mark.parametrize(
    "host", ["2001:db8::17", "::1", "::ffff:192.0.2.7", "2001:db8:0:1:2:3:4:5", "fe80::a:b", "192.0.2.7"]
)
@pytest.mark.parametrize("stamp", ["Nov 22 14:29:22", "2026-11-22T14:29:22Z", "<29>Nov 22 14:29:22"])
def test_a_host_may_be_an_address(stamp, host):
    """A log host writes down the address of a sender that it knows no name of."""
    header = parse_header(f"{stamp} {host} portsentry[71]: {BODY}")
    assert (header.host, header.identifier, header.pid, header.body) == (host, "portsentry", "71", BODY)


@pytest.mark.parametrize(
    ("behind", "identifier"),
    [
        ("cafe: a::b x: y", "cafe"),
        ("14:30:00 x: y", "14"),
        ("1:2:3:4:5:6:7 x: y", "1"),
        ("vm fe80::1 x: y", "fe80"),
    ],
)
def test_what_is_no_address_is_no_host(behind, identifier):
    """Colons alone make none, and it stands behind the stamp or nowhere."""
    assert parse_header(f"Nov 22 14:29:22 {behind}").identifier == identifier


def test_the_body_keeps_its_second_space():
    """PortSentry's NULL scan has two spaces after the colon, and a filter must see both."""
    header = parse_header("Nov  2 14:29:22 vm portsentry[71]: attackalert:  TCP NULL scan")
    assert header.body == "attackalert:  TCP NULL scan"


@pytest.mark.parametrize("line", ["", " ", "no header at all", "Nov 22", "[2026-11-22T14:29:22 vm", "<999>"])
def test_a_line_without_header_is_all_body(line):
    """What is no header is left for filters that want whole lines."""
    assert parse_header(line).body == line


def test_an_identifier_is_not_taken_from_the_body():
    """A program that quotes another's line stays the one that wrote it."""
    assert parse_header(f"Nov 22 14:29:22 vm logger: portsentry[71]: {BODY}").identifier == "logger"


@pytest.mark.parametrize(
    ("line", "stamp", "body"),
    [
        ("2026/11/23 08:01:02 [error] 12#12: *3 x", "2026/11/23 08:01:02", "[error] 12#12: *3 x"),
        (
            "[Mon Nov 23 08:01:02.12 2026] [core:error] x",
            "Mon Nov 23 08:01:02.12 2026",
            "[core:error] x",
        ),
        ("Mon Nov 23 08:01:02 2026 [pid 3] x", "Mon Nov 23 08:01:02 2026", "[pid 3] x"),
        (
            "2026-11-23 08:01:02 unexpected disconnection: x",
            "2026-11-23 08:01:02",
            "unexpected disconnection: x",
        ),
        ("2026-11-23 08:01:02,123 vm proftpd[7] vm: x", "2026-11-23 08:01:02,123", "vm proftpd[7] vm: x"),
        ("2026-11-23  8:01:02 42 [Warning] x", "2026-11-23  8:01:02", "42 [Warning] x"),
        ("2026-11-23 08:01:02.123 CET [7] FATAL:  x", "2026-11-23 08:01:02.123 CET", "[7] FATAL:  x"),
        ("2026-11-23 08:01:02.123 UTC [7] FATAL:  x", "2026-11-23 08:01:02.123 UTC", "[7] FATAL:  x"),
        ("2026-11-23 08:01:02: (http_auth.c.1) x", "2026-11-23 08:01:02", "(http_auth.c.1) x"),
        ("[2026-11-23 08:01:02] NOTICE[7]: x", "2026-11-23 08:01:02", "NOTICE[7]: x"),
        ("[2026-11-23 08:01:02.123][a::b][ERROR] x", "2026-11-23 08:01:02.123", "[a::b][ERROR] x"),
        ("[Nov 23 08:01:02] SECURITY[7] x", "Nov 23 08:01:02", "SECURITY[7] x"),
        ("<W>2026-11-23 08:01:02.123 1 => x", "2026-11-23 08:01:02.123", "1 => x"),
        ("[23-Nov-2026 08:01:02 +0000]: <a> x", "23-Nov-2026 08:01:02 +0000", "<a> x"),
        ("23-Nov-2026 08:01:02.123 security: x", "23-Nov-2026 08:01:02.123", "security: x"),
        ("11/23/2026-08:01:02.123456  [**] x", "11/23/2026-08:01:02.123456", "[**] x"),
        ("11/23-08:01:02.123456  [**] x", "11/23-08:01:02.123456", "[**] x"),
        ("261123  8:01:02 [W] x", "261123  8:01:02", "[W] x"),
        ("1795420862.123    345 192.0.2.1 x", "1795420862.123", "345 192.0.2.1 x"),
        ("2026/11/23 08:01:02| x", "2026/11/23 08:01:02", "x"),
        ("2026-11-23T08:01:02Z", "2026-11-23T08:01:02Z", ""),
    ],
)
@pytest.mark.usefixtures("in_utc")
def test_the_logs_of_applications_begin_with_a_date(line, stamp, body):
    """It is cut off, and no program is made up; the instant is the same in every form."""
    header = parse_header(line)
    assert (header.stamp, header.identifier, header.body) == (stamp, "", body)
    at = read_stamp(header.stamp, MOMENT)
    assert at is not None
    assert format_instant(at) == "2026-11-23T08:01:02Z"


def test_an_access_log_has_its_date_inside():
    """The line stays whole; what a client calls himself is no date."""
    line = '192.0.2.1 - [23/Nov/1999:08:01:02 +0000] [23/Nov/2026:08:01:02 +0100] "GET /[1] HTTP/1.1" 200 5'
    header = parse_header(line)
    assert (header.stamp, header.identifier, header.body) == ("23/Nov/2026:08:01:02 +0100", "", line)
    assert format_instant(read_stamp(header.stamp, MOMENT) or 0) == "2026-11-23T07:01:02Z"


@pytest.mark.parametrize(
    "body",
    [
        "message repeated 3 times: [ Failed password for root]",
        "message repeated 3 times: [Failed password for root]",
        "Last message 'Failed password for root' repeated 3 times, suppressed by syslog-ng on vm",
    ],
)
def test_a_repeated_message_is_the_message(body):
    """Rsyslog and syslog-ng fold what comes again; a filter sees the message and how often it came."""
    header = parse_header(f"Nov 22 14:29:22 vm sshd[71]: {body}")
    assert (header.identifier, header.body, header.repeats) == ("sshd", "Failed password for root", 3)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Nov 22 14:29:22 vm last message repeated 3 times", 3),
        ("Nov 22 14:29:22 last message repeated 1 time", 1),
        ("Nov 22 14:29:22.311 vm last message repeated 3 times", 3),
        ("Sun Nov 22 14:29:22 2026 vm last message repeated 3 times", 0),
        ("Nov 22 14:29:22 vm --- last message repeated 3 times ---", 3),
        ("Nov 22 14:29:22 vm syslogd: last message repeated 3 times", 3),
        ("Nov 22 14:29:22 vm sshd[1]: last message repeated 3 times", 0),
        ("Nov 22 14:29:22 vm x last message repeated 3 times", 0),
        ("Nov 22 14:29:22 vm last message repeated 9999999999 times", 0),
    ],
)
def test_only_syslog_says_that_the_last_line_was_repeated(line, expected):
    """Another program that says so is quoting, and a number without end is none."""
    assert repeats_of_last(parse_header(line), line) == expected


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-11-22T14:29:22.311584+00:00", "2026-11-22T14:29:22Z"),
        ("1795357762", "2026-11-22T14:29:22Z"),
        ("1795357762123", "2026-11-22T14:29:22Z"),
        ("2026-11-22T14:29:22.311584+0000", "2026-11-22T14:29:22Z"),
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
        ("Nov 22 14:29:22.999999", "2026-11-22T14:29:23Z", "2026-11-22T14:29:22Z"),
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


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "Foo 22 14:29:22",
        "2026-99-22T14:29:22Z",
        "Nov 40 14:29:22",
        "31/Foo/2026:08:01:02 +0000",
        "2026-02-30 08:01:02",
        "9" * 99,
    ],
)
def test_what_is_no_stamp_is_none(stamp):
    """An unreadable stamp is a value, not an error."""
    assert read_stamp(stamp, MOMENT) is None
