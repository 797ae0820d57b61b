"""Evidence that anybody can forge: it blocks briefly, and so many sources a minute."""

from correlator.counting.breaker import Breaker
from correlator.counting.jails import Key
from correlator.model import SECOND, Block, Ignore
from tests.unit.jail_events import START, judge, make_event, make_jail


def test_forged_evidence_gets_short_blocks():
    """A SYN proves nothing about its sender, so the block is short even where the jail says forever."""
    decision = judge(make_jail(block_for=None), make_event(spoofable=True)).decision
    assert decision.until == START + 600 * SECOND
    mixed = make_jail(block_for=None, threshold=2)
    judge(mixed, make_event(spoofable=True))
    assert judge(mixed, make_event(spoofable=False)).decision.until is None


def test_a_flood_of_forged_sources_opens_the_breaker_once():
    """Past the limit nothing more is denied in that minute; it is said once and detection goes on."""
    jail = make_jail(spoofable_a_minute=2)
    decisions = [
        judge(jail, make_event(f"198.51.100.{number}", spoofable=True, at=START + number)).decision
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
    later = judge(jail, make_event("198.51.100.99", spoofable=True, at=START + 61 * SECOND)).decision
    assert isinstance(later, Block)


def test_a_breaker_of_zero_admits_nothing():
    """A site may say that forged evidence never blocks."""
    assert not Breaker(0).admit(START)


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
    jail = make_jail(spoofable_a_minute=1, threshold=3)
    for at in range(3):
        judge(jail, make_event("198.51.100.1", spoofable=True, at=START + at))
        verdict = judge(jail, make_event("192.0.2.9", spoofable=True, at=START + at))
    assert (type(verdict.decision), verdict.is_settled) == (Ignore, False)
    assert verdict.note.startswith("3 of 3 strikes in 1h, kept back: breaker open")
    verdict = judge(jail, make_event("192.0.2.9", spoofable=True, at=START + 5))
    assert (verdict.decision, verdict.is_settled) == (None, False)
    later = judge(jail, make_event("192.0.2.9", spoofable=True, at=START + 62 * SECOND))
    assert (str(later.decision.source), later.decision.strikes, later.is_settled) == ("192.0.2.9", 5, True)
    assert (jail.counters.kept_back, jail.counters.breaker_opened) == (2, 1)


def test_proof_passes_the_open_breaker():
    """A flood of forged packets must not shield who completes a connection meanwhile, or did before."""
    jail = make_jail(spoofable_a_minute=0, threshold=2, block_for=None)
    assert judge(jail, make_event(spoofable=True)).decision is None
    assert isinstance(judge(jail, make_event(spoofable=True)).decision, Ignore)
    proven = judge(jail, make_event(spoofable=False)).decision
    assert (proven.is_spoofable, proven.until) == (False, None)
    assert judge(jail, make_event("192.0.2.8", spoofable=False)).decision is None
    assert judge(jail, make_event("192.0.2.8", spoofable=True)).decision.is_spoofable is False


def test_by_user_the_breaker_keeps_back_forged_strikers_only():
    """The others of the window are denied, and then it is used up."""
    jail = make_jail(key=Key.USER, threshold=2, spoofable_a_minute=0)
    judge(jail, make_event("192.0.2.1", user="root", spoofable=True))
    verdict = judge(jail, make_event("192.0.2.2", user="root"))
    assert [type(decision) for decision in verdict.decisions] == [Block, Ignore]
    assert verdict.is_settled
    judge(jail, make_event("192.0.2.1", user="root", spoofable=True))
    verdict = judge(jail, make_event("192.0.2.3", user="root", spoofable=True))
    assert (verdict.decisions, verdict.is_settled) == ((), False)
