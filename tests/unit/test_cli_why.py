"""`why` and `why-not`: what waits, what was kept back, who is never blocked, and who was never seen."""

import json
import re
import time
from dataclasses import replace

import pytest

from correlator.counting.jail_definition import Count
from correlator.counting.jails import Jail, JailDefinition, Key
from correlator.lines.syslog import format_instant
from correlator.model import SECOND, Event, Evidence, Outcome, OutcomeKind, parse_source
from correlator.store.state import State
from tests.site_folders import paths_table

ADDRESS = "198.51.100.9"


@pytest.fixture
def folder(tmp_path):
    """A configuration whose paths are all in the test's folder, with a jail by source and one by account."""
    (tmp_path / "portward.toml").write_text(
        paths_table(tmp_path)
        + '[jail.scan]\nfilters = ["portsentry"]\nthreshold = 3\nspan = "10m"\nspoofable_a_minute = 0\n'
        '[jail.account]\nfilters = ["sshd"]\nkey = "user"\nthreshold = 5\nspan = "10m"\nmode = "block"\n'
    )
    (tmp_path / "state/correlator").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def remember(folder):
    """Let the correlator's memory hold strikes of an address in a jail, seconds ago, and decisions."""

    def record(
        *ages, source=ADDRESS, jail="scan", user="root", spoofable=True, decide=False, count=Count.STRIKES
    ):
        key = Key.USER if jail == "account" else Key.SOURCE
        threshold = len(ages) if decide else 99
        counting = Jail(
            JailDefinition(jail, "", ("x",), key=key, count=count, threshold=threshold, span=600 * SECOND),
            max_sources=9,
        )
        now = time.time_ns() // 1000
        verdicts = []
        for number, age in enumerate(ages):
            at = now - int(age * SECOND)
            event = Event(
                at,
                "x",
                "scan",
                parse_source(source),
                Evidence(at, "/log", number, f"line {number} of {source}"),
                is_spoofable=spoofable,
                fields={"user": user},
            )
            verdicts.append(counting.judge(event, ignored_by=lambda _: None, is_denied=lambda _: False))
        state = State(folder / "state/correlator/correlator.sqlite")
        decision = verdicts[-1].decision
        if decision is None:
            state.record(positions={}, strikes=[verdict.strike for verdict in verdicts])
        else:
            state.record(positions={}, decisions=[decision])
        state.close()
        return decision

    return record


def test_why_not_counts_what_waits(run, remember):
    """Of each jail: how far its window is now, and its lines; what is older than the span counts no more."""
    remember(700, 20, 10)
    status, output, _ = run("why-not", ADDRESS)
    assert status == 0
    assert re.search(
        r"^jail scan \(key 198.51.100.9\): 2 of 3 strikes in 10m, last 1\ds ago$", output, re.MULTILINE
    )
    assert "  observes: this jail would block nothing" in output
    assert "  line      line 2 of 198.51.100.9  [/log+2]" in output


