"""What strikes are counted by: a prefix, an account, a destination, and who is denied then."""

from correlator.counting.jails import Count, Key
from correlator.model import SECOND, Block, parse_source
from tests.unit.jail_events import START, judge, make_event, make_jail


def test_neighbours_in_one_prefix_are_counted_together_and_denied_together():
    """Who changes the address within a /64 is one attacker; who does not loses one address."""
    jail = make_jail(threshold=2)
    judge(jail, make_event("2001:db8::1"))
    decision = judge(jail, make_event("2001:db8::2")).decision
    assert str(decision.source) == "2001:db8::/64"
    judge(jail, make_event("2001:db8:1::1"))
    assert str(judge(jail, make_event("2001:db8:1::1")).decision.source) == "2001:db8:1::1"


def test_by_prefix_neighbours_add_up_and_the_prefix_is_denied():
    """One scanner spread over a /24 is one key; where a single address struck, only that is denied."""
    jail = make_jail(key=Key.PREFIX, prefix4=24, threshold=2)
    judge(jail, make_event("192.0.2.9"))
    assert str(judge(jail, make_event("192.0.2.77")).decision.source) == "192.0.2.0/24"
    judge(jail, make_event("198.51.100.7"))
    assert str(judge(jail, make_event("198.51.100.7")).decision.source) == "198.51.100.7"


def test_by_user_every_source_that_struck_is_denied():
    """Many sources that try one account are one attack, though none of them came twice."""
    jail = make_jail(key=Key.USER, threshold=3)
    assert judge(jail, make_event("192.0.2.1", user="root")).decision is None
    assert judge(jail, make_event("192.0.2.2", user="mail")).note == "1 of 3 strikes in 1h"
    assert judge(jail, make_event("192.0.2.3", user="root", at=START + 1)).decision is None
    verdict = judge(jail, make_event("192.0.2.4", user="root", at=START + 2))
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.4", "192.0.2.3", "192.0.2.1"]
    assert {(block.struck, block.strikes, len(block.evidence)) for block in verdict.decisions} == {
        ("root", 3, 3)
    }
    assert len({block.request for block in verdict.decisions}) == 3


def test_by_user_a_source_that_is_denied_meanwhile_is_left_alone():
    """Another jail may have been quicker."""
    jail = make_jail(key=Key.USER, threshold=2)
    judge(jail, make_event("192.0.2.1", user="root"))
    verdict = jail.judge(
        make_event("192.0.2.2", user="root"),
        ignored_by=lambda _source: None,
        is_denied=lambda source: str(source) == "192.0.2.1",
    )
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.2"]


def test_by_user_forged_and_proven_strikes_are_told_apart_by_source():
    """Whoever forges a strike beside a real attack must not get its victim a long block."""
    jail = make_jail(key=Key.USER, threshold=2, block_for=None)
    judge(jail, make_event("192.0.2.1", user="root", spoofable=True))
    verdict = judge(jail, make_event("192.0.2.2", user="root"))
    assert [(str(block.source), block.until) for block in verdict.decisions] == [
        ("192.0.2.2", None),
        ("192.0.2.1", START + 600 * SECOND),
    ]


def test_one_decision_denies_a_bounded_number_of_sources():
    """A window over an account may hold any number; the newest are denied, the rest is counted."""
    jail = make_jail(key=Key.USER, threshold=70, max_sources=9)
    for number in range(69):
        judge(jail, make_event(f"192.0.2.{number}", user="root", at=START + number))
    verdict = judge(jail, make_event("198.51.100.1", user="root", at=START + 99))
    assert [str(block.source) for block in verdict.decisions][:2] == ["198.51.100.1", "192.0.2.68"]
    assert (len(verdict.decisions), jail.counters.left_out) == (64, 6)


def test_by_destination_the_address_is_the_key_and_without_one_the_port():
    """What was struck, as far as the line says it."""
    jail = make_jail(key=Key.DESTINATION)
    assert judge(jail, make_event(port=22, destination="203.0.113.1")).key == "203.0.113.1"
    assert judge(jail, make_event(port=22)).key == "22"
    assert judge(jail, make_event(port=None)).note == "not counted: the line names no destination"


