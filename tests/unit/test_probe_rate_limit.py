"""Never more than the limit in any second, and nothing left out is left unsaid."""

from correlator.model import SECOND
from correlator.probe.rate_limit import RateLimit


def test_the_limit_holds_in_any_second_not_only_in_whole_ones() -> None:
    """A burst at the end of one second and another at the start of the next would double a bucket."""
    limit = RateLimit(3)
    times = [900_000, 900_001, 900_002, 900_003, 1_100_000, 1_900_000 - 1, 1_900_000, 1_900_001]
    expected = [True, True, True, False, False, False, True, True]
    assert expected == [limit.admits(now) for now in times]


def test_what_was_left_out_is_said_once_its_second_is_over() -> None:
    """The count, once, and the next flood counts anew."""
    limit = RateLimit(1)
    assert limit.next_due() is None
    assert [limit.admits(now) for now in (0, 10, 20)] == [True, False, False]
    assert limit.next_due() == 10 + SECOND
    assert limit.take_left_out(9 + SECOND) == 0
    assert limit.take_left_out(10 + SECOND) == 2
    assert limit.take_left_out(11 + SECOND) == 0
    assert limit.next_due() is None


def test_a_limit_of_nothing_still_lets_one_line_through() -> None:
    """Zero would silence the probe for good."""
    limit = RateLimit(0)
    assert [limit.admits(0), limit.admits(1)] == [True, False]


def test_one_source_alone_leaves_a_quarter_to_others() -> None:
    """Who floods, blocked or not, keeps no line of another out; who has had few gets the kept ones."""
    limit = RateLimit(80, is_shared=True)
    flood, other, third = b"\xc0\0\2\1", b"\xc0\0\2\2", b"\xc0\0\2\3"
    assert sum(limit.admits(number, flood) for number in range(1000)) == 60
    assert [limit.admits(1000, other) for _ in range(3)] == [True, True, False]
    assert [limit.admits(1000, third) for _ in range(3)] == [True, True, False]
    assert limit.take_left_out(60 + SECOND) == 940 + 1 + 1


def test_all_together_keep_to_the_limit() -> None:
    """A thousand senders, each with few lines, as a flood of forged ones is."""
    limit = RateLimit(80, is_shared=True)
    assert sum(limit.admits(0, number.to_bytes(4)) for number in range(1000)) == 80


def test_who_has_a_network_of_ipv6_is_one_source() -> None:
    """Each address of a /64 is the same host's for the asking; the next /64 is another's."""
    limit = RateLimit(80, is_shared=True)
    network = bytes.fromhex("20010db800000001")
    assert sum(limit.admits(0, network + number.to_bytes(8)) for number in range(1000)) == 60
    assert limit.admits(0, bytes.fromhex("20010db800000002") + bytes(8))


def test_a_place_given_back_is_free_for_its_source_too() -> None:
    """Lines that came to nothing are no lines."""
    limit = RateLimit(80, is_shared=True)
    for number in range(60):
        assert limit.admits(0, number.to_bytes(4))
    for _ in range(10):
        assert limit.admits(0, b"\xc0\0\2\1")
        limit.give_back()
    assert [limit.admits(0, b"\xc0\0\2\1") for _ in range(3)] == [True, True, False]
