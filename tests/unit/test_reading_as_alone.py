"""What is read of a chunk is what each of its lines says alone: cases in which it was not."""

import pytest
import regex

from correlator.lines.syslog import parse_header
from correlator.matching import postponed
from correlator.matching.filter_definition import (
    FilterDefinition,
    LoginDefinition,
    PatternDefinition,
    WholeLines,
)
from correlator.matching.filters import Filter
from correlator.matching.whole_line_filters import run_filter
from correlator.model import SECOND, Chunk
from correlator.reading import Reader

NOW = 1_795_357_762 * SECOND
LOG = "/log/x"
AT = "Nov 22 14:29:22 vm "
SOURCE = r"(?P<source>192\.0\.2\.\d)"
BY = " by 192.0.2.1"
LOGIN = LoginDefinition(
    frozenset({"gated"}), rf"^(?P<account>\w+) came from {SOURCE}$", r"^(?P<account>\w+) left$"
)
WRONG = PatternDefinition("wrong", r"^(?P<account>\w+) failed$")


def _filter(*expressions, name="x", programs=("knockd",), patterns=(), **settings):
    of_text = tuple(PatternDefinition(f"p{index}", text) for index, text in enumerate(expressions))
    return Filter(FilterDefinition(name, "", "test", frozenset(programs), (), of_text + patterns, **settings))


def _door(name="door", login=LOGIN):
    return _filter(name=name, programs={"doord", *login.identifiers}, patterns=(WRONG,), logins=(login,))


def _reader(*filters, logs=(LOG,), max_line=8192):
    by_name = {filter_.name: filter_ for filter_ in filters}
    return Reader(by_name, routes={log: [*by_name] for log in logs}, max_line=max_line)


def _read(reader, *lines, log=LOG):
    data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
    return [f"{event.source} {event.count}" for event in reader.read(Chunk(log, 0, data, NOW, is_live=False))]


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        (r"^\n*knock", "knock"),  # no line has what may be repeated, and none needs it
        (r"^[\n]{0,3}knock", "knock"),
        (r"^(?:a\nb|knock)", "knock"),
        (r"^\ud800?knock", "knock"),  # nothing in a log is decoded to it
        (r"^a[^[:digit:]]", "ax"),  # `re` takes these for other sets, without a warning
        (r"^a[x[:digit:]]", "a7"),
        (r"^a\\{e<=1}b", "ab"),  # a backslash, in which an error may be
        ("(?x)^kno\u00a0ck", "knock"),  # `regex` skips all white space there
        (r"(?x)^k{1, 3}nock", "kknock"),
        (r"(?u)^knock", "knock"),  # cannot be compiled with re.ASCII
    ],
)
def test_what_regex_and_re_read_otherwise_is_what_regex_says(expression, body):
    """An expression is searched by `regex`, whatever `re` took it for when it was asked what it needs."""
    expression += rf".*\ by\ {SOURCE}$"
    assert regex.search(expression, body + BY)
    assert _read(_reader(_filter(expression)), f"{AT}knockd: {body}{BY}") == ["192.0.2.1 1"]


def test_no_two_lines_are_read_as_one():
    """Nor does a pattern that asks for a line feed swallow the line behind it."""
    reader = _reader(_filter(rf"^a\n{AT}knockd: b by {SOURCE}", rf"^b by {SOURCE}"))
    data = f"{AT}knockd: a\n{AT}knockd: b{BY}\n".encode()
    assert [event.pattern for event in reader.read(Chunk(LOG, 0, data, NOW, is_live=False))] == ["p1"]


def test_a_pattern_of_whole_lines_may_ask_for_the_end_of_its_line():
    """It sees a line feed there, which is none of the text by which lines are found."""
    knock = PatternDefinition("knock", r"knock by (?P<ip4>\S+) at the door\n")
    how = FilterDefinition("x", "", "test", frozenset(), (), (knock,), whole_lines=WholeLines())
    assert _read(_reader(run_filter(how)), f"{AT}knockd: knock{BY} at the door") == ["192.0.2.1 1"]


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-22 14:29:22 x gated: ops came from 192.0.2.1",  # an application's date, and no program
        "X99 99 14:29:22 vm gated: ops came from 192.0.2.1",
    ],
)
def test_what_only_looks_like_a_line_about_a_login_is_read(line):
    """It was kept for whom it was no login, and whoever reads lines of no program never saw it."""
    assert parse_header(line).identifier == ""
    reader = _reader(_door(), _filter(rf"came from {SOURCE}$", programs=("",)))
    assert _read(reader, line) == ["192.0.2.1 1"]


