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
