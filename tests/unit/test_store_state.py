"""The correlator's memory: a step is recorded whole, and a restart gets back what it needs."""

import pytest

from correlator.counting.jails import Jail, JailDefinition
from correlator.model import (
    SECOND,
    Block,
    Event,
    Evidence,
    Ignore,
    Outcome,
    OutcomeKind,
    Repeat,
    parse_prefix,
    parse_source,
)  # fmt: skip
from correlator.store.state import State, StateReader

NOW = 1_795_357_762 * SECOND


@pytest.fixture
def state(tmp_path):
    """An empty database."""
    made = State(tmp_path / "correlator.sqlite")
    yield made
    made.close()


def _block(source="192.0.2.9", at=NOW, *, is_observed=False, until=NOW + 60 * SECOND, step=0):
    return Block(
        request=f"portscan:{source}:{at}",
        source=parse_prefix(source),
        jail="portscan",
        at=at,
        until=until,
        strikes=2,
        span=60 * SECOND,
        ports=(1, 7),
        port=7,
        protocol="TCP",
        is_spoofable=True,
        is_observed=is_observed,
        actions=("nftables",),
        evidence=(Evidence(at, "/alert.log", 12, "a line \udcff"),),
        key=source,
        step=step,
    )


def _strike(source="192.0.2.9", at=NOW):
    jail = Jail(
        JailDefinition(name="portscan", where="", filters=("portsentry",), threshold=9), max_sources=9
    )
    event = Event(
        at, "portsentry", "scan", parse_source(source), Evidence(at, "/alert.log", 3, "line"), port=7
    )
    return jail.judge(event, ignored_by=lambda _: None, is_denied=lambda _: False).strike


def test_a_block_comes_back_as_it_was(state):
    """Everything that is needed to send it again."""
    block = _block()
    state.record(positions={}, decisions=[block])
    assert [(found.request, found.source, kind) for found, kind in state.blocks(NOW)] == [
        (block.request, block.source, "requested")
    ]
    assert next(state.blocks(NOW))[0].ports == block.ports


def test_recording_a_decision_twice_keeps_the_first(state):
    """Lines that are read again after a crash give the same request."""
    state.record(positions={}, decisions=[_block()])
    state.note(Outcome(OutcomeKind.DONE, parse_source("192.0.2.9"), _block().request))
    state.record(positions={}, decisions=[_block()])
    assert [kind for _, kind in state.blocks(NOW)] == ["done"]


def test_what_is_over_or_failed_does_not_come_back(state):
    """Only what may still be in force is sent or believed again."""
    state.record(
        positions={}, decisions=[_block("192.0.2.1"), _block("192.0.2.2"), _block("192.0.2.3", until=None)]
    )
    state.note(Outcome(OutcomeKind.FAILED, parse_source("192.0.2.1"), _block("192.0.2.1").request))
    assert [str(block.source) for block, _ in state.blocks(NOW + 60 * SECOND)] == ["192.0.2.3"]


def test_an_end_without_request_ends_what_is_in_force(state):
    """A release by hand names the source alone."""
    state.record(positions={}, decisions=[_block()])
    state.note(Outcome(OutcomeKind.DONE, parse_source("192.0.2.9"), _block().request))
    state.note(Outcome(OutcomeKind.RELEASED, parse_source("192.0.2.9"), ""))
    assert list(state.blocks(NOW)) == []


def test_strikes_wait_until_their_window_decides(state):
    """Strikes come back in order; those a decision used up do not."""
    first, second, third = _strike(at=NOW), _strike(at=NOW + 1), _strike(at=NOW + 2)
    state.record(positions={}, strikes=[second, first])
    assert list(state.strikes()) == [first, second]
    state.record(positions={}, settled=[("portscan", "192.0.2.9")])
    state.record(positions={}, strikes=[third])
    assert list(state.strikes()) == [third]


def test_positions_are_kept_whole(state):
    """Every file that is still read."""
    files = [
        {"device": 1, "inode": 2, "offset": 3, "head": "ff"},
        {"device": 1, "inode": 9, "offset": 0, "head": ""},
    ]
    state.record(positions={"/alert.log": files})
    assert state.positions("/alert.log") == files
    assert state.positions("/other.log") is None


def test_a_log_may_have_a_name_that_is_no_utf8(state):
    """Whoever names a file in a folder of logs, as a Samba client does by its own name, must not stop us."""
    name = "/log/caf\udce9.log"
    strike = _strike()
    strike = strike._replace(evidence=strike.evidence._replace(origin=name))
    state.record(positions={name: [{"offset": 1}], "/log/café.log": []}, strikes=[strike])
    assert (state.positions(name), sorted(state.origins())) == ([{"offset": 1}], ["/log/café.log", name])
    assert list(state.strikes()) == [strike]
    state.forget_positions([name])
    assert state.origins() == ["/log/café.log"]


def test_old_strikes_and_those_of_gone_jails_are_pruned(state):
    """The table does not outgrow its windows."""
    state.record(positions={}, strikes=[_strike(at=NOW), _strike(at=NOW + 10)])
    state.prune({"portscan": NOW})
    assert [strike.at for strike in state.strikes()] == [NOW + 10]
    state.prune({"another": NOW})
    assert list(state.strikes()) == []


