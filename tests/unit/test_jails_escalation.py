"""Who comes back is denied longer, and for how long that is remembered."""

from correlator.model import SECOND, parse_source
from tests.unit.jail_events import START, judge, make_event, make_jail

DAY = 86_400 * SECOND


def _blocked_for(jail, at, **settings):
    decision = judge(jail, make_event(at=at, **settings)).decision
    return None if decision.until is None else decision.until - at


def test_each_further_block_of_a_key_lasts_longer():
    """The lengths in their order, then the last one again."""
    jail = make_jail(escalate=(600 * SECOND, 3600 * SECOND, None))
    lengths = [_blocked_for(jail, START + day * DAY) for day in range(4)]
    assert lengths == [600 * SECOND, 3600 * SECOND, None, None]


def test_a_block_is_remembered_from_its_end():
    """Exactly `remember` after its end it is forgotten, one microsecond earlier it is not."""
    lengths = (10 * SECOND, 100 * SECOND)
    for later, expected in ((69 * SECOND + SECOND - 1, 100), (70 * SECOND, 10)):
        jail = make_jail(escalate=lengths, remember=60 * SECOND)
        _blocked_for(jail, START)
        assert _blocked_for(jail, START + later) == expected * SECOND


def test_forged_evidence_moves_nobody_on():
    """Else anybody could have a stranger's next block last a week."""
    jail = make_jail(escalate=(600 * SECOND, 3600 * SECOND), spoofable_block_for=60 * SECOND)
    assert _blocked_for(jail, START, spoofable=True) == 60 * SECOND
    assert _blocked_for(jail, START + DAY) == 600 * SECOND
    assert _blocked_for(jail, START + 2 * DAY, spoofable=True) == 60 * SECOND
    assert _blocked_for(jail, START + 3 * DAY) == 3600 * SECOND


def test_a_release_by_hand_resets_the_lengths():
    """Who was released begins with the first length."""
    jail = make_jail(escalate=(600 * SECOND, 3600 * SECOND))
    _blocked_for(jail, START)
    jail.forget(parse_source("192.0.2.9"))
    assert _blocked_for(jail, START + DAY) == 600 * SECOND


def test_a_neighbour_in_the_prefix_takes_the_next_length():
    """Who changes the address within what it is counted by has not begun anew."""
    jail = make_jail(escalate=(600 * SECOND, 3600 * SECOND))
    first = judge(jail, make_event("2001:db8::1")).decision
    second = judge(jail, make_event("2001:db8::2", at=START + DAY)).decision
    assert [(block.step, block.key) for block in (first, second)] == [
        (1, "2001:db8::/64"),
        (2, "2001:db8::/64"),
    ]


def test_a_plain_block_moves_nobody_and_is_counted():
    """Without growing lengths there is no step; what a line does not say has a stand-in."""
    jail = make_jail()
    block = judge(jail, make_event()._replace(protocol=None)).decision
    assert (block.step, block.protocol, block.struck, block.key) == (0, "TCP", "", "192.0.2.9")
    assert judge(jail, make_event("192.0.2.8")._replace(protocol="UDP")).decision.protocol == "UDP"
    assert (jail.counters.blocks, jail.counters.strikes) == (2, 2)


def test_growing_lengths_are_forgotten_with_time_and_bounded(monkeypatch):
    """As many as the database keeps; a quiet moment drops what is over."""
    monkeypatch.setattr("correlator.counting.deciding._MOST_ESCALATED", 1)
    jail = make_jail(escalate=(SECOND, 60 * SECOND), remember=60 * SECOND)
    for number in (1, 2):
        judge(jail, make_event(f"192.0.2.{number}"))
    assert [
        judge(jail, make_event(f"192.0.2.{number}", at=START + 2)).decision.step for number in (1, 2)
    ] == [
        1,
        1,
    ]
    jail.advance(START + 120 * SECOND)
    assert len(jail._decider.escalation) == 0
