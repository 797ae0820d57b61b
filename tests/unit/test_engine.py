"""The engine: chunks in, decisions out; the same every time, and again after a restart."""

import dataclasses
from pathlib import Path

import pytest

from correlator.attackalert import format_ip_options, format_probe
from correlator.config.filters import load_filter
from correlator.counting.jails import Jail, JailDefinition
from correlator.engine import Engine, Step, format_decision
from correlator.lines.syslog import format_instant
from correlator.matching.filter_definition import FilterDefinition, PatternDefinition
from correlator.matching.filters import Filter
from correlator.model import SECOND, Block, Chunk, Outcome, OutcomeKind, Release, Repeat, parse_source

NOW = 1_795_357_762 * SECOND
LOG = "/log/alert.log"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def definition():
    """The shipped filter, reading the test's log."""
    found, faults = load_filter(ROOT / "filters/portsentry.toml", alert_log=Path(LOG))
    assert faults == []
    return found


@pytest.fixture
def make_engine(definition):
    """Build an engine with one jail."""

    def make(*, ignored=(), **settings):
        settings = {"is_blocking": True, **settings}
        jail = JailDefinition(name="portscan", where="test", filters=("portsentry",), **settings)
        return Engine(
            [Filter(definition)],
            [Jail(jail, max_sources=1000)],
            routes={LOG: ["portsentry"]},
            ignored_by=lambda source: "listed" if str(source) in ignored else None,
        )

    return make


def _line(address, port, at=NOW, technique="TCP SYN/Normal scan"):
    stamp = format_instant(at).replace("Z", "+00:00")
    return f"{stamp} vm portsentry[71]: {format_probe(technique, address, address, 'TCP', port)}\n"


def _chunk(*lines, arrived=NOW, is_live=True, offset=0):
    return Chunk(LOG, offset, "".join(lines).encode(), arrived, is_live)


def test_a_probe_line_becomes_a_block(make_engine):
    """The whole way: bytes in, a block with its evidence and its place in the file out."""
    engine = make_engine()
    noise = "2026-11-22T14:29:21+00:00 vm cron[1]: nothing\n"
    (block,) = engine.feed(_chunk(noise, _line("192.0.2.9", 7))).decisions
    assert (str(block.source), block.port, block.protocol) == ("192.0.2.9", 7, "TCP")
    assert (block.evidence[0].origin, block.evidence[0].offset) == (LOG, len(noise))
    assert block.evidence[0].line + "\n" == _line("192.0.2.9", 7)
    assert (engine.origins[LOG].lines, engine.origins[LOG].candidates) == (2, 1)


def test_a_denied_source_is_decided_once_until_its_time_is_over(make_engine):
    """What comes while it is denied decides nothing; after the end it counts again."""
    engine = make_engine(block_for=60 * SECOND)
    assert len(engine.feed(_chunk(_line("192.0.2.9", 1), _line("192.0.2.9", 2))).decisions) == 1
    later = NOW + 60 * SECOND
    assert len(engine.feed(_chunk(_line("192.0.2.9", 3, later), arrived=later)).decisions) == 1


def test_a_failed_block_is_tried_again_with_the_next_strike(make_engine):
    """A source whose block failed is not believed to be denied."""
    engine = make_engine()
    (block,) = engine.feed(_chunk(_line("192.0.2.9", 1))).decisions
    engine.note(Outcome(OutcomeKind.FAILED, block.source, block.request, detail="no nft"))
    assert len(engine.feed(_chunk(_line("192.0.2.9", 2, NOW + SECOND), arrived=NOW + SECOND)).decisions) == 1


def test_a_released_source_starts_at_zero(make_engine):
    """Who is released by hand is not blocked again for what came before."""
    engine = make_engine(threshold=2)
    engine.feed(_chunk(_line("192.0.2.9", 1)))
    engine.note(Outcome(OutcomeKind.RELEASED, parse_source("192.0.2.9"), ""))
    assert engine.feed(_chunk(_line("192.0.2.9", 2))).decisions == []


