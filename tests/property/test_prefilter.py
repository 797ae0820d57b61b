"""The prefilter may pass too much, never too little."""

import regex
from hypothesis import given
from hypothesis import strategies as st

from correlator.lines.syslog import parse_header, repeats_of_last
from correlator.matching.filter_definition import FilterDefinition, LoginDefinition, PatternDefinition
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.matching.line_expressions import with_one_search
from correlator.matching.logins import Logins
from correlator.matching.needs import Need, required_literal, required_text
from correlator.matching.patterns import TextPattern
from correlator.matching.prefilter import Prefilter
from correlator.model import SECOND

NOW = 1_795_357_762 * SECOND
WORDS = ["attackalert: ", "attackalert: host ", "Failed", " from ", "xyz", "é", "SRC=", "failed", "\udcff"]
BODY = st.lists(st.sampled_from([*WORDS, "a", " ", "7", ":", "["]), max_size=8).map("".join)
PIECE = st.sampled_from(
    [r"Failed", r"(?:sshd)", r"\d+", r".*", r"(?P<n>xyz)", r"(?: from )?", r"(?:SRC=|Failed)", r"(?i:failed)",
     r"[Ff]ailed", r"(?:xyz){2}", r"(?:xyz)*", r"^", r"(?=Failed)", r"é", r"(?>attackalert: )", r"(?:a|)",
     r"[^F]", r"[a-z]{1,8}", r" {0,3}", r"[^:]+", r"\w{2,9}", r"\S{1,4}", r"(?:[a-c]{1,2}|7)",
     r"(?:a[^ ])?", r"(?!xyz)", r"$", r"(?:^Failed|^xyz)", r"(?:Failed(?: from )?|a)", "\udcff",
     r"\n*", r"[\n\r]", r"\ud800?", r"[^[:digit:]]", r"[a[:digit:]]", "(?x: \u00a0a)", r"\\{e<=1}"]
)  # fmt: skip
PATTERN = st.lists(PIECE, min_size=1, max_size=5).map(
    lambda pieces: "".join(p.replace("?P<n>", f"?P<n{i}>") for i, p in enumerate(pieces))
)
ANCHORED = st.tuples(st.sampled_from(["^", "", r"\A", "(?:^)", "(?i)^"]), PATTERN).map("".join)
PROGRAMS = ["sshd", "sshd-session", "ssh", "postfix/smtpd", "a(b)", "é", ""]
NAMES = st.frozensets(st.sampled_from([*PROGRAMS, "*", "postfix/*", "*(b)", "ss*"]), max_size=3)
HEADERS = [
    "Nov 22 14:29:22 vm {}: ", "Nov  2 14:29:22.311584 vm {}: ", "<29>Nov 22 14:29:22.3 {}[7]: ",
    "Nov 22 14:29:22 2001:db8::17 {}[7]: ", "<29>2026-11-22T14:29:22Z ::1 {}: ",
    "Nov  2 14:29:22 {}[7]: ", "2026-11-22T14:29:22.311584+00:00 vm {}[7]: ",
    "2026-11-22T14:29:22 vm {}:", "2026-11-22 14:29:22 vm {}[7]: ", "<29>Nov 22 14:29:22 vm {}[a:b]: ",
    "<29>1 2026-11-22T14:29:22Z vm {} 71 - - ", '1 2026-11-22T14:29:22Z vm {} 71 - [x@1 a="b \\] c"] ',
    "{}: ",
    "2026/11/22 14:29:22 {}", "[2026-11-22 14:29:22] ", "", "Nov ٢٢ 14:29:22 vm {}: ",
    "Nov 22 14:29:22 é {}: ", "Nov 22 14:29:22\xa0vm {}: ", "Nov 22 14:29:22 v\x85m {}: ",
    "<300>2026-11-22T14:29:22,1+01 {}: ", "Nov 22 14:29:22 vm {}[7]: message repeated 3 times: [ ",
    "Nov 22 14:29:22 vm {}: Last message '",
]  # fmt: skip
ENDS = ["", "]", "' repeated 3 times, suppressed by syslog-ng on vm", "\r"]
LAST = st.sampled_from(
    ["Nov 22 14:29:22 vm last message repeated 2 times", "Nov 22 14:29:22 last message repeated 2 times",
     "Nov 22 14:29:22 vm --- last message repeated 2 times ---", "last message repeated 2 times",
     "2026-11-22T14:29:22Z vm syslogd: last message repeated 1 time",
     "Nov 22 14:29:22 syslog[1]: vm last message repeated 2 times",
     "<46>1 2026-11-22T14:29:22Z vm syslogd - - - last message repeated 3 times",
     "[Nov 22 14:29:22] last message repeated 2 times", "261122 14:29:22 last message repeated 2 times"]
)  # fmt: skip
LINE = LAST | st.builds(
    lambda header, program, body, end: header.format(program) + body + end,
    st.sampled_from(HEADERS),
    st.sampled_from(PROGRAMS),
    BODY,
    st.sampled_from(ENDS),
)