def test_a_key_that_a_stranger_types_is_bounded():
    """An account's name is as long as the stranger likes."""
    assert len(judge(make_jail(key=Key.USER, threshold=2), make_event(user="x" * 8000)).key) == 255


def test_distinct_sources_are_counted_as_they_would_be_denied():
    """Who has a /64 is one source, and an address is one however it is spelled."""
    jail = make_jail(key=Key.USER, count=Count.DISTINCT, field="source", threshold=2)
    for source in ("2001:db8::1", "2001:db8:0::2", "2001:db8::3"):
        assert judge(jail, make_event(source, user="root")).decision is None
    assert len(judge(jail, make_event("192.0.2.1", user="root")).decisions) == 2


def test_by_user_a_released_source_is_not_denied_for_what_it_did_before():
    """It counts for the account that was tried, and its new strikes count for itself."""
    jail = make_jail(key=Key.USER, threshold=3)
    judge(jail, make_event("192.0.2.1", user="root"))
    judge(jail, make_event("192.0.2.2", user="root"))
    jail.forget(parse_source("192.0.2.1"))
    verdict = judge(jail, make_event("192.0.2.3", user="root"))
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.3", "192.0.2.2"]
    for number in (1, 2, 3):
        verdict = judge(jail, make_event(f"192.0.2.{number}", user="root", at=START + 1))
    assert len(verdict.decisions) == 3


def test_a_name_with_stray_bytes_is_the_same_after_a_restart():
    """SQLite takes no half characters, and an account must not have two windows."""
    jail = make_jail(key=Key.USER, count=Count.DISTINCT, field="tool", threshold=2)
    strike = judge(jail, make_event(user="r\udcffot", tool="\udcfe")).strike
    assert (strike.key, strike.value) == ("r\\udcffot", "\\udcfe")


def test_a_jail_takes_back_strikes_under_its_present_prefixes():
    """The site may have changed them while we were away."""
    old = judge(make_jail(threshold=2), make_event("2001:db8::1")).strike
    jail = make_jail(threshold=2, prefix6=128)
    verdict = jail.count_again(old, is_denied=lambda _source: False)
    assert verdict.key == "2001:db8::1"
    assert isinstance(judge(jail, make_event("2001:db8::1")).decision, Block)


def test_by_user_a_window_of_denied_sources_is_used_up():
    """Nobody is left to decide on; it must not be looked at again with every strike."""
    jail = make_jail(key=Key.USER, threshold=2)
    judge(jail, make_event("192.0.2.1", user="root"))
    judge(jail, make_event("192.0.2.1", user="mail"))
    jail.forget(parse_source("192.0.2.1"))
    jail.forget(parse_source("192.0.2.2"))
    strike = judge(make_jail(key=Key.USER, threshold=9), make_event("192.0.2.1", user="root")).strike
    verdict = jail.count(strike, is_denied=lambda _source: True)
    assert (verdict.decisions, verdict.is_settled, len(jail.windows)) == ((), True, 1)


def test_only_so_many_releases_are_remembered(monkeypatch):
    """The one that was released longest ago is forgotten, and who is released again is the latest."""
    monkeypatch.setattr("correlator.counting.deciding._MOST_FORGIVEN", 2)
    jail = make_jail(key=Key.USER, threshold=5)
    for number in (1, 2, 3):
        judge(jail, make_event(f"192.0.2.{number}", user="root"))
    for number in (1, 2, 1, 3):
        jail.forget(parse_source(f"192.0.2.{number}"))
    judge(jail, make_event("192.0.2.4", user="root"))
    verdict = judge(jail, make_event("192.0.2.5", user="root"))
    assert [str(block.source) for block in verdict.decisions] == ["192.0.2.5", "192.0.2.4", "192.0.2.2"]