def test_an_ignored_source_is_never_decided(make_engine):
    """The ignore list wins over any number of strikes."""
    engine = make_engine(ignored={"192.0.2.9"})
    assert engine.feed(_chunk(*(_line("192.0.2.9", port) for port in range(1, 50)))).decisions == []


def test_what_is_ours_and_unreadable_is_counted(make_engine):
    """A line with an impossible address is shown, not dropped in silence; follow-up lines are understood."""
    engine = make_engine()
    bad = _line("192.0.2.9", 1).replace("/192.0.2.9 ", "/192.0.2.999 ")
    options = (
        _line("192.0.2.9", 1).split("attackalert")[0] + format_ip_options("a", "192.0.2.9", "TCP", 1) + "\n"
    )
    assert engine.feed(_chunk(bad, options)).decisions == []
    assert engine.origins[LOG].unreadable == 1
    assert engine.unreadable[0].reason == "not an address: '192.0.2.999'"


def test_a_live_line_with_a_strange_clock_is_taken_at_arrival(make_engine):
    """A stepped clock or a wrong zone must not hide an attack; the skew is counted."""
    engine = make_engine()
    (block,) = engine.feed(_chunk(_line("192.0.2.9", 1, NOW - 7200 * SECOND))).decisions
    assert block.at == NOW
    assert (engine.origins[LOG].skewed, engine.origins[LOG].last_skew) == (1, -7200 * SECOND)


def test_a_backlog_is_judged_by_its_own_times(make_engine):
    """Strikes that were hours apart stay hours apart when they are read in one go."""
    engine = make_engine(threshold=2, span=60 * SECOND)
    old = [_line("192.0.2.9", port, NOW - port * 3600 * SECOND) for port in (3, 2, 1)]
    assert engine.feed(_chunk(*old, is_live=False)).decisions == []


def test_replay_gives_the_same_decisions(make_engine):
    """Time is an argument: twice the same bytes, twice the same decisions."""
    data = _chunk(
        *(_line(f"192.0.2.{n % 5}", n, NOW + n * SECOND) for n in range(1, 40)), arrived=NOW + 60 * SECOND
    )
    first, second = (make_engine(threshold=3).feed(data).decisions for _ in range(2))
    assert first == second
    assert len(first) == 5


def test_waiting_strikes_survive_a_restart(make_engine):
    """Two strikes before, one after: three."""
    before = make_engine(threshold=3)
    step = before.feed(_chunk(_line("192.0.2.9", 1), _line("192.0.2.9", 2)))
    after = make_engine(threshold=3)
    assert after.restore(step.strikes, []) == []
    (block,) = after.feed(_chunk(_line("192.0.2.9", 3))).decisions
    assert block.ports == (1, 2, 3)


def test_known_blocks_survive_a_restart(make_engine):
    """A source that is denied already is not decided again by lines read after the restart."""
    (block,) = make_engine().feed(_chunk(_line("192.0.2.9", 1))).decisions
    after = make_engine()
    after.restore([], [block])
    assert after.feed(_chunk(_line("192.0.2.9", 2))).decisions == []


def test_a_prefix_denies_its_addresses(make_engine):
    """Whoever is inside a denied prefix is denied."""
    engine = make_engine(threshold=2)
    engine.feed(_chunk(_line("2001:db8::1", 1), _line("2001:db8::2", 2)))
    assert engine.feed(_chunk(_line("2001:db8::3", 1), _line("2001:db8::3", 2))).decisions == []


def test_a_long_line_is_cut_and_counted(make_engine):
    """No line is larger than the bound, whatever was written."""
    engine = make_engine()
    engine.feed(_chunk(_line("192.0.2.9", 1)[:-1] + "x" * 20_000 + "\n"))
    assert engine.origins[LOG].cut == 1


