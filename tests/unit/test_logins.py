"""Who pays for a failure that names an account alone: the address of that account's logins, or nobody."""

from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching import postponed
from correlator.matching.filter_definition import (
    ConnectionDefinition,
    LoginDefinition,
    PatternDefinition,
)
from correlator.matching.filters import Filter
from correlator.matching.pattern_review import review_filter
from correlator.matching.patterns import PatternError
from correlator.model import JOURNAL, Entries, Entry, Event
from tests.unit.doors import LOG, NOW, define_door, load_door, make_engine, write_chunk, write_line

BEGINS = r"^(?P<account>\w{1,100}) came from (?P<source>[0-9a-f.:]{2,45})$"
ENDS = r"^(?P<account>\w{1,100}) left$"
LOGIN = LoginDefinition(frozenset({"gated"}), BEGINS, ENDS)
WRONG = PatternDefinition("wrong", r"^(?P<account>\w{1,100}) failed(?: (?P<count>\d{1,3}) times)?$")


def _filter(login=LOGIN, *patterns, **settings):
    programs = ("doord", "gated")
    return Filter(define_door(*(patterns or (WRONG,)), programs=programs, logins=(login,), **settings))


def _say(filter_, program, body, **where):
    """Return what a filter understands of a line."""
    answer = filter_.read(write_line(program, body, **where))
    assert not filter_.late
    return answer


def _fail(filter_, account="ops", **where):
    """Return the address that pays for a failure; None where that is nobody's."""
    answer = _say(filter_, "doord", f"{account} failed", **{"pid": "", **where})
    assert answer is None or isinstance(answer, Event)
    return None if answer is None else str(answer.source)


def test_a_failure_is_the_address_s_from_which_its_account_logged_in():
    """Shown with the line that named it, and whatever process fails."""
    filter_ = _filter()
    assert _say(filter_, "gated", "ops came from 192.0.2.1") is None
    assert filter_.told == "begins a login of ops from 192.0.2.1"
    event = _say(filter_, "doord", "ops failed 3 times", pid="99", seconds=80_000)
    assert (str(event.source), event.count, event.fields["account"]) == ("192.0.2.1", 3, "ops")
    assert event.evidence.line.endswith("ops failed 3 times [ops came from 192.0.2.1]")


@pytest.mark.parametrize(
    ("account", "elsewhere"),
    [("op", {}), ("opsy", {}), ("Ops", {}), ("ops", {"origin": "/log/y"}), ("ops", {"host": "other"})],
)
def test_another_account_log_or_host_has_no_such_login(account, elsewhere):
    """It is nobody's, and no fault of the log: nothing is counted as unreadable."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1")
    assert _fail(filter_, account, **elsewhere) is None
    assert filter_.told == f"is about {account}, of whom no login is known: nobody can be named"


def test_nobody_is_named_while_logins_of_one_account_come_from_several_addresses():
    """Until all but one of them have been over for ten minutes."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="1")
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="2")
    assert _fail(filter_) == "192.0.2.1"
    _say(filter_, "gated", "ops came from 192.0.2.2", pid="3")
    assert _fail(filter_) is None
    assert filter_.told == "is about ops, who is logged in from several addresses: nobody can be named"
    for pid in ("1", "2"):
        _say(filter_, "gated", "ops left", pid=pid, seconds=60)
    assert filter_.told == "ends a login of ops from 192.0.2.1"
    assert [_fail(filter_, seconds=seconds) for seconds in (61, 659, 660)] == [None, None, "192.0.2.2"]


def test_who_left_pays_for_ten_minutes_for_what_runs_on():
    """Hanging up while a guess is under way is no way out, nor does the next one pay who logs in."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="1")
    _say(filter_, "gated", "ops left", pid="1", seconds=10)
    _say(filter_, "gated", "ops left", pid="1", seconds=500)  # said again, it is over no later
    assert _fail(filter_, seconds=609) == "192.0.2.1"
    assert _fail(filter_, seconds=610) is None


@pytest.mark.parametrize(("body", "pid"), [("ops left", "2"), ("bob left", "1"), ("ops left", "")])
def test_only_its_own_process_ends_a_login(body, pid):
    """One of several sessions that is closed leaves the others open."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="1")
    _say(filter_, "gated", body, pid=pid)
    assert filter_.told == f"ends a login of {body[:3]} that was not read"
    assert _fail(filter_, seconds=3600) == "192.0.2.1"


