"""From chunks to events: who reads which line, repeated lines, records, and the bounds."""

import json
import time
from dataclasses import replace

import pytest

from correlator.lines.layout_definition import Layout
from correlator.lines.syslog import format_instant
from correlator.matching.filter_definition import Condition, FilterDefinition, PatternDefinition
from correlator.matching.filters import Filter
from correlator.matching.patterns import PatternError
from correlator.model import JOURNAL, SECOND, Chunk, Entries, Entry
from correlator.reading import Reader

NOW = 1_795_357_762 * SECOND
LOG = "/log/x"
KNOCK = PatternDefinition("knock", r"^knock from (?P<source>\S+)$")


def _filter(name="x", patterns=(KNOCK,), **settings):
    settings = {"identifiers": frozenset({"knockd"}), "files": (LOG,), **settings}
    return Filter(FilterDefinition(name, "", "test", patterns=patterns, **settings))


def _reader(*filters, max_line=8192):
    return Reader(
        {filter_.name: filter_ for filter_ in filters},
        routes={LOG: [filter_.name for filter_ in filters]},
        max_line=max_line,
    )


def _chunk(*lines, offset=0, is_live=False):
    return Chunk(LOG, offset, "".join(f"{line}\n" for line in lines).encode(), NOW, is_live)


def _stamped(text, seconds=0):
    return f"{format_instant(NOW - 60 * SECOND + seconds * SECOND)} {text}"


@pytest.mark.parametrize(
    ("identifiers", "header", "is_read"),
    [
        ({"knockd"}, "vm knockd[1]: ", True),
        ({"knockd"}, "vm other: ", False),
        ({"knockd"}, "", False),
        ({"knock/*"}, "vm knock/smtpd[1]: ", True),
        ({"knock/*"}, "vm xknock/smtpd[1]: ", False),
        ({"*"}, "vm other: ", True),
        (set(), "", True),
        (set(), "vm knockd[1]: ", False),
        ({"", "knockd"}, "", True),
    ],
)
def test_a_filter_reads_the_lines_of_its_programs_only(identifiers, header, is_read):
    """Another program may be made to say anything; a line of no program is read where the filter says so."""
    reader = _reader(_filter(identifiers=frozenset(identifiers)))
    events = list(reader.read(_chunk(_stamped(f"{header}knock from 192.0.2.1"))))
    assert [str(event.source) for event in events] == ["192.0.2.1"] * is_read


@pytest.mark.parametrize("name", ["auth.log", "syslog.1", "mail.log.2.gz", "messages-20261122", "secure"])
def test_a_line_of_no_program_is_nobodys_in_a_syslog_file(name):
    """Who gets a line feed past a careless daemon begins such a line himself, and names whom he likes."""
    filter_ = _filter(identifiers=frozenset({"", "knockd"}))
    reader = Reader(
        {"x": filter_}, routes={f"/var/log/{name}": ["x"], "/var/log/knock.log": ["x"]}, max_line=99
    )
    lines = f"{_stamped('knock from 192.0.2.1')}\n{_stamped('vm knockd: knock from 192.0.2.2')}\n".encode()
    for path, expected in ((f"/var/log/{name}", ["192.0.2.2"]), ("/var/log/knock.log", ["192.0.2.1"])):
        found = [str(event.source) for event in reader.read(Chunk(path, 0, lines, NOW, False))]
        assert found[: len(expected)] == expected


@pytest.mark.parametrize(
    "line",
    [
        "{at} vm knockd[1]: knock from {source}",
        "{at} vm knockd[1]: message repeated 3 times: [ knock from {source}]",
        "<29>1 {at} vm knockd 1 - - knock from {source}",
        "{at} knock from {source}",
        "23.11.2026 08:01:02 knock from {source}",
        "knock from {source}",
    ],
)
def test_a_line_may_end_with_a_carriage_return(line):
    """Whatever Windows wrote, or a terminal passed on, is read as any other line."""
    layout = Layout(dates=("%d.%m.%Y %H:%M:%S",))
    reader = _reader(_filter(identifiers=frozenset({"", "knockd"}), layout=layout), _filter("text"))
    lines = [line.format(at=format_instant(NOW), source=f"192.0.2.{last}") + "\r" for last in (1, 2)]
    found = [str(event.source) for event in reader.read(_chunk(*lines)) if event.filter == "x"]
    assert found == ["192.0.2.1", "192.0.2.2"]


