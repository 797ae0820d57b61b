"""Jails: what is counted, who is denied and for how long, and what forged evidence may do."""

import pytest

from correlator.counting.breaker import Breaker
from correlator.counting.jails import Count, Jail, JailDefinition, Key, format_span
from correlator.model import SECOND, Block, Event, Evidence, Ignore, parse_source

START = 1_795_357_762 * SECOND


def _event(
    source="192.0.2.9",
    *,
    at=START,
    port=1,
    spoofable=False,
    weight=1,
    count=1,
    kind="portsentry/scan",
    **fields,
):
    filter_, _, pattern = kind.partition("/")
    return Event(
        at=at,
        filter=filter_,
        pattern=pattern,
        source=parse_source(source),
        evidence=Evidence(at, "alert.log", 0, f"probe of {port}"),
        is_spoofable=spoofable,
        weight=weight,
        count=count,
        port=port,
        protocol="TCP",
        fields={"port": str(port), **fields},
    )


def _jail(*, max_sources=100, **settings):
    definition = JailDefinition(name="portscan", where="test", filters=("portsentry",), **settings)
    return Jail(definition, max_sources=max_sources)


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
    assert _judge(jail, _event(port=2, at=START + SECOND)).note == "2 of 3 strikes in 1m"
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
    decision = _judge(jail, _event(weight=1)).decision
    assert isinstance(decision, Block)
    assert (decision.strikes, decision.unit) == (10, "points")


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


def test_by_prefix_neighbours_add_up_and_the_prefix_is_denied():
    """One scanner spread over a /24 is one key; where a single address struck, only that is denied."""
    jail = _jail(key=Key.PREFIX, prefix4=24, threshold=2)
    _judge(jail, _event("192.0.2.9"))
    assert str(_judge(jail, _event("192.0.2.77")).decision.source) == "192.0.2.0/24"
    _judge(jail, _event("198.51.100.7"))
    assert str(_judge(jail, _event("198.51.100.7")).decision.source) == "198.51.100.7"


def test_by_user_every_source_that_struck_is_denied():
    """Many sources that try one account are one attack, though none of them came twice."""
    jail = _jail(key=Key.USER, threshold=3)
    assert _judge(jail, _event("192.0.2.1", user="root")).decision is None
    assert _judge(jail, _event("192.0.2.2", user="mail")).note == "1 of 3 strikes in 1h"
    assert _judge(jail, _event("192.0.2.3", user="root", at=START + 1)).decision is None
    verdict = _judge(jail, _event("192.0.2.4", user="root", at=START + 2))
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.4", "192.0.2.3", "192.0.2.1"]
    assert {(block.struck, block.strikes, len(block.evidence)) for block in verdict.decisions} == {
        ("root", 3, 3)
    }
    assert len({block.request for block in verdict.decisions}) == 3


def test_by_user_a_source_that_is_denied_meanwhile_is_left_alone():
    """Another jail may have been quicker."""
    jail = _jail(key=Key.USER, threshold=2)
    _judge(jail, _event("192.0.2.1", user="root"))
    verdict = jail.judge(
        _event("192.0.2.2", user="root"),
        ignored_by=lambda _source: None,
        is_denied=lambda source: str(source) == "192.0.2.1",
    )
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.2"]


def test_by_user_forged_and_proven_strikes_are_told_apart_by_source():
    """Whoever forges a strike beside a real attack must not get its victim a long block."""
    jail = _jail(key=Key.USER, threshold=2, block_for=None)
    _judge(jail, _event("192.0.2.1", user="root", spoofable=True))
    verdict = _judge(jail, _event("192.0.2.2", user="root"))
    assert [(str(block.source), block.until) for block in verdict.decisions] == [
        ("192.0.2.2", None),
        ("192.0.2.1", START + 600 * SECOND),
    ]


