"""Reads the header of a log line: when, which host, which program, and the body that filters judge.

Knows the forms that syslog daemons write to files (RFC 3164 "traditional", ISO 8601 as rsyslog does since
Debian 12, RFC 5424) and the dates with which applications begin the lines of their own logs; nothing of what
programs say. A line without a program has the identifier "": it must never be taken for one of a syslog
program, because a stranger who gets a line feed past a careless daemon begins such a line himself.
"message repeated 3 times: [ ... ]" is the message, three times. Pure: a stamp without a year is given its
year by the caller's arrival time; a stamp without a zone is the host's local time. Never raises on any text:
what has no header becomes a header with everything in the body.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from correlator.model import SECOND, Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR = 3600 * SECOND
_DAY = 86_400 * SECOND
_SAFE_YEAR = 360 * _DAY  # for so long after an hour no other year's can be nearer
_MOST_HOURS = 100
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
REPEATS_LAST = "last message repeated "
"""Text of every line that stands for the one before it."""

# <29>1 2026-11-22T14:29:22.311584+00:00 vm portsentry 71 - -  attackalert: ...
# The second space is how rsyslog writes what came to it in the older form.
_RFC5424 = re.compile(
    r"(?:<\d{1,3}>)?1 (?P<stamp>\d{4}-\d\d-\d\dT\S{8,21}|-) (?P<host>\S{1,255}) (?P<identifier>\S{1,48})"
    r" (?P<pid>\S{1,128}) \S{1,32} (?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: (?:\ufeff)? ?(?P<body>.*))?",
    re.DOTALL | re.ASCII,
)
# 2026-11-22T14:29:22.311584+00:00 vm portsentry[71]: attackalert: ...
# Nov 22 14:29:22 vm portsentry[71]: attackalert: ...
# Nov 22 14:29:22.311 vm portsentry[71]: attackalert: ... (syslog-ng, journalctl -o short-precise)
# 2026-11-22 14:29:22 vm portsentry[71]: attackalert: ...
# After a date with a space, as applications write it, only the full form is a syslog header:
# "2026-11-22 14:29:22 unexpected disconnection: ..." was written by no program called "disconnection".
_NAME = r"[^ \t\n\r\f\v:\[]"
# A log host that knows its senders by address alone writes 2001:db8::17 where the name stands.
_ADDRESS6 = r"(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){7}|[0-9A-Fa-f:]{0,30}::[0-9A-Fa-f:.]{0,30})"
_CLOCKED = r"[0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
_ISO = rf"{_CLOCKED}(?:[.,][0-9]{{1,9}})?(?:Z|[+-][0-9][0-9]:?[0-9][0-9])?"
HEADER = (
    r"(?:<[0-9]{1,3}>)?"
    rf"(?P<stamp>[A-Z][a-z]{{2}} [ 0-9][0-9] {_CLOCKED}(?:\.[0-9]{{1,9}})?"
    rf"|[0-9]{{4}}-[0-9][0-9]-[0-9][0-9]T{_ISO}"
    rf"|[0-9]{{4}}-[0-9][0-9]-[0-9][0-9] {_ISO}(?= {_NAME}+ {_NAME}+\[[0-9]+\]: ))"
    rf" (?:(?P<host>{_NAME}{{1,255}}|{_ADDRESS6}) )?(?P<identifier>{_NAME}{{1,48}})"
    r"(?:\[(?P<pid>[^\] \t\n\r\f\v]{1,32})\])?:"
)
"""What stands before the body, as an expression of text or, encoded, of bytes."""
_HEADER = re.compile(HEADER + " ?(?P<body>.*)", re.DOTALL)
_CLOCK = r"[ \d]?\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_ZONE = r"(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)"
_FORMS = (
    # 2026-11-23 08:01:02,123   2026/11/23 08:01:02   2026-11-23  8:01:02 (MariaDB)   ... CET (PostgreSQL)
    re.compile(
        rf"(?P<year>\d{{4}})([-/])(?P<month>\d\d)\2(?P<day>\d\d)[T ](?P<clock>{_CLOCK})"
        rf"(?: ?(?P<zone>{_ZONE})(?![^\s\]])| [A-Z]{{3,5}}(?= \[|$))?"
    ),
    # Mon Nov 23 08:01:02.123456 2026 (Apache, OpenVPN, vsftpd)
    re.compile(
        rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]?\d) (?P<clock>{_CLOCK})"
        r"(?: (?P<year>(?:19|20)\d\d)(?![^\s\]]))?"
    ),
    # Nov 23 08:01:02 (Asterisk)
    re.compile(rf"(?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) (?P<clock>{_CLOCK})"),
    # 23/Nov/2026:08:01:02 +0000 (access logs)   23-Nov-2026 08:01:02.123 (BIND, Roundcube)
    re.compile(
        rf"(?P<day>\d\d)([-/])(?P<month>[A-Z][a-z]{{2}})\2(?P<year>\d{{4}})[ :](?P<clock>{_CLOCK})"
        rf"(?: (?P<zone>{_ZONE})(?![^\s\]]))?"
    ),
    # 11/23-08:01:02.123456   11/23/26-08:01:02.123456 (Snort)   11/23/2026-08:01:02.123456 (Suricata)
    re.compile(rf"(?P<month>\d\d)/(?P<day>\d\d)(?:/(?P<year>(?:\d\d)?\d\d))?-(?P<clock>{_CLOCK})"),
    # 261123  8:01:02 (MySQL 5)
    re.compile(rf"(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d) (?P<clock>{_CLOCK})"),
    # 1795334462.123 (Squid); 13 digits are milliseconds, 16 microseconds
    re.compile(r"(?P<epoch>\d{10}(?:\.\d{1,9})?|\d{13}|\d{16})(?!\S)"),
)
# [stamp] body   [stamp]: body   [stamp][module] body   stamp| body (Squid)   <W>stamp body (Mumble)
_OPENING = re.compile(r"<[A-Z]>|\[|")
_CLOSING = {"[": re.compile(r"\](?::? +|(?=\[)|$)"), "": re.compile(r"[:|]? +|$")}
# 192.0.2.1 - - [23/Nov/2026:08:01:02 +0000] "GET / HTTP/1.1" 200 5
# The user name before it is the stranger's, but no server lets his quote stand there as it is.
_ACCESS = re.compile(r'\[(?P<stamp>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "')
# message repeated 3 times: [ Failed password for root from 192.0.2.1 port 22 ssh2]   (rsyslog)
# Last message 'Failed password ...' repeated 3 times, suppressed by syslog-ng on vm  (syslog-ng)
_REPEATED = re.compile(
    r"message repeated (?P<times>[0-9]{1,9}) times: \[ ?(?P<inner>.*)\]"
    r"|Last message '(?P<inner2>.*)' repeated (?P<times2>[0-9]{1,9}) times, suppressed by syslog-ng on \S+",
    re.DOTALL,
)
_SYSLOG_STAMP = re.compile(
    rf"(?:[A-Z][a-z]{{2}} [ 0-9][0-9] {_CLOCKED}(?:\.[0-9]{{1,9}})?|[0-9]{{4}}-[0-9][0-9]-[0-9][0-9]T{_ISO}) "
)
# vm last message repeated 3 times
_LAST_REPEATED = re.compile(
    rf"(?:(?:{_NAME}{{1,255}}|{_ADDRESS6}) )?(?:--- )?last message repeated ([0-9]{{1,9}}) times?(?: ---)?"
)
_FOLDED = "essage"
"""Stands early in the body of every line that says how often another was said."""
_TRADITIONAL = len("Nov 22 14:29:22")
LAST_REPEATED_BY = frozenset({"", "syslogd", "syslog"})
"""Who may say that the line before was repeated."""


class Header(NamedTuple):
    """What stands before the body; empty text for what the line does not say."""

    stamp: str
    host: str
    identifier: str
    pid: str
    body: str
    repeats: int = 1
    """How often the line says that the body was said."""


def parse_header(line: str) -> Header:
    """Split one line, given without its line feed; a carriage return before that is none of its text."""
    line = line.rstrip("\r")
    found = _HEADER.match(line) or _RFC5424.match(line)
    return _plain_header(line) if found is None else _header(found)


class HeaderReader:
    """Splits lines one after the other as `parse_header` does; many begin just as the one before.

    What stands before the body is decided by itself where it ends with a colon and a space: up to there no
    part of it could have taken more, for none but a stamp holds a space.
    """

    def __init__(self) -> None:
        self._beginning = "\n"  # no line begins with it
        self._told = ("", "", "", "")

    def read(self, line: str) -> Header:
        """Split one line, given without its line feed."""
        if line[-1:] == "\r":
            line = line.rstrip("\r")
        if line.startswith(self._beginning):
            body = line[len(self._beginning) :]
            if _FOLDED not in body[:12]:
                return Header(*self._told, body)
        found = _HEADER.match(line)
        if found is None:
            return parse_header(line)
        header = _header(found)
        start = found.start("body")
        if line.startswith(": ", start - 2):
            self._beginning, self._told = line[:start], header[:4]
        return header


def _header(found: re.Match[str]) -> Header:
    stamp, host, identifier, pid, body = found.group("stamp", "host", "identifier", "pid", "body")
    if body is None:
        body = ""
    elif _FOLDED in body[:12]:
        return Header(stamp, host or "", identifier, "" if pid in (None, "-") else pid, *_unfolded(body))
    return Header(stamp, host or "", identifier, "" if pid is None or pid == "-" else pid, body)


def repeats_of_last(header: Header, line: str) -> int:
    """Return how often a line says that the one before it was repeated; 0 where it says no such thing."""
    if header.identifier not in LAST_REPEATED_BY or REPEATS_LAST not in header.body:
        return 0
    if not header.identifier and _SYSLOG_STAMP.match(line) is None:
        return 0  # an application's log: nobody but a syslog daemon speaks of the line before
    found = _LAST_REPEATED.fullmatch(header.body)
    return int(found.group(1)) if found is not None else 0


def read_stamp(stamp: str, arrived: Micros) -> Micros | None:
    """Return the instant a stamp names, or None where it is none.

    A stamp without a year is put into the year that brings it nearest to `arrived`, at most a day
    after it: in January a line of December belongs to the old year.
    """
    if stamp[4:5] == "-" and stamp[10:11] == "T":
        return _read_iso(stamp)
    found = next((found for form in _FORMS if (found := form.fullmatch(stamp)) is not None), None)
    return None if found is None else _instant(found.groupdict(), arrived)


class StampReader:
    """Reads stamps one after the other as `read_stamp` does, which mostly are of hours seen before."""

    def __init__(self) -> None:
        self._hours: dict[str, Micros] = {}
        self._last: tuple[str, Micros] = ("", 0)
        self._found: Micros | None = None

    def read(self, stamp: str, arrived: Micros) -> Micros | None:
        """Return the instant a stamp names, or None where it is none."""
        if (stamp, arrived) != self._last:
            self._found = self._read(stamp, arrived)
            self._last = (stamp, arrived)
        return self._found

    def _read(self, stamp: str, arrived: Micros) -> Micros | None:
        if len(stamp) != _TRADITIONAL or stamp[9] != ":":
            if len(stamp) > _TRADITIONAL and stamp[10] == "T":
                return _read_iso(stamp)
            return read_stamp(stamp, arrived)
        hour = self._hours.get(stamp[:9])
        minute, second = stamp[10:12], stamp[13:15]
        is_near = hour is not None and hour + _HOUR - _DAY <= arrived < hour + _SAFE_YEAR
        if hour is None or not is_near or minute > "59" or second > "59":
            found = read_stamp(stamp, arrived)
            if found is not None and minute <= "59" and second <= "59":
                if len(self._hours) > _MOST_HOURS:
                    self._hours.clear()
                self._hours[stamp[:9]] = found - (int(minute) * 60 + int(second)) * SECOND
            return found
        return hour + (int(minute) * 60 + int(second)) * SECOND


def format_instant(at: Micros) -> str:
    """Return `2026-01-02T03:04:05Z`, the form of all times that we print."""
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_line(at: Micros, header: Header) -> str:
    """Return one line in ISO form that says what the header says; for what never was a line of a file."""
    stamp = (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")
    pid = f"[{header.pid}]" if header.pid else ""
    return f"{stamp} {header.host or '-'} {header.identifier or '-'}{pid}: {header.body}"


def _plain_header(line: str) -> Header:
    """Return the header of a line that no syslog daemon wrote: a date at most, cut off where it begins it."""
    opening = _OPENING.match(line)
    start = opening.end() if opening is not None else 0
    closing = _CLOSING["[" if line[:1] == "[" else ""]
    for form in _FORMS:
        found = form.match(line, start)
        if found is not None and (end := closing.match(line, found.end())) is not None:
            return Header(found.group(), "", "", "", line[end.end() :])
    inside = _ACCESS.search(line)
    return Header("" if inside is None else inside.group("stamp"), "", "", "", line)


def _unfolded(body: str) -> tuple[str, int]:
    found = _REPEATED.fullmatch(body)
    if found is None:
        return body, 1
    inner, inner2, times, times2 = found.group("inner", "inner2", "times", "times2")
    return inner if inner is not None else inner2, max(1, int(times or times2))


def _instant(parts: dict[str, str | None], arrived: Micros) -> Micros | None:
    epoch = parts.get("epoch")
    if epoch is not None:
        whole, _, fraction = epoch.partition(".")
        return int(whole.ljust(16, "0")) + int(fraction.ljust(6, "0")[:6])
    month = parts["month"] or ""
    clock, _, fraction = (parts["clock"] or "").replace(",", ".").partition(".")
    hour, minute, second = map(int, clock.split(":"))
    moment = (
        int(month) if month.isdigit() else _MONTHS.get(month, 0),
        int(parts["day"] or 0),
        hour,
        minute,
        second,
        int(fraction.ljust(6, "0")[:6]),
    )
    year = parts.get("year")
    if year is not None:
        return _at(int(year) + (2000 if len(year) == 2 else 0), moment, parts.get("zone") or "")
    near = (_EPOCH + timedelta(microseconds=arrived)).astimezone().year
    for candidate in (near + 1, near, near - 1):
        found = _at(candidate, moment, "")
        if found is not None and found <= arrived + _DAY:
            return found
    return None


def _at(year: int, moment: tuple[int, int, int, int, int, int], zone: str) -> Micros | None:
    """Return the instant; None for what the calendar does not have, as the 29th of most Februaries."""
    zone = "+00:00" if zone in ("UTC", "GMT") else zone
    month, day, hour, minute, second, micro = moment
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}{zone}"
    try:
        return _micros(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def format_entry(header: Header) -> str:
    """Return `host identifier[pid]: body`: how Fail2ban shows a journal entry to its filters."""
    host = f"{header.host} " if header.host else ""
    pid = f"[{header.pid}]" if header.pid else ""
    return f"{host}{header.identifier}{pid}: {header.body}"


def _read_iso(stamp: str) -> Micros | None:
    try:
        return _micros(datetime.fromisoformat(stamp.replace(",", ".")))
    except (ValueError, OverflowError):  # no stamp, or one whose zone takes it out of the calendar
        return None


def _micros(at: datetime) -> Micros:
    aware = at if at.tzinfo is not None else at.astimezone(UTC)
    return (aware - _EPOCH) // _MICROSECOND
