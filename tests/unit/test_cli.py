"""The command line: exit statuses, JSON, and one clear line for every mistake."""

import json
import os
import socket
import threading
import time

import pytest

from correlator.cli import build_parser
from correlator.model import SECOND

PROBE = (
    "Nov 22 14:29:22 vm portsentry[71]: attackalert: TCP SYN/Normal scan from host: {0}/{0} to TCP port: 1"
)


def test_explain_shows_every_step(run):
    """Header, filter, pattern, fields, window, decision; status 0 where a line is understood."""
    status, output, _ = run("explain", PROBE.format("198.51.100.9"))
    assert status == 0
    for text in (
        "identifier 'portsentry'",
        "filter    portsentry: understood",
        "pattern   scan (spoofable)",
        "source    198.51.100.9",
        "field     port = 1",
        "ignore    no list names the source",
        "jail      portscan: key 198.51.100.9, 0 before, now 1 of 1 strike in 1h",
        "decision  observe source=198.51.100.9",
    ):
        assert text in output


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no header", "not ours: identifier '', it reads portsentry"),
        (PROBE.format("198.51.100.9") + " x", "then wants $, got ' x'"),
        (
            PROBE.format("198.51.100.9") + " x",
            "miss      pattern scan takes 'attackalert: TCP SYN/Normal scan",
        ),
        (
            "Nov 22 14:29:22 vm sshd[1]: Invalid user x from 192.0.2.1 port 3",
            'hint      filter sshd understands it, and is not enabled: enabled = ["sshd"]',
        ),
        ("Nov 22 14:29:22 vm portsentry[1]: hello", "no candidate"),
        (PROBE.format("999.1.1.1"), "ours, but unreadable: not an address: '999.1.1.1'"),
    ],
)
def test_explain_says_why_a_line_is_missed(run, line, reason):
    """A negative answer has status 1 and its reason."""
    status, output, _ = run("explain", line)
    assert status == 1
    assert reason in output
    assert "MISSED" in output


UFW = (
    "Nov 23 08:01:02 vm kernel: [UFW BLOCK] IN={} OUT={} SRC=192.0.2.1 DST=192.0.2.9 LEN=40 TOS=0x00"
    " PREC=0x00 TTL=64 ID=1 PROTO=TCP SPT=4 DPT=22 WINDOW=1024 RES=0x00 SYN URGP=0"
)


def test_explain_calls_no_line_unreadable_that_another_filter_understands(run, folder):
    """The filter of ulogd reads any program's lines, in ulogd's own file; how far it got helps nobody."""
    (folder / "portward.toml").write_text('enabled = ["netfilter", "ufw", "ulogd"]\n')
    status, output, _ = run("explain", UFW.format("eth0", ""))
    assert (status, "unreadable" in output, "miss " in output) == (0, False, False)
    assert "filter    ulogd: not ours: another filter understands it" in output
    status, output, _ = run("explain", UFW.format("eth0", "") + " NEW=1")
    assert status == 1
    assert "filter    ulogd: ours in its own files only, but unreadable: no pattern understands it" in output


def test_explain_says_what_an_ignore_takes_out(run):
    """A pattern that matches to its end is no miss, and nothing that it wants is wanting."""
    status, output, _ = run("explain", "--filter", "netfilter", UFW.format("eth0", ""))
    assert status == 1
    assert "filter    netfilter: means nothing: a pattern matches, and an [[ignore]] takes it out" in output
    assert "pattern syn" not in output


@pytest.mark.parametrize(
    ("record", "wants", "got"),
    [
        ({"kind": "flow", "ip": "192.0.2.1"}, "kind to be 'alert' or 'drop'", "'flow'"),
        ({"kind": "alert", "ip": "192.0.2.1"}, "what.name to be text with ^bad", "nothing"),
        ({"kind": "alert", "what": {"name": "bad"}, "up": 1}, "up to be missing", "'1'"),
        ({"kind": "drop", "what": {"name": "bad"}}, "ip to be an address", "nothing"),
    ],
)
def test_explain_says_what_a_record_lacks(run, folder, record, wants, got):
    """The first condition that does not hold, of each pattern."""
    (folder / "filters").mkdir()
    (folder / "filters/mine.toml").write_text("""format = "json"
[[pattern]]
name   = "x"
match  = { kind = ["alert", "drop"], what.name = { regex = "^bad" }, up = { missing = true } }
fields = { source = "ip" }
""")
    status, output, _ = run("explain", "--filter", "mine", json.dumps(record))
    assert status == 1
    assert f"miss      pattern x wants {wants}\n          got {got}\n" in output


def test_explain_says_which_pattern_runs_over(run, folder):
    """The correlator puts it in quarantine: no other line would ever meet it."""
    (folder / "filters").mkdir()
    (folder / "filters/mine.toml").write_text(
        "[[pattern]]\nname = 'x'\nregex = '^(?:(?:a|aa|a+)+)+ from ${source}$'\n"
    )
    status, output, _ = run("explain", "--filter", "mine", f"{'a' * 3000}b from 192.0.2.1")
    assert status == 1
    assert "limit     pattern x ran over 0.05 s on a line of 3016 characters" in output


