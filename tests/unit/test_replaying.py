"""Replays: several logs in the order of their times, the same answer every time, what a change changes."""

from correlator.counting.jails import Count, Jail, JailDefinition
from correlator.engine import Engine
from correlator.lines.syslog import format_instant
from correlator.matching.filter_definition import FilterDefinition, PatternDefinition
from correlator.matching.filters import Filter
from correlator.model import SECOND, Block, Chunk, Ignore
from correlator.replaying import ChangeKind, Past, Tally, compare, replay

NOW = 1_795_357_762 * SECOND
KNOCK = PatternDefinition("knock", r"^knock from (?P<source>\S+)$")
FORGED = PatternDefinition("forged", r"^packet from (?P<source>\S+)$", is_spoofable=True)


def _engine(**settings):
    definition = FilterDefinition("x", "", "test", frozenset({"knockd"}), (), (KNOCK, FORGED))
    jail = JailDefinition(
        "j", "", ("x",), is_blocking=True, **{"threshold": 3, "span": 60 * SECOND, **settings}
    )
    return Engine(
        [Filter(definition)],
        [Jail(jail, max_sources=1000)],
        routes={"a": ["x"], "b": ["x"]},
        ignored_by=lambda source: "listed" if str(source) == "192.0.2.77" else None,
    )


def _log(origin, *seconds, source="192.0.2.9", text="knock"):
    lines = "".join(
        f"{format_instant(NOW + s * SECOND)} vm knockd[{s}]: {text} from {source}\n" for s in seconds
    )
    return [Chunk(origin, 0, lines.encode(), NOW + 10**6 * SECOND, is_live=False)]


def test_logs_are_judged_in_the_order_of_their_times():
    """Two strikes in one log and one between them in another make three."""
    (block,) = replay(_engine(), [_log("a", 0, 50), _log("b", 25)])
    assert [item.origin for item in block.evidence] == ["a", "b", "a"]
    assert block.at == NOW + 50 * SECOND
    assert list(replay(_engine(), [_log("a", 0, 50), _log("b", 70)])) == []


def test_a_long_log_beside_a_short_one_is_not_read_ahead():
    """What a day's log says at noon is judged with what another says at noon, whatever comes first."""
    step = 10
    noisy = _log("a", *range(0, 86_400, step), source="192.0.2.77")
    slow = [*_log("a", 0, 40_000), *_log("a", 40_020)]
    (block,) = replay(_engine(), [noisy, slow, _log("b", 40_010)])
    assert block.at == NOW + 40_020 * SECOND


def test_twice_the_same_bytes_give_twice_the_same_answer():
    """Nothing but the bytes decides."""
    seconds = range(0, 3000, 7)
    logs = [_log("a", *seconds, source=f"192.0.2.{number}") for number in range(3)]
    first, second = (list(replay(_engine(block_for=SECOND), logs)) for _ in range(2))
    assert first == second
    assert len(first) > 3


def test_after_its_time_a_source_is_decided_again():
    """Nothing is carried out: what comes during a block is denied already, what comes after it counts."""
    engine = _engine(threshold=1, block_for=60 * SECOND)
    decided = list(replay(engine, [_log("a", 0, 10, 59, 60, 200)]))
    assert [(block.at - NOW) // SECOND for block in decided] == [0, 60, 200]
    assert engine.jails["j"].counters.denied_already == 2


def test_a_tally_knows_the_first_block_of_each_source():
    """Also where a later line is judged first."""
    tally = Tally()
    for decision in reversed(list(replay(_engine(threshold=1, block_for=SECOND), [_log("a", 0, 5, 9)]))):
        tally.take(decision)
    assert (tally.blocks, list(tally.sources)) == (3, ["192.0.2.9"])
    past = tally.sources["192.0.2.9"]
    assert (past.first, past.until, past.blocks) == (NOW, NOW + SECOND, 3)


def test_what_the_breaker_keeps_back_is_told():
    """It is a decision like any other."""
    engine = _engine(threshold=1, spoofable_a_minute=1)
    logs = [_log("a", 0, source="192.0.2.1", text="packet"), _log("b", 1, source="192.0.2.2", text="packet")]
    tally = Tally()
    decided = list(replay(engine, logs))
    for decision in decided:
        tally.take(decision)
    assert [type(decision) for decision in decided] == [Block, Ignore]
    assert (tally.blocks, tally.kept_back) == (1, 1)


def test_a_table_forgets_with_the_time_of_the_log():
    """A year of logs does not pile up what no window can use any more."""
    engine = _engine(count=Count.STRIKES)
    logs = [_log("a", 100 * number, source=f"198.51.100.{number}") for number in range(100)]
    assert list(replay(engine, logs)) == []
    assert len(engine.jails["j"].windows) < 6


def test_a_comparison_names_each_kind_of_change():
    """Added, removed, earlier, later, otherwise; what stays the same is not told."""
    before = {
        "same": Past(5, "j", 9),
        "gone": Past(5, "j", 9),
        "sooner": Past(5, "j", 9),
        "later": Past(5, "j", 9),
        "longer": Past(5, "j", 9),
    }
    after = {
        "same": Past(5, "j", 9),
        "new": Past(7, "j", 9),
        "also": Past(6, "j", 9),
        "sooner": Past(4, "j", 9),
        "later": Past(6, "j", 9),
        "longer": Past(5, "j", None),
    }
    assert [(change.kind, change.source) for change in compare(before, after)] == [
        (ChangeKind.ADDED, "also"),
        (ChangeKind.ADDED, "new"),
        (ChangeKind.REMOVED, "gone"),
        (ChangeKind.EARLIER, "sooner"),
        (ChangeKind.LATER, "later"),
        (ChangeKind.OTHERWISE, "longer"),
    ]
    assert compare(before, before) == []
