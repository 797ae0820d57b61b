"""Reads whole lines, their date cut out, in the order that Fail2ban's filters are written for.

The date is found and cut out; a prefix expression may name the part (`content`) that the patterns see; the
first pattern that matches wins; ignores take a match back; lines of one connection count together; and some
patterns look at several lines at once. What a stranger made of the text changes nothing of that order.

Nothing is resolved and nothing refused here: who is meant is text, as the groups give it. Whether it is an
address is decided by whoever wants a `Source`.

Source: what Fail2ban 1.0.2 of Debian answers to such filters and lines.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from correlator.lines.date_patterns import expand_patterns
from correlator.lines.dates import DateReader, Stamp, first_of_year, year_of
from correlator.lines.expressions import TimeLimit, compile_expression
from correlator.lines.zones import find_zone
from correlator.matching.connections import Connections, Failure, Value
from correlator.matching.filter_definition import WholeLines
from correlator.matching.needs import required_literal, required_text
from correlator.model import SECOND, Micros

_ALTERNATIVE = re.compile(r"(alt|tuple)_(.*?)(?:_\d+)?", re.DOTALL)
_SKIPPED = re.compile(r"skiplines\d+")
_DATE_GOOD_FOR: Micros = 60 * SECOND
_LATEST_YEAR = 2029
"""`%ExY` finds the years of this decade too; a replay of old lines must not lose what came since."""
_YEARS_AHEAD = 3
_FEW_IGNORES = 2
_SHORTEST_LITERAL = 3
_MOST_LOGS = 1000
IDENTITIES = ("fid", "ip4", "ip6", "dns")
"""The groups that say who is meant, the first that took part wins."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was understood."""

    pattern: str
    at: Micros
    identity: str
    """Who is meant, as text: an address, or whatever else the filter takes for one."""
    fields: Mapping[str, Value]
    """The named groups that took part, lower case, an `alt_NAME` filled in; those of the connection too."""
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One line of the buffer."""

    text: str
    subject: str
    """The line without its date, with a line feed."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    name: str
    compiled: re.Pattern[str]
    literal: str
    """Text without which it cannot match."""
    beginnings: tuple[str, ...]
    """With one of these begins whatever it can match; empty: with anything."""


def _pattern(name: str, expression: str, *, is_multiline: bool) -> _Pattern:
    compiled = compile_expression(expression, is_multiline=is_multiline)
    beginnings, texts = required_text(expression)
    if compiled.flags & re.MULTILINE:  # any line may begin so, not only the first
        beginnings = ()
    return _Pattern(name, compiled, texts[0] if texts else "", beginnings)


@dataclass(slots=True)
class _Log:
    """What is remembered of the lines of one log."""

    buffer: deque[_Seen]
    connections: Connections = field(default_factory=Connections)
    last: Micros | None = None
    """The last date."""


@dataclass(slots=True)
class _Match:
    pattern: str
    fields: dict[str, Value]
    lines: tuple[str, ...] = field(default_factory=tuple)