def test_a_process_whose_number_comes_back_is_another_login():
    """The end of the old one was lost; both accounts are where the newest line says."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="1")
    _say(filter_, "gated", "bob came from 192.0.2.2", pid="1")
    assert (_fail(filter_), _fail(filter_, "bob")) == (None, "192.0.2.2")


def test_a_login_is_forgotten_a_day_after_it_began():
    """However often its account fails: that its end was read is not certain."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1")
    assert [_fail(filter_, seconds=seconds) for seconds in (43_200, 86_399, 86_400)] == [
        "192.0.2.1",
        "192.0.2.1",
        None,
    ]


def test_only_the_programs_named_for_logins_tell_of_them():
    """And their lines are never failures: text that one program was made to say is not another's."""
    filter_ = _filter()
    _say(filter_, "doord", "ops came from 192.0.2.1")
    assert _fail(filter_) is None
    _say(filter_, "gated", "ops came from 192.0.2.1")
    _say(filter_, "doord", "ops left")
    assert _say(filter_, "gated", "ops failed") is None
    assert _fail(filter_, seconds=3600) == "192.0.2.1"


def test_a_login_that_nothing_names_is_not_remembered():
    """Without a process it could never end; a name longer than any account's fills no memory."""
    filter_ = _filter()
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="")
    _say(filter_, "gated", f"{'x' * 65} came from 192.0.2.1")
    assert len(filter_._connections) == 0
    assert filter_.told == "begins a login that nothing names"


def test_memory_is_bounded_and_what_is_over_leaves_first():
    """10,000 logins a filter, 64 an account; 15,000 that ended push out nobody who is still there."""
    filter_ = _filter()
    logins = filter_._connections
    _say(filter_, "gated", "ops came from 192.0.2.1", pid="ops")
    for number in range(15_000):
        _say(filter_, "gated", f"u{number} came from 192.0.2.2", pid=str(number))
        _say(filter_, "gated", f"u{number} left", pid=str(number))
    assert (len(logins), len(logins._ended)) == (10_000, 9_999)
    assert _fail(filter_) == "192.0.2.1"
    for number in range(15_000):
        _say(filter_, "gated", f"u{number} came from 192.0.2.2", pid=str(number))
    assert (len(logins), len(logins._ended), _fail(filter_)) == (10_000, 0, None)
    for number in range(100):
        _say(filter_, "gated", "ops came from 192.0.2.3", pid=f"x{number}")
    assert len(logins._of[(LOG, "vm", "ops")]) == 64
    filter_.forget()
    assert (len(logins), logins._ended, logins._of, _fail(filter_)) == (0, {}, {}, None)


def test_a_pattern_with_an_address_of_its_own_needs_no_login():
    """A program may do both."""
    filter_ = _filter(LOGIN, PatternDefinition("own", r"^(?P<account>\w+) failed from (?P<source>[0-9.]+)$"))
    assert str(_say(filter_, "doord", "ops failed from 192.0.2.9").source) == "192.0.2.9"


@pytest.mark.parametrize(
    ("login", "pattern"),
    [
        (LoginDefinition(frozenset({"gated"}), "^from (?P<source>.+)$"), WRONG),
        (LoginDefinition(frozenset({"gated"}), "^(?P<account>.+) came$"), WRONG),
        (LoginDefinition(frozenset({"gated"}), BEGINS, "^somebody left$"), WRONG),
        (LoginDefinition(frozenset({"gated"}), BEGINS, "^(?P<account>.+) left (?P<source>.+)$"), WRONG),
        (LOGIN, PatternDefinition("wrong", "^somebody failed$")),
    ],
    ids=["whose?", "from where?", "who left?", "two sources", "who failed?"],
)
def test_an_expression_that_cannot_name_anybody_is_refused(login, pattern):
    """When the filter is loaded, not when the line comes."""
    with pytest.raises(PatternError):
        _filter(login, pattern)


