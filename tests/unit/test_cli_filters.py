"""`filter test`, `filter new` and `filter list`; what `check` warns of; `explain` with a filter's file."""

import io
import json

import pytest

from correlator.config.filters import load_filter
from correlator.matching.pattern_review import review_filter

FAULTY = """
identifiers = ["knockd"]
[[pattern]]
name  = "knock"
regex = '''knock from (?P<source>.*)'''
[[test]]
line   = "Nov 22 14:29:22 vm knockd: knock from 192.0.2.1"
expect = { source = "192.0.2.2" }
"""
SOUND = """
description = "knocks"
identifiers = ["knockd"]
files       = ["/var/log/knock.log"]
[variables]
word = "knock"
[jail]
threshold = 3
count     = "distinct port"
[[pattern]]
name  = "knock"
regex = '''^${word} from ${source}$'''
[[test]]
line   = "Nov 22 14:29:22 vm knockd: knock from 192.0.2.1"
expect = { source = "192.0.2.1" }
"""
SAMPLES = {
    "sshd": """\
Nov 22 14:29:22 vm sshd[1]: Failed password for root from 192.0.2.1 port 35822 ssh2
Nov 22 14:29:23 vm sshd[2]: Failed password for invalid user admin from 192.0.2.2 port 35823 ssh2
Nov 22 14:29:24 vm sshd[1]: Failed password for ops from 2001:db8::1 port 3 ssh2
Nov 22 14:29:24 vm sshd[1]: Connection closed by invalid user x 192.0.2.7 port 3 [preauth]
Nov 22 14:29:24 vm sshd[1]: Server listening
""",
    "nginx": (
        '2026/11/23 08:32:16 [error] 58#58: *2 user "ops": password mismatch, client: 192.0.2.2,'
        ' server: example.org, request: "GET /basic/ HTTP/1.1", host: "192.0.2.1:82"\n'
    ),
    "gitea": (
        "2026/11/23 08:32:16 ...s/auth.go:151:SignIn() [I] Failed authentication attempt for admin from"
        " 192.0.2.9:4242: user does not exist [uid: 0, name: admin]\n"
    ),
    "mysql": (
        "2026-11-23  8:01:02 42 [Warning] Access denied for user 'root'@'192.0.2.5' (using password: YES)\n"
    ),
    "pam": (
        "Nov 22 14:29:22 vm app: pam_unix(app:auth): authentication failure; logname= uid=0 euid=0 tty=ssh"
        " ruser= rhost=192.0.2.3  user=root\n"
    ),
    "eve": (
        '{"timestamp":"2026-11-23T08:01:02.1+0000","event_type":"alert","src_ip":"192.0.2.1","dest_ip":'
        '"10.0.0.1","alert":{"signature":"a"}}\n'
        '{"timestamp":"2026-11-23T08:01:03.1+0000","event_type":"alert","src_ip":"192.0.2.3","dest_ip":'
        '"10.0.0.1","alert":{"signature":"b"}}\n'
    ),
    "access": (
        '192.0.2.1 - - [23/Nov/2026:08:01:02 +0000] "POST /login HTTP/1.1" 401 12 "-" "a/1.0 (b)"\n'
        '192.0.2.2 - - [24/Nov/2026:08:01:02 +0000] "POST /login HTTP/1.1" 401 9 "-" "curl/8.0"\n'
    ),
    "logfmt": (
        't=2026-11-23T08:01:02.123456789+01:00 level=warn msg="wrong password" user=ops remote=192.0.2.1\n'
        't=2026-11-23T08:01:03.123456789+01:00 level=warn msg="wrong password" user=bob remote=2001:db8::1\n'
    ),
    "mapped": "Nov 22 14:29:24 vm app: refused ::ffff:192.0.2.9 on port 4\n",
    "container": (
        '{"log":"bad try for ops from 192.0.2.1\\r\\n","stream":"stderr","time":"2026-11-23T08:01:02.1Z"}\n'
        '{"log":"bad try for bob from 192.0.2.2\\r\\n","stream":"stderr","time":"2026-11-23T08:01:03.1Z"}\n'
    ),
    "endpoint": '{"ts":1795420862.5,"msg":"refused","remote":"[2001:db8::5]:4242","user":"ops"}\n',
}
SOURCES = {
    "sshd": "192.0.2.1",
    "nginx": "192.0.2.2",
    "gitea": "192.0.2.9",
    "mysql": "192.0.2.5",
    "logfmt": "192.0.2.1",
    "container": "192.0.2.1",
    "endpoint": "2001:db8::5",
}