def _candidates(needs, lines, **how):
    data = _as_data(lines)
    return _texts(data, Prefilter(needs).candidates(data, **how))


def _as_data(lines):
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _texts(data, spans):
    return {data[start:end].decode("utf-8", "surrogateescape") for start, end in spans}


@given(
    st.lists(LINE, max_size=8),
    st.lists(st.tuples(NAMES, st.lists(ANCHORED, max_size=3)), min_size=1, max_size=4),
)
def test_no_line_that_a_filter_understands_is_lost(lines, written):
    """Whatever programs it names, whatever its patterns and the line's header, folded messages included."""
    filters = [
        Filter(
            FilterDefinition(
                str(number), "", "", names, (),
                tuple(PatternDefinition(str(i), f"{text}(?P<source>)") for i, text in enumerate(texts)),
            )
        )
        for number, (names, texts) in enumerate(written)
    ]  # fmt: skip
    found = _candidates([need for filter_ in filters for need in filter_.needs()], lines)
    for line in lines:
        header = parse_header(line)
        wanted = any(
            filter_.wants(header.identifier)
            and any(regex.search(pattern.expression, header.body) for pattern in filter_.definition.patterns)
            for filter_ in filters
        )
        has_patterns = any(filter_.definition.patterns for filter_ in filters)
        assert line in found or not (wanted or (has_patterns and repeats_of_last(header, line)))


LOGIN = st.builds(
    LoginDefinition,
    st.frozensets(st.sampled_from([name for name in PROGRAMS if name]), min_size=1, max_size=2),
    ANCHORED.map(lambda text: text + "(?P<account>)(?P<source>)"),
    ANCHORED.map(lambda text: text + "(?P<account>)"),
)


@given(
    st.lists(LINE, max_size=8),
    LOGIN,
    st.lists(st.tuples(NAMES | st.none(), ANCHORED), max_size=3),
    st.booleans(),
)
def test_no_line_about_a_login_is_lost(lines, login, written, has_plain):
    """Beside whatever else is looked for, which is found as ever."""
    logins = Logins([login])
    needs = [
        Need(None, texts=(required_literal(text),))
        if names is None
        else TextPattern(PatternDefinition("p", text)).need(names)
        for names, text in written
    ]
    data, told = _as_data(lines), []
    alone = set(Prefilter(needs, has_plain=has_plain).candidates(data))
    prefilter = Prefilter(needs, logins=logins.needs(), has_plain=has_plain)
    spans = list(prefilter.candidates(data, told=told))
    assert alone <= set(spans)
    assert spans == sorted(set(spans)) == list(prefilter.candidates(data))
    assert told == sorted(set(told))
    found = _texts(data, told)
    for line in lines:
        header = parse_header(line)
        tells = any(
            header.identifier in programs and regex.search(pattern.expression, header.body)
            for programs, pattern in (*logins.begins, *logins.ends)
        )
        assert line in found or not tells


@given(
    st.lists(BODY, max_size=8),
    st.sampled_from(["sshd", "postfix/smtpd"]),
    NAMES,
    st.lists(ANCHORED, max_size=3),
)
def test_no_body_without_a_header_is_lost(bodies, program, names, patterns):
    """Of a chunk whose program is known, the lines are bodies."""
    definitions = tuple(PatternDefinition(str(i), f"{text}(?P<source>)") for i, text in enumerate(patterns))
    filter_ = Filter(FilterDefinition("x", "", "", names, (), definitions))
    found = _candidates(filter_.needs(), bodies, identifier=program)
    for body in bodies:
        matches = any(regex.search(pattern.expression, body) for pattern in definitions)
        assert body in found or not (matches and filter_.wants(program))


