"""Windows against their definition: late, shuffled and repeated strikes, edges, and bounds."""

from hypothesis import given
from hypothesis import strategies as st

from correlator.windows import WindowTable

STRIKES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 3), st.sampled_from("abcd")), max_size=24)


def _measure(strikes, start, end, *, is_distinct):
    inside = [strike for strike in strikes if start < strike[0] <= end]
    return len({value for _, _, value in inside}) if is_distinct else sum(amount for _, amount, _ in inside)


def _decides(strikes, span, threshold, *, is_distinct):
    """The definition: some strike's window reaches the threshold."""
    return any(_measure(strikes, at - span, at, is_distinct=is_distinct) >= threshold for at, _, _ in strikes)


@given(STRIKES, st.integers(1, 20), st.integers(1, 8), st.booleans())
def test_in_order_it_decides_exactly_when_the_definition_does(strikes, span, threshold, is_distinct):
    """Each decision falls on the very strike that completes a window, and empties it."""
    table = WindowTable(span=span, threshold=threshold, is_distinct=is_distinct, max_keys=10)
    seen = []
    for strike in sorted(strikes, key=lambda item: item[0]):
        seen.append(strike)
        got = table.strike("k", *strike, strike).is_decided
        assert got == _decides(seen, span, threshold, is_distinct=is_distinct)
        if got:
            seen = []


@given(STRIKES.flatmap(st.permutations), st.integers(5, 60), st.integers(1, 8), st.booleans())
def test_shuffled_it_decides_if_any_order_would(shuffled, span, threshold, is_distinct):
    """Lines at most a span late are judged by their own time: order changes nothing."""
    table = WindowTable(span=span, threshold=threshold, is_distinct=is_distinct, max_keys=10)
    strikes = []
    for strike in shuffled:
        if strike[0] < max((at for at, _, _ in strikes), default=0) - span:
            continue  # later than we promise to be exact for
        strikes.append(strike)
        expected = _decides(strikes, span, threshold, is_distinct=is_distinct)
        assert table.strike("k", *strike, strike).is_decided == expected
        if expected:
            break


@given(STRIKES, st.integers(1, 20), st.booleans())
def test_the_decisive_strikes_fit_into_one_span(strikes, span, is_distinct):
    """The evidence of a decision is a real window: younger than span, and enough."""
    table = WindowTable(span=span, threshold=3, is_distinct=is_distinct, max_keys=10)
    for strike in strikes:
        reach = table.strike("k", *strike, strike)
        if reach.is_decided:
            times = [at for at, _, _ in reach.items]
            assert max(times) - min(times) < span
            assert _measure(reach.items, -1, 61, is_distinct=is_distinct) == reach.measure
            assert reach.measure >= 3


@given(st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=2), st.integers(0, 1000)), max_size=60))
def test_the_table_never_holds_more_keys_than_allowed(strikes):
    """A liar with many addresses cannot make it grow; what left is counted."""
    table = WindowTable(span=50, threshold=5, max_keys=3)
    for key, at in strikes:
        table.strike(key, at, 1, "", None)
        assert len(table) <= 3
    distinct = len({key for key, _ in strikes})
    assert table.evicted >= distinct - 3


@given(st.lists(st.integers(0, 200), min_size=50, max_size=200))
def test_repeating_one_value_does_not_fill_a_window(times):
    """A distinct count keeps few strikes of one value, however often it comes."""
    table = WindowTable(span=40, threshold=3, is_distinct=True, max_keys=3)
    for at in sorted(times):
        table.strike("k", at, 1, "same", None)
        assert len(table._keys["k"]) <= 5


def test_exactly_a_span_old_is_out():
    """The edge is decided: strikes younger than span count."""
    table = WindowTable(span=10, threshold=2, max_keys=3)
    table.strike("k", 0, 1, "", None)
    assert not table.strike("k", 10, 1, "", None).is_decided
    assert table.strike("k", 19, 1, "", None).is_decided


def test_an_idle_key_leaves_with_time():
    """Two spans after its last strike a key is forgotten."""
    table = WindowTable(span=10, threshold=2, max_keys=3)
    table.strike("k", 0, 1, "", None)
    table.advance(19)
    assert len(table) == 1
    table.advance(20)
    assert len(table) == 0