@pytest.fixture
def folder(tmp_path):
    """A configuration with nothing but a place for filters."""
    (tmp_path / "portward.toml").write_text(f'[paths]\nstate = "{tmp_path}"\n')
    (tmp_path / "filters").mkdir()
    return tmp_path


@pytest.fixture
def drafted(run, tmp_path):
    """Draft a filter; return its last sample, and what gives the status of explaining a line by it."""

    def call(name):
        samples, draft = tmp_path / f"{name}.log", tmp_path / "mine.toml"
        samples.write_text(SAMPLES[name])
        draft.write_text(run("filter", "new", "--from", str(samples))[1])
        line = SAMPLES[name].splitlines()[-1]
        return line, lambda text: run("explain", "--filter", str(draft), text)[0]

    return call


def test_a_failing_test_is_named_with_line_expected_and_got(run, tmp_path):
    """Status 1; the place is one that an editor can jump to."""
    path = tmp_path / "knock.toml"
    path.write_text(FAULTY)
    status, output, _ = run("filter", "test", str(path))
    assert status == 1
    assert "FAILED  knock" in output
    assert f"{path}:7: test 'Nov 22 14:29:22 vm knockd: knock from 192.0.2.1'" in output
    assert 'expected { source = "192.0.2.2" }' in output
    assert "got      source='192.0.2.1'" in output
    assert output.endswith("1 filter, 1 with faults, 0 warnings\n")


def test_warnings_do_not_fail(run, tmp_path):
    """A filter whose tests pass is usable; what is dangerous in it is said."""
    (tmp_path / "filters/knock.toml").write_text(FAULTY.replace("192.0.2.2", "192.0.2.1"))
    status, output, _ = run("filter", "test", "knock")
    assert status == 0
    assert "warning pattern 'knock': it is not anchored with ^" in output
    assert (
        json.loads(run("filter", "test", "knock", "--json")[1])["filters"][0]["warnings"][0]["pattern"]
        == "knock"
    )


def test_a_filter_is_meant_by_its_name_whatever_lies_around(run, tmp_path, monkeypatch):
    """A folder of that name where we stand is another thing; with a slash it is meant."""
    (tmp_path / "filters/knock.toml").write_text(SOUND)
    (tmp_path / "here/knock").mkdir(parents=True)
    (tmp_path / "here/knock/other.toml").write_text(FAULTY)
    monkeypatch.chdir(tmp_path / "here")
    assert run("filter", "test", "knock")[1].startswith("ok      knock")
    assert run("filter", "test", "./knock")[1].startswith("FAILED  other")


def test_check_shows_the_same_warnings(run, tmp_path):
    """Whoever checks the configuration learns of them too."""
    (tmp_path / "filters/knock.toml").write_text(FAULTY.replace("192.0.2.2", "192.0.2.1"))
    (tmp_path / "portward.toml").write_text('enabled = ["knock"]\n')
    status, _, complaints = run("check")
    assert status == 0
    assert "warning: filter knock, pattern 'knock': it is not anchored" in complaints
    assert json.loads(run("check", "--json")[1])["warnings"][0]["filter"] == "knock"


def test_all_filters_are_tested_by_default(run, tmp_path):
    """The shipped ones and the site's, of which one of the same name wins."""
    (tmp_path / "filters/sshd.toml").write_text(FAULTY)
    status, output, _ = run("filter", "test")
    assert status == 1
    assert "FAILED  sshd" in output
    assert "ok      portsentry" in output


@pytest.mark.parametrize("argument", ["nope", "/nowhere/nope.toml"])
def test_what_is_no_filter_is_said(run, argument):
    """One line, and never success."""
    status, output, complaints = run("filter", "test", argument)
    assert status in (1, 65)
    assert "nope" in output + complaints


