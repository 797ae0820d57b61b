"""`explain --filter PATH`: one filter by its file, line by line, each answered before the next is asked."""

import json
import subprocess
import sys

import pytest

FILTER = """\
[Definition]
failregex = ^ <mode> (?:user <F-USER>\\S+</F-USER> )?from <HOST>$
mode = failed
"""


def _explain(*arguments, lines=(), folder):
    (folder / "x.conf").write_text(FILTER)
    return subprocess.run(
        [sys.executable, "-m", "correlator", "explain", "--filter", *arguments],
        input="".join(line + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
        env={"TZ": "Europe/Zurich"},
    )


def _ask(lines, *arguments, folder):
    asked = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    common = (str(folder / "x.conf"), "--json", "--input", "jsonl", "--now", "1124013600")
    done = _explain(*common, *arguments, lines=asked, folder=folder)
    return done.returncode, [json.loads(answer) for answer in done.stdout.splitlines()]


def test_each_object_is_answered_with_one(tmp_path):
    """Address, time and fields; the zone is this process's, the year follows `--now`."""
    status, answers = _ask(
        [
            {"line": "Jun 21 16:47:48 failed user root from ::ffff:192.0.2.1", "time": None},
            {"line": "failed", "time": None},
            {"line": " failed from host.example", "time": 1124013000},
        ],
        folder=tmp_path,
    )
    assert status == 0
    assert answers == [
        {"matched": True, "pattern": "failregex 1", "source": "192.0.2.1", "time": 1119365268,
         "fields": {"user": "root", "ip4": "192.0.2.1"}},
        {"matched": False, "pattern": None, "source": None, "time": None, "fields": {}},
        {"matched": True, "pattern": "failregex 1", "source": "host.example", "time": 1124013000,
         "fields": {"dns": "host.example"}},
    ]  # fmt: skip


def test_options_are_the_filters_parameters(tmp_path):
    """They win over the filter's own value; nothing matched is status 1."""
    line = {"line": " failed from 192.0.2.1", "time": 1}
    assert _ask([line], "--option", "mode=refused", folder=tmp_path)[0] == 1
    line = {"line": " refused from 192.0.2.1", "time": 1}
    assert _ask([line], "--option", "mode=refused", folder=tmp_path)[0] == 0


def test_what_is_no_such_object_is_answered_too(tmp_path):
    """Who waits for an answer to each line gets one; the status tells of it."""
    status, answers = _ask(["no", '{"line": 5}', {"line": " failed from 192.0.2.1"}], folder=tmp_path)
    assert status == 65
    assert [answer["matched"] for answer in answers] == [False, False, True]
    assert "expected" in answers[0]["error"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no", "no JSON"),
        ("[1]", "no object"),
        ("null", "no object"),
        ('{"time": 1}', '"line": got nothing, expected text'),
        ('{"line": 5}', '"line": got 5, expected text'),
        ('{"line": "x", "time": "5"}', '"time": got "5", expected seconds since 1970'),
        ('{"line": "x", "time": true}', '"time": got true, expected seconds since 1970'),
        ('{"line": "x", "time": NaN}', '"time": got NaN, expected seconds since 1970'),
        ('{"line": "x", "time": ' + "9" * 5000 + "}", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"line": "' + "x" * (3 << 20) + '"}', "longer than 1048576 characters"),
    ],
)
def test_a_bad_line_gets_one_answer_that_says_why(tmp_path, line, why):
    """However long it is or deep: the answers behind it must not be shifted by one."""
    good = {"line": " failed from 192.0.2.1"}
    status, answers = _ask([good, line, good], folder=tmp_path)
    assert status == 65
    assert [answer["matched"] for answer in answers] == [True, False, True]
    assert why in answers[1]["error"]


def test_a_complaint_names_the_line_of_the_input(tmp_path):
    """As an editor counts, with the blank lines that get no answer."""
    done = _explain(
        str(tmp_path / "x.conf"), "--input", "jsonl", lines=["", '{"line": "x"}', " ", "no"], folder=tmp_path
    )
    assert done.stderr.startswith("portward explain: input line 4: no: no JSON")


