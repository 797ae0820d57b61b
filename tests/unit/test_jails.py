"""Jails: what is counted, who is denied and for how long, and what forged evidence may do."""

from correlator.jails import Breaker, Count, Jail, JailDefinition, format_span
from correlator.model import SECOND, Block, Event, Evidence, Ignore, parse_source

START = 1_795_357_762 * SECOND


def _event(source="192.0.2.9", *, at=START, port=1, spoofable=False, weight=1, count=1):
    return Event(
        at=at,
        filter="portsentry",
        pattern="scan",
        source=parse_source(source),
        evidence=Evidence(at, "alert.log", 0, f"probe of {port}"),
        is_spoofable=spoofable,
        weight=weight,
        count=count,
        port=port,
        protocol="TCP",
        fields={"port": str(port)},
    )


def _jail(**settings):
    definition = JailDefinition(name="portscan", where="test", filters=("portsentry",), **settings)
    return Jail(definition, max_sources=100)


def _judge(jail, event, *, ignored=None, denied=False):
    return jail.judge(event, ignored_by=lambda _source: ignored, is_denied=lambda _source: denied)


def test_the_first_probe_is_enough_by_default():
    """SCAN_TRIGGER 0: one probe and the source is denied."""
    decision = _judge(_jail(), _event()).decision
    assert isinstance(decision, Block)
    assert (str(decision.source), decision.strikes, decision.ports) == ("192.0.2.9", 1, (1,))
    assert decision.until == START + 3600 * SECOND


def test_the_threshold_counts_to_its_number():
    """Two of three do nothing; the third decides, with all three as evidence."""
    jail = _jail(threshold=3, span=60 * SECOND)
    assert _judge(jail, _event(port=1)).decision is None
    assert _judge(jail, _event(port=2, at=START + SECOND)).note == "2 of 3 in 1m"
    decision = _judge(jail, _event(port=3, at=START + 2 * SECOND)).decision
    assert isinstance(decision, Block)
    assert [evidence.line for evidence in decision.evidence] == ["probe of 1", "probe of 2", "probe of 3"]


def test_distinct_ports_are_not_hits():
    """Ten knocks on one port are one port."""
    jail = _jail(count=Count.DISTINCT, field="port", threshold=2)
    for second in range(10):
        assert _judge(jail, _event(port=7, at=START + second * SECOND)).decision is None
    assert isinstance(_judge(jail, _event(port=8, at=START + 10 * SECOND)).decision, Block)


def test_weights_add_up_and_repeats_count():
    """A line that was repeated three times counts three times its weight."""
    jail = _jail(count=Count.WEIGHT, threshold=10)
    assert _judge(jail, _event(weight=3, count=3)).reach.measure == 9
    assert isinstance(_judge(jail, _event(weight=1)).decision, Block)


def test_an_ignored_source_leaves_no_strike():
    """What the ignore list names is not counted at all, so taking it off the list starts at zero."""
    jail = _jail(threshold=2)
    verdict = _judge(jail, _event(), ignored="192.0.2.0/24 in portward.ignore")
    assert (verdict.decision, verdict.reach, len(jail.windows)) == (None, None, 0)
    assert verdict.note == "ignored: 192.0.2.0/24 in portward.ignore"


def test_a_denied_source_is_not_decided_again():
    """Lines that were on their way when the block came change nothing."""
    jail = _jail()
    assert _judge(jail, _event(), denied=True).decision is None
    assert jail.counters.denied_already == 1


def test_neighbours_in_one_prefix_are_counted_together_and_denied_together():
    """Who changes the address within a /64 is one attacker; who does not loses one address."""
    jail = _jail(threshold=2)
    _judge(jail, _event("2001:db8::1"))
    decision = _judge(jail, _event("2001:db8::2")).decision
    assert str(decision.source) == "2001:db8::/64"
    _judge(jail, _event("2001:db8:1::1"))
    assert str(_judge(jail, _event("2001:db8:1::1")).decision.source) == "2001:db8:1::1"


def test_forged_evidence_gets_short_blocks():
    """A SYN proves nothing about its sender, so the block is short even where the jail says forever."""
    decision = _judge(_jail(block_for=None), _event(spoofable=True)).decision
    assert decision.until == START + 600 * SECOND
    mixed = _jail(block_for=None, threshold=2)
    _judge(mixed, _event(spoofable=True))
    assert _judge(mixed, _event(spoofable=False)).decision.until is None


def test_a_flood_of_forged_sources_opens_the_breaker_once():
    """Past the limit nothing more is denied in that minute; it is said once and detection goes on."""
    jail = _jail(spoofable_a_minute=2)
    decisions = [
        _judge(jail, _event(f"198.51.100.{number}", spoofable=True, at=START + number)).decision
        for number in range(1, 7)
    ]
    assert [type(decision) for decision in decisions] == [
        Block,
        Block,
        Ignore,
        type(None),
        type(None),
        type(None),
    ]
    assert jail.counters.breaker_opened == 1
    later = _judge(jail, _event("198.51.100.99", spoofable=True, at=START + 61 * SECOND)).decision
    assert isinstance(later, Block)


def test_a_breaker_of_zero_admits_nothing():
    """A site may say that forged evidence never blocks."""
    assert not Breaker(0).admit(START)


def test_the_same_evidence_gives_the_same_request():
    """After a crash the lines are read again, and the enforcer must know the request."""
    assert _judge(_jail(), _event()).decision.request == _judge(_jail(), _event()).decision.request


def test_spans_are_written_as_people_write_them():
    """The largest unit that divides it."""
    assert [format_span(s * SECOND) for s in (1, 90, 600, 3600, 86400, 604800)] == [
        "1s", "90s", "10m", "1h", "1d", "7d",
    ]  # fmt: skip
