"""Turns date patterns (`%Y-%m-%d`, `{^LN-BEG}`, `EPOCH`, ...) into expressions that find a date in a line.

A pattern is a regular expression with strptime's tokens in it. Each token becomes a named group of its last
letter; group 1 is what is cut out of the line. The defaults are the 31 that Fail2ban 1.0 tries: each at the
beginning of the line first, then anywhere. Nothing here reads a line or a clock; `dates` does the reading.

Source: Fail2ban 1.0.2 of Debian, as run; `strptime(3)`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINE_START = "{^LN-BEG}"
_UNBOUND = "{UNB}"
_NONE = "{NONE}"
_DEFAULT = "{DEFAULT}"
_IGNORES_CASE = "(?iu)"
_LINE_START_EXPRESSION = r"^(?:\W{0,2})?"
_BOUND_LEFT = r"(?=^|\b|\W)"
_BOUND_RIGHT = r"(?=\b|\W|$)"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_LONG_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_DAYS = "mon|tue|wed|thu|fri|sat|sun"
_LONG_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_ZONE_NAME = "[A-Z](?:[A-Z]{2,4})?"
_OFFSET = r"[+-][01]\d(?::?\d{2})?"

_TOKENS = {
    "a": f"(?P<a>{_DAYS})",
    "A": f"(?P<A>{_LONG_DAYS})",
    "b": f"(?P<b>{_MONTHS})",
    "B": f"(?P<B>{_LONG_MONTHS})",
    "d": r"(?P<d>[1-2]\d|[0 ]?[1-9]|3[0-1])",
    "Exd": r"(?P<d>[1-2]\d|0[1-9]|3[0-1])",
    "f": "(?P<f>[0-9]{1,6})",
    "H": r"(?P<H>[0-1]?\d|2[0-3])",
    "ExH": r"(?P<H>[0-1]\d|2[0-3])",
    "I": "(?P<I>1[0-2]|0[1-9]|[1-9])",
    "j": r"(?P<j>36[0-6]|3[0-5]\d|[1-2]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])",
    "k": r" ?(?P<H>[0-2]?\d)",
    "Exk": r" ?(?P<H>[0-1]?\d|2[0-3])",
    "l": r" ?(?P<I>1?\d)",
    "Exl": r" ?(?P<I>1[0-2]|\d)",
    "m": "(?P<m>0?[1-9]|1[0-2])",
    "Exm": "(?P<m>0[1-9]|1[0-2])",
    "M": r"(?P<M>[0-5]?\d)",
    "ExM": r"(?P<M>[0-5]\d)",
    "p": "(?P<p>am|pm)",
    "S": r"(?P<S>[0-5]?\d|6[0-1])",
    "ExS": r"(?P<S>[0-5]\d|6[0-1])",
    "u": "(?P<u>[1-7])",
    "U": r"(?P<U>5[0-3]|[0-4]\d|\d)",
    "w": "(?P<w>[0-6])",
    "W": r"(?P<W>5[0-3]|[0-4]\d|\d)",
    "y": r"(?P<y>\d\d)",
    "Exy": r"(?P<y>\d{2})",
    "Y": r"(?P<Y>\d{4})",
    "z": f"(?P<z>Z|UTC|GMT|{_OFFSET})",
    "Z": "(?P<Z>Z|[A-Z]{3,5})",
    "Exz": f"(?P<z>(?:{_ZONE_NAME})?{_OFFSET}|{_ZONE_NAME})",
    "ExZ": f"(?P<Z>{_ZONE_NAME})",
    "c": rf"(?P<a>{_DAYS})\s+(?P<b>{_MONTHS})\s+(?P<d>\d\d?| \d)\s+"
    r"(?P<H>\d\d?):(?P<M>\d\d?):(?P<S>\d\d?)\s+(?P<Y>\d{4})",
    "x": r"(?P<m>\d\d?)/(?P<d>\d\d?)/(?P<y>\d\d)",
    "X": r"(?P<H>\d\d?):(?P<M>\d\d?):(?P<S>\d\d?)",
    "%": "%",
}
_TOKEN = re.compile(r"%(Ex[A-Za-z]|.|$)", re.DOTALL)
_NAMES_SOMETHING = frozenset({"a", "A", "b", "B", "p", "c"})
_OWN_GROUP = re.compile(r"(?<!\\)\((?!\?)")
_UNBOUND_END = re.compile(r"(?<!\\)(?:\$|\\[bs])$")

_EPOCH = re.compile(r"(?:(?P<start>\{\^LN-BEG\}|\^)|)(?P<kind>L?EPOCH|TAI64N)", re.IGNORECASE)
_EPOCH_IN_PLACE = re.compile(r"\{(L?)EPOCH\}", re.IGNORECASE)
_SECONDS = r"\d{10,11}\b(?:\.\d{3,6})?"
_LONG_SECONDS = r"\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?"

_CALENDAR_DEFAULTS = (
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    r"(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?",
    r"%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S",
    r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?",
    r"%m/%d/%ExY:%H:%M:%S",
    r"%m-%d-%ExY %k:%M:%S(?:\.%f)?",
    "EPOCH",
    r"{^LN-BEG}%H:%M:%S",
    r"^<%m/%d/%Exy@%H:%M:%S>",
    r"%Exy%Exm%Exd  ?%H:%M:%S",
    r"%b %d, %ExY %I:%M:%S %p",
    r"^%b-%d-%Exy %k:%M:%S",
    r"%ExY%Exm%Exd(?:T|  ?)%ExH%ExM%ExS(?:[.,]%f)?(?:\s*%z)?",
    r"(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    r"(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    "TAI64N",
)


class DatePatternError(ValueError):
    """A date pattern with an unknown token, or whose expression does not compile."""


class Kind(enum.Enum):
    """How the text that a template finds becomes a time."""

    CALENDAR = "calendar"
    EPOCH = "epoch"
    """Seconds since 1970, with a fraction perhaps; 13 and 16 digits are milli- and microseconds."""
    TAI64N = "tai64n"


@dataclass(frozen=True, slots=True)
class DateTemplate:
    """One way to find a date."""

    pattern: str
    """As its author wrote it."""
    expression: str
    """Group 1 is cut out of the line; named groups are the tokens' letters."""
    kind: Kind
    is_line_start: bool
    """Can only be found at the beginning of a line: the first such hit wins."""

    @property
    def cuts_line_start(self) -> bool:
        """Whether what it cuts out begins the line, but for two characters at most that are of no word."""
        expression = self.expression.removeprefix(_IGNORES_CASE)
        for opening in (f"{_LINE_START_EXPRESSION}(", "^("):
            if expression.startswith(opening):
                return not expression.startswith(opening + "?")
        return False