def test_a_reload_forgets_no_login():
    """Who logged in before it and fails after it is known; what an ended one left is too."""
    before = make_engine(_filter())
    assert before.feed(write_chunk("gated[1]: ops came from 192.0.2.1")).decisions == []
    after = make_engine(_filter())
    after.succeed(before)
    found = [str(event.source) for event in after.read(write_chunk("doord: ops failed", offset=99))]
    assert found == ["192.0.2.1"]


def test_a_reload_to_connections_takes_over_no_logins():
    """The filter of that name was changed: what it knew is not what it needs."""
    before = make_engine(_filter())
    before.feed(write_chunk("gated[1]: ops came from 192.0.2.1"))
    connection = ConnectionDefinition("^from (?P<source>[0-9.]+)$")
    wrong = PatternDefinition("wrong", "^failed$")
    after = make_engine(Filter(define_door(wrong, connections=(connection,))))
    after.succeed(before)
    assert list(after.read(write_chunk("doord[1]: failed", offset=99))) == []


def test_what_comes_by_two_ways_is_counted_once():
    """From the file and from the journal, each with the login."""
    engine = make_engine(_filter())
    entries = (
        Entry(NOW, "vm", "gated", "1", "ops came from 192.0.2.1"),
        Entry(NOW, "vm", "doord", "", "ops failed"),
    )
    lines = ("gated[1]: ops came from 192.0.2.1", "doord: ops failed")
    events = [*engine.read(write_chunk(*lines)), *engine.read(Entries(JOURNAL, entries, NOW))]
    assert [str(event.source) for event in events] == ["192.0.2.1"]


def test_lines_about_logins_wait_until_somebody_asks():
    """They are read before the next line that may be a failure, those behind it in the chunk not yet."""
    engine = make_engine(_filter())
    logins, waiting = engine.filters["door"]._connections, engine._reader._routes[LOG].postponed
    list(engine.read(write_chunk(*(f"gated[{pid}]: ops came from 192.0.2.1" for pid in range(3)))))
    assert (len(logins), len(waiting)) == (0, 3)
    lines = ("gated[1]: ops left", "doord: bob failed", "gated[9]: ops came from 192.0.2.2")
    assert list(engine.read(write_chunk(*lines, offset=999))) == []
    assert (len(logins), len(logins._ended), len(waiting)) == (3, 1, 1)
    assert list(engine.read(write_chunk("doord: bob failed", "gated[8]: bob came from 192.0.2.1"))) == []
    assert (len(logins), len(waiting)) == (4, 1)  # the log was truncated: places begin again
    (event,) = engine.read(write_chunk("doord: bob failed"))
    assert (str(event.source), len(waiting)) == ("192.0.2.1", 0)


def test_few_lines_wait(monkeypatch):
    """So many, or so many bytes; they are read before more come, and before other filters read the log."""
    monkeypatch.setattr(postponed, "_MOST_LINES", 4)
    engine = make_engine(_filter())
    logins, waiting = engine.filters["door"]._connections, engine._reader._routes[LOG].postponed
    for offset in range(3):
        pids = range(offset * 3, offset * 3 + 3)
        list(
            engine.read(
                write_chunk(*(f"gated[{pid}]: ops came from 192.0.2.1" for pid in pids), offset=offset)
            )
        )
    assert (len(logins), len(waiting)) == (6, 3)
    monkeypatch.setattr(postponed, "_MOST_BYTES", 1)
    list(engine.read(write_chunk("gated[9]: ops came from 192.0.2.1", offset=9)))
    assert (len(logins), len(waiting)) == (9, 1)
    engine.follow(LOG, ["door"])
    assert len(logins) == 10


