"""The address in one line and the failure in another: whose a connection is, and when nobody may be named."""

from dataclasses import replace

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filter_definition import ConnectionDefinition, PatternDefinition
from correlator.matching.filters import Filter, Unreadable
from correlator.matching.pattern_review import review_filter
from correlator.matching.patterns import PatternError
from correlator.model import JOURNAL, Entries, Entry, Event
from tests.unit.doors import NOW, define_door, load_door, make_engine, write_chunk, write_line

NUMBERED = ConnectionDefinition(
    begins=r"^(?P<connection>\d{1,9}) from (?P<source>[0-9a-f.:]{2,45}) at (?P<port>\d{1,5})$",
    tells=r"^(?P<connection>\d{1,9}) is (?P<user>.{0,900})$",
    ends=r"^(?P<connection>\d{1,9}) over$",
)
BY_PROCESS = ConnectionDefinition(begins=r"^from (?P<source>[0-9a-f.:]{2,45})$", ends=r"^over$")
WRONG = PatternDefinition("wrong", r"^(?P<connection>\d{1,9}) wrong(?: (?P<count>\d{1,3}) times)?$")


def _definition(connection=NUMBERED, *patterns):
    return define_door(*(patterns or (WRONG,)), connections=(connection,))


def _filter(connection=NUMBERED, *patterns):
    return Filter(_definition(connection, *patterns))


def _say(filter_, body, **where):
    """Return what a filter understands of a line, and of earlier ones through it."""
    line = write_line("doord", body, **where)
    return [answer for answer in (filter_.read(line), *filter_.late) if answer is not None]


def _sources(answers):
    return [str(answer.source) if isinstance(answer, Event) else answer.reason for answer in answers]


NOT_READ = "the line that began its connection was not read"


def test_a_failure_has_the_address_of_its_connection_and_what_else_was_told():
    """Shown with the line that named the address, or nobody would see why."""
    filter_ = _filter()
    assert _say(filter_, "1 from 192.0.2.1 at 389") == []
    assert filter_.told == "begins a connection of 192.0.2.1"
    assert _say(filter_, "1 is bob") == []
    (event,) = _say(filter_, "1 wrong 3 times")
    assert (str(event.source), event.port, event.count, event.fields["user"]) == ("192.0.2.1", 389, 3, "bob")
    assert event.evidence.line.endswith("1 wrong 3 times [1 from 192.0.2.1 at 389]")


def test_what_waits_for_its_beginning_waits_over_a_reload():
    """Else an edit of any file would cost the failures of two seconds."""
    late = replace(NUMBERED, begins_late=True)
    before, after = _filter(late), _filter(late)
    assert _say(before, "1 wrong") == []
    after.succeed(before)
    assert _sources(_say(after, "1 from 192.0.2.1 at 389")) == ["192.0.2.1"]


@pytest.mark.parametrize("optional", ["begins", "tells", "ends"])
def test_a_line_that_names_no_address_begins_no_connection(optional):
    """Its expression may leave the address out; what else is said of it is nobody's either."""
    begins = r"^(?P<connection>\d{1,9}) from(?: (?P<source>[0-9a-f.:]{2,45}))?$"
    filter_ = _filter(replace(NUMBERED, begins=begins))
    lines = {"begins": "1 from", "tells": "1 is bob", "ends": "1 over"}
    assert _say(filter_, "1 from") == _say(filter_, lines[optional]) == []
    assert _sources(_say(filter_, "1 wrong")) == [NOT_READ]


def test_a_name_that_comes_back_is_another_connection():
    """The newest beginning is the one that counts, and nothing of the old one is left."""
    filter_ = _filter()
    for body in ("1 from 192.0.2.1 at 389", "1 is bob", "1 from 192.0.2.2 at 636"):
        _say(filter_, body)
    (event,) = _say(filter_, "1 wrong")
    assert (str(event.source), event.port, event.fields.get("user")) == ("192.0.2.2", 636, None)


@pytest.mark.parametrize(
    "elsewhere",
    [{"pid": "8"}, {"origin": "/log/y"}, {"host": "other"}, {"pid": ""}],
    ids=["the daemon was restarted", "another log", "another host", "no process"],
)
def test_the_same_name_elsewhere_is_another_connection(elsewhere):
    """A daemon that begins anew counts from the beginning again."""
    filter_ = _filter()
    _say(filter_, "1 from 192.0.2.1 at 389")
    assert _sources(_say(filter_, "1 wrong", **elsewhere)) == [NOT_READ]


def test_what_is_over_is_forgotten():
    """What comes under its name later is nobody's until it begins."""
    filter_ = _filter()
    _say(filter_, "1 from 192.0.2.1 at 389")
    _say(filter_, "1 over")
    assert filter_.told == "ends a connection of 192.0.2.1"
    assert _sources(_say(filter_, "1 wrong")) == [NOT_READ]


