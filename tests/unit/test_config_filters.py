"""The language of filter files: variables, lists, records, ignored lines, and what is wrong with a file."""

from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.config.substitution import Substitution, SubstitutionError
from correlator.matching.filter_definition import Condition
from tests.site_folders import write_site

WEB = """
identifiers = ["web"]
[variables]
client = "client ${source}"
start  = "^GET "
[lists]
paths = ["/.env", "/wp-login.php", "/a+b"]
[[pattern]]
name  = "path"
regex = '''${start}(?P<path>${paths}) ${client}$'''
[[ignore]]
regex = '''192\\.0\\.2\\.9$'''
[[test]]
line   = "Nov 22 14:29:22 vm web: GET ${paths} client 192.0.2.1"
expect = { pattern = "path", source = "192.0.2.1" }
[[test]]
line   = "Nov 22 14:29:22 vm web: GET /a client ${jndi}"
expect = "nothing"
[[test]]
line   = "Nov 22 14:29:22 vm web: GET ${paths} client 192.0.2.9"
expect = "nothing"
"""
RECORDS = """
format = "json"
time   = "timestamp"
[lists]
kinds = ["alert", "drop"]
[[pattern]]
name   = "alert"
[pattern.match]
event_type = "${kinds}"
alert.severity = [1, 2]
"alert.signature" = { regex = "^ET ${kinds}?" }
ok = true
[pattern.fields]
source = "src_ip"
port   = "dest_port"
[variables]
alert = '"timestamp": 1795357762, "ok": true, "src_ip": "192.0.2.1", "dest_port": 22'
[[test]]
line   = '{"event_type": "${kinds}", "alert": {"severity": 2, "signature": "ET alert"}, ${alert}}'
expect = { source = "192.0.2.1", port = "22" }
[[test]]
line   = '{"event_type": "alert", "alert": {"severity": 3, "signature": "ET alert"}, ${alert}}'
expect = "nothing"
"""


def _load(folder, text, **options):
    path = folder / "mine.toml"
    path.write_text(text)
    definition, faults = load_filter(path, options=options)
    return definition, [str(fault) for fault in faults]


def test_variables_and_lists_stand_in_patterns_and_tests(tmp_path):
    """A list is any of its words in a pattern, escaped, and each of them in turn in a test."""
    definition, faults = _load(tmp_path, WEB)
    assert faults == []
    assert definition.patterns[0].expression == (
        r"^GET (?P<path>(?:/wp\-login\.php|/\.env|/a\+b)) client (?P<source>[0-9A-Fa-f:.]{2,45})$"
    )
    assert [test.line[28:] for test in definition.tests][:3] == [
        "/wp-login.php client 192.0.2.1",
        "/.env client 192.0.2.1",
        "/a+b client 192.0.2.1",
    ]
    assert len(definition.tests) == 7


def test_an_option_overrules_a_variable(tmp_path):
    """One file serves several sites; its own tests are held against what comes of it."""
    assert _load(tmp_path, WEB, start="^(?:GET|POST) ")[1] == []
    faults = _load(tmp_path, WEB, start="^POST ")[1]
    assert len(faults) == 3
    assert (
        "mine.toml:14: test 'Nov 22 14:29:22 vm web: GET /wp-login.php client 192.0.2.1': got nothing"
        in faults[0]
    )
    assert (
        "variables.strat: got '^', expected an option that the filter has (did you mean 'start'?)"
        in (_load(tmp_path, WEB, strat="^")[1][0])
    )


