"""Turns what arrives, chunks of a log or entries of the journal, into events.

A line that no filter can want never becomes a Python object: the prefilter sees the chunk as bytes, and a
table says which filters read the lines of which program, however many there are. Decides each line's time:
its own stamp, or its arrival where the stamp cannot be true. "Last message repeated 3 times" is the line
before it, three times. What comes by more than one way is one event. Bounded: a line over the bound is
counted and shown, never cut and judged; records have a wider bound, and the lines kept of them are cut.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from correlator.lines.duplicates import Duplicates
from correlator.lines.layout_definition import TEXT, Layout
from correlator.lines.layouts import RECORD_BEGINS, Reading, apply_layout
from correlator.lines.syslog import (
    LAST_REPEATED_BY,
    Header,
    HeaderReader,
    StampReader,
    format_line,
    parse_header,
    repeats_of_last,
)
from correlator.matching.choices import Readers
from correlator.matching.filter_definition import FilterDefinition
from correlator.matching.filters import BEGINNING, Filter, Unreadable
from correlator.matching.patterns import Line
from correlator.matching.postponed import Postponed, Room
from correlator.matching.prefilter import Prefilter
from correlator.model import SECOND, Chunk, Entries, Entry, Event, Evidence, Micros

_SKEW_BEHIND: Micros = 60 * SECOND
_SKEW_AHEAD: Micros = 2 * SECOND
_UNREADABLE_SHOWN = 20
_SHOWN_OF_LONG = 200
_LONGEST_RECORD = 1 << 18  # who types a lot into a field must not make his record unreadable by that
# What syslog daemons write, and what logrotate makes of it.
_SYSLOG_FILE = re.compile(
    r"(?:auth\.log|authlog|secure|syslog|messages|maillog|mail\.(?:log|err|warn|info)|(?:daemon|kern|user)\.log|debug)"
    r"(?:\.\d{1,4}|-\d{8})?(?:\.(?:gz|bz2|xz|zst))?"
)
_LONGEST_IDENTIFIER = 256
_MOST_IDENTIFIERS = 4096  # a stranger who can name himself must not fill our memory with names


@dataclass(slots=True)
class OriginCounters:
    """What came from one origin since the start."""

    lines: int = 0
    candidates: int = 0
    events: int = 0
    unreadable: int = 0
    cut: int = 0
    """Lines longer than the bound."""
    skewed: int = 0
    """Live lines whose own stamp strayed and that were taken at arrival."""
    last_skew: Micros = 0
    duplicates: int = 0
    """Messages that another origin had brought already."""


@dataclass(slots=True)
class _Route:
    """The filters that read one origin."""

    filters: tuple[Filter, ...]
    has_plain: bool
    """False for what a syslog daemon writes: a line of no program there is somebody's who broke a line."""
    has_records: bool = False
    """Whether a filter reads fields and not text."""
    by_identifier: dict[str, Readers] = field(default_factory=dict)
    by_writer: dict[str, tuple[Filter, ...]] = field(default_factory=dict)
    last_line: bytes = b""
    """The last line that came, for a chunk that begins by repeating it."""
    postponed: Postponed | None = None
    """Lines about logins that nobody asked for yet; None: no filter follows logins."""

    def readers(self, identifier: str, body: str) -> tuple[Filter, ...]:
        """Return the filters that can understand such a line of this program."""
        found = self.by_identifier.get(identifier)
        if found is None:
            is_read = self.has_plain or identifier != ""
            found = Readers.of(
                filter_
                for filter_ in self.filters
                if filter_.wants(identifier) and (is_read or filter_.reads_whole_lines)
                if not filter_.is_told_by(identifier)  # such lines wait: see `postponed`
            )
            _remember(self.by_identifier, identifier, found)
        return found.by_beginning.get(body[:BEGINNING], found.otherwise).take(body)

    def takers(self, identifier: str) -> tuple[Filter, ...]:
        """Return the filters that may take journal entries of this program."""
        found = self.by_writer.get(identifier)
        if found is None:
            found = tuple(filter_ for filter_ in self.filters if filter_.may_take(identifier))
            _remember(self.by_writer, identifier, found)
        return found