def test_each_filter_of_an_origin_sees_a_line():
    """Two filters may understand the same line, each in its own way."""
    reader = _reader(_filter("a"), _filter("b"), _filter("c", identifiers=frozenset({"other"})))
    events = reader.read(_chunk(_stamped("vm knockd: knock from 192.0.2.1")))
    assert [event.filter for event in events] == ["a", "b"]


@pytest.mark.parametrize(
    ("said", "count"), [("0", 1), ("7", 7), ("10001", 10_000), ("9" * 30, 10_000), ("x", 1)]
)
def test_a_pattern_may_say_how_often_it_happened(said, count):
    """A flood counts as much as a line may, not as one."""
    pattern = PatternDefinition("many", r"^(?P<count>\S+) knocks from (?P<source>\S+)$")
    events = _reader(_filter(patterns=(pattern,))).read(
        _chunk(_stamped(f"vm knockd: {said} knocks from 192.0.2.1"))
    )
    assert [event.count for event in events] == [count]


def test_a_message_repeated_counts_as_often_as_it_says():
    """With a bound: who says a million times is a liar or a flood."""
    reader = _reader(_filter())
    events = reader.read(
        _chunk(
            _stamped("vm knockd: message repeated 3 times: [ knock from 192.0.2.1]"),
            _stamped("vm knockd: message repeated 900000000 times: [ knock from 192.0.2.1]"),
        )
    )
    assert [event.count for event in events] == [3, 10_000]


@pytest.mark.parametrize("is_split", [False, True])
def test_the_last_message_repeated_is_the_line_before(is_split):
    """It counts at its own time and place, also where the line before came with an earlier chunk."""
    lines = [_stamped("vm knockd: knock from 192.0.2.1"), _stamped("vm last message repeated 2 times", 5)]
    reader = _reader(_filter())
    chunks = [_chunk(*lines)]
    if is_split:
        chunks = [_chunk(lines[0]), _chunk(lines[1], offset=len(lines[0]) + 1)]
    events = [event for chunk in chunks for event in reader.read(chunk)]
    assert [(event.count, str(event.source)) for event in events] == [(1, "192.0.2.1"), (2, "192.0.2.1")]
    assert events[1].at == events[0].at + 5 * SECOND
    assert (events[1].evidence.line, events[1].evidence.offset) == (lines[1], len(lines[0]) + 1)


@pytest.mark.parametrize(
    "before", ["vm other: knock from 192.0.2.1", "vm last message repeated 2 times", None]
)
def test_what_was_not_ours_is_not_ours_when_repeated(before):
    """The line before is read by whoever reads its program, and a repetition is not repeated."""
    lines = [_stamped("vm knockd: knock from 192.0.2.1")] if before is None else [_stamped(before)]
    reader = _reader(_filter())
    assert len(list(reader.read(_chunk(*lines, *[_stamped("vm last message repeated 2 times")] * 2)))) == (
        2 if before is None else 0
    )


def test_a_line_over_the_bound_is_shown_and_not_judged():
    """Cut, it could end where the stranger wants it to."""
    reader = _reader(_filter(), max_line=100)
    line = _stamped("vm knockd: knock from 192.0.2.1")
    assert list(reader.read(_chunk(line + " " * 100, _stamped("vm last message repeated 2 times")))) == []
    assert reader.origins[LOG].cut == 1
    assert reader.unreadable[0].evidence.line == (line + " " * 100)[:100]


ALERT = {
    "timestamp": "2026-11-22T14:28:22.5+0000",
    "event_type": "alert",
    "src_ip": "192.0.2.1",
    "dest_port": 22,
    "alert": {"severity": 1, "signature": "ET SCAN Potential SSH Scan", "list": [{"x": "a"}]},
}


def _eve(name="x", **settings):
    pattern = PatternDefinition(
        "alert", "", conditions=(Condition("event_type", frozenset({"alert"})),), paths={"source": "src_ip"}
    )
    settings = {"identifiers": frozenset({"", "ids"}), "layout": Layout(is_json=True), **settings}
    return _filter(name, (pattern,), **settings)


def _padded(length):
    line = json.dumps({**ALERT, "url": ""})
    return line.replace('"url": ""', f'"url": "{"/" * (length - len(line))}"')


@pytest.mark.parametrize(
    ("length", "is_read"), [(8192, True), (8193, True), (1 << 18, True), ((1 << 18) + 1, False)]
)
def test_who_types_a_lot_into_a_record_hides_nothing(length, is_read):
    """A long URL makes a long record; what is kept of the line for people is cut."""
    line = _padded(length)
    assert len(line) == length
    reader = _reader(_eve())
    events = list(reader.read(_chunk(line)))
    assert [(str(event.source), event.evidence.line) for event in events] == [
        ("192.0.2.1", line[:8192])
    ] * is_read
    assert reader.origins[LOG].cut == (not is_read)