def test_records_are_described_by_their_fields(tmp_path):
    """Conditions by dotted path, flat or nested: text, one of several, an expression, true or false."""
    definition, faults = _load(tmp_path, RECORDS)
    assert faults == []
    assert definition.layout.time == "timestamp"
    assert definition.patterns[0].conditions == (
        Condition("event_type", frozenset({"alert", "drop"})),
        Condition("alert.severity", frozenset({"1", "2"})),
        Condition("alert.signature", expression="^ET (?:alert|drop)?"),
        Condition("ok", frozenset({"true"})),
    )
    assert len(definition.tests) == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (WEB, ("${start}", "${strat}"), "mine.toml:10: pattern[1].regex: got '${strat}"),
        (WEB, ("${start}", "${strat}"), "that there is: not 'strat' (did you mean 'start'?)"),
        (WEB, ('"^GET "', '"${client}${start}"'), "expected variables that do not name each other"),
        (WEB, ("start  =", "1start ="), "variables.1start: got '1start', expected a name"),
        (WEB, ("start  =", "paths  ="), "lists.paths: got 'paths', expected a name that no"),
        (WEB, ('["/.env"', '["", "/.env"'), "lists.paths: got '4 words', expected 1 to 10000 words"),
        (WEB, ('["web"]', '["${path}"]'), "identifiers: got ['${path}'], expected a variable or"),
        (WEB, ("regex = '''192", "rx = '''192"), "ignore[1].rx: got"),
        (WEB, ('["web"]', '["web"]\ndates = ["%d.%Q"]'), "dates: got '%d.%Q', expected a date such as"),
        (WEB, ('["web"]', '["web"]\ndates = ["today"]'), "with the tokens of strptime: no token in it"),
        (RECORDS, ("ok = true", "ok = {}"), "pattern[1].match.ok: got {}, expected text, a number"),
        (RECORDS, ("[pattern.fields]", ""), "pattern[1].fields: got no value, expected where the record"),
        (RECORDS, ('source = "s', 'src = "s'), "does not say which field is the source"),
        (RECORDS, ('"json"', '"jason"'), "format: got 'jason', expected one of 'text', 'json'"),
        (RECORDS, ('"^ET ', '"^(ET '), "toml:7: pattern 'alert': got missing ), behind '^(ET (?"),
        (RECORDS, ("[pattern.match]", 'regex = "x"\n[pattern.match]'), "pattern[1].regex: got 'x'"),
    ],
)  # fmt: skip
def test_each_fault_of_a_filter_says_where_and_what(tmp_path, old, new, expected):
    """A person can mend it without reading our code."""
    definition, faults = _load(tmp_path, old.replace(*new))
    assert definition is None
    assert expected in "\n".join(faults)


def test_what_grows_without_end_is_refused():
    """A variable that doubles itself ten times over must not fill the memory."""
    variables = {
        "a": "x" * 1000,
        **{name: f"${{{last}}}" * 10 for last, name in zip("abcde", "bcdef", strict=True)},
    }
    with pytest.raises(SubstitutionError, match="at most 100000 characters"):
        Substitution(variables).expression("${f}")


@pytest.mark.parametrize("text", [r"\${source}", "$", "{source}", "${}", "${a b}", "$source", "x${1}"])
def test_expressions_that_mean_something_else_are_left_alone(text):
    """`$` and `{}` keep their meaning; only a name in `${}` is ours."""
    assert Substitution().expression(text) == text


def test_the_tests_of_lists_are_bounded(tmp_path):
    """Three lists of a hundred words would make a million tests."""
    words = ", ".join(f'"/{number}"' for number in range(100))
    text = WEB.replace('["/.env", "/wp-login.php", "/a+b"]', f"[{words}]")
    text += '[[test]]\nline = "${paths}${paths}${paths}"\nexpect = "nothing"\n'
    definition, faults = _load(tmp_path, text)
    assert faults == []
    assert len(definition.tests) == 100 + 1 + 100 + 1000


