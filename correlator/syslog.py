"""Reads the header of a log line: when, which host, which program, and the body that filters judge.

Knows the three forms that syslog daemons write to files (RFC 3164 "traditional", ISO 8601 as rsyslog
does since Debian 12, RFC 5424) and nothing of what programs say. Pure: a stamp without a year is given
its year by the caller's arrival time; a stamp without a zone is the host's local time. Never raises on
any text: what has no header becomes a header with everything in the body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from correlator.model import SECOND, Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400 * SECOND
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}

# <29>1 2026-11-22T14:29:22.311584+00:00 vm portsentry 71 - -  attackalert: ...
_RFC5424 = re.compile(
    r"(?:<\d{1,3}>)?1 (?P<stamp>\d{4}-\d\d-\d\dT\S{8,21}|-) (?P<host>\S{1,255}) (?P<identifier>\S{1,48})"
    r" (?P<pid>\S{1,128}) \S{1,32} (?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: (?:\ufeff)?(?P<body>.*))?",
    re.DOTALL,
)
# 2026-11-22T14:29:22.311584+00:00 vm portsentry[71]: attackalert: ...
# Nov 22 14:29:22 vm portsentry[71]: attackalert: ...
_HEADER = re.compile(
    r"(?:<\d{1,3}>)?"
    r"(?P<stamp>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
    r" (?:(?P<host>[^\s:\[]{1,255}) )?(?P<identifier>[^\s:\[]{1,48})"
    r"(?:\[(?P<pid>[^\]\s]{1,32})\])?: ?(?P<body>.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the body; empty text for what the line does not say."""

    stamp: str
    host: str
    identifier: str
    pid: str
    body: str


def parse_header(line: str) -> Header:
    """Split one line, given without its line feed."""
    found = _HEADER.match(line) or _RFC5424.match(line)
    if found is None:
        return Header("", "", "", "", line)
    stamp, host, identifier, pid, body = found.group("stamp", "host", "identifier", "pid", "body")
    return Header(stamp, host or "", identifier, "" if pid in (None, "-") else pid, body or "")


def read_stamp(stamp: str, arrived: Micros) -> Micros | None:
    """Return the instant a stamp names, or None where it is none.

    A stamp without a year is put into the year that brings it nearest to `arrived`, at most a day
    after it: in January a line of December belongs to the old year.
    """
    if stamp[:1].isdigit():
        try:
            return _micros(datetime.fromisoformat(stamp.replace(",", ".")))
        except (ValueError, OverflowError):  # no stamp, or one whose zone takes it out of the calendar
            return None
    month = _MONTHS.get(stamp[:3])
    if month is None:
        return None
    near = (_EPOCH + timedelta(microseconds=arrived)).astimezone()
    for year in (near.year + 1, near.year, near.year - 1):
        try:
            at = datetime(  # noqa: DTZ001  the stamp has no zone: local time is what it means
                year, month, int(stamp[4:6]), int(stamp[7:9]), int(stamp[10:12]), int(stamp[13:15])
            )
            found = _micros(at)
        except (ValueError, OverflowError):
            continue  # the 29th of February of another year
        if found <= arrived + _DAY:
            return found
    return None


def format_instant(at: Micros) -> str:
    """Return `2026-01-02T03:04:05Z`, the form of all times that we print."""
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_line(at: Micros, header: Header) -> str:
    """Return one line in ISO form that says what the header says; for what never was a line of a file."""
    stamp = (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")
    pid = f"[{header.pid}]" if header.pid else ""
    return f"{stamp} {header.host or '-'} {header.identifier or '-'}{pid}: {header.body}"


def _micros(at: datetime) -> Micros:
    return (at.astimezone(UTC) - _EPOCH) // _MICROSECOND