def test_a_line_that_ends_a_connection_may_be_its_failure():
    """It is read while the connection is still known."""
    left = PatternDefinition("left", r"^(?P<connection>\d{1,9}) over$")
    filter_ = _filter(NUMBERED, left)
    _say(filter_, "1 from 192.0.2.1 at 389")
    assert _sources(_say(filter_, "1 over")) == ["192.0.2.1"]
    assert _sources(_say(filter_, "1 over")) == [NOT_READ]


def test_a_process_may_be_the_connection():
    """As of sshd, whose lines name none."""
    filter_ = _filter(BY_PROCESS, PatternDefinition("wrong", "^wrong$"))
    _say(filter_, "from 192.0.2.1", pid="70")
    _say(filter_, "from 192.0.2.2", pid="71")
    assert _sources(_say(filter_, "wrong", pid="70") + _say(filter_, "wrong", pid="71")) == [
        "192.0.2.1",
        "192.0.2.2",
    ]
    _say(filter_, "from 192.0.2.3", pid="")
    assert _sources(_say(filter_, "wrong", pid="")) == [NOT_READ]


@pytest.mark.parametrize(("seconds", "is_known"), [(3599, True), (3600, False)])
def test_a_silent_connection_is_forgotten_after_an_hour(seconds, is_known):
    """Its name may have come back since, in a line that was lost."""
    filter_ = _filter()
    _say(filter_, "1 from 192.0.2.1 at 389")
    assert _sources(_say(filter_, "1 wrong", seconds=seconds)) == ["192.0.2.1" if is_known else NOT_READ]


def test_a_connection_that_is_not_silent_is_kept():
    """Each of its lines counts from anew."""
    filter_ = _filter()
    _say(filter_, "1 from 192.0.2.1 at 389")
    for hours in range(1, 5):
        assert _sources(_say(filter_, "1 wrong", seconds=hours * 3599)) == ["192.0.2.1"]


def test_the_longest_silent_leave_first_and_memory_is_bounded():
    """Whoever opens a million connections loses his own, and costs no more than ten thousand."""
    filter_ = _filter()
    for number in range(30_000):
        _say(filter_, f"{number} from 192.0.2.1 at 389", seconds=number / 1000)
        _say(filter_, "0 wrong", seconds=number / 1000)
    assert len(filter_._connections) == 10_000
    assert _sources(_say(filter_, "0 wrong", seconds=30)) == ["192.0.2.1"]
    assert _sources(_say(filter_, "15000 wrong", seconds=30)) == [NOT_READ]


def test_only_so_much_is_kept_of_what_a_stranger_typed():
    """A user name of a megabyte is not remembered ten thousand times."""
    filter_ = _filter()
    _say(filter_, "1 from 192.0.2.1 at 389")
    _say(filter_, f"1 is {'x' * 900}")
    (event,) = _say(filter_, "1 wrong")
    assert event.fields["user"] == "x" * 256


LATE = replace(NUMBERED, begins_late=True)


def test_a_beginning_may_come_late():
    """Threads write past each other: the failure waits, with its own line, and what was told until then."""
    filter_ = _filter(LATE)
    for body in ("1 is bob", "1 wrong", "1 is eve", "1 wrong"):
        assert _say(filter_, body) == []
    assert filter_.told == "waits for the line that begins its connection"
    events = _say(filter_, "1 from 192.0.2.1 at 389", seconds=2)
    assert [(str(event.source), event.fields["user"]) for event in events] == [
        ("192.0.2.1", "bob"),
        ("192.0.2.1", "eve"),
    ]
    assert [event.at for event in events] == [NOW, NOW]
    assert _sources(_say(filter_, "1 wrong")) == ["192.0.2.1"]


def test_a_beginning_that_comes_too_late_is_somebody_elses():
    """Lines that waited in vain are shown as unreadable, as soon as anything comes."""
    filter_ = _filter(LATE)
    _say(filter_, "1 wrong")
    answers = _say(filter_, "1 from 192.0.2.1 at 389", seconds=3)
    assert _sources(answers) == [NOT_READ]
    assert answers[0].evidence.line.endswith("doord[7]: 1 wrong")
    assert _sources(_say(filter_, "1 wrong", seconds=3)) == ["192.0.2.1"]


def test_few_lines_wait():
    """A daemon whose beginnings are not logged at all fills nothing; what does not find a place is shown."""
    filter_ = _filter(LATE)
    given_up = [answer for _ in range(20) for answer in _say(filter_, "1 wrong")]
    assert _sources(given_up) == [NOT_READ] * 4
    for number in range(2, 1000):
        given_up += _say(filter_, f"{number} wrong")
    assert len(filter_._connections) == 256
    assert len(given_up) == 4 + 16 + 998 - 256
    assert all(isinstance(answer, Unreadable) for answer in given_up)