def test_the_list_says_what_each_reads_and_counts(run, tmp_path):
    """As a table, as JSON, and as the table of the guide."""
    (tmp_path / "filters/knock.toml").write_text(SOUND)
    assert "knock  " in run("filter", "list")[1]
    row = next(line for line in run("filter", "list", "--markdown")[1].splitlines() if "**knock**" in line)
    assert row == "| **knock** knocks | `knockd`, `/var/log/knock.log` | 3 different ports in 1h: 1h |"
    filters = {item["filter"]: item for item in json.loads(run("filter", "list", "--json")[1])["filters"]}
    assert filters["knock"]["patterns"] == ["knock"]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_draft_passes_its_own_tests(run, tmp_path, name):
    """It understands each sample that names an address, resists a stranger's text, and has no warning."""
    samples = tmp_path / f"{name}.log"
    samples.write_text(SAMPLES[name])
    status, draft, _ = run("filter", "new", "--from", str(samples), "mine")
    assert status == 0
    (tmp_path / "filters/mine.toml").write_text(draft)
    status, output, _ = run("filter", "test", "mine")
    assert (status, "with faults, 0 warnings" in output) == (0, True)
    definition, faults = load_filter(tmp_path / "filters/mine.toml")
    assert faults == []
    assert list(review_filter(definition)) == []
    understood = [test for test in definition.tests if test.expect is not None and "198.51" not in test.line]
    assert len(understood) == sum(
        "192.0.2" in line or "2001:db8" in line for line in SAMPLES[name].splitlines()
    )
    assert any(test.expect is None for test in definition.tests)


@pytest.mark.parametrize("name", SOURCES)
def test_a_draft_leaves_open_what_strangers_type(run, tmp_path, name):
    """The name is a field, and another one is understood as well."""
    samples = tmp_path / f"{name}.log"
    samples.write_text(SAMPLES[name])
    draft = tmp_path / "mine.toml"
    draft.write_text(run("filter", "new", "--from", str(samples))[1])
    line = SAMPLES[name].splitlines()[0]
    for word in ("root", "ops", "admin"):
        line = line.replace(word, "some body")
    _, output, _ = run("explain", "--filter", str(draft), "--json", line)
    answer = json.loads(output)
    assert (answer["source"], answer["fields"]["user"]) == (SOURCES[name], "some body")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("access", "/Nov/", "/Dec/"),
        ("access", '"curl/8.0"', '"Mozilla/5.0"'),
        ("logfmt", "2026-11-23T08:01:03.123456789", "2027-12-24T09:11:13"),
    ],
)
def test_a_draft_is_of_lines_like_its_samples_at_any_time(drafted, name, old, new):
    """Next month's line is no other one, nor what differs between samples."""
    line, explain = drafted(name)
    assert old in line
    assert [explain(line), explain(line.replace(old, new))] == [0, 0]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("access", "401", "200"),
        ("access", "POST /login", "GET /"),
        ("logfmt", "wrong password", "welcome"),
        ("container", "bad try", "login"),
        ("endpoint", "refused", "welcome"),
        ("mapped", "refused", "welcome"),
    ],
)
def test_a_draft_is_of_no_lines_that_say_something_else(drafted, name, old, new):
    """Whoever succeeds must not be taken for who fails."""
    line, explain = drafted(name)
    assert old in line
    assert [explain(line), explain(line.replace(old, new))] == [0, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nobody is named here\n", "no line with an address in it"),
        ("", "no line with an address in it"),
        ('{"a": 1}\n', "no field that holds an address in every line"),
        ('{"a": "192.0.2.1"\n', "no JSON"),
        ('{"a": "\x7f 192.0.2.1"}\n', "no line with an address"),
    ],
)
def test_what_no_filter_can_be_drafted_from(run, tmp_path, text, expected):
    """Status 65 and the reason."""
    samples = tmp_path / "x.log"
    samples.write_text(text)
    status, output, complaints = run("filter", "new", "--from", str(samples))
    assert (status, output) == (65, "")
    assert expected in complaints


def test_samples_come_from_standard_input_too(run, monkeypatch):
    """As in `grep knock /var/log/syslog | portward filter new --from - knock`."""
    monkeypatch.setattr("sys.stdin", io.StringIO(SAMPLES["sshd"]))
    assert "[[pattern]]" in run("filter", "new", "--from", "-")[1]