def test_any_bytes_are_survived(make_engine):
    """Bytes that are no text neither raise nor decide."""
    engine = make_engine()
    line = _line("192.0.2.9", 1).encode().replace(b"from host: 192", b"from host: \xff\xfe\x1b[31m192")
    (block,) = engine.feed(Chunk(LOG, 0, b"\xff\xfe\x00attackalert: \xff\n" + line, NOW)).decisions
    assert str(block.source) == "192.0.2.9"


def test_the_announcing_line_is_stable(make_engine):
    """People grep it."""
    (block,) = make_engine(span=60 * SECOND).feed(_chunk(_line("192.0.2.9", 1))).decisions
    assert isinstance(block, Block)
    assert format_decision(block) == (
        "block source=192.0.2.9 jail=portscan strikes=1 span=60s ports=1 until=2026-11-22T14:39:22Z"
        " spoofable=yes"
    )
    proved = dataclasses.replace(block, is_spoofable=False)
    assert format_decision(proved) == (
        "block source=192.0.2.9 jail=portscan strikes=1 span=60s ports=1 until=2026-11-22T14:39:22Z"
    )
    release = Release(parse_source("192.0.2.9"), "by hand")
    assert format_decision(release) == "release source=192.0.2.9 reason='by hand'"


def test_belief_gives_way_to_what_the_enforcer_holds(make_engine):
    """What was released while we were away is not believed to be denied; what was never answered is."""
    engine = make_engine()
    first, second = engine.feed(_chunk(_line("192.0.2.8", 1), _line("192.0.2.9", 1))).decisions
    for block in (first,):
        engine.note(Outcome(OutcomeKind.DONE, block.source, block.request, block.until))
    assert engine.agree(frozenset()) == [first.source]
    again = engine.feed(_chunk(_line("192.0.2.8", 2), _line("192.0.2.9", 2))).decisions
    assert [block.source for block in again] == [first.source]
    engine.note(Outcome(OutcomeKind.DONE, second.source, second.request, second.until))
    assert engine.agree(frozenset({parse_source("192.0.2.9")})) == []


def test_a_line_over_the_bound_is_never_matched(make_engine):
    """Cut, it could end where the stranger wants it to, and name a victim."""
    engine = make_engine()
    name = "x/198.51.100.111 to TCP port: 1" + "y" * 9000
    line = _line("192.0.2.9", 1).replace("host: 192.0.2.9/", f"host: {name}/")
    assert engine.feed(_chunk(line)).decisions == []
    assert engine.origins[LOG].cut == 1


@pytest.mark.parametrize(
    "stamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59"]
)
def test_a_stamp_outside_the_calendar_is_no_stamp(make_engine, stamp):
    """One such line must not end the correlator; it is taken at arrival."""
    engine = make_engine()
    line = f"{stamp} vm portsentry[1]: {format_probe('TCP FIN scan', 'a', '192.0.2.9', 'TCP', 1)}\n"
    (block,) = engine.feed(_chunk(line)).decisions
    assert block.at == NOW


def test_a_line_a_little_ahead_keeps_its_time(make_engine):
    """Read again after a crash, later, it must give the same request."""
    ahead = NOW + SECOND
    first = make_engine().feed(_chunk(_line("192.0.2.9", 1, ahead), arrived=NOW)).decisions
    second = make_engine().feed(_chunk(_line("192.0.2.9", 1, ahead), arrived=NOW + 5 * SECOND)).decisions
    assert first == second


def _connect(at):
    """Return a line of evidence that nobody can forge."""
    return _line("192.0.2.9", 1, at, "Connect")