def test_a_long_record_is_no_text():
    """A filter that reads text never sees a line over the bound; text over it is counted, whoever reads."""
    text = _filter("text", identifiers=frozenset({"", "ids"}))
    reader = _reader(_eve(), text)
    lines = [
        _stamped(f"vm ids[1]: {_padded(9000)}"),
        _stamped("vm ids[1]: knock from 192.0.2.1" + " " * 9000),
    ]
    assert [event.filter for event in reader.read(_chunk(*lines))] == ["x"]
    alone = _reader(text)
    assert list(alone.read(_chunk(lines[1]))) == []
    assert (reader.origins[LOG].cut, alone.origins[LOG].cut) == (1, 1)


@pytest.mark.parametrize(("length", "is_read"), [(8193, True), ((1 << 18) + 1, False)])
def test_a_long_record_is_read_from_the_journal_too(length, is_read):
    """Suricata may write its records to syslog."""
    reader = _reader(_eve())
    reader.follow(JOURNAL, ["x"])
    entries = Entries(JOURNAL, (Entry(NOW, "vm", "ids", "1", _padded(length)),), NOW)
    assert len(list(reader.read(entries))) == is_read
    assert reader.origins[JOURNAL].cut == (not is_read)


@pytest.mark.parametrize(
    ("conditions", "is_ignored"),
    [
        ((Condition("alert.severity", frozenset({"1"})),), True),
        ((Condition("alert.severity", frozenset({"1"})), Condition("dest_port", frozenset({"23"}))), False),
        ((Condition("alert.signature", expression="^ET SCAN "),), True),
        ((Condition("nothing", expression=""),), False),
    ],
)
def test_records_that_mean_nothing_are_told_by_their_fields(conditions, is_ignored):
    """All of one set's conditions are met; in which order the fields stand does not matter."""
    reader = _reader(_eve(ignored_records=((Condition("src_ip", frozenset({"192.0.2.9"})),), conditions)))
    assert len(list(reader.read(_chunk(json.dumps(ALERT))))) == (not is_ignored)


def _alerts(*conditions, **paths):
    paths = {"source": "src_ip", "port": "dest_port", **paths}
    pattern = PatternDefinition("alert", "", conditions=conditions, paths=paths)
    layout = Layout(is_json=True, time="timestamp")
    return _filter(patterns=(pattern,), identifiers=frozenset({"", "suricata"}), layout=layout)


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        (Condition("event_type", frozenset({"alert"})), True),
        (Condition("event_type", frozenset({"dns"})), False),
        (Condition("alert.severity", frozenset({"1", "2"})), True),
        (Condition("alert.severity", frozenset({"3"})), False),
        (Condition("alert.signature", expression="SSH Scan$"), True),
        (Condition("alert.signature", expression="^SSH Scan"), False),
        (Condition("alert.list.0.x", frozenset({"a"})), True),
        (Condition("alert.list.1.x", frozenset({"a"})), False),
        (Condition("alert.list.x", frozenset({"a"})), False),
        (Condition("alert", frozenset({"a"})), False),
        (Condition("nothing.there", expression=""), False),
    ],
)
@pytest.mark.parametrize(
    "prefix", ["", "Nov 22 14:29:22 vm suricata[1]: ", "Nov 22 14:29:22 vm suricata: @cee: "]
)
def test_records_are_matched_by_their_fields(condition, is_met, prefix):
    """Equal, one of, or an expression; numbers are text; in a file of their own, or through syslog."""
    reader = _reader(_alerts(condition, signature="alert.signature"))
    events = list(reader.read(_chunk(prefix + json.dumps(ALERT))))
    assert [(str(event.source), event.port) for event in events] == [("192.0.2.1", 22)] * is_met
    assert [event.fields["signature"] for event in events] == ["ET SCAN Potential SSH Scan"] * is_met
    assert [event.at for event in events] == [NOW - 60 * SECOND + SECOND // 2] * is_met


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"src_ip": "192.0.2.1", "event_type": "alert", "src_ip": "192.0.2.9"}', "'src_ip' stands twice"),
        ('{"event_type": "alert", "src_ip": "192.0.2.1"', "no JSON: "),
        ('{"event_type": "alert", "src_ip": ' + "[" * 5000, "no JSON: "),
        ('["event_type": "alert", "src_ip": "192.0.2.1"]', "no JSON object"),
        ('{"event_type": "alert", "src_ip": "nobody"}', "not an address: 'nobody'"),
        ('{"event_type": "alert"}', "not an address: ''"),
        ('{"event_type": "dns", "src_ip": "192.0.2.1", "src_ip": "192.0.2.1"}', None),
    ],
)
def test_a_record_that_cannot_be_used_is_shown(text, reason):
    """A key that stands twice is how a stranger would name another; other kinds of records are not ours."""
    reader = _reader(_alerts(Condition("event_type", frozenset({"alert"}))))
    assert list(reader.read(_chunk(text))) == []
    assert [reason in item.reason for item in reader.unreadable] == [True] * (reason is not None)