ENDPOINTS = """
format = "json"
[[pattern]]
name   = "spoken"
match  = { log = { regex = '^wrong password for (?P<user>.{0,99}) from ${source}\\s*$' } }
[[pattern]]
name   = "endpoint"
match  = { msg = "refused", remote = { regex = '^\\[?${source}\\]?:\\d{1,5}$' }, over = { missing = true } }
fields = { user = "who" }
[[test]]
line   = '{"log": "wrong password for bob from 192.0.2.1\\r\\n", "stream": "stderr"}'
expect = { pattern = "spoken", source = "192.0.2.1", user = "bob" }
[[test]]
line   = '{"msg": "refused", "remote": "[2001:db8::5]:4242", "who": "bob"}'
expect = { pattern = "endpoint", source = "2001:db8::5", user = "bob" }
[[test]]
line   = '{"msg": "refused", "remote": "[2001:db8::5]", "who": "bob"}'
expect = "nothing"
"""


def test_text_in_a_record_may_hold_the_address(tmp_path):
    """As a container's log has it, or a port beside it: groups of an expression are fields too."""
    definition, faults = _load(tmp_path, ENDPOINTS)
    assert faults == []
    assert definition.field_names == {"source", "user"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('fields = { source = "ip" }', "a field that no regex of `match` has as a group"),
        ("", "or ${source} in a regex of `match`"),
    ],
)
def test_a_field_of_a_record_is_told_once(tmp_path, fields, expected):
    """By its path or by a group, and the source by one of them."""
    group = "${source}" if fields else "${address}"
    pattern = f'name = "x"\nmatch = {{ remote = {{ regex = "^{group}:" }} }}\n{fields}'
    _definition, faults = _load(tmp_path, f'format = "json"\n[[pattern]]\n{pattern}\n')
    assert expected in faults[0]


def test_a_field_that_must_be_missing_is_not_looked_for(tmp_path):
    """However long its name: no line has it that the pattern is for."""
    pattern = 'name = "x"\nmatch = { a_very_long_key = { missing = true } }\nfields = { source = "ip" }'
    test = 'line = \'{"ip": "192.0.2.1"}\'\nexpect = { source = "192.0.2.1" }'
    assert _load(tmp_path, f'format = "json"\n[[pattern]]\n{pattern}\n[[test]]\n{test}\n')[1] == []


def test_ignored_lines_are_tried_before_the_alarm(tmp_path):
    """Without the ignored expression the same line is understood: the test in the file would fail."""
    text = WEB.replace("192\\.0\\.2\\.9$", "never")
    assert "got pattern 'path', source 192.0.2.9, expected nothing" in _load(tmp_path, text)[1][0]


def test_a_file_that_is_not_there_is_a_fault():
    """With the place and the reason."""
    definition, faults = load_filter(Path("/nowhere/x.toml"))
    assert definition is None
    assert "/nowhere/x.toml: file: got No such file" in str(faults[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("regex = '^from <HOST>$'", "${source} where the address stands; <HOST> is Fail2ban's word for it"),
        ("regex = '^from (${source}$'", ":4: pattern 'p': got missing ), behind "),
        ('regex = "^from \\d ${source}$"', "mine.toml:4: file: got no TOML: Unescaped"),
        ('regex = "^from \\d ${source}$"', "such as an expression, stands in single quotes"),
        ("match = { a = 1 }", 'expected no such key, unless the filter says format = "json"'),
        (
            "regex = '^a ${source}$'\n[[pattern]]\nname = 'p'\nregex = '^b ${source}$'",
            "pattern[2].name: got 'p', expected a name that no other pattern of the filter has",
        ),
    ],
)
def test_what_beginners_write_is_answered_with_what_to_write(tmp_path, text, expected):
    """Each of these is somebody's first try; the message says what to do, and where."""
    _definition, faults = _load(tmp_path, f'identifiers = ["d"]\n[[pattern]]\nname = "p"\n{text}\n')
    assert expected in "\n".join(faults)


