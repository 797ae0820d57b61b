"""Whole lines through prefix, patterns and ignores, in the order that Fail2ban's filters are written for."""

from dataclasses import replace

import pytest

from correlator.errors import SourceError
from correlator.lines.journal_match import parse_journal_match
from correlator.matching.filter_definition import FilterDefinition, PatternDefinition, WholeLines
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Unreadable
from correlator.matching.patterns import PatternError
from correlator.matching.prefilter import Prefilter
from correlator.matching.whole_line_filters import WholeLineFilter, run_filter
from correlator.model import SECOND, Entry, Event, parse_source

NOW = 1_795_435_200 * SECOND


def _filter(*expressions, ignores=(), timeout=SECOND, **how):
    definition = FilterDefinition(
        name="x",
        description="",
        where="x.conf",
        identifiers=frozenset(),
        files=(),
        patterns=tuple(PatternDefinition(f"p{n}", text) for n, text in enumerate(expressions, start=1)),
        ignores=tuple(ignores),
        whole_lines=WholeLines(**how),
    )
    return run_filter(definition, timeout=timeout)


def _fields(filter_, *lines):
    found = [filter_.find(line, NOW) for line in lines]
    return [one and (one.pattern, one.identity, dict(one.fields)) for one in found]


def test_the_first_pattern_that_matches_wins():
    """Order is meaning: a later pattern sees only what the earlier ones left."""
    filter_ = _filter(r"^ a (?P<fid>\w+)", r"^ \w (?P<fid>\w+)")
    assert _fields(filter_, "Nov 20 10:00:00 a x", "Nov 20 10:00:00 b y", "Nov 20 10:00:00 ?") == [
        ("p1", "x", {"fid": "x"}),
        ("p2", "y", {"fid": "y"}),
        None,
    ]


def test_patterns_see_the_content_and_keep_the_fields_of_the_prefix():
    """Groups of the pattern win over those of the prefix where both took part."""
    filter_ = _filter(r"^for (?P<fid>\w+)$", prefix=r"^ (?P<daemon>\w+): (?P<content>.+)$")
    assert _fields(filter_, "Nov 20 10:00:00 d: for x") == [("p1", "x", {"daemon": "d", "fid": "x"})]


def test_ignores_look_at_what_the_pattern_saw_or_at_the_whole_line():
    """Few ignores beside many patterns are tried on the whole line first, as Fail2ban does."""
    ignore, prefix = [r"^ d: "], r"^ \w+: (?P<content>.+)$"
    line = "Nov 20 10:00:00 d: for x"
    assert _filter(r"for (?P<fid>\w+)", ignores=ignore, prefix=prefix).find(line, NOW) is not None
    others = [rf"{name}for (?P<fid>\w+)" for name in ("a", "b", "c")]
    many = _filter(
        *others,
        r"for (?P<fid>\w+)",
        ignores=ignore,
        prefix=prefix,
    )
    assert many.find(line, NOW) is None


def test_who_is_meant_is_the_identity_first_and_an_address_in_its_canonical_form():
    """Mapped addresses are IPv4; what only looks like an address is kept as it stands."""
    filter_ = _filter(
        r"^(?P<fid>f\w+ )?(?:(?P<ip4>[\d.]+)|(?P<ip6>[0-9a-fA-F:]+))(?:/(?P<cidr>\d+))?$",
        date_patterns=("{NONE}",),
    )
    lines = ["fred 192.0.2.1", "192.0.2.7/24", "2001:DB8::0001", "::ffff:102:304", "192.030.0.6", "::730:1"]
    assert [filter_.find(line, NOW).identity for line in lines] == [
        "fred ", "192.0.2.0/24", "2001:db8::1", "1.2.3.4", "192.030.0.6", "::7.48.0.1",
    ]  # fmt: skip


def test_alternatives_fill_what_is_empty_and_tuples_add_up():
    """`alt_user` is the user where `user` is not; `tuple_user` stands behind it."""
    filter_ = _filter(
        r"(?P<user>\w*);(?P<alt_user_2>\w*);(?P<alt_user_1>\w*);(?P<tuple_user>\w+);(?P<fid>\w)"
    )
    assert [filter_.find(line, NOW).fields["user"] for line in ("a;b;c;d;x", ";b;c;d;x", ";;;d;x")] == [
        ("a", "d"), ("c", "d"), ("", "d"),
    ]  # fmt: skip


