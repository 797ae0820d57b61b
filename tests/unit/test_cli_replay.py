"""`replay` on the command line: who would have been blocked, by whom a file is read, and what changes."""

import gzip
import io
import json
import os
import sqlite3
from dataclasses import replace

import pytest

from correlator.cli.progress import Progress, format_progress, format_seconds
from correlator.config.replay_site import load_replay_site, readers_of
from tests import journald as real
from tests.site_folders import paths_table

HEADER = "2026-11-22T14:{:02}:00+00:00 vm {}[7]: "
PROBE = HEADER + "attackalert: Connect from host: {}/{} to TCP port: 79\n"
WHY_NO_JOURNALD = real.why_none()
EARLIER = "2026-11-22T14:01:00Z by jail scan, until 2026-11-22T15:01:00Z (1m earlier)"
FAILED = HEADER + "Failed password for root from {} port 4242 ssh2\n"


@pytest.fixture
def folder(tmp_path):
    """A configuration whose paths are all in the test's folder, with one jail."""
    (tmp_path / "portward.toml").write_text(
        paths_table(tmp_path) + '[jail.scan]\nfilters = ["portsentry"]\nthreshold = 3\nspan = "10m"\n'
    )
    return tmp_path


@pytest.fixture
def replay(run):
    """Replay with that configuration; returns status, standard output and standard error."""
    return lambda *arguments: run("replay", *map(str, arguments))


@pytest.fixture
def log(folder):
    """Six probes of one source, two of another; a damaged line, and one of another program."""
    lines = [PROBE.format(minute, "portsentry", "192.0.2.9", "192.0.2.9") for minute in range(6)]
    lines += [PROBE.format(minute, "portsentry", "192.0.2.8", "192.0.2.8") for minute in (3, 7)]
    lines.append(PROBE.format(8, "portsentry", "192.0.2.7", "192.0.2.777"))
    lines.append(FAILED.format(9, "sshd", "192.0.2.6"))
    path = folder / "old.log"
    path.write_text("".join(sorted(lines)))
    return path


def test_it_prints_who_would_have_been_blocked_when_and_why(replay, log):
    """One line a block, the line that led to it, and the counts."""
    status, output, errors = replay(log)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == (
        "2026-11-22T14:02:00Z  block source=192.0.2.9 jail=scan strikes=3 span=600s ports=79"
        " until=2026-11-22T15:02:00Z"
    )
    assert lines[1].startswith("    2026-11-22T14:02:00+00:00 vm portsentry[7]: attackalert: Connect")
    assert lines[2] == "1 block of 1 source"
    assert any(line.split() == [str(log), "10", "8", "1", "-", "-", "-", "-", "-"] for line in lines)
    assert any(line.split() == ["scan", "5", "1", "-", "3", "-", "-", "-"] for line in lines)
    assert lines[-1].startswith("unreadable: portsentry: not an address: '192.0.2.777': 2026-11-22T14:08:00")


def test_it_prints_one_object_for_programs(replay, log):
    """Decisions with all their evidence, and the counts."""
    status, output, _ = replay(log, "--json")
    found = json.loads(output)
    assert (status, found["schema"], found["kind"]) == (0, 1, "replay")
    (block,) = found["decisions"]
    assert (block["kind"], block["source"], len(block["evidence"])) == ("block", "192.0.2.9", 3)
    assert (found["blocks"], found["sources"]) == (1, 1)
    assert found["files"][0]["events"] == 8
    assert found["jails"][0]["denied_already"] == 3
    assert found["unreadable"][0]["reason"] == "not an address: '192.0.2.777'"
    log.write_text(FAILED.format(9, "sshd", "192.0.2.6"))
    status, output, _ = replay(log, "--json", "--jail", "scan")
    assert (status, json.loads(output)["decisions"]) == (1, [])


def test_lines_that_are_later_than_their_file_are_counted_as_such(replay, log):
    """They are taken at its last change: a wrong zone, or a copy with an old date, makes a burst of them."""
    os.utime(log, (1_795_356_120, 1_795_356_120))  # 14:02 on that day
    assert [line.split()[6] for line in replay(log)[1].splitlines() if line.startswith(str(log))] == ["6"]
    assert json.loads(replay(log, "--json")[1])["files"][0]["skewed"] == 6


def test_nothing_is_touched(replay, log, folder):
    """No database, no status file, no request: a replay leaves what it found."""
    before = sorted(path.name for path in folder.iterdir())
    replay(log)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_packed_and_rotated_logs_are_one(replay, folder):
    """Whatever the order in which they are named."""
    lines = [PROBE.format(minute, "portsentry", "192.0.2.9", "192.0.2.9") for minute in range(3)]
    (folder / "x.log").write_text(lines[2])
    (folder / "x.log.1").write_text(lines[1])
    (folder / "x.log.2.gz").write_bytes(gzip.compress(lines[0].encode()))
    status, output, _ = replay(folder / "x.log", folder / "x.log.1", folder / "x.log.2.gz")
    assert status == 0
    assert output.startswith("2026-11-22T14:02:00Z  block source=192.0.2.9")