@pytest.mark.parametrize("file", ["app.log", "~/x.log", "$HOME/x.log"])
def test_a_file_is_named_by_its_whole_path(tmp_path, file):
    """Any other would be sought from wherever the correlator was started, and never be found."""
    definition, faults = _load(tmp_path, f'files = ["/a/*.log", "{file}"]\n{WEB}')
    assert definition is None
    assert f"files: got '{file}', expected absolute paths, or patterns of them" in faults[0]


def test_all_expressions_that_cannot_run_are_told_at_once(tmp_path):
    """Beside what else is wrong with the file, each with its line."""
    patterns = "".join(f"[[pattern]]\nname = '{each}'\nregex = '{each}('\n" for each in "ab")
    definition, faults = _load(tmp_path, f"identifer = 1\n{patterns}[[ignore]]\nregex = ')'\n")
    assert definition is None
    assert [fault.removeprefix(f"{tmp_path}/mine.toml").partition(" got")[0] for fault in faults] == [
        ":1: identifer:",
        ": ignore[1].regex:",
        ":4: pattern 'a':",
        ":7: pattern 'b':",
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x", "nothing: the line is of no program, and the filter reads program 'web'"),
        ("Nov 22 14:29:22 vm web: GET /.env client nobody", "[0-9A-Fa-f:.]{2,45})$, got 'nobody'"),
        ("Nov 22 14:29:22 vm web: POST /", "nothing: no pattern begins as 'POST /', or it is ignored"),
    ],
)
def test_a_failing_test_says_how_far_it_got(tmp_path, line, why):
    """Who wrote it sees at once which part of the expression asks for something else."""
    _definition, faults = _load(
        tmp_path, f"{WEB}[[test]]\nline = '{line}'\nexpect = {{ source = '192.0.2.1' }}\n"
    )
    assert why in faults[0]
    assert faults[0].endswith('expected { source = "192.0.2.1" }')


def test_a_bad_filter_takes_out_only_itself(tmp_path):
    """The others go on, the fault is said, and the start is not stopped."""
    site = write_site(
        tmp_path,
        '[jail.a]\nfilters = ["portsentry", "mine"]\n',
        filters__mine_toml="[[pattern]]\nname = 'x'\nregex = '('\n",
    )
    assert list(site.filters) == ["portsentry"]
    assert site.jails["a"].filters == ("portsentry",)
    assert site.fatal == ()
    assert "mine.toml:3: pattern 'x': got missing ), behind '('" in str(site.faults[0])


def test_a_filter_whose_tests_fail_does_not_load(tmp_path):
    """It says which line, what it got and what was expected."""
    path = tmp_path / "mine.toml"
    path.write_text(
        "identifiers = ['a']\n"
        "[[pattern]]\nname = 'x'\nregex = '''^from (?P<source>\\S+)$'''\n"
        "[[test]]\nline = 'Nov 22 14:29:22 vm a: from 192.0.2.1'\nexpect = { source = '192.0.2.2' }\n"
    )
    definition, faults = load_filter(path, alert_log=Path("/x"))
    assert definition is None
    assert "from 192.0.2.1" in str(faults[0])
    assert """got source='192.0.2.1', expected { source = "192.0.2.2" }""" in str(faults[0])


def test_a_pattern_without_source_is_refused(tmp_path):
    """A filter that cannot say who it was is of no use."""
    path = tmp_path / "mine.toml"
    path.write_text("[[pattern]]\nname = 'x'\nregex = 'abc'\n")
    assert "has no group (?P<source>...)" in str(load_filter(path, alert_log=Path("/x"))[1][0])


def test_a_sites_filter_wins_over_the_vendors(tmp_path):
    """A file of the same name replaces the shipped one whole."""
    site = write_site(
        tmp_path,
        '[jail.a]\nfilters = ["portsentry"]\n',
        filters__portsentry_toml="[[pattern]]\nname = 'own'\nregex = '''^(?P<source>\\S+)$'''\n",
    )
    assert [pattern.name for pattern in site.filters["portsentry"].patterns] == ["own"]