class WholeLineReader:
    """Reads the lines of one log, in their order. Raises ExpressionError or DatePatternError when made."""

    def __init__(
        self,
        how: WholeLines,
        patterns: Sequence[tuple[str, str]],
        ignores: Sequence[str],
        *,
        limit: TimeLimit,
    ) -> None:
        """Take the name and the expression of each pattern, in the order of trying."""
        is_multiline = how.max_lines > 1
        self.quarantined: dict[str, str] = {}
        """The expressions that ran over, and what is kept from them since."""
        self._longest: dict[str, int] = {}
        self._limit = limit
        self._prefix = compile_expression(how.prefix) if how.prefix else None
        self._prefix_literal = required_literal(how.prefix) if how.prefix else ""
        self._patterns = [
            _pattern(name, expression, is_multiline=is_multiline) for name, expression in patterns
        ]
        self._ignores = [compile_expression(expression) for expression in ignores]
        self._how = how
        self._learn_years(_LATEST_YEAR)
        self._max_lines = how.max_lines
        self._logs: dict[str, _Log] = {}

    def succeed(self, before: WholeLineReader) -> None:
        """Remember of each log what another remembered that read the same lines so far."""
        self._logs = {
            origin: _Log(deque(log.buffer, maxlen=self._max_lines), log.connections, log.last)
            for origin, log in before._logs.items()
        }

    def literals(self) -> Iterator[str]:
        """Yield text of which every line that any pattern matches contains one; empty where nothing is known.

        The patterns see the line without its date: what they need may stand on both sides of it.
        """
        if self._max_lines != 1:
            yield ""  # every line counts where several are looked at together
            return
        texts = {  # a line feed ends each line that patterns see, and stands in none that is looked for
            max(text.split("\n"), key=len) for pattern in self._patterns for text in self._texts_of(pattern)
        }
        for literal in texts:
            if self._is_date_first:
                leading = next((at for at in range(3) if literal[at : at + 1].isalnum()), 2)
                parts = [literal[leading:]]
            else:
                parts = [literal[: len(literal) // 2], literal[len(literal) // 2 :]]
            yield from parts if all(len(part) >= _SHORTEST_LITERAL for part in parts) else [""]

    def _texts_of(self, pattern: _Pattern) -> tuple[str, ...]:
        """Return texts of which one stands in whatever the pattern can match; those that are rarest."""
        choices = ((pattern.literal,), pattern.beginnings or ("",), (self._prefix_literal,))
        return max(choices, key=lambda texts: min(map(len, texts)))

    def read(self, line: str, now: Micros, *, at: Micros | None = None, origin: str = "") -> Finding | None:
        """Return what a line (without its end) says; `at`: its time where it brings that and has no date.

        `origin`: which log it stands in; what is remembered of one means nothing to another.
        """
        log = self._log(origin)
        subject = line
        if now >= self._decade_ends:
            self._learn_years(year_of(now) + _YEARS_AHEAD)
        if at is None and (stamp := self._find_date(line, now)) is not None:
            subject = line[: stamp.start] + line[stamp.end :]
            at = stamp.at
        if at is not None:
            log.last = at
        elif log.last is not None and now - log.last < _DATE_GOOD_FOR:
            at = log.last
        else:
            at = now
        log.buffer.append(_Seen(line, subject + "\n"))
        found = self._match("".join(seen.subject for seen in log.buffer), log)
        if found is None:
            return None
        failure = _judge(found, line, now, log)
        if failure is None:
            return None
        identity = _identity(failure.fields)
        if identity is None:
            return None
        return Finding(found.pattern, at, identity, failure.fields, failure.lines)

    def _learn_years(self, latest: int) -> None:
        """Find dates up to the end of a year's decade; until that is less than three years ahead."""
        templates = expand_patterns(self._how.date_patterns, latest_year=latest)
        self._is_date_first = all(template.cuts_line_start for template in templates)
        self._dates = DateReader(templates, zone=find_zone(self._how.zone), limit=self._limit)
        self._decade_ends = first_of_year(latest // 10 * 10 + 10 - _YEARS_AHEAD)

    def _log(self, origin: str) -> _Log:
        log = self._logs.get(origin)
        if log is None:
            if len(self._logs) >= _MOST_LOGS:
                del self._logs[next(iter(self._logs))]
            log = self._logs[origin] = _Log(deque(maxlen=self._max_lines))
        return log

    def _find_date(self, line: str, now: Micros) -> Stamp | None:
        try:
            return self._dates.find(line, now)
        except TimeoutError:
            return None

    def _match(self, text: str, log: _Log) -> _Match | None:
        """Return the match of the first pattern, unless an ignore takes it back."""
        many = len(self._patterns) - _FEW_IGNORES
        if 0 < len(self._ignores) < many and self._is_ignored(text):
            return None
        fields: dict[str, Value] = {}
        if self._prefix is not None:
            found = self._search(self._prefix, text, "prefix")
            if found is None:
                return None
            fields = _groups(found)
            content = fields.pop("content", "")
            if content and isinstance(content, str):
                text = content + "\n"
        for pattern in self._patterns:
            if pattern.literal not in text or not text.startswith(pattern.beginnings or ""):
                continue
            found = self._search(pattern.compiled, text, pattern.name)
            if found is None:
                continue
            if self._is_ignored(text):
                return None
            fields |= _groups(found)
            return _Match(pattern.name, fields, _take_lines(found, log.buffer))
        return None

    def _search(self, compiled: re.Pattern[str], text: str, name: str) -> re.Match[str] | None:
        """Return the match; of an expression that ran over, only on texts at most half as long from then on.

        Others wrote it, and it must go on to see ordinary lines: one long line, made for it to run over,
        would otherwise blind us to everything that comes after.
        """
        if len(text) > self._longest.get(name, len(text)):
            return None
        try:
            return self._limit.run(compiled.search, text)
        except TimeoutError as exc:
            self._longest[name] = len(text) // 2
            self.quarantined[name] = f"{exc}; it is not shown texts of more than {len(text) // 2} any more"
            return None

    def _is_ignored(self, text: str) -> bool:
        return any(self._search(compiled, text, "ignore") is not None for compiled in self._ignores)


def _take_lines(found: re.Match[str], buffer: deque[_Seen]) -> tuple[str, ...]:
    """Take the lines that a match used out of the buffer; those it skipped stay. Return the used ones."""
    if buffer.maxlen == 1:
        return ()
    skipped = [
        found.span(name)
        for name in found.re.groupindex
        if _SKIPPED.fullmatch(name) and found.start(name) >= 0
    ]
    used: list[str] = []
    left: list[_Seen] = []
    start = 0
    for seen in buffer:
        end = start + len(seen.subject)
        is_inside = start < found.end() and end > found.start()
        is_skipped = any(first <= start and end <= last for first, last in skipped)
        if is_inside and not is_skipped:
            used.append(seen.text)
        else:
            left.append(seen)
        start = end
    buffer.clear()
    buffer.extend(left)
    return tuple(used)


def _judge(found: _Match, line: str, now: Micros, log: _Log) -> Failure | None:
    fields = _fill_in(found.fields)
    name = fields.get("mlfid")
    if isinstance(name, str):
        return log.connections.merge(name, fields, line, now)
    if fields.get("nofail"):
        return None
    return Failure(fields, found.lines or (line,))


def _groups(found: re.Match[str]) -> dict[str, Value]:
    return {name: text for name, text in found.groupdict().items() if text is not None}


def _fill_in(fields: dict[str, Value]) -> dict[str, Value]:
    """Return the fields with each empty NAME filled from `alt_NAME`, and `tuple_NAME` put behind it."""
    whole = dict(fields)
    parts: list[tuple[str, Value]] = []
    for name in sorted(fields):
        found = _ALTERNATIVE.fullmatch(name)
        if found is None:
            continue
        if found[1] == "tuple":
            parts.append((found[2], fields[name]))
        elif fields[name] and not whole.get(found[2]):
            whole[found[2]] = fields[name]
    for name, part in parts:
        before = whole.get(name)
        first: tuple[str | None, ...] = before if isinstance(before, tuple) else (before,)
        whole[name] = (*first, *(part if isinstance(part, tuple) else (part,)))
    return whole


def _identity(fields: Mapping[str, Value]) -> str | None:
    """Return who is meant; an address in its canonical form, with the prefix length where one is given."""
    for name in IDENTITIES:
        text = fields.get(name)
        if not isinstance(text, str):
            continue
        if name not in ("ip4", "ip6"):
            return text
        return _canonical(text, fields.get("cidr"))
    return None


def _spelled(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as inet_ntop(3) does: `::7.48.0.1`, where Python has `::730:1`."""
    value = int(address)
    if address.version == 6 and 0xFFFF < value <= 0xFFFF_FFFF:
        return f"::{ipaddress.IPv4Address(value)}"
    return str(address)


def _canonical(text: str, length: Value | None) -> str:
    try:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if isinstance(length, str) and length:
            network = ipaddress.ip_network((address, int(length)), strict=False)
            return str(address if network.prefixlen == network.max_prefixlen else network)
    except ValueError:  # looks like one and is none: kept as it stands
        return text
    return _spelled(address)