@pytest.mark.parametrize(
    "definition",
    [
        _definition(replace(NUMBERED, begins="^from nobody$")),
        _definition(replace(NUMBERED, ends=r"^(?P<connection>\d+) over for (?P<source>\S+)$")),
        _definition(NUMBERED, PatternDefinition("wrong", "^wrong$")),
        replace(_definition(), connections=()),
        _definition(replace(NUMBERED, tells="(")),
    ],
    ids=["no source", "two sources", "which connection?", "no connection", "no expression"],
)
def test_an_expression_that_cannot_name_anybody_is_refused(definition):
    """When the filter is loaded, not when the line comes."""
    with pytest.raises(PatternError):
        Filter(definition)


def _chunk(*bodies, offset=0):
    return write_chunk(*(f"doord[7]: {body}" for body in bodies), offset=offset)


def test_a_reload_forgets_no_connection():
    """Who was accepted before it and fails after it is known."""
    before = make_engine(_filter())
    assert before.feed(_chunk("1 from 192.0.2.1 at 389", "1 wrong")).decisions == []
    after = make_engine(_filter())
    after.succeed(before)
    assert [str(event.source) for event in after.read(_chunk("1 wrong", offset=99))] == ["192.0.2.1"]


@pytest.mark.parametrize(
    "bodies", [["1 from 192.0.2.1 at 389", "1 wrong"], ["1 wrong", "1 from 192.0.2.1 at 389"]]
)
def test_what_comes_by_two_ways_is_counted_once(bodies):
    """From the file and from the journal, each in its own order, also where the beginning is late."""
    engine = make_engine(_filter(LATE))
    entries = tuple(Entry(NOW, "vm", "doord", "7", body) for body in bodies)
    events = [*engine.read(_chunk(*bodies)), *engine.read(Entries(JOURNAL, entries, NOW))]
    assert [str(event.source) for event in events] == ["192.0.2.1"]
    assert events[0].evidence.line.endswith(" [1 from 192.0.2.1 at 389]")


TOML = r"""
identifiers = ["doord"]
[[connection]]
begins = '^(?P<connection>\d{1,9}) from ${source}$'
ends   = '^(?P<connection>\d{1,9}) over$'
[[pattern]]
name  = "wrong"
regex = '^(?P<connection>\d{1,9}) wrong$'
[[test]]
before = ["Nov 23 09:14:02 gate doord[7]: 1 from 192.0.2.1"]
line   = "Nov 23 09:14:02 gate doord[7]: 1 wrong"
expect = { source = "192.0.2.1" }
[[test]]
line   = "Nov 23 09:14:02 gate doord[7]: 1 wrong"
expect = "nothing"
"""


def test_a_filter_file_says_it(tmp_path):
    """Its tests begin with nothing known each, and have the lines that came before."""
    definition = load_door(tmp_path, TOML)
    assert definition.connections == (
        ConnectionDefinition(
            r"^(?P<connection>\d{1,9}) from (?P<source>[0-9A-Fa-f:.]{2,45})$",
            ends=r"^(?P<connection>\d{1,9}) over$",
        ),
    )


def test_a_pattern_whose_text_could_choose_the_connection_is_warned_of():
    """It is the name of a connection that chooses the address."""
    expression = r"^.* failed on (?P<connection>\d{1,9}): .*$"
    warnings = dict(review_filter(_definition(NUMBERED, PatternDefinition("wrong", expression))))
    assert "free text stands before the address and behind it" in warnings["wrong"]


def test_records_have_no_lines_before_them(tmp_path):
    """A JSON record says all in one line."""
    path = tmp_path / "door.toml"
    path.write_text(
        'format = "json"\nfiles = ["/log/x"]\n[[connection]]\nbegins = "^${source}$"\n'
        '[[pattern]]\nname = "x"\nfields = { source = "ip" }\n'
    )
    definition, faults = load_filter(path)
    assert definition is None
    assert "records are not told apart by lines before" in str(faults[0])


def test_explain_shows_each_line_of_a_connection(tmp_path, explain_with):
    """What a line is kept in mind for, and what follows from the next."""
    path = tmp_path / "door.toml"
    path.write_text(TOML)
    bodies = ("1 from 192.0.2.1", "1 wrong")
    answers = explain_with(path, *(f"Nov 23 09:14:02 gate doord[7]: {body}" for body in bodies))
    assert [answer["matched"] for answer in answers] == [False, True]
    assert answers[1]["source"] == "192.0.2.1"