def test_a_filter_that_is_not_in_use_brings_its_own_jail(replay, log):
    """`--filter sshd` answers on a machine where nothing is enabled."""
    text = "".join(FAILED.format(minute, "sshd", "192.0.2.6") for minute in range(10, 16))
    log.write_text(text)
    assert replay(log)[0] == 1
    status, output, _ = replay(log, "--filter", "sshd")
    assert status == 0
    assert "block source=192.0.2.6 jail=sshd " in output


def test_a_filter_may_be_a_path(replay, folder, log):
    """With the jail that it recommends."""
    path = folder / "mine.toml"
    path.write_text(
        'identifiers = ["portsentry"]\n[jail]\nthreshold = 2\n'
        "[[pattern]]\nname = 'x'\nregex = '''from host: \\S+/(?P<source>[0-9.]+) to'''\n"
    )
    status, output, _ = replay(log, "--filter", path)
    assert (status, output.count("  block source=")) == (0, 2)
    assert "jail=mine " in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--filter", "sshx"), "--filter: filter: got 'sshx', expected a filter that is there (did you mean"),
        (
            ("--jail", "scam"),
            "--jail: jail: got 'scam', expected a jail that is there (did you mean 'scan'?)",
        ),
        (("--compare", "/nowhere.toml"), "/nowhere.toml: file: got No such file or directory"),
    ],
)
def test_what_is_not_there_is_named(replay, log, arguments, expected):
    """With what comes nearest."""
    status, output, errors = replay(log, *arguments)
    assert (status, output) == (78, "")
    assert expected in errors


def test_a_log_that_nobody_reads_is_named(replay, folder):
    """It says how to name a filter for it; a file that is not there is an error of its own."""
    (folder / "portward.toml").write_text("")
    (folder / "x.log").write_text("x\n")
    status, output, errors = replay(folder / "x.log")
    assert (status, output) == (2, "")
    assert "x.log: read by no filter in use (none); name one with --filter" in errors
    status, _, errors = replay(folder / "none.log")
    assert (status, "No such file or directory" in errors) == (74, True)


def test_a_damaged_log_is_an_error_after_all_that_could_be_read(replay, folder, log):
    """What was decided until then is printed."""
    packed = gzip.compress(log.read_bytes() + b"noise " * 9 + bytes(range(256)) * 99)
    (folder / "x.gz").write_bytes(packed[:-200])
    status, output, _ = replay(folder / "x.gz")
    assert status == 65
    assert "damaged after byte" in output


def test_a_comparison_tells_what_another_setting_changes(replay, folder, log):
    """Who would be added, and who earlier; the rest of the configuration stays."""
    other = folder / "other.toml"
    other.write_text((folder / "portward.toml").read_text().replace("threshold = 3", "threshold = 2"))
    status, output, _ = replay(log, "--compare", other)
    assert status == 0
    assert output.splitlines()[:5] == [
        "added     192.0.2.8  2026-11-22T14:07:00Z by jail scan, until 2026-11-22T15:07:00Z",
        "earlier   192.0.2.9  2026-11-22T14:02:00Z -> " + EARLIER,
        "now       1 block of 1 source",
        "then      2 blocks of 2 sources",
        "sources   1 added, 0 removed, 1 earlier, 0 later, 0 otherwise, 0 as now",
    ]
    found = json.loads(replay(log, "--compare", other, "--json")[1])
    assert [(change["kind"], change["source"]) for change in found["changes"]] == [
        ("added", "192.0.2.8"),
        ("earlier", "192.0.2.9"),
    ]
    assert (found["before"]["blocks"], found["after"]["blocks"]) == (1, 2)


def test_a_comparison_with_another_folder(replay, tmp_path_factory, log):
    """All of it is the other's."""
    other = tmp_path_factory.mktemp("other")
    (other / "portward.toml").write_text('[jail.scan]\nfilters = ["portsentry"]\nthreshold = 9\n')
    output = replay(log, "--compare", other)[1]
    assert output.startswith("removed   192.0.2.9")


def test_a_comparison_cannot_read_a_pipe_twice(replay):
    """It is said before anything is read."""
    status, _, errors = replay("-", "--compare", "x.toml")
    assert (status, "standard input can be read once" in errors) == (2, True)