def _record_readers(readers: Iterable[Filter], body: str) -> tuple[Filter, ...]:
    """Return those that read fields and not text, where a body may hold such."""
    return tuple(one for one in readers if one.layout.is_json and body.lstrip().startswith(RECORD_BEGINS))


def _remember(table: dict[str, Any], identifier: str, found: Any) -> None:
    if len(table) >= _MOST_IDENTIFIERS:
        table.clear()
    if len(identifier) <= _LONGEST_IDENTIFIER:
        table[identifier] = found


class Reader:
    """The filters of a site, each at the origins that it reads."""

    def __init__(
        self, filters: Mapping[str, Filter], *, routes: Mapping[str, Sequence[str]], max_line: int
    ) -> None:
        """Take what runs; `routes` names, for each origin, the filters that read it."""
        self.origins: dict[str, OriginCounters] = {}
        self.unreadable: deque[Unreadable] = deque(maxlen=_UNREADABLE_SHOWN)
        self._max_line = max_line
        self._duplicates = Duplicates()
        self._headers = HeaderReader()
        self._stamps = StampReader()
        self._filters = filters
        self._room = Room()
        self._prefilters: dict[tuple[bool, tuple[Filter, ...]], Prefilter] = {}
        self._routes: dict[str, _Route] = {}
        for origin, names in routes.items():
            self.follow(origin, names)

    def succeed(self, before: Reader) -> None:
        """Go on counting where another reader ended."""
        self.origins = before.origins
        self.unreadable = before.unreadable
        self._duplicates = before._duplicates
        for origin, route in before._routes.items():
            before._catch_up(route)
            if origin in self._routes:
                self._routes[origin].last_line = route.last_line

    def follow(self, origin: str, names: Sequence[str]) -> None:
        """Have these filters read an origin from now on; files of one pattern share their prefilter."""
        has_plain = _SYSLOG_FILE.fullmatch(origin.rpartition("/")[2]) is None
        filters = tuple(self._filters[name] for name in names if name in self._filters)
        before = self._routes.get(origin)
        has_records = any(filter_.layout.is_json for filter_ in filters)
        self._routes[origin] = _Route(filters, has_plain, has_records)
        if any(filter_.definition.logins for filter_ in filters):
            self._routes[origin].postponed = Postponed(filters, self._room)
        if before is not None:
            self._catch_up(before)
            self._routes[origin].last_line = before.last_line

    def warm(self, origin: str) -> None:
        """Make ready for lines of this origin, so that the first of them need not wait."""
        if (route := self._routes.get(origin)) is not None:
            self._prefilter_of(route)
            for filter_ in route.filters:
                filter_.warm()

    def drop(self, origin: str) -> None:
        """Forget an origin that is gone, but not who is logged in by it: its log may come back."""
        if (route := self._routes.pop(origin, None)) is not None:
            self._catch_up(route)
        self.origins.pop(origin, None)

    def read(self, arrived: Chunk | Entries) -> Iterator[Event]:
        """Yield what the filters understand, in the order of the lines."""
        counters = self.origins.setdefault(arrived.origin, OriginCounters())
        route = self._routes.get(arrived.origin)
        if isinstance(arrived, Entries):
            counters.lines += len(arrived.entries)
            if route is not None:
                for entry in arrived.entries:
                    yield from self._read_entry(entry, arrived, route, counters)
            return
        data = arrived.data
        counters.lines += len(data) - len(data.replace(b"\n", b""))  # four times as quick as to count them
        if route is not None and data:
            yield from self._read_chunk(arrived, route, counters)

    def _read_chunk(self, chunk: Chunk, route: _Route, counters: OriginCounters) -> Iterator[Event]:
        data, arrived, headers = chunk.data, chunk.arrived, self._headers.read
        postponed = route.postponed
        if postponed is not None and postponed.is_full:
            self._catch_up(route)
        told = None if postponed is None else postponed.begin(chunk)
        for start, end in self._prefilter_of(route).candidates(data, identifier=chunk.identifier, told=told):
            counters.candidates += 1
            is_long = end - start > self._max_line
            if is_long and not self._may_be_record(end - start, route):
                text = data[start : start + self._max_line].decode("utf-8", "surrogateescape")
                self._refuse_long(Evidence(arrived, chunk.origin, chunk.offset + start, text), counters)
                continue
            text = shown = data[start:end].decode("utf-8", "surrogateescape")
            header = Header("", "", chunk.identifier, "", text) if chunk.identifier else headers(text)
            stamp = self._stamps.read(header.stamp, arrived)
            if header.identifier in LAST_REPEATED_BY and (repeats := repeats_of_last(header, text)) > 0:
                header = parse_header(self._line_before(chunk, start, route))._replace(repeats=repeats)
            readers = route.readers(header.identifier, header.body)
            if is_long:
                readers, shown = _record_readers(readers, header.body), text[: self._max_line]
            if readers:
                if postponed is not None and not postponed.filters.isdisjoint(readers):
                    self._catch_up(route, start)
                at = self._instant(stamp, chunk, counters)
                line = Line(header, Evidence(at, chunk.origin, chunk.offset + start, shown), arrived=arrived)
                yield from self._events(line, stamp, readers, chunk, counters)
            elif is_long:
                self._refuse_long(Evidence(arrived, chunk.origin, chunk.offset + start, shown), counters)
        if postponed is not None:
            postponed.end()
        route.last_line = data[_start_of_last(data, len(data)) : -1]

    def _catch_up(self, route: _Route, before: int | None = None) -> None:
        """Read the lines about logins that were put off; none of them is an event."""
        if route.postponed is None:
            return
        for chunk, offset, data in route.postponed.take(before):
            text = data[: self._max_line].decode("utf-8", "surrogateescape")
            if len(data) > self._max_line:
                counters = self.origins[chunk.origin]
                self._refuse_long(Evidence(chunk.arrived, chunk.origin, offset, text), counters)
                continue
            header = parse_header(text)
            stamp = self._stamps.read(header.stamp, chunk.arrived)
            at = self._instant(stamp, chunk, self.origins[chunk.origin])
            line = Line(header, Evidence(at, chunk.origin, offset, text), arrived=chunk.arrived)
            for filter_ in route.postponed.filters:
                if filter_.is_told_by(header.identifier):
                    filter_.read(line)

    def _prefilter_of(self, route: _Route) -> Prefilter:
        """Return what finds its candidates, built for its first chunk: most logs are not there."""
        key = (route.has_plain, route.filters)
        if key not in self._prefilters:
            needs = (need for filter_ in route.filters for need in filter_.needs())
            logins = (need for filter_ in route.filters for need in filter_.needs_of_logins())
            self._prefilters[key] = Prefilter(needs, logins=logins, has_plain=route.has_plain)
        return self._prefilters[key]

    def _read_entry(
        self, entry: Entry, arrived: Entries, route: _Route, counters: OriginCounters
    ) -> Iterator[Event]:
        readers = tuple(filter_ for filter_ in route.takers(entry.identifier) if filter_.takes(entry))
        if not readers:
            return
        counters.candidates += 1
        is_long = len(entry.body) > self._max_line
        if is_long:
            may_be_record = self._may_be_record(len(entry.body), route)
            readers = _record_readers(readers, entry.body) if may_be_record else ()
        if not readers:
            self._refuse_long(Evidence(arrived.arrived, arrived.origin, entry.at, entry.body), counters)
            return
        header = Header("", entry.host, entry.identifier, entry.pid, entry.body)
        at = self._instant(entry.at, arrived, counters)
        shown = format_line(entry.at, header)
        evidence = Evidence(at, arrived.origin, entry.at, shown[: self._max_line] if is_long else shown)
        line = Line(header, evidence, arrived=arrived.arrived)
        yield from self._events(line, entry.at, readers, arrived, counters)

    def _events(
        self,
        line: Line,
        stamp: Micros | None,
        readers: Iterable[Filter],
        arrived: Chunk | Entries,
        counters: OriginCounters,
    ) -> list[Event]:
        events: list[Event] = []
        laid_out: dict[Layout, Line] = {}
        times: int | None = None
        for filter_ in readers:
            own = line
            if filter_.layout is not TEXT:
                if filter_.layout not in laid_out:
                    laid_out[filter_.layout] = self._lay_out(line, filter_.layout, arrived, counters)
                own = laid_out[filter_.layout]
            answer, late = filter_.read(own), filter_.late
            if answer is None and not late:
                continue
            for each in (answer, *late) if late else (answer,):
                if each is None:
                    continue
                if not isinstance(each, Event):
                    counters.unreadable += 1
                    self.unreadable.append(each)
                    continue
                said = line.header.repeats
                if times is None:
                    is_alone = len(self._routes) < 2
                    times = said if is_alone else self._new_times(line.header, stamp, arrived, counters)
                if times:
                    counters.events += 1
                    event = each if each.at == own.evidence.at else self._settle(each, arrived, counters)
                    if times != said:
                        event = event._replace(count=max(1, event.count * times // said))
                    events.append(event)
        return events

    def _lay_out(
        self, line: Line, layout: Layout, arrived: Chunk | Entries, counters: OriginCounters
    ) -> Line:
        """Return the line as a layout reads it, at the time that it finds there."""
        own = apply_layout(layout, Reading(line.header, None), line.evidence.line, arrived=arrived.arrived)
        evidence = line.evidence
        if own.stamp is not None:
            evidence = evidence._replace(at=self._instant(own.stamp, arrived, counters))
        return Line(own.header, evidence, own.record, own.trouble, arrived.arrived)

    def _new_times(
        self, header: Header, stamp: Micros | None, arrived: Chunk | Entries, counters: OriginCounters
    ) -> int:
        """Return how often the message was said, without what another origin has brought already."""
        at = arrived.arrived if stamp is None else stamp
        times = self._duplicates.take(
            arrived.origin,
            identifier=header.identifier,
            pid=header.pid,
            body=header.body,
            at=at,
            times=header.repeats,
        )
        counters.duplicates += times < header.repeats
        return times

    def _settle(self, event: Event, arrived: Chunk | Entries, counters: OriginCounters) -> Event:
        """Return the event at a time that can be true: its filter read a date of its own."""
        at = self._instant(event.at, arrived, counters)
        return event._replace(at=at, evidence=event.evidence._replace(at=at))

    def _line_before(self, chunk: Chunk, start: int, route: _Route) -> str:
        """Return the line that stands before `start`; empty where it is too long, or never came."""
        line = chunk.data[_start_of_last(chunk.data, start) : start - 1] if start > 0 else route.last_line
        return line.decode("utf-8", "surrogateescape") if len(line) <= self._max_line else ""

    @staticmethod
    def _may_be_record(length: int, route: _Route) -> bool:
        """Whether a line over the bound may still be a record that somebody reads."""
        return route.has_records and length <= _LONGEST_RECORD

    def _refuse_long(self, evidence: Evidence, counters: OriginCounters) -> None:
        """Count a line over the bound; cut, it could end where the stranger wants it to."""
        counters.cut += 1
        evidence = evidence._replace(line=evidence.line[:_SHOWN_OF_LONG])
        self.unreadable.append(Unreadable("-", f"longer than {self._max_line} bytes", evidence))

    @staticmethod
    def _instant(stamp: Micros | None, arrived: Chunk | Entries, counters: OriginCounters) -> Micros:
        """Return a line's time: its own stamp, or its arrival where the stamp cannot be true."""
        arrival = arrived.arrived
        if stamp is None:
            return arrival
        if stamp > arrival + _SKEW_AHEAD or (arrived.is_live and stamp < arrival - _SKEW_BEHIND):
            counters.skewed += 1
            counters.last_skew = stamp - arrival
            return arrival
        return stamp  # not the earlier of both: read again after a crash it must be the same


def review_files(definition: FilterDefinition) -> Iterator[str]:
    """Yield what is wrong with the files that a filter names: those in which it can read nothing."""
    if any(definition.identifiers) or definition.whole_lines is not None:
        return
    for file in definition.files:
        if _SYSLOG_FILE.fullmatch(file.rpartition("/")[2]):
            yield (
                f"nothing is read in {file}: lines of no program are nobody's there;"
                " name the program in `identifiers`"
            )


def _start_of_last(data: bytes, end: int) -> int:
    """Return where the line begins that ends, with its line feed, at `end`."""
    return data.rfind(b"\n", 0, max(end - 1, 0)) + 1