def test_a_record_without_a_source_is_no_pattern():
    """It could never say who it was."""
    with pytest.raises(PatternError, match="which field is the source"):
        _filter(
            patterns=(PatternDefinition("x", "", conditions=(Condition("a"),)),), layout=Layout(is_json=True)
        )


def _two_ways(*filters):
    return Reader(
        {filter_.name: filter_ for filter_ in filters},
        routes={LOG: [filter_.name for filter_ in filters], "/log/y": [filter_.name for filter_ in filters]},
        max_line=8192,
    )


def test_a_message_that_comes_by_two_ways_is_one_event():
    """From the second origin it is counted as a duplicate; twice in one origin it is two events."""
    reader = _two_ways(_filter())
    first = _chunk(*[_stamped("vm knockd[1]: knock from 192.0.2.1")] * 2)
    second = replace(first, origin="/log/y", data=first.data * 2)
    assert [len(list(reader.read(chunk))) for chunk in (first, second)] == [2, 2]
    assert (reader.origins[LOG].duplicates, reader.origins["/log/y"].duplicates) == (0, 2)
    assert reader.origins["/log/y"].events == 2


def test_a_repeated_line_stands_for_messages_that_came_by_another_way():
    """Three in the journal, one and "repeated 3 times" in the file: four in all."""
    reader = _two_ways(_filter())
    line = _stamped("vm knockd[1]: knock from 192.0.2.1")
    folded = _stamped("vm knockd[1]: message repeated 3 times: [ knock from 192.0.2.1]")
    assert len(list(reader.read(_chunk(line, line, line)))) == 3
    (event,) = reader.read(replace(_chunk(line, folded), origin="/log/y"))
    assert event.count == 1


def test_each_filter_hears_of_a_message_that_is_new():
    """That one filter has taken it already makes it no duplicate for the next."""
    reader = _two_ways(_filter("a"), _filter("b"))
    events = list(reader.read(_chunk(_stamped("vm knockd[1]: knock from 192.0.2.1"))))
    assert [event.filter for event in events] == ["a", "b"]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("%d.%m.%Y %H:%M:%S", "[22.11.2026 14:28:22] knock from 192.0.2.1"),
        ("%d.%m.%Y %H:%M:%S", "22.11.2026 14:28:22: knock from 192.0.2.1"),
        ("%d/%m/%Y-%H:%M:%S", "22/11/2026-14:28:22 knock from 192.0.2.1"),
        ("%d.%m.%Y %H:%M:%S", "Nov 22 14:29:22 vm knockd: 22.11.2026 14:28:22 knock from 192.0.2.1"),
        ("EPOCH", "[1795357702] knock from 192.0.2.1"),
    ],
)
@pytest.mark.parametrize("order", [(), ("%H:%M",)])
def test_a_log_with_dates_of_its_own(form, line, order, monkeypatch):
    """A filter says how they look; cut off where they begin the line they are its time."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    reader = _reader(
        _filter(identifiers=frozenset({"", "knockd"}), layout=Layout(dates=(form, *order))),
        _filter("y", identifiers=frozenset({"", "knockd"})),
    )
    events = [event for event in reader.read(_chunk(line)) if event.filter == "x"]
    assert [(str(event.source), event.at) for event in events] == [("192.0.2.1", NOW - 60 * SECOND)]
    monkeypatch.undo()
    time.tzset()


def test_a_date_within_the_line_stays_there():
    """With a star in front of its form it may stand anywhere, and only its instant is taken."""
    pattern = PatternDefinition("x", r"^knock at \d+ from (?P<source>\S+)$")
    layout = Layout(dates=("*EPOCH", "*at %Y%m%d"))
    reader = _reader(_filter(patterns=(pattern,), identifiers=frozenset(), layout=layout))
    events = list(reader.read(_chunk("knock at 20261122 from 192.0.2.1")))
    assert [event.evidence.at // SECOND // 86400 for event in events] == [NOW // SECOND // 86400]