@given(BODY, ANCHORED)
def test_what_a_pattern_requires_stands_in_all_that_it_matches(body, pattern):
    """The text, and one of the beginnings."""
    beginnings, texts = required_text(pattern)
    if regex.search(pattern, body):
        assert Need(frozenset(), beginnings, texts).fits(body)
        assert all(text in body for text in texts)


@given(BODY, ANCHORED)
def test_a_filter_understands_what_its_patterns_match(body, pattern):
    """Looking for the required text first changes no answer."""
    definition = PatternDefinition("p", pattern + "(?P<source>)")
    filter_ = Filter(FilterDefinition("f", "", "", frozenset({"sshd"}), (), (definition,)))
    line = make_line(f"Nov 22 14:29:22 vm sshd: {body}", arrived=NOW)
    assert (filter_.read(line) is not None) == bool(regex.search(pattern, line.header.body))


@given(
    st.binary(max_size=400), st.lists(st.sampled_from(["abc", "", "b", "\n"]), max_size=3), NAMES | st.none()
)
def test_candidates_are_whole_lines_in_order(data, literals, names):
    """What is handed out are lines of the chunk, once each, in their order, without line feeds."""
    data += b"\n"
    spans = list(Prefilter(Need(names, texts=(literal,)) for literal in literals).candidates(data))
    assert spans == sorted(set(spans))
    for start, end in spans:
        assert data[end : end + 1] == b"\n"
        assert b"\n" not in data[start:end]
        assert start == 0 or data[start - 1 : start] == b"\n"


@given(st.lists(BODY, max_size=6), st.lists(ANCHORED, min_size=1, max_size=3))
def test_whole_lines_are_found_by_their_text(lines, patterns):
    """For filters that judge whole lines, whoever wrote them."""
    needs = [Need(None, texts=(required_literal(pattern),)) for pattern in patterns]
    wanted = {line for line in lines if any(regex.search(pattern, line) for pattern in patterns)}
    assert wanted <= _candidates(needs, lines)


@given(st.lists(st.text("ab", min_size=1, max_size=40).map(str.encode), max_size=8))
def test_one_search_stands_for_several_texts(texts):
    """Whatever holds one of them holds one of those that are looked for, which are no more."""
    found = with_one_search(texts)
    assert len(found) <= len(texts)
    for text in texts:
        assert any(one in text and len(one) >= min(16, len(text)) for one in found)


def test_the_longest_literal_is_chosen():
    """The rarest text is probably the longest."""
    assert required_literal(r"^attackalert: (?P<t>\S+) scan from host: (?P<s>\S+)$") == " scan from host: "


def test_beginnings_are_told_apart_as_far_as_the_text_is_fixed():
    """Branches and options multiply; where text is open, a beginning ends."""
    assert required_text(r"^(?:error: )?(?:Invalid|Illegal) user (?P<user>.*)")[0] == (
        "Illegal user ", "Invalid user ", "error: Illegal user ", "error: Invalid user ",
    )  # fmt: skip
    assert required_text(r"^[Aa]b\d+c")[0] == ("Ab", "ab")
    assert required_text(r"ab")[0] == ()
    assert required_text(r"^(?P<source>\S+) x")[0] == ()


def test_case_insensitive_patterns_pass_all():
    """Bytes are searched as they stand, so such a pattern requires nothing."""
    assert required_text(r"(?i)^failed") == ((), ())


def test_what_only_regex_understands_passes_all():
    """Nothing is claimed of an expression that re cannot parse, or takes for something else."""
    assert required_text(r"^(?|(a)|(b))attackalert") == ((), ())
    assert required_text(r"^port [[:digit:]]+ refused") == ((), ())  # re: one of ":digt[", then "]"
    assert required_text(r"(?:refused){e<=1}") == ((), ())  # re: the text "{e<=1}"
    assert required_text(r"^\{e<=1\} refused")[1] == ("{e<=1} refused",)


def test_a_line_of_another_program_is_no_candidate():
    """Its text may be what a pattern looks for: it costs us nothing all the same."""
    need = Need(frozenset({"sshd"}), ("Failed ",), ("Failed ",))
    lines = ["Nov 22 14:29:22 vm cron: Failed x", "Nov 22 14:29:22 vm sshd[1]: Failed x", "sshd: Failed x"]
    assert _candidates([need], lines) == {lines[1]}