@pytest.mark.parametrize(
    ("identifier", "fields", "is_taken"),
    [
        ("sshd", {"_UID": "0"}, True),
        ("sshd", {"_UID": "0", "_TRANSPORT": "stdout"}, False),  # line feeds make lines there
        ("sshd", {"_EXE": "/usr/bin/sudo"}, False),
        ("sshd", {}, False),
        ("sudo", {"_EXE": "/usr/bin/sudo"}, True),
        ("sudo", {"_EXE": "/usr/bin/logger"}, False),
        ("sudo", {"_EXE": "/usr/bin/sudo", "_TRANSPORT": "stdout"}, False),
    ],
)
def test_in_the_journal_logins_are_told_of_by_root(identifier, fields, is_taken):
    """A line of sudo is its caller's to journald; and who becomes sudo after he wrote is no sshd."""
    definition, _faults = load_filter(Path(__file__).parents[2] / "filters/sudo.toml")
    told = {"_UID": "1000", "_TRANSPORT": "syslog", "SYSLOG_IDENTIFIER": identifier} | fields
    assert Filter(definition).takes(Entry(NOW, "vm", identifier, "7", "x", told)) == is_taken


TOML = r"""
identifiers = ["doord", "gated"]
[[login]]
identifiers = ["gated"]
begins = '^(?P<account>\w{1,32}) came from ${source}$'
ends   = '^(?P<account>\w{1,32}) left$'
[[pattern]]
name  = "wrong"
regex = '^(?P<account>\w{1,32}) failed$'
[[test]]
before = ["Nov 23 09:14:02 gate gated[7]: ops came from 192.0.2.1"]
line   = "Nov 23 09:14:02 gate doord[8]: ops failed"
expect = { source = "192.0.2.1" }
[[test]]
line   = "Nov 23 09:14:02 gate doord[8]: ops failed"
expect = "nothing"
"""


def test_a_filter_file_says_it(tmp_path):
    """And deserves no warning."""
    definition = load_door(tmp_path, TOML)
    (login,) = definition.logins
    assert login.identifiers == {"gated"}
    assert definition.field_names == {"account", "source"}


def test_text_before_the_address_is_warned_of(tmp_path):
    """An account that can be anything may be called `x came from ADDRESS`."""
    path = tmp_path / "door.toml"
    path.write_text(TOML.replace(r"\w{1,32}", ".{1,99}", 1).replace("${source}$", "${source}"))
    definition, _faults = load_filter(path)
    assert [
        "free text stands before the address" in warning for _name, warning in review_filter(definition)
    ] == [True]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('identifiers = ["doord", "gated"]', 'identifiers = ["doord"]', "among the filter's identifiers"),
        (
            'identifiers = ["doord", "gated"]',
            'identifiers = ["doord", "gated"]\nclaims = "^"',
            "expected text, behind ^ where a body begins with it",
        ),
        (
            'identifiers = ["gated"]\nbegins',
            'identifiers = ["*d", "gated"]\nbegins',
            "programs by their whole names",
        ),
        ('identifiers = ["gated"]\nbegins', "begins", "the programs that say who logs in from where"),
        (
            "[[pattern]]",
            "[[connection]]\nbegins = '^${source}$'\n[[pattern]]",
            "either this or [[connection]]",
        ),
        (
            'identifiers = ["doord", "gated"]',
            'identifiers = ["doord", "gated"]\nformat = "json"',
            "records are not told apart",
        ),
    ],
    ids=["nobody reads it", "claims nothing", "whoever says so", "who says so?", "both", "records"],
)
def test_what_cannot_be_meant_is_a_fault(tmp_path, old, new, fault):
    """Said when the file is read."""
    path = tmp_path / "door.toml"
    path.write_text(TOML.replace(old, new))
    definition, faults = load_filter(path)
    assert definition is None
    assert fault in "".join(map(str, faults))


def test_explain_shows_each_line_of_a_login(tmp_path, explain_with):
    """What follows from which line."""
    path = tmp_path / "door.toml"
    path.write_text(TOML)
    lines = ("doord: ops failed", "gated[1]: ops came from 192.0.2.1", "doord: ops failed")
    answers = explain_with(path, *(f"Nov 23 09:14:02 gate {line}" for line in lines))
    assert [answer["matched"] for answer in answers] == [False, False, True]
    assert answers[2]["source"] == "192.0.2.1"