def test_one_decision_denies_a_bounded_number_of_sources():
    """A window over an account may hold any number; the newest are denied, the rest is counted."""
    jail = _jail(key=Key.USER, threshold=70, max_sources=9)
    for number in range(69):
        _judge(jail, _event(f"192.0.2.{number}", user="root", at=START + number))
    verdict = _judge(jail, _event("198.51.100.1", user="root", at=START + 99))
    assert [str(block.source) for block in verdict.decisions][:2] == ["198.51.100.1", "192.0.2.68"]
    assert (len(verdict.decisions), jail.counters.left_out) == (64, 6)


def test_by_destination_the_address_is_the_key_and_without_one_the_port():
    """What was struck, as far as the line says it."""
    jail = _jail(key=Key.DESTINATION)
    assert _judge(jail, _event(port=22, destination="203.0.113.1")).key == "203.0.113.1"
    assert _judge(jail, _event(port=22)).key == "22"
    assert _judge(jail, _event(port=None)).note == "not counted: the line names no destination"


def test_a_line_without_the_key_or_the_counted_field_is_not_counted():
    """An absent field is no value of its own, and no key that strangers share."""
    assert _judge(_jail(key=Key.USER), _event(user="")).note == "not counted: the line names no user"
    jail = _jail(count=Count.DISTINCT, field="port", threshold=1)
    verdict = _judge(jail, _event(port=None))
    assert (verdict.decision, verdict.reach) == (None, None)
    assert (jail.counters.incomplete, jail.counters.strikes) == (1, 0)


def test_a_key_that_a_stranger_types_is_bounded():
    """An account's name is as long as the stranger likes."""
    assert len(_judge(_jail(key=Key.USER, threshold=2), _event(user="x" * 8000)).key) == 255


def test_distinct_sources_are_counted_as_they_would_be_denied():
    """Who has a /64 is one source, and an address is one however it is spelled."""
    jail = _jail(key=Key.USER, count=Count.DISTINCT, field="source", threshold=2)
    for source in ("2001:db8::1", "2001:db8:0::2", "2001:db8::3"):
        assert _judge(jail, _event(source, user="root")).decision is None
    assert len(_judge(jail, _event("192.0.2.1", user="root")).decisions) == 2


def test_a_jails_weights_overrule_the_filters():
    """The pattern's own first, then its filter's; zero is not counted at all."""
    weights = {"sshd": 3, "sshd/invalid-user": 5, "sshd/banner": 0}
    jail = _jail(count=Count.WEIGHT, threshold=100, weights=weights)
    reached = [
        _judge(jail, _event(kind=kind, weight=7, count=2)).reach.measure
        for kind in ("portsentry/scan", "sshd/failed", "sshd/invalid-user")
    ]
    assert reached == [14, 20, 30]
    assert _judge(jail, _event(kind="sshd/banner")).note == "not counted: its weight here is 0"


def test_filters_of_one_jail_add_up():
    """Two failed logins and a probed port are three strikes."""
    jail = _jail(threshold=3)
    assert _judge(jail, _event(kind="sshd/failed")).decision is None
    assert _judge(jail, _event(kind="portsentry/scan", spoofable=True)).decision is None
    assert isinstance(_judge(jail, _event(kind="sshd/failed")).decision, Block)


def test_all_of_wants_evidence_of_each_kind_within_the_span():
    """Any number of strikes of one kind is not enough; the other kind has to be as young."""
    jail = _jail(all_of=("sshd", "portsentry/scan"), threshold=2, span=60 * SECOND)
    for second in range(5):
        verdict = _judge(jail, _event(kind="sshd/failed", at=START + second * SECOND))
    assert (verdict.decision, verdict.note) == (None, "5 of 2 strikes in 1m, nothing of portsentry/scan")
    late = START + 64 * SECOND
    assert _judge(jail, _event(kind="portsentry/scan", at=late)).decision is None
    assert _judge(jail, _event(kind="portsentry/connect", at=late)).decision is None
    assert isinstance(_judge(jail, _event(kind="sshd/failed", at=late)).decision, Block)