def test_a_carriage_return_ends_no_line(tmp_path):
    """Only a line feed does, as in a log: else one line in would be two answers."""
    status, answers = _ask([{"line": " failed from 192.0.2.1"}, "a\rb"], folder=tmp_path)
    assert (status, len(answers)) == (65, 2)


def test_a_filter_is_found_by_its_name_too(tmp_path):
    """Ours or the site's, as with `filter test`; it answers alone."""
    line = {"line": "Nov 23 09:20:00 vm sshd[8]: Invalid user bob from 192.0.2.1 port 5000", "time": 7.5}
    done = _explain("sshd", "--json", "--input", "jsonl", lines=[json.dumps(line)], folder=tmp_path)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["pattern"], answer["time"]) == (0, "invalid-user", 7.5)
    assert _explain("shd", "--input", "jsonl", folder=tmp_path).returncode == 2


def test_objects_are_for_one_filter():
    """Without one the answer would be another; that is said, not guessed."""
    command = [sys.executable, "-m", "correlator", "explain", "--input", "jsonl"]
    done = subprocess.run(command, input="{}", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "need --filter NAME|PATH" in done.stderr


def test_a_pattern_that_runs_over_is_named(tmp_path):
    """What is tried no more must not look like a line that does not match."""
    expression = "^(?:(?:a|a)+$|from (?P<source>.+))"
    (tmp_path / "slow.toml").write_text(f"[[pattern]]\nname = 'slow'\nregex = '{expression}'\n")
    done = _explain(str(tmp_path / "slow.toml"), "a" * 5000 + "b", folder=tmp_path)
    assert "input line 1: pattern 'slow' ran over 0.05 s" in done.stderr


def test_it_answers_before_the_input_ends(tmp_path):
    """A program can ask line by line."""
    (tmp_path / "x.conf").write_text(FILTER)
    command = [sys.executable, "-m", "correlator", "explain", "--json", "--filter", str(tmp_path / "x.conf")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asked:
        for _ in range(2):
            asked.stdin.write("Nov 20 10:00:00 failed from 192.0.2.1\n")
            asked.stdin.flush()
            assert json.loads(asked.stdout.readline())["matched"] is True
        asked.stdin.close()


def test_a_filter_of_ours_answers_in_the_same_words(tmp_path):
    """By the path of its file; options are Fail2ban's alone."""
    (tmp_path / "own.toml").write_text("[[pattern]]\nname = \"p\"\nregex = '''^from (?P<source>\\S+)$'''\n")
    own = str(tmp_path / "own.toml")
    done = _explain(own, "--json", "from 192.0.2.1", folder=tmp_path)
    answer = json.loads(done.stdout)
    assert (answer["matched"], answer["pattern"], answer["source"]) == (True, "p", "192.0.2.1")
    assert _explain(own, "--option", "a=b", "x", folder=tmp_path).returncode == 78


def test_a_filter_that_is_not_there_is_an_error_of_configuration(tmp_path):
    """Named, with what was expected."""
    done = _explain(str(tmp_path / "none.conf"), "x", folder=tmp_path)
    assert done.returncode == 78
    assert "none.conf" in done.stderr


def test_text_is_told_for_people(tmp_path):
    """Without --json."""
    done = _explain(
        f"fail2ban:{tmp_path}/x.conf[mode=x]", "Nov 20 10:00:00 x from 192.0.2.1", folder=tmp_path
    )
    assert done.returncode == 0
    assert "failregex 1: 192.0.2.1 at " in done.stdout


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Nov 20 10:00:00 vm knockd: knock from x", "then wants (?P<source>"),
        (
            "Nov 20 10:00:00 vm other: knock from 192.0.2.1",
            "its program is 'other', and the filter reads 'knockd'",
        ),
    ],
)
def test_whoever_writes_a_filter_is_told_how_far_it_gets(tmp_path, line, why):
    """By its path too, before anything is enabled."""
    path = tmp_path / "mine.toml"
    path.write_text("identifiers = ['knockd']\n[[pattern]]\nname = 'x'\nregex = '^knock from ${source}$'\n")
    done = _explain(str(path), line, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert why in done.stdout