def test_explain_knows_how_long_a_line_may_be(run, folder):
    """What the correlator counts as too long is no strike here either; a record may be longer."""
    (folder / "portward.toml").write_text('enabled = ["web-exploits", "suricata-eve"]\n')
    request = f"GET /../../../../etc/passwd?{'x' * 9000} HTTP/1.1"
    access = f'192.0.2.1 - - [23/Nov/2026:08:01:02 +0000] "{request}" 404 5 "-" "-"'
    status, output, _ = run("explain", access)
    assert status == 1
    assert "filter    web-exploits: not read: longer than 8192 bytes (max_line)" in output
    alert = {"severity": 1, "signature": "x", "signature_id": 5, "url": request}
    told = {
        "event_type": "alert",
        "src_ip": "192.0.2.1",
        "dest_ip": "192.0.2.2",
        "proto": "TCP",
        "alert": alert,
    }
    status, output, _ = run("explain", json.dumps(told))
    assert (status, "filter    suricata-eve: understood" in output) == (0, True)


def test_explain_knows_the_ignore_file(run, folder):
    """A source that is never blocked is shown as such."""
    (folder / "ignore").write_text("198.51.100.0/24\n")
    _, output, _ = run("explain", PROBE.format("198.51.100.9"))
    assert "ignored: 198.51.100.9 is covered by 198.51.100.0/24" in output


def test_explain_escapes_what_a_stranger_wrote(run):
    """No control character of a log line reaches the terminal."""
    _, output, _ = run("explain", PROBE.format("198.51.100.9").replace("host: 198", "host: \x1b[2J198"))
    assert "\x1b" not in output
    assert "\\x1b[2J" in output


def test_explain_as_json(run):
    """One object with a schema number and stable names."""
    status, output, _ = run("explain", "--json", PROBE.format("198.51.100.9"))
    found = json.loads(output)
    assert (status, found["schema"], found["kind"]) == (0, 1, "explain")
    assert found["filters"][0]["fields"]["port"] == "1"
    assert found["jails"][0]["jail"] == "portscan"


def test_an_unknown_filter_is_a_usage_error(run):
    """It names the nearest, and lists the known ones."""
    status, _, complaint = run("explain", "--filter", "sshdd", "x")
    assert status == 2
    assert "no filter 'sshdd' (did you mean 'sshd'?); known here: " in complaint


def test_explain_tries_a_filter_that_is_not_enabled(run):
    """Whoever writes one wants to see it work first."""
    status, output, _ = run(
        "explain", "--filter", "sshd", "Nov 22 14:29:22 vm sshd[1]: Invalid user x from 192.0.2.1"
    )
    assert status == 0
    assert "filter    sshd: understood" in output
    assert "jail      none listens to this filter" in output


def test_explain_says_what_a_line_is_kept_in_mind_for(run):
    """Of a service that names the address in another line, no line by itself is missed."""
    status, output, _ = run(
        "explain",
        "--filter",
        "slapd",
        "Nov 30 05:05:43 vm slapd[13]: conn=1001 fd=16 ACCEPT from IP=192.0.2.10:53411 (IP=0.0.0.0:389)",
    )
    assert status == 1
    assert "filter    slapd: kept in mind: it begins a connection of 192.0.2.10" in output
    assert "result    no strike by itself: address and failure stand in different lines" in output
    assert "MISSED" not in output


def test_check_lists_the_effective_configuration(run):
    """Files, filters with their passed tests, jails, and that there is no fault."""
    status, output, _ = run("check")
    assert status == 0
    assert "tests passed" in output
    assert "portscan  observe  portsentry" in output
    assert output.endswith("0 faults\n")


def test_check_says_what_alone_counts(run, folder):
    """A jail of one rule must not look like one of all."""
    with (folder / "portward.toml").open("a") as settings:
        settings.write(
            '[jail.rules]\nfilters = ["suricata"]\nonly = { signature = [2, 1000001], priority = 1 }\n'
        )
    _status, output, _ = run("check")
    assert "strikes, only signature 1000001 2, only priority 1  1 " in output
    _status, output, _ = run("check", "--json")
    assert json.loads(output)["jails"]["rules"]["only"] == {"signature": ["1000001", "2"], "priority": ["1"]}


def test_check_lists_all_faults(run, folder):
    """Status 1, every fault on standard error, those of the ignore file too."""
    (folder / "portward.toml").write_text('mode = "no"\nfoo = 1\n' + (folder / "portward.toml").read_text())
    (folder / "ignore").write_text("nobody\n")
    status, output, complaint = run("check")
    assert status == 1
    assert complaint.count("fault: ") == 3
    assert output.endswith("3 faults\n")


def test_a_fault_in_the_settings_stops_every_other_command(run, folder):
    """Status 78 (EX_CONFIG), with the fault."""
    (folder / "portward.toml").write_text("foo = 1\n")
    status, _, complaint = run("status")
    assert status == 78
    assert "foo: got 1, expected no such key" in complaint