def test_only_what_has_one_of_the_values_counts():
    """Each field that is named must have one of its values; a line that does not tell it does not count."""
    jail = _jail(only={"signature": frozenset({"1000001", "2010935"}), "priority": frozenset({"1"})})
    others = [{"signature": "1000001"}, {"signature": "1000001", "priority": "2"}, {"priority": "1"}, {}]
    assert [_judge(jail, _event(**fields)).decision for fields in others] == [None] * 4
    assert _judge(jail, _event(**others[1])).note == "not counted: priority is 2"
    assert _judge(jail, _event()).note == "not counted: signature is not said"
    assert isinstance(_judge(jail, _event(signature="2010935", priority="1")).decision, Block)


DAY = 86_400 * SECOND


def _blocked_for(jail, at, **settings):
    decision = _judge(jail, _event(at=at, **settings)).decision
    return None if decision.until is None else decision.until - at


def test_each_further_block_of_a_key_lasts_longer():
    """The lengths in their order, then the last one again."""
    jail = _jail(escalate=(600 * SECOND, 3600 * SECOND, None))
    lengths = [_blocked_for(jail, START + day * DAY) for day in range(4)]
    assert lengths == [600 * SECOND, 3600 * SECOND, None, None]


def test_a_block_is_remembered_from_its_end():
    """Exactly `remember` after its end it is forgotten, one microsecond earlier it is not."""
    lengths = (10 * SECOND, 100 * SECOND)
    for later, expected in ((69 * SECOND + SECOND - 1, 100), (70 * SECOND, 10)):
        jail = _jail(escalate=lengths, remember=60 * SECOND)
        _blocked_for(jail, START)
        assert _blocked_for(jail, START + later) == expected * SECOND


def test_forged_evidence_moves_nobody_on():
    """Else anybody could have a stranger's next block last a week."""
    jail = _jail(escalate=(600 * SECOND, 3600 * SECOND), spoofable_block_for=60 * SECOND)
    assert _blocked_for(jail, START, spoofable=True) == 60 * SECOND
    assert _blocked_for(jail, START + DAY) == 600 * SECOND
    assert _blocked_for(jail, START + 2 * DAY, spoofable=True) == 60 * SECOND
    assert _blocked_for(jail, START + 3 * DAY) == 3600 * SECOND


def test_a_release_by_hand_resets_the_lengths():
    """Who was released begins with the first length."""
    jail = _jail(escalate=(600 * SECOND, 3600 * SECOND))
    _blocked_for(jail, START)
    jail.forget(parse_source("192.0.2.9"))
    assert _blocked_for(jail, START + DAY) == 600 * SECOND


def test_a_neighbour_in_the_prefix_takes_the_next_length():
    """Who changes the address within what it is counted by has not begun anew."""
    jail = _jail(escalate=(600 * SECOND, 3600 * SECOND))
    first = _judge(jail, _event("2001:db8::1")).decision
    second = _judge(jail, _event("2001:db8::2", at=START + DAY)).decision
    assert [(block.step, block.key) for block in (first, second)] == [
        (1, "2001:db8::/64"),
        (2, "2001:db8::/64"),
    ]


def test_the_evidence_of_a_decision_is_bounded_in_lines_and_length():
    """The newest lines are kept, and the last one however long it is."""
    jail = _jail(threshold=100)
    for number in range(99):
        _judge(jail, _event(port=number, at=START + number))
    evidence = _judge(jail, _event(port=99, at=START + 99)).decision.evidence
    assert [item.line for item in evidence] == [f"probe of {port}" for port in range(80, 100)]
    long = [
        _event(at=START + n)._replace(evidence=Evidence(START + n, "o", n, "y" * 9000))
        for n in range(200, 300)
    ]
    evidence = [_judge(jail, event) for event in long][-1].decision.evidence
    assert [item.offset for item in evidence] == [299]


def test_the_breaker_counts_a_minute_exactly():
    """A block is admitted again when the oldest of the minute is exactly a minute old."""
    breaker = Breaker(1)
    assert breaker.admit(START)
    assert not breaker.admit(START + 60 * SECOND - 1)
    assert breaker.has_just_opened
    assert not breaker.admit(START + 60 * SECOND - 1)
    assert not breaker.has_just_opened
    assert breaker.admit(START + 60 * SECOND)