def test_growing_lengths_survive_a_restart_and_end_with_a_release(make_engine):
    """The third block after a restart takes the third length; who is released by hand begins anew."""
    lengths = {"escalate": (60 * SECOND, 600 * SECOND, 6000 * SECOND)}
    engine = make_engine(**lengths)
    times = [NOW + minute * 60 * SECOND for minute in range(0, 60, 20)]
    for at in times[:2]:
        (block,) = engine.feed(_chunk(_connect(at), arrived=at)).decisions
    after = make_engine(**lengths)
    after.restore([], [block], repeats=[Repeat(block.jail, block.key, block.step, block.until)])
    (third,) = after.feed(_chunk(_connect(times[2]), arrived=times[2])).decisions
    assert (third.step, third.until) == (3, times[2] + 6000 * SECOND)
    after.note(Outcome(OutcomeKind.RELEASED, third.source, third.request))
    (fourth,) = after.feed(_chunk(_connect(times[2] + SECOND), arrived=times[2])).decisions
    assert fourth.step == 1


def test_a_failed_block_moves_its_source_nowhere(make_engine):
    """While nothing can be blocked, every strike would take the next length."""
    engine = make_engine(escalate=(60 * SECOND, 600 * SECOND))
    for second in range(3):
        at = NOW + second * SECOND
        (block,) = engine.feed(_chunk(_connect(at), arrived=at)).decisions
        assert block.step == 1
        engine.note(Outcome(OutcomeKind.FAILED, block.source, block.request, detail="no nft"))


def test_a_forged_block_that_failed_takes_back_nothing(make_engine):
    """It moved its source nowhere."""
    engine = make_engine(escalate=(60 * SECOND, 600 * SECOND))
    engine.restore([], [], repeats=[Repeat("portscan", "192.0.2.9", 1, NOW - SECOND)])
    (block,) = engine.feed(_chunk(_line("192.0.2.9", 1))).decisions
    assert (block.is_spoofable, block.step) == (True, 0)
    engine.note(Outcome(OutcomeKind.FAILED, block.source, block.request, detail="no nft"))
    (block,) = engine.feed(_chunk(_connect(NOW))).decisions
    assert block.step == 2


def test_what_is_kept_back_waits_and_what_is_decided_does_not(make_engine):
    """A restart brings back the one, and nothing of the other."""
    engine = make_engine(spoofable_a_minute=1)
    step = engine.feed(_chunk(_line("192.0.2.8", 1), _line("192.0.2.9", 1)))
    assert [str(strike.source) for strike in step.strikes] == ["192.0.2.9"]
    assert list(step.settled) == [("portscan", "192.0.2.8")]
    later = NOW + 61 * SECOND
    after = make_engine(spoofable_a_minute=1)
    after.restore(step.strikes, [block for block in step.decisions if isinstance(block, Block)])
    (block,) = after.feed(_chunk(_line("192.0.2.9", 2, later), arrived=later)).decisions
    assert (str(block.source), block.strikes, len(block.evidence)) == ("192.0.2.9", 2, 2)


def test_a_restart_keeps_count_of_what_forged_evidence_got(make_engine):
    """Else every restart would let a flood deny as many again."""
    (block,) = make_engine(spoofable_a_minute=1).feed(_chunk(_line("192.0.2.8", 1))).decisions
    after = make_engine(spoofable_a_minute=1)
    after.restore([], [], carried_out=[block])
    (ignore,) = after.feed(_chunk(_line("192.0.2.9", 1))).decisions
    assert ignore.reason == "breaker open: 1 blocks on spoofable evidence within a minute"


def test_what_was_only_observed_is_blocked_once_the_jail_blocks(make_engine):
    """Turned on in the middle of an attack, it must not wait until the observation is over."""
    observing, blocking = make_engine(is_blocking=False), make_engine(is_blocking=True)
    (observed,) = observing.feed(_chunk(_line("192.0.2.8", 1))).decisions
    for engine, expected in ((make_engine(is_blocking=False), []), (blocking, [False])):
        engine.restore([], [observed])
        step = engine.feed(_chunk(_line("192.0.2.8", 2)))
        assert [decision.is_observed for decision in step.decisions] == expected