def expand_patterns(patterns: Sequence[str], *, latest_year: int) -> tuple[DateTemplate, ...]:
    """Return the templates that the patterns stand for, in the order of trying; no pattern: the defaults.

    `latest_year` bounds `%ExY`, which finds years from 2000 to the end of that year's decade.
    Raises: DatePatternError.
    """
    templates: dict[str, DateTemplate] = {}
    wanted = [pattern for pattern in patterns if pattern.strip()] or [_DEFAULT]
    for pattern in wanted:
        for template in _expand(pattern.strip(), latest_year):
            templates.setdefault(template.expression, template)
    return tuple(templates.values())


def _expand(pattern: str, latest_year: int) -> Iterator[DateTemplate]:
    if pattern == _DEFAULT:
        yield from _expand(LINE_START, latest_year)
        for default in _CALENDAR_DEFAULTS:
            yield _template(default, latest_year)
    elif pattern == LINE_START:
        anchored = [default for default in _CALENDAR_DEFAULTS if _is_line_start(default)]
        for default in _CALENDAR_DEFAULTS:
            if default not in anchored:
                yield _template(LINE_START + default, latest_year)
        for default in anchored:
            yield _template(default, latest_year)
    elif "{DATE}" in pattern:
        for default in _CALENDAR_DEFAULTS:
            placed = pattern.replace("{DATE}", default.removeprefix(LINE_START))
            # a number can stand for itself, but not inside another expression
            if default not in ("EPOCH", "TAI64N") or _EPOCH.fullmatch(placed):
                yield _template(placed, latest_year)
    else:
        yield _template(pattern, latest_year)