def test_what_the_breaker_kept_back_is_decided_once_it_has_closed():
    """Its window is not emptied: whoever goes on is denied at the next strike, not after as many again."""
    jail = _jail(spoofable_a_minute=1, threshold=3)
    for at in range(3):
        _judge(jail, _event("198.51.100.1", spoofable=True, at=START + at))
        verdict = _judge(jail, _event("192.0.2.9", spoofable=True, at=START + at))
    assert (type(verdict.decision), verdict.is_settled) == (Ignore, False)
    assert verdict.note.startswith("3 of 3 strikes in 1h, kept back: breaker open")
    verdict = _judge(jail, _event("192.0.2.9", spoofable=True, at=START + 5))
    assert (verdict.decision, verdict.is_settled) == (None, False)
    later = _judge(jail, _event("192.0.2.9", spoofable=True, at=START + 62 * SECOND))
    assert (str(later.decision.source), later.decision.strikes, later.is_settled) == ("192.0.2.9", 5, True)
    assert (jail.counters.kept_back, jail.counters.breaker_opened) == (2, 1)


def test_proof_passes_the_open_breaker():
    """A flood of forged packets must not shield who completes a connection meanwhile, or did before."""
    jail = _jail(spoofable_a_minute=0, threshold=2, block_for=None)
    assert _judge(jail, _event(spoofable=True)).decision is None
    assert isinstance(_judge(jail, _event(spoofable=True)).decision, Ignore)
    proven = _judge(jail, _event(spoofable=False)).decision
    assert (proven.is_spoofable, proven.until) == (False, None)
    assert _judge(jail, _event("192.0.2.8", spoofable=False)).decision is None
    assert _judge(jail, _event("192.0.2.8", spoofable=True)).decision.is_spoofable is False


def test_by_user_the_breaker_keeps_back_forged_strikers_only():
    """The others of the window are denied, and then it is used up."""
    jail = _jail(key=Key.USER, threshold=2, spoofable_a_minute=0)
    _judge(jail, _event("192.0.2.1", user="root", spoofable=True))
    verdict = _judge(jail, _event("192.0.2.2", user="root"))
    assert [type(decision) for decision in verdict.decisions] == [Block, Ignore]
    assert verdict.is_settled
    _judge(jail, _event("192.0.2.1", user="root", spoofable=True))
    verdict = _judge(jail, _event("192.0.2.3", user="root", spoofable=True))
    assert (verdict.decisions, verdict.is_settled) == ((), False)


def test_by_user_a_released_source_is_not_denied_for_what_it_did_before():
    """It counts for the account that was tried, and its new strikes count for itself."""
    jail = _jail(key=Key.USER, threshold=3)
    _judge(jail, _event("192.0.2.1", user="root"))
    _judge(jail, _event("192.0.2.2", user="root"))
    jail.forget(parse_source("192.0.2.1"))
    verdict = _judge(jail, _event("192.0.2.3", user="root"))
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.3", "192.0.2.2"]
    for number in (1, 2, 3):
        verdict = _judge(jail, _event(f"192.0.2.{number}", user="root", at=START + 1))
    assert len(verdict.decisions) == 3


def test_a_line_later_than_two_spans_still_decides_alone():
    """A log that is read after another one may hold what is enough by itself."""
    jail = _jail(span=SECOND)
    _judge(jail, _event("192.0.2.8"))
    late = _judge(jail, _event("192.0.2.8", at=START - 60 * SECOND)).decision
    assert (late.at, len(late.evidence)) == (START - 60 * SECOND, 1)
    waiting = _jail(span=SECOND, threshold=2)
    _judge(waiting, _event())
    assert _judge(waiting, _event(at=START - 60 * SECOND)).decision is None