def test_several_lines_are_seen_together_and_those_skipped_stay():
    """A connection's two lines match over the lines of another, which can match later."""
    filter_ = _filter(
        r"^(?P<c>\w+) from (?P<ip4>\S+)\n(?P<skiplines0>(?:(?:.*\n)*?))(?P=c) failed$",
        max_lines=5,
        date_patterns=("{NONE}",),
    )
    lines = ["a from 192.0.2.1", "b from 192.0.2.2", "a failed", "a failed", "b failed"]
    found = [filter_.find(line, NOW) for line in lines]
    assert [one and (one.identity, one.lines) for one in found] == [
        None, None, ("192.0.2.1", ("a from 192.0.2.1", "a failed")), None,
        ("192.0.2.2", ("b from 192.0.2.2", "b failed")),
    ]  # fmt: skip


def test_a_line_without_a_date_has_the_last_one_for_a_minute():
    """Else it happened now; what brings its time along has no date to be found."""
    filter_ = _filter(r"(?P<fid>x)")
    assert filter_.find("Nov 23 11:59:30 UTC x", NOW).at <= NOW
    first = filter_.find("2026-11-23T11:59:30Z x", NOW)
    assert first.at == NOW - 30 * SECOND
    assert filter_.find("x", NOW).at == NOW - 30 * SECOND
    assert filter_.find("x", NOW + 31 * SECOND).at == NOW + 31 * SECOND
    assert filter_.find("2026-11-23T11:59:30Z x", NOW, at=SECOND).at == SECOND


def test_what_one_log_told_means_nothing_to_another():
    """Two hosts' logs have connections of the same number, and lines that were never neighbours."""
    filter_ = _filter(
        r"^(?P<mlfid>\w) (?:(?P<nofail>from) (?P<ip4>\S+)|(?P<user>\w+) failed)$", date_patterns=("{NONE}",)
    )
    assert filter_.find("7 from 192.0.2.1", NOW, origin="a") is None
    assert filter_.find("7 root failed", NOW, origin="b") is None
    assert filter_.find("7 root failed", NOW, origin="a").identity == "192.0.2.1"


def test_what_earlier_lines_told_outlives_a_reload():
    """Of connections, and of lines that are seen together."""
    expression = r"^(?P<mlfid>\w) (?:(?P<nofail>from) (?P<ip4>\S+)|(?P<user>\w+) failed)$"
    before, after = (_filter(expression, date_patterns=("{NONE}",)) for _ in range(2))
    assert before.find("a from 192.0.2.1", NOW) is None
    after.succeed(before)
    assert after.find("a root failed", NOW).identity == "192.0.2.1"
    pair = r"^first (?P<ip4>\S+)\n(?P<skiplines0>(?:(?:.*\n)*?))second$"
    before = _filter(pair, max_lines=5, date_patterns=("{NONE}",))
    assert before.find("first 192.0.2.1", NOW) is None
    for lines, is_seen in ((5, True), (1, False)):
        after = _filter(pair, max_lines=lines, date_patterns=("{NONE}",))
        after.succeed(before)
        assert (after.find("second", NOW) is not None) == is_seen


def test_the_years_that_are_found_grow_with_the_clock():
    """What runs into 2027 must find the dates of 2030; a number of 2077 is none yet."""
    filter_ = _filter(r"(?P<fid>x)")
    later = NOW + 40 * 86_400 * SECOND
    assert filter_.find("2030-01-01T00:00:00Z x", NOW).at == NOW
    assert filter_.find("2030-01-01T00:00:00Z x", later).at == 1_893_456_000 * SECOND
    assert filter_.find("2077-01-01T00:00:00Z x", later, origin="another").at == later


def test_only_an_address_becomes_an_event():
    """Names are never resolved to decide a block, and text that is no address is said, not guessed at."""
    filter_ = _filter(r"from (?P<dns>\S+)")
    event = filter_.read(make_line("Nov 20 10:00:00 from 192.0.2.1", arrived=NOW))
    assert isinstance(event, Event)
    assert event.source == parse_source("192.0.2.1")
    unreadable = filter_.read(make_line("Nov 20 10:00:00 from host.example.com", arrived=NOW))
    assert isinstance(unreadable, Unreadable)
    with pytest.raises(SourceError):
        parse_source("host.example.com")


def test_a_carriage_return_ends_a_line_too():
    """Windows, and a container with a terminal, end their lines so."""
    event = _filter(r" from (?P<ip4>\S+) now$").read(
        make_line("Nov 20 10:00:00 from 192.0.2.1 now\r", arrived=NOW)
    )
    assert isinstance(event, Event)