def test_explain_answers_each_object_at_once(run, tmp_path, monkeypatch):
    """`{"line", "time"}` in, one object out; a variable can be set; status 1 where nothing matched."""
    path = tmp_path / "knock.toml"
    path.write_text(SOUND)
    given = [
        {"line": "Nov 22 14:29:22 vm knockd: knock from 192.0.2.1", "time": 1795357762.5},
        {"line": "2026-11-22T14:29:22+00:00 vm knockd: knock from 192.0.2.1", "time": None},
        {"line": "Nov 22 14:29:22 vm knockd: knock from nobody", "time": None},
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{json.dumps(item)}\n" for item in given)))
    command = ("explain", "--json", "--input", "jsonl", "--filter", str(path), "--now", "1795357800")
    status, output, _ = run(*command)
    answers = [json.loads(line) for line in output.splitlines()]
    assert status == 0
    assert [answer["matched"] for answer in answers] == [True, True, False]
    assert [answer["time"] for answer in answers[:2]] == [1795357762.5, 1795357762]
    assert answers[0] == {
        "matched": True,
        "pattern": "knock",
        "source": "192.0.2.1",
        "time": 1795357762.5,
        "fields": {"source": "192.0.2.1"},
    }
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given[2])))
    assert run(*command)[0] == 1
    path.write_text(SOUND.replace("[[test]]", "[[skip]]").split("[[skip]]")[0])
    monkeypatch.setattr(
        "sys.stdin", io.StringIO(json.dumps({"line": "Nov 22 14:29:22 vm knockd: tap from 192.0.2.1"}))
    )
    assert run(*command, "--option", "word=tap")[0] == 0


def test_a_draft_names_files_in_which_its_lines_count(run, tmp_path):
    """A log without programs is the application's own: in syslog's files its lines would be nobody's."""
    for line, files in (
        ("2026-11-23 08:01:02 refused 192.0.2.1", '["/var/log/mine.log"]'),
        ("Nov 22 14:29:22 vm mine: refused 192.0.2.1", '["/var/log/syslog", "/var/log/messages"]'),
    ):
        (tmp_path / "samples").write_text(line + "\n")
        assert (
            f"files       = {files}\n" in run("filter", "new", "--from", str(tmp_path / "samples"), "mine")[1]
        )


def test_a_file_in_which_a_filter_can_read_nothing_is_a_warning(run, tmp_path):
    """Everything else would look well: the file is followed, the tests pass, and no line ever counts."""
    text = f'files = ["/var/log/syslog", "/var/log/mine.log"]\n{FAULTY}'.replace("192.0.2.2", "192.0.2.1")
    (tmp_path / "filters/mine.toml").write_text(text)
    (tmp_path / "portward.toml").write_text('enabled = ["mine"]\n')
    expected = "warning: filter mine: nothing is read in /var/log/syslog: lines of no program are nobody's"
    assert expected not in run("check")[2]
    for own in ("", 'identifiers = [""]\n'):
        plain = text.replace('identifiers = ["knockd"]\n', own).replace("Nov 22 14:29:22 vm knockd: ", "")
        (tmp_path / "filters/mine.toml").write_text(plain)
        assert expected in run("check")[2]
        assert "warning nothing is read in /var/log/syslog" in run("filter", "test", "mine")[1]


@pytest.mark.parametrize(
    ("line", "is_said"),
    [
        ("30.11.2026 05:12:44 login failed from 192.0.2.1", True),
        ("W1130 05:12:44.1 1234 auth.go:55] login failed from 192.0.2.1", True),
        ("05:12:44.120 login failed from 192.0.2.1", True),
        ("2026-11-30 05:12:44 login failed from 192.0.2.1", False),
        ("192.0.2.1 login failed", False),
        ("404 login failed from 192.0.2.1", False),
        ("Nov 22 14:29:22 vm mine: 05:12 login failed from 192.0.2.1", False),
    ],
)
def test_a_draft_says_where_a_date_is_not_known(run, tmp_path, line, is_said):
    """Else part of a date would stand in the expression, and tomorrow's lines would not match it."""
    (tmp_path / "samples").write_text(line + "\n")
    draft = run("filter", "new", "--from", str(tmp_path / "samples"), "mine")[1]
    assert ("what may be a date, of a form that is not known" in draft) is is_said
    (tmp_path / "filters/mine.toml").write_text(draft)
    assert run("filter", "test", "mine")[0] == 0