def test_a_name_with_stray_bytes_is_the_same_after_a_restart():
    """SQLite takes no half characters, and an account must not have two windows."""
    jail = _jail(key=Key.USER, count=Count.DISTINCT, field="tool", threshold=2)
    strike = _judge(jail, _event(user="r\udcffot", tool="\udcfe")).strike
    assert (strike.key, strike.value) == ("r\\udcffot", "\\udcfe")


def test_a_jail_takes_back_strikes_under_its_present_prefixes():
    """The site may have changed them while we were away."""
    old = _judge(_jail(threshold=2), _event("2001:db8::1")).strike
    jail = _jail(threshold=2, prefix6=128)
    verdict = jail.count_again(old, is_denied=lambda _source: False)
    assert verdict.key == "2001:db8::1"
    assert isinstance(_judge(jail, _event("2001:db8::1")).decision, Block)


def test_a_plain_block_moves_nobody_and_is_counted():
    """Without growing lengths there is no step; what a line does not say has a stand-in."""
    jail = _jail()
    block = _judge(jail, _event()._replace(protocol=None)).decision
    assert (block.step, block.protocol, block.struck, block.key) == (0, "TCP", "", "192.0.2.9")
    assert _judge(jail, _event("192.0.2.8")._replace(protocol="UDP")).decision.protocol == "UDP"
    assert (jail.counters.blocks, jail.counters.strikes) == (2, 2)


def test_by_user_a_window_of_denied_sources_is_used_up():
    """Nobody is left to decide on; it must not be looked at again with every strike."""
    jail = _jail(key=Key.USER, threshold=2)
    _judge(jail, _event("192.0.2.1", user="root"))
    _judge(jail, _event("192.0.2.1", user="mail"))
    jail.forget(parse_source("192.0.2.1"))
    jail.forget(parse_source("192.0.2.2"))
    strike = _judge(_jail(key=Key.USER, threshold=9), _event("192.0.2.1", user="root")).strike
    verdict = jail.count(strike, is_denied=lambda _source: True)
    assert (verdict.decisions, verdict.is_settled, len(jail.windows)) == ((), True, 1)


def test_only_so_many_releases_are_remembered(monkeypatch):
    """The one that was released longest ago is forgotten, and who is released again is the latest."""
    monkeypatch.setattr("correlator.counting.deciding._MOST_FORGIVEN", 2)
    jail = _jail(key=Key.USER, threshold=5)
    for number in (1, 2, 3):
        _judge(jail, _event(f"192.0.2.{number}", user="root"))
    for number in (1, 2, 1, 3):
        jail.forget(parse_source(f"192.0.2.{number}"))
    _judge(jail, _event("192.0.2.4", user="root"))
    verdict = _judge(jail, _event("192.0.2.5", user="root"))
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.5", "192.0.2.4", "192.0.2.2"]


def test_growing_lengths_are_forgotten_with_time_and_bounded(monkeypatch):
    """As many as the database keeps; a quiet moment drops what is over."""
    monkeypatch.setattr("correlator.counting.deciding._MOST_ESCALATED", 1)
    jail = _jail(escalate=(SECOND, 60 * SECOND), remember=60 * SECOND)
    for number in (1, 2):
        _judge(jail, _event(f"192.0.2.{number}"))
    assert [_judge(jail, _event(f"192.0.2.{number}", at=START + 2)).decision.step for number in (1, 2)] == [
        1,
        1,
    ]
    jail.advance(START + 120 * SECOND)
    assert len(jail._decider.escalation) == 0


@pytest.mark.parametrize(
    ("settings", "unit"),
    [
        ({"threshold": 5}, "strikes"),
        ({"threshold": 1}, "strike"),
        ({"threshold": 5, "count": Count.WEIGHT}, "points"),
        ({"threshold": 5, "count": Count.DISTINCT, "field": "port"}, "ports"),
        ({"threshold": 5, "count": Count.DISTINCT, "field": "status"}, "statuses"),
    ],
)
def test_what_is_counted_has_a_name(settings, unit):
    """So `explain` can say `3 of 5 ports in 1m`."""
    assert JailDefinition("x", "", ("f",), **settings).unit == unit