def test_a_pattern_that_runs_over_sees_only_shorter_lines_from_then_on():
    """A stranger's long line must neither stop the filter, nor blind it to the ordinary ones."""
    filter_ = _filter(r"^(?P<fid>(?:a|aa)+)$", r"(?P<fid>b)", timeout=SECOND // 50)
    assert filter_.find("a" * 60 + "b!", NOW).pattern == "p2"
    assert list(filter_.quarantined) == ["p1"]
    assert "more than 31" in filter_.quarantined["p1"]
    assert filter_.find("a" * 40, NOW) is None
    assert filter_.find("aa", NOW).pattern == "p1"


def test_expressions_mean_what_they_mean_to_python_re():
    """Debian 12's regex fills `dns` here, because of the conditional: that would block nobody."""
    filter_ = _filter(
        r"^Failed \S+ for (?P<inv>invalid user )?"
        r"(?P<user>(?P<cond>\S+)|(?(inv)(?:(?! from ).)*?|[^:]+)) from "
        r"(?:\[?(?:(?P<ip4>(?:\d{1,3}\.){3}\d{1,3}))\]?|(?P<dns>[\w\-.^_]*\w))(?: (?:port \d+|on \S+)){0,2}"
        r"(?: ssh\d*)?(?(cond): |(?:(?:(?! from ).)*)$)",
        date_patterns=("{NONE}",),
    )
    found = filter_.find("Failed password for invalid user bob from 192.0.2.7 port 44 ssh2", NOW)
    assert found.fields == {"inv": "invalid user ", "user": "bob", "ip4": "192.0.2.7"}


@pytest.mark.parametrize(
    ("fields", "is_taken"),
    [
        ({"_COMM": "sshd", "_UID": "0", "_SYSTEMD_UNIT": "session-3.scope"}, True),
        ({"_COMM": "sshd", "_UID": "0", "_SYSTEMD_UNIT": "ssh.service"}, True),
        ({"_COMM": "sshd", "_UID": "998", "_SYSTEMD_UNIT": "other.service"}, True),
        ({"_COMM": "sshd", "_UID": "1000", "_SYSTEMD_UNIT": "session-3.scope"}, False),
        ({"_COMM": "sshd", "_UID": "1000", "_SYSTEMD_UNIT": "user@1000.service"}, False),
        ({"_COMM": "bash", "_UID": "0", "_SYSTEMD_UNIT": "ssh.service"}, False),
    ],
)
def test_a_users_session_cannot_pass_for_a_daemon(fields, is_taken):
    """A process chooses its own `_COMM`; the kernel says whose it is."""
    filter_ = _filter(r"(?P<fid>x)")
    filter_.definition = replace(filter_.definition, journal=(parse_journal_match("_COMM=sshd"),))
    assert filter_.takes(Entry(NOW, "h", "sshd", "1", "x", fields)) is is_taken


@pytest.mark.parametrize("expression", ["(", r"(?P<a>x)(?P<a>y)", r"\p{L}", "(?|a)"])
def test_what_re_does_not_read_is_refused(expression):
    """No expression means anything here that it would not mean to Fail2ban."""
    with pytest.raises(PatternError):
        _filter(expression)


@pytest.mark.parametrize(
    ("patterns", "how", "line"),
    [
        ([r"^\[\] failed for (?P<fid>\w+)"], {}, "[Nov 20 10:00:00] failed for x"),
        (
            [r"^\[\]failed for (?P<fid>\w+)"],
            {"date_patterns": ("{^LN-BEG}",)},
            "[Nov 20 10:00:00]failed for x",
        ),
        ([r"one fa\[\]iled (?P<fid>\w+)"], {}, "one fa[2026-11-20 10:00:00]iled x"),
        ([r"^abcdefgh(?P<fid>\w+)"], {"date_patterns": (r"^abcd(%H:%M)**",)}, "abcd10:00efghx"),
    ],
)
def test_the_prefilter_finds_text_that_a_date_stands_in(patterns, how, line):
    """Patterns see the line without its date, the prefilter sees it with it."""
    filter_ = _filter(*patterns, **how)
    assert isinstance(filter_, WholeLineFilter)
    assert filter_.find(line, NOW) is not None
    assert list(Prefilter(filter_.needs()).candidates(line.encode() + b"\n")) == [(0, len(line))]
