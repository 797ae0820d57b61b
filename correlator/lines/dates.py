"""Finds the date of a line and cuts it out, by templates that know where dates stand and how they look.

Stateless: the first hit at the beginning of the line wins, in the order of the templates, else the leftmost
hit anywhere. So a date inside foreign text never teaches us to look there for the next line's. A date
without a year is of this year, or of the last where that would be more than a day ahead; without a day it is
of today, or of yesterday. A date that the calendar does not have is cut out all the same and gives no time.

Source: Fail2ban 1.0.2 of Debian, as run, but for what it learns from earlier lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from correlator.lines.date_patterns import DatePatternError, DateTemplate, Kind
from correlator.lines.expressions import ExpressionError, TimeLimit, compile_expression
from correlator.lines.zones import find_zone
from correlator.model import SECOND, Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY: Micros = 86_400 * SECOND
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_DAYS = {name: number for number, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))}
_CENTURY = 2000


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a line's date stands, and which instant it is."""

    start: int
    end: int
    at: Micros | None
    """None: no date of the calendar, or none in the text (an empty hit)."""


class DateReader:
    """Reads the dates of one kind of log. Raises DatePatternError for what does not compile."""

    def __init__(
        self, templates: Sequence[DateTemplate], *, zone: tzinfo | None = None, limit: TimeLimit
    ) -> None:
        """Take the templates in the order of trying; `zone` is that of dates without one, None local time."""
        self._limit = limit
        self._zone = zone
        self._templates = [(template, _compile(template)) for template in templates]

    def find(self, line: str, now: Micros) -> Stamp | None:
        """Return the date of a line, None where it has none. Raises: TimeoutError."""
        nearest = self._limit.run(self._search, line)
        if nearest is None:
            return None
        template, found = nearest
        start, end = found.span(1) if found.re.groups else found.span()
        if start == end:
            return Stamp(start, end, None)
        return Stamp(start, end, self._instant(template.kind, found, now))

    def _search(self, line: str) -> tuple[DateTemplate, re.Match[str]] | None:
        nearest: tuple[DateTemplate, re.Match[str]] | None = None
        for template, compiled in self._templates:
            found = compiled.search(line)
            if found is None:
                continue
            if template.is_line_start:
                return template, found
            if nearest is None or found.start() < nearest[1].start():
                nearest = template, found
        return nearest

    def _instant(self, kind: Kind, found: re.Match[str], now: Micros) -> Micros | None:
        fields = {name: text for name, text in found.groupdict().items() if text is not None}
        try:
            if kind is Kind.EPOCH:
                return _from_epoch(fields.get("epoch") or found.group(1))
            if kind is Kind.TAI64N:
                return int(found.group(1)[2:17], 16) * SECOND
            return _from_calendar(fields, now, self._zone)
        except (
            ValueError,
            OverflowError,
        ):  # the 30th of February, a zone nobody knows, the year 9999 plus one
            return None


def year_of(at: Micros) -> int:
    """Return the year of an instant, in UTC."""
    return (_EPOCH + timedelta(microseconds=at)).year


def first_of_year(year: int) -> Micros:
    """Return when a year begins, in UTC."""
    return _micros(datetime(year, 1, 1, tzinfo=UTC))


def _compile(template: DateTemplate) -> re.Pattern[str]:
    try:
        return compile_expression(template.expression)
    except ExpressionError as exc:
        raise DatePatternError(f"{template.pattern[:80]!r}: {exc}") from exc


def _from_epoch(text: str) -> Micros:
    whole, _, fraction = text.partition(".")
    micros = int(whole) * SECOND
    if len(whole) >= 16:
        return micros // SECOND
    if len(whole) >= 13:
        return micros // 1000 + int((fraction + "000")[:3] or 0)
    return micros + int((fraction + "000000")[:6])


def _from_calendar(fields: dict[str, str], now: Micros, zone: tzinfo | None) -> Micros | None:
    """Return the instant that the tokens name; raises ValueError or OverflowError where there is none."""
    today = _naive(now, zone)
    named = fields.get("z") or fields.get("Z")
    own_zone = find_zone(named) if named else None
    if named and own_zone is None:
        return None
    year = _year(fields)
    month, day = _month_and_day(fields, today.year if year is None else year)
    is_of_today = month is None and day is None
    if is_of_today:
        month, day = today.month, today.day
    month, day = month or today.month, day or 1
    at = today.replace(
        year=today.year if year is None else year,
        month=month,
        day=day,
        hour=_hour(fields),
        minute=int(fields.get("M", 0)),
        second=int(fields.get("S", 0)),
        microsecond=0,
    )
    if own_zone is not None:
        at -= own_zone.utcoffset(None) or timedelta()
        zone = UTC
    # compared as Fail2ban compares: clock faces, whatever zone each shows
    if is_of_today and at > today:
        at -= timedelta(days=1)
    elif year is None and not is_of_today and at > today + timedelta(days=1):
        at = at.replace(year=today.year - 1, month=month, day=day)
    return _local_micros(at, now, today) if zone is None else _micros(at.replace(tzinfo=zone))


def _naive(at: Micros, zone: tzinfo | None) -> datetime:
    """Return what a clock in the zone shows, None being local time."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone).replace(tzinfo=None)


def _year(fields: dict[str, str]) -> int | None:
    if "Y" in fields:
        return int(fields["Y"])
    return _CENTURY + int(fields["y"]) if "y" in fields else None


def _hour(fields: dict[str, str]) -> int:
    if "H" in fields:
        return int(fields["H"])
    if "I" not in fields:
        return 0
    hour = int(fields["I"])
    return (0 if hour == 12 else hour) + (12 if fields.get("p", "").lower() == "pm" else 0)


def _month_and_day(fields: dict[str, str], year: int) -> tuple[int | None, int | None]:
    name = fields.get("b") or fields.get("B")
    month = _MONTHS[name[:3].lower()] if name else int(fields["m"]) if "m" in fields else None
    day = int(fields["d"]) if "d" in fields else None
    if month is not None or day is not None:
        return month, day
    if "j" in fields:
        at = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=int(fields["j"]) - 1)
        return at.month, at.day
    weekday = _weekday(fields)
    for token, first in (("W", "%W"), ("U", "%U")):
        if token in fields and weekday is not None:
            number = (weekday + 1) % 7
            at = datetime.strptime(f"{year} {fields[token]} {number}", f"%Y {first} %w").replace(tzinfo=UTC)
            return at.month, at.day
    return None, None


def _weekday(fields: dict[str, str]) -> int | None:
    """Return the day of the week, Monday being 0."""
    if "w" in fields:
        return (int(fields["w"]) - 1) % 7
    name = fields.get("a") or fields.get("A")
    return _DAYS[name[:3].lower()] if name else None


def _local_micros(at: datetime, now: Micros, today: datetime) -> Micros:
    """Return the instant of a local clock face; one that stood twice, or never, is taken as now's zone is."""
    first, second = _micros(at.replace(fold=0)), _micros(at.replace(fold=1))
    if first == second:
        return first
    difference = _micros(today.replace(tzinfo=UTC)) - now
    face = _micros(at.replace(tzinfo=UTC))
    return first if face - first == difference else second


def _micros(at: datetime) -> Micros:
    return (at.astimezone(UTC) - _EPOCH) // _MICROSECOND