def test_the_reader_finds_prefixes_around_an_address(state, tmp_path):
    """`why ADDR` must not miss that its whole network is denied."""
    ignore = Ignore(parse_source("198.51.100.1"), "portscan", NOW, "breaker", ())
    state.record(positions={}, decisions=[_block("2001:db8::/64"), _block("192.0.2.9"), ignore])
    reader = StateReader(tmp_path / "correlator.sqlite")
    found = reader.decisions(source=parse_source("2001:db8::5"))
    assert [(item.kind, item.source, item.body["ports"]) for item in found] == [
        ("block", "2001:db8::/64", [1, 7])
    ]
    assert len(reader.decisions()) == 3
    reader.close()


def test_a_step_is_all_or_nothing(state):
    """A step that fails half-way leaves the position where it was, so its lines are read again."""
    state.record(positions={"/alert.log": [{"offset": 1}]})

    def broken():
        yield _strike()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        state.record(positions={"/alert.log": [{"offset": 2}]}, strikes=broken())
    assert state.positions("/alert.log") == [{"offset": 1}]
    assert list(state.strikes()) == []


def test_growing_lengths_come_back_the_latest_last(state):
    """What a block moved its key to, and nothing of blocks that move nobody."""
    state.record(positions={}, decisions=[_block("192.0.2.1", step=1), _block("192.0.2.2", step=1)])
    state.record(positions={}, decisions=[_block("192.0.2.1", at=NOW + 1, step=2), _block("192.0.2.3")])
    until = NOW + 60 * SECOND
    assert list(state.repeats()) == [
        Repeat("portscan", "192.0.2.2", 1, until),
        Repeat("portscan", "192.0.2.1", 2, until),
    ]


def test_a_failed_block_is_taken_back_once(state):
    """Also where the outcome is told twice."""
    first, second = _block(step=1), _block(at=NOW + 1, step=2)
    state.record(positions={}, decisions=[first, second])
    for block, left in ((second, [1]), (second, [1]), (first, [])):
        state.note(Outcome(OutcomeKind.FAILED, block.source, block.request))
        assert [repeat.step for repeat in state.repeats()] == left


def test_a_release_forgets_the_past_of_a_key(state):
    """With its waiting strikes."""
    state.record(positions={}, strikes=[_strike()], decisions=[_block(step=2), _block("192.0.2.8", step=2)])
    state.forget(parse_source("192.0.2.9"), [("portscan", "192.0.2.9")])
    assert [repeat.key for repeat in state.repeats()] == ["192.0.2.8"]
    assert list(state.strikes()) == []


def test_the_past_of_a_key_is_pruned_when_its_jail_has_forgotten_it(state):
    """At that very instant; what has no end stays, and so does what belongs to another jail."""
    blocks = [_block(f"192.0.2.{n}", until=until, step=1) for n, until in ((1, NOW), (2, NOW + 1), (3, None))]
    state.record(positions={}, decisions=blocks)
    state.prune({}, ended={"another": NOW + 9})
    assert len(list(state.repeats())) == 3
    state.prune({}, ended={"portscan": NOW})
    assert [repeat.key for repeat in state.repeats()] == ["192.0.2.2", "192.0.2.3"]


def test_old_decisions_leave_when_there_are_too_many(state, monkeypatch):
    """The oldest that nobody waits for; what has no outcome yet stays, however old."""
    monkeypatch.setattr("correlator.store.state._DECISIONS_KEPT", 2)
    state.record(positions={}, decisions=[_block(f"192.0.2.{n}", at=NOW + n) for n in range(1, 6)])
    for number in (2, 3, 4, 5):
        source = f"192.0.2.{number}"
        state.note(Outcome(OutcomeKind.DONE, parse_source(source), _block(source, at=NOW + number).request))
    state.prune({})
    assert [str(block.source) for block, _ in state.blocks(NOW)] == ["192.0.2.1", "192.0.2.4", "192.0.2.5"]


def test_old_strikes_and_pasts_leave_when_there_are_too_many(state, monkeypatch):
    """The newest are kept, by their own time."""
    monkeypatch.setattr("correlator.store.state._STRIKES_KEPT", 2)
    monkeypatch.setattr("correlator.store.state._REPEATS_KEPT", 1)
    blocks = [_block(f"192.0.2.{n}", step=1) for n in (1, 2)]
    state.record(positions={}, strikes=[_strike(at=NOW + n) for n in (3, 1, 2)], decisions=blocks)
    state.prune({"portscan": NOW})
    assert [strike.at for strike in state.strikes()] == [NOW + 2, NOW + 3]
    assert [repeat.key for repeat in state.repeats()] == ["192.0.2.2"]


def test_the_position_of_what_is_gone_is_forgotten(state):
    """Logs with a date in their name would pile up; nothing kept is not the same as never seen."""
    state.record(positions={"/a.log": [{"offset": 3}], "/log/*.log": []})
    assert sorted(state.origins()) == ["/a.log", "/log/*.log"]
    assert (state.positions("/a.log"), state.positions("/log/*.log")) == ([{"offset": 3}], [])
    state.forget_positions(["/a.log"])
    assert (state.origins(), state.positions("/a.log")) == (["/log/*.log"], None)