def test_steps_add_up_in_their_order():
    """What waited before its key was decided is used up; what came after it waits."""
    total, later = Step(), Step()
    total.waiting[("j", "a")] = ["old"]
    total.waiting[("j", "b")] = ["other"]
    later.settled[("j", "a")] = None
    later.waiting[("j", "a")] = ["new"]
    total.add(later)
    assert (total.strikes, list(total.settled)) == (["other", "new"], [("j", "a")])
    total.drop_strikes(1)
    assert total.strikes == ["new"]
    total.drop_strikes(1)
    assert total.strikes == ["new"]


def test_the_denial_made_longest_ago_is_forgotten_first(make_engine, monkeypatch):
    """Belief is bounded; whoever is forgotten is decided again by the next strike."""
    monkeypatch.setattr("correlator.engine._MOST_DENIALS", 2)
    engine = make_engine()
    engine.feed(_chunk(*(_line(f"192.0.2.{number}", 1) for number in (1, 2, 3))))
    assert (engine.denied, engine.forgotten) == (2, 1)
    again = engine.feed(_chunk(*(_line(f"192.0.2.{number}", 1) for number in (3, 2, 1)))).decisions
    assert [str(block.source) for block in again] == ["192.0.2.1"]


@pytest.mark.parametrize(("port", "is_read"), [(65535, True), (65536, False), (99999, False)])
def test_a_port_that_there_is_not_makes_a_line_unreadable(make_engine, port, is_read):
    """It is ours and cannot be true: it is shown, and nobody is blocked for it."""
    engine = make_engine()
    step = engine.feed(_chunk(_line("192.0.2.9", 1).replace("port: 1\n", f"port: {port}\n")))
    assert len(step.decisions) == is_read
    assert [item.reason for item in engine.unreadable] == [f"not a port: '{port}'"] * (not is_read)


def test_a_pattern_that_runs_over_is_named_and_the_others_go_on():
    """The quarantine names the pattern, how long it took and on how much; the filter reads on without it."""
    slow = PatternDefinition("slow", r"^(?P<source>(a|a)*)$")
    quick = PatternDefinition("quick", r"^(?P<source>[0-9.]+)$")
    definition = FilterDefinition("x", "", "test", frozenset({"x"}), (LOG,), (slow, quick))
    filter_ = Filter(definition, timeout=SECOND // 1000)
    engine = Engine([filter_], [], routes={LOG: ["x"]}, ignored_by=lambda _source: None)
    for _ in range(2):
        engine.feed(_chunk("Nov 22 14:29:22 vm x: " + "a" * 60 + "!\n", "Nov 22 14:29:22 vm x: 192.0.2.1\n"))
    assert filter_.quarantined == {"slow": "ran over 0.001 s on a line of 61 characters"}
    assert engine.origins[LOG].events == 2


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({"is_blocking": False}, [("quiet", True), ("loud", False)]),
        ({"actions": ("kill-run-cmd",)}, [("quiet", False), ("loud", False)]),
        ({"actions": ("nftables", "mail")}, [("quiet", False)]),
    ],
    ids=["observed", "told of", "denied in every way"],
)
def test_who_is_denied_for_one_jail_is_not_out_of_anothers_reach(definition, first, expected):
    """BLOCK_UDP="0" or "2" beside BLOCK_TCP="1": a probe that nobody answers must not shield from the block.

    Each decides once; who is denied in all ways that a jail wants is not decided on again.
    """
    jails = [
        JailDefinition("quiet", "test", ("portsentry",), block_for=None, **{"is_blocking": True, **first}),
        JailDefinition("loud", "test", ("portsentry",), threshold=2, is_blocking=True, actions=("nftables",)),
    ]
    engine = Engine(
        [Filter(definition)],
        [Jail(jail, max_sources=9) for jail in jails],
        routes={LOG: ["portsentry"]},
        ignored_by=lambda _source: None,
    )
    lines = [_line("192.0.2.9", port, NOW + port) for port in range(1, 9)]
    decisions = engine.feed(_chunk(*lines)).decisions
    assert [(block.jail, block.is_observed) for block in decisions] == expected