def test_who_reads_a_log(folder):
    """Whoever names its path, also packed; else who knows its lines by programs; or who is asked for."""
    (folder / "filters").mkdir()
    for name, settings in {
        "web": 'files = ["/var/log/web/*.log"]',
        "knock": 'identifiers = ["knockd"]\nfiles = ["/var/log/auth.log"]',
        "door": 'identifiers = ["doord"]\njournal = []',
    }.items():
        (folder / f"filters/{name}.toml").write_text(
            f"{settings}\n[[pattern]]\nname = 'x'\nregex = '''^from (?P<source>\\S+)$'''\n"
        )
    (folder / "portward.toml").write_text('enabled = ["web", "knock", "door"]\n')
    filters = load_replay_site(folder).filters
    assert readers_of("/var/log/web/a.log", filters) == ["web"]
    assert readers_of("/var/log/web/a.log.12.xz", filters) == ["web"]
    assert readers_of("/var/log/auth.log-20261122.gz", filters) == ["knock"]
    assert readers_of("/var/log/auth.log.backup", filters) == ["door", "knock"]
    assert readers_of("-", filters) == ["door", "knock"]
    assert readers_of("/x", filters, is_journal=True) == ["knock"]
    by_file = {name: replace(found, identifiers=frozenset({"", "*"})) for name, found in filters.items()}
    assert readers_of("-", {**filters, "door": by_file["door"]}) == ["knock"]
    assert readers_of("-", {"door": by_file["door"]}) == ["door"]
    assert readers_of("/var/log/auth.log", filters, asked=["web"]) == ["web"]


def test_an_ignored_source_is_not_blocked_in_a_replay_either(replay, log, folder):
    """The lists are those of now."""
    (folder / "ignore").write_text("192.0.2.9\n")
    status, output, _ = replay(log)
    assert (status, output.splitlines()[0]) == (0, "0 blocks of 0 sources")


def test_the_database_of_a_running_correlator_is_not_opened(replay, log, folder):
    """Strikes that wait there are no part of an old log."""
    (folder / "state").mkdir()
    with sqlite3.connect(folder / "state/correlator.sqlite") as database:
        database.execute("CREATE TABLE strike (other TEXT)")
    database.close()
    assert replay(log)[0] == 0


@pytest.mark.skipif(WHY_NO_JOURNALD is not None, reason=WHY_NO_JOURNALD or "")
def test_a_journal_file_is_replayed(replay, folder):
    """Its entries, by the fields that journald vouches for; beside a file that has one of them too."""
    pytest.importorskip("systemd.journal", reason="python3-systemd is not installed")
    (folder / "filters").mkdir()
    (folder / "filters/knock.toml").write_text(
        'identifiers = ["knockd"]\n[jail]\nthreshold = 3\n'
        "[[pattern]]\nname = 'x'\nregex = '''^from (?P<source>[0-9.]+)$'''\n"
    )
    with real.Journald(folder / "journald") as daemon:
        for number in range(3):
            daemon.write("from 192.0.2.9", SYSLOG_IDENTIFIER="knockd", SYSLOG_PID=str(number))
        daemon.settle()
        files = daemon.files()
    status, output, _ = replay(*files, "--filter", "knock")
    assert status == 0
    assert "block source=192.0.2.9 jail=knock strikes=3" in output
    (folder / "x.log").write_text(f"{output.splitlines()[1].split('  [')[0].strip()}\n")
    found = json.loads(replay(*files, folder / "x.log", "--filter", "knock", "--json")[1])
    assert (found["blocks"], sum(file["duplicates"] for file in found["files"])) == (1, 1)


def test_progress_waits_a_second_and_tells_now_and_then(capsys):
    """Where no terminal shows it, a line every ten seconds, and only where it is asked for."""
    now = [0.0]
    progress, silent = (Progress(is_wanted=wanted, clock=lambda: now[0]) for wanted in (True, False))
    for second in range(25):
        now[0] = float(second)
        for teller in (progress, silent):
            teller.tell(share=second / 100, lines=1000 * second)
    progress.clear()
    assert capsys.readouterr().err.splitlines() == [
        "1 %, 1,000 lines, 1,000 a second, 1 min 39 s left",
        "11 %, 11,000 lines, 1,000 a second, 1 min 29 s left",
        "21 %, 21,000 lines, 1,000 a second, 1 min 19 s left",
    ]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (None, "50 lines, 5 a second"),
        (0.0, "0 %, 50 lines, 5 a second"),
        (1.0, "100 %, 50 lines, 5 a second, 0 s left"),
    ],
)
def test_progress_says_what_it_knows(share, expected):
    """Of a pipe nobody knows the end."""
    assert format_progress(10.0, share=share, lines=50) == expected


def test_long_times_are_written_short():
    """Two units at most."""
    assert [format_seconds(value) for value in (0.4, 59.6, 7499)] == ["0 s", "1 min 0 s", "2 h 4 min"]


def test_on_a_terminal_one_line_moves_and_gives_way(monkeypatch):
    """What is printed between must not stand behind it; nothing moves where the terminal cannot."""
    for term, expected in (("xterm", "\r\x1b[K50 %, 8 lines, 4 a second, 2 s left\r\x1b[K"), ("dumb", "")):
        screen = io.StringIO()
        screen.isatty = lambda: True
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setenv("TERM", term)
        now = [0.0]
        progress = Progress(is_wanted=False, clock=lambda now=now: now[0])
        now[0] = 2.0
        progress.tell(share=0.5, lines=8)
        now[0] = 2.1
        progress.tell(share=0.6, lines=9)
        progress.clear()
        progress.clear()
        assert screen.getvalue() == expected