def test_nothing_runs(run):
    """Commands that need the enforcer say where they looked; status says it of all three."""
    status, _, complaint = run("blocks")
    assert status == 69
    assert "the enforcer does not answer" in complaint
    status, output, _ = run("status")
    assert status == 1
    assert output.count("not running") == 3


def test_history_and_why_of_nothing(run):
    """Nothing known is a negative answer."""
    assert run("history")[:2] == (1, "nothing was ever blocked\n")
    status, output, _ = run("why", "198.51.100.9")
    assert status == 1
    assert output.endswith("no line, decision or block names it\n")


@pytest.mark.parametrize(
    "arguments",
    [("block", "nobody"), ("release", "1.2.3"), ("why", "fe80::1%eth0"), ("block", "::1", "--for", "soon")],
)
def test_what_is_no_address_or_time_is_a_usage_error(run, arguments):
    """Status 2 and what was wrong with it."""
    status, _, complaint = run(*arguments)
    assert status == 2
    assert arguments[-1] in complaint


def test_every_command_has_help():
    """One line each, for completion and man pages."""
    commands = build_parser()._subparsers._group_actions[0]
    expected = "run probe correlate enforce status blocks why block release history check explain drill"
    assert set(commands.choices) >= set(expected.split())
    assert all(choice.help for choice in commands._choices_actions)


def test_a_command_alone_takes_what_it_takes_among_all():
    """Only its own module is imported when it is asked for: its options and its help must be the same."""
    every = _commands_of(build_parser())
    assert len(every) > 20
    for name, parser in every.items():
        alone = _commands_of(build_parser(name))
        assert name in alone
        assert set(alone) < set(every)
        assert alone[name].format_help() == parser.format_help()


@pytest.mark.parametrize("text", ["nonsense", "--help", "", None])
def test_what_is_no_command_meets_all_of_them(text):
    """So the help, and the complaint about a command that does not exist, name every one."""
    assert _commands_of(build_parser(text)).keys() == _commands_of(build_parser()).keys()


def _commands_of(parser):
    return parser._subparsers._group_actions[0].choices


def test_an_ignore_file_that_is_a_folder_is_a_fault(run, folder):
    """It is listed with the others."""
    (folder / "ignore").mkdir()
    status, output, complaint = run("check")
    assert (status, output.endswith("1 fault\n")) == (1, True)
    assert "Is a directory" in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ("--for", "99999w"),
        ("--for", "999999999w"),
        ("--reason", "a\x1b[2Jb"),
        ("--reason", "x" * 501),
        ("--reason", "\udcff"),
    ],
)
def test_a_block_that_the_enforcer_would_not_take_is_a_usage_error(run, arguments):
    """One sentence that names the option, before anything is sent."""
    status, _, complaint = run("block", "198.51.100.9", *arguments)
    assert (status, complaint.count("\n")) == (2, 1)
    assert complaint.startswith(f"portward block: {arguments[0]}: got ")
    assert "\x1b" not in complaint


def test_an_error_of_the_enforcer_is_shown_by_its_detail(run, folder):
    """Never by the name of a type of ours."""
    (folder / "run/enforcer").mkdir(parents=True)
    with socket.create_server(str(folder / "run/enforcer/enforcer.sock"), family=socket.AF_UNIX) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b'{"answer":"error","id":1,"detail":"disk full"}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        status, _, complaint = run("block", "198.51.100.9")
        thread.join()
    assert (status, complaint) == (70, "portward block: the enforcer did not understand: disk full\n")


@pytest.mark.parametrize(
    ("age", "state"), [(1, "running"), (3600, "not answering"), (-3600, "not answering")]
)
def test_a_correlator_that_fell_silent_is_not_running(run, folder, age, state):
    """Its process may hang: what it last wrote must be young."""
    (folder / "run/correlator").mkdir(parents=True)
    updated = time.time_ns() // 1000 - age * SECOND
    (folder / "run/correlator/correlator.json").write_text(
        json.dumps({"pid": os.getpid(), "updated": updated})
    )
    status, output, _ = run("status", "--json")
    assert (status, json.loads(output)["correlator"]["state"]) == (1, state)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no jail"),
        ('[jail.a]\nfilters = ["portsentry"]\nactions = []\n', "jail.a.actions"),
        ('[jail."a b"]\nfilters = ["portsentry"]\n', "'a b'"),
        ('[jail."a\\u001b[2J"]\nfilters = ["portsentry"]\n', "'a\\x1b[2J'"),
    ],
)
def test_check_finds_jails_that_cannot_work(run, folder, text, words):
    """No jail at all, no action, a name that would break a log line."""
    settings = (folder / "portward.toml").read_text().partition("[jail")[0]
    (folder / "portward.toml").write_text(settings + text)
    status, output, complaint = run("check")
    assert (status, output.endswith("\n1 fault\n")) == (1, True), complaint
    assert words in complaint
    assert "\x1b" not in complaint