def test_a_login_does_not_hide_what_else_its_program_says():
    """What looked folded was taken for a line about a login before it was looked at whole."""
    teller = LoginDefinition(frozenset({"gated"}), rf"(?P<account>\w+)(?P<source>{SOURCE[11:-1]})$")
    reader = _reader(_door(login=teller), _filter(rf"Last message '{SOURCE}", programs=("gated",)))
    assert _read(reader, f"{AT}gated: Last message '192.0.2.1") == ["192.0.2.1 1"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("<46>1 2026-11-22T14:29:22Z vm syslogd - - - last message repeated 3 times", ["192.0.2.1 3"]),
        (f"{AT}syslogd: vm last message repeated 3 times", ["192.0.2.1 3"]),
        ("[Nov 22 14:29:22] last message repeated 3 times", []),
        ("261122 14:29:22 last message repeated 3 times", []),
        (f"{AT}last message repeated ٣ times", []),
    ],
)
def test_syslog_s_own_line_repeats_the_last_in_every_form(line, expected):
    """Found as it is read; an application's line that says so is none."""
    teller = LoginDefinition(frozenset({"syslogd"}), r"(?P<account>\w+) (?P<source>\S+)")
    for others in ((), (_door(login=teller),)):
        reader = _reader(_filter(f"^knock by {SOURCE}"), *others)
        assert _read(reader, f"{AT}knockd: knock{BY}", line) == ["192.0.2.1 1", *expected]


def test_a_message_is_folded_by_ascii_digits_alone():
    """No syslog daemon writes others."""
    header = parse_header(f"{AT}knockd: message repeated ٣ times: [ knock{BY}]")
    assert (header.repeats, header.body[:7]) == (1, "message")


def test_nothing_and_a_reload_leave_the_last_line():
    """Both may stand between a line and what says that it was repeated."""
    reader = _reader(_filter(f"^knock by {SOURCE}"))
    _read(reader, f"{AT}knockd: knock{BY}")
    assert _read(reader) == []
    again = _reader(_filter(f"^knock by {SOURCE}"))
    again.succeed(reader)
    assert _read(again, f"{AT}last message repeated 2 times") == ["192.0.2.1 2"]


def test_a_login_in_a_line_over_the_bound_is_none():
    """Cut, it would end where a stranger wants it to."""
    reader = _reader(_door(login=LoginDefinition(frozenset({"gated"}), LOGIN.begins[:-1])), max_line=99)
    assert _read(reader, f"{AT}gated[1]: ops came from 192.0.2.1 {'x' * 99}", f"{AT}doord: ops failed") == []
    assert (reader.origins[LOG].cut, len(reader.unreadable)) == (1, 1)


def test_logins_of_a_log_that_was_gone_are_known():
    """What waited is read before its log is forgotten: it may come back."""
    reader = _reader(_door())
    _read(reader, f"{AT}gated[1]: ops came from 192.0.2.1")
    reader.drop(LOG)
    reader.follow(LOG, ["door"])
    assert _read(reader, f"{AT}doord: ops failed") == ["192.0.2.1 1"]


def test_few_lines_wait_in_all_logs_together(monkeypatch):
    """A log host has hundreds of logs, in which logins wait for failures that never come."""
    monkeypatch.setattr(postponed, "_MOST_LINES", 10)
    logs = [f"/log/{number}" for number in range(30)]
    reader = _reader(_door(), logs=logs)
    for number, log in enumerate(logs * 4):
        _read(reader, f"{AT}gated[{number}]: u{number} came from 192.0.2.1", log=log)
    assert 0 < sum(len(route.postponed) for route in reader._routes.values()) <= 4 * 10
    assert (
        _read(reader, f"{AT}doord: u119 failed", f"{AT}doord: u29 failed", log=logs[-1])
        == ["192.0.2.1 1"] * 2
    )


@pytest.mark.parametrize("body", ["came from 192.0.2.1", "ops came", "ops came from 192.0.2.1"])
def test_an_expression_may_leave_out_whom_a_login_is_of(body):
    """Then it tells of none; a failure that names no account is nobody's."""
    login = LoginDefinition(frozenset({"gated"}), rf"^(?:(?P<account>\w+) )?came(?: from {SOURCE})?$")
    wrong = PatternDefinition("wrong", r"^(?:(?P<account>\w+) )?failed$")
    programs = ("doord", "gated")
    reader = _reader(_filter(programs=programs, patterns=(wrong,), logins=(login,)))
    lines = (f"{AT}gated[1]: {body}", f"{AT}doord: failed", f"{AT}doord: ops failed")
    assert _read(reader, *lines) == ["192.0.2.1 1"] * body.startswith("ops came from")