def test_explain_counts_with_what_waits(run, remember):
    """A line that would be the third in the window decides, with the two that wait there; no other does."""
    remember(700, 20, 10)
    stamp = format_instant(time.time_ns() // 1000)
    for source, before, decides in ((ADDRESS, 2, True), ("198.51.100.10", 0, False)):
        probe = f"attackalert: TCP SYN/Normal scan from host: {source}/{source} to TCP port: 79"
        status, output, _ = run("explain", f"{stamp} vm portsentry[71]: {probe}")
        assert status == 0
        assert f"jail      scan: key {source}, {before} before, now {before + 1} " in output
        assert ("decision  observe" in output or "kept back" in output) == decides, output


@pytest.mark.parametrize(
    ("count", "told"), [(Count.STRIKES, "3 strikes within 10m"), (Count.WEIGHT, "3 points within 10m")]
)
def test_why_says_what_was_added_up(run, remember, count, told):
    """Strikes, or points where lines weigh more or less than one."""
    remember(3, 2, 1, decide=True, count=count)
    status, output, _ = run("why", ADDRESS)
    assert (status, f"  because   {told}, ports -" in output) == (0, True), output


def test_why_not_says_what_the_breaker_kept_back(run, remember):
    """The window was reached, and yet nothing was decided."""
    remember(30, 20, 10)
    for command in ("why", "why-not"):
        assert "kept back enough, but anybody could have forged it" in run(command, ADDRESS)[1]


def test_why_not_tells_an_accounts_window(run, remember):
    """Where the account is the key: whose strikes are in it, though only one of them was its own."""
    remember(50, 40, 30, source="192.0.2.1", jail="account")
    remember(5, jail="account")
    status, output, _ = run("why-not", ADDRESS)
    assert status == 0
    assert "jail account (key root): 4 of 5 strikes in 10m, last " in output
    assert "line 0 of 198.51.100.9" in output
    assert "192.0.2.1" not in output
    assert "jail scan: nothing from it waits (portsentry)" in output


def test_why_not_of_a_neighbour_in_the_prefix(run, remember):
    """What it is counted by has been struck with, though not by itself."""
    remember(5, source="2001:db8::1")
    assert "2001:db8::/64): 1 of 3 strikes in 10m, none of it its own" in run("why-not", "2001:db8::2")[1]


@pytest.mark.parametrize(
    ("kind", "detail", "expected"),
    [
        (None, "", r"^decided \d+s ago by jail scan, which only observes$"),
        (OutcomeKind.EXPIRED, "", r"^blocked \d+s ago by jail account; it is expired$"),
        (OutcomeKind.FAILED, "no nft", r"^blocked \d+s ago by jail account; it is failed: no nft$"),
    ],
)
def test_why_not_says_what_became_of_a_decision(run, remember, folder, *, kind, detail, expected):
    """Observed, over, or not carried out."""
    decision = remember(20, 10, decide=True)
    if kind is not None:
        state = State(folder / "state/correlator/correlator.sqlite")
        blocking = replace(
            decision, request="account:x", jail="account", is_observed=False, at=decision.at + 1
        )
        state.record(positions={}, decisions=[blocking])
        state.note(Outcome(kind, decision.source, "account:x", detail=detail))
        state.close()
    assert re.search(expected, run("why-not", ADDRESS)[1], re.MULTILINE)


def test_why_not_says_who_is_never_blocked(run, folder):
    """And by which entry."""
    (folder / "ignore").write_text("198.51.100.0/24 # the office\n")
    output = run("why-not", ADDRESS)[1]
    assert "never blocked: 198.51.100.9 is covered by 198.51.100.0/24" in output


def test_why_not_says_never_seen_and_that_nobody_looks(run, folder):
    """No line named it; whether any line would be read is said beside it."""
    status, output, _ = run("why-not", ADDRESS)
    assert status == 0
    assert "never seen: no line that a filter understands named it" in output
    assert "the correlator is not running: nothing is read" in output
    trouble = {
        "pid": 1,
        "quarantined": {"f": {"p": "ran over"}},
        "sources": [{"origin": "/log", "trouble": "x"}],
    }
    (folder / "run/correlator").mkdir(parents=True)
    (folder / "run/correlator/correlator.json").write_text(json.dumps(trouble))
    output = run("why-not", ADDRESS)[1]
    assert "not running" not in output
    assert "a line of /log is not read: x" in output
    assert "filter f does not use its pattern p: ran over" in output


def test_why_not_as_json(run, remember):
    """The same for programs."""
    remember(30, 20, 10)
    status, output, _ = run("why-not", ADDRESS, "--json")
    found = json.loads(output)
    assert (status, found["kind"], found["never_blocked"]) == (0, "why-not", None)
    (window,) = found["windows"]
    assert (window["measure"], window["threshold"], window["is_kept_back"]) == (3, 3, True)
    assert len(window["strikes"]) == 3
    assert found["troubles"] == ["the correlator is not running: nothing is read"]
