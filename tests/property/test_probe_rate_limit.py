"""The rate limit against its definition."""

from hypothesis import given
from hypothesis import strategies as st

from correlator.model import SECOND
from correlator.probe.rate_limit import RateLimit


@given(
    st.integers(1, 5), st.lists(st.tuples(st.integers(0, 400_000), st.sampled_from([0, 0, 1])), max_size=60)
)
def test_a_line_is_admitted_where_fewer_than_the_limit_were_in_the_second_before(
    size: int, gaps: list[tuple[int, int]]
) -> None:
    """Exactly so, and every line is either admitted or counted as left out; what is given back never was."""
    limit = RateLimit(size)
    admitted: list[int] = []
    now = said = offered = 0
    for gap, is_given_back in gaps:
        now += gap
        said += limit.take_left_out(now)
        expected = sum(now - at < SECOND for at in admitted) < size
        offered += 1
        assert expected == limit.admits(now)
        if expected and is_given_back:
            limit.give_back()
            offered -= 1
        elif expected:
            admitted.append(now)
    said += limit.take_left_out(now + 2 * SECOND)
    assert offered == len(admitted) + said


@given(
    st.integers(1, 90),
    st.lists(st.tuples(st.integers(0, 60_000), st.sampled_from(["a", "b", "c"])), max_size=200),
)
def test_a_shared_limit_is_its_definition(size: int, offered: list[tuple[int, str]]) -> None:
    """Fewer than three quarters are taken, or less than all and this source has had few."""
    limit = RateLimit(size, is_shared=True)
    admitted: list[tuple[int, str]] = []
    now = 0
    for gap, source in offered:
        now += gap
        lately = [name for at, name in admitted if now - at < SECOND]
        is_few = lately.count(source) < max(1, size // 40)
        expected = len(lately) < size - size // 4 or (len(lately) < size and is_few)
        assert expected == limit.admits(now, source.encode())
        if expected:
            admitted.append((now, source))