def _is_line_start(pattern: str) -> bool:
    return pattern.startswith((LINE_START, "^", "(^"))


def _template(pattern: str, latest_year: int) -> DateTemplate:
    """Return the template of one pattern without `{DATE}`."""
    if pattern == _NONE:
        return DateTemplate(pattern, "^()", Kind.CALENDAR, is_line_start=True)
    special = _EPOCH.fullmatch(pattern)
    if special is not None:
        return _special_template(pattern, special["kind"].upper(), is_line_start=bool(special["start"]))
    kind = Kind.CALENDAR
    in_place = _EPOCH_IN_PLACE.search(pattern)
    if in_place is not None:
        kind = Kind.EPOCH
        number = _LONG_SECONDS if in_place[1] else _SECONDS
        expression = pattern.replace("%", "%%")
        expression = _EPOCH_IN_PLACE.sub(lambda _found: f"(?P<epoch>{number})", expression, count=1)
        expression = _bind(expression.replace("%%", "%"))
    else:
        expression = _put_in_tokens(_bind(pattern), latest_year)
    return DateTemplate(pattern, expression, kind, is_line_start=_is_line_start(pattern))


def _special_template(pattern: str, kind: str, *, is_line_start: bool) -> DateTemplate:
    if kind == "TAI64N":
        expression = "(@[0-9a-f]{24})" + _BOUND_RIGHT
        if is_line_start:
            expression = _LINE_START_EXPRESSION + expression
        return DateTemplate(pattern, expression, Kind.TAI64N, is_line_start=is_line_start)
    number = _LONG_SECONDS if kind == "LEPOCH" else _SECONDS
    if is_line_start:
        expression = rf"{_LINE_START_EXPRESSION}((?P<square>(?<=^\[))?{number})(?(square)(?=\]))"
    else:
        expression = (
            rf"((?:^|(?P<square>(?<=^\[))|(?P<selinux>(?<=\baudit\()))(?:{number}))"
            r"(?:(?(selinux)(?=:\d+\)))|(?(square)(?=\])))"
        )
    return DateTemplate(pattern, expression + _BOUND_RIGHT, Kind.EPOCH, is_line_start=is_line_start)


def _bind(pattern: str) -> str:
    """Return the pattern with its marks replaced: bounds on both sides, and group 1 around what is cut."""
    start = ""
    if pattern.startswith(LINE_START):
        start, pattern = _LINE_START_EXPRESSION, pattern.removeprefix(LINE_START)
    is_bound_left = not start and not pattern.startswith(("^", "(^"))
    is_bound_right = True
    if pattern.startswith(_UNBOUND):
        pattern, is_bound_left, is_bound_right = pattern.removeprefix(_UNBOUND), False, False
    if pattern.startswith("**"):
        pattern, is_bound_left = pattern.removeprefix("**"), False
    if pattern.endswith("**"):
        pattern, is_bound_right = pattern.removesuffix("**"), False
    if _UNBOUND_END.search(pattern):
        is_bound_right = False
    if not _OWN_GROUP.search(pattern):
        anchor = "^" if pattern.startswith("^") else ""
        pattern = f"{anchor}({pattern[len(anchor) :]})"
    left = _BOUND_LEFT if is_bound_left else ""
    return start + left + pattern + (_BOUND_RIGHT if is_bound_right else "")


def _put_in_tokens(pattern: str, latest_year: int) -> str:
    ignores_case = False

    def token(found: re.Match[str]) -> str:
        nonlocal ignores_case
        name = found[1]
        ignores_case = ignores_case or name in _NAMES_SOMETHING
        if name == "ExY":
            return _years(latest_year)
        if name not in _TOKENS:
            raise DatePatternError(f"unknown token %{name} (write %% for a percent sign) in {pattern[:80]!r}")
        return _TOKENS[name]

    expression = _TOKEN.sub(token, pattern)
    return _IGNORES_CASE + expression if ignores_case else expression


def _years(latest_year: int) -> str:
    decades = "".join(map(str, range(min((latest_year - 2000) // 10, 9) + 1)))
    return rf"(?P<Y>20[{decades}]\d)"
