"""Windows against their definition: late, shuffled, repeated strikes, kinds, edges, who leaves, bounds."""

import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.counting.long_windows import LongWindow
from correlator.counting.spans import Row, Terms, reach_of_few
from correlator.counting.windows import WindowTable

STRIKES = st.lists(
    st.builds(Row, st.integers(0, 60), st.integers(1, 3), st.integers(0, 7), st.just(b"")), max_size=30
)
TERMS = st.builds(
    Terms,
    span=st.integers(5, 60),
    threshold=st.integers(1, 9),
    is_distinct=st.booleans(),
    needed=st.sampled_from([0, 0, 1, 3, 7]),
)


def _window(strikes, end, terms):
    """The definition: what is younger than span at an instant."""
    inside = [row for row in strikes if end - terms.span < row.at <= end]
    measure = (
        len({row.counted for row in inside}) if terms.is_distinct else sum(row.counted for row in inside)
    )
    kinds = 0
    for row in inside:
        kinds |= row.kinds
    return measure, kinds


def _is_reached(strikes, end, terms):
    measure, kinds = _window(strikes, end, terms)
    return measure >= terms.threshold and kinds & terms.needed == terms.needed


def _instants(strikes, row, terms):
    """The windows that a strike falls into, by their instants."""
    return sorted({other.at for other in strikes if row.at <= other.at < row.at + terms.span})


def _table(terms, **settings):
    return WindowTable(
        span=terms.span,
        threshold=terms.threshold,
        is_distinct=terms.is_distinct,
        needed=terms.needed,
        **{"max_keys": 10, **settings},
    )


def _strike(table, key, row):
    return table.strike(key, row.at, row.counted, row.item, kinds=row.kinds)


def _at_most_a_span_late(shuffled, terms):
    """What we promise to be exact for."""
    newest = 0
    for row in shuffled:
        if row.at >= newest - terms.span:
            newest = max(newest, row.at)
            yield row


@given(STRIKES, TERMS, st.sampled_from([1, 32]))
def test_in_order_it_decides_exactly_when_the_definition_does(strikes, terms, few):
    """Each decision falls on the very strike that completes a window; forgotten, the key begins anew."""
    table = _table(terms, few=few)
    seen = []
    for row in sorted(strikes):
        seen.append(row)
        reach = _strike(table, "k", row)
        assert reach.is_decided == _is_reached(seen, row.at, terms)
        if reach.is_decided:
            table.forget("k")
            seen = []


@given(STRIKES.flatmap(st.permutations), TERMS, st.sampled_from([1, 32]))
def test_late_and_shuffled_it_is_the_definition_of_every_window_a_strike_falls_into(shuffled, terms, few):
    """Also where nobody takes the decisions, and strikes that change nothing are dropped meanwhile."""
    table = _table(terms, few=few)
    seen = []
    for row in _at_most_a_span_late(shuffled, terms):
        seen.append(row)
        reach = _strike(table, "k", row)
        instants = _instants(seen, row, terms)
        assert reach.is_decided == any(_is_reached(seen, end, terms) for end in instants)
        furthest = max(_window(seen, end, terms)[0] for end in instants)
        if not reach.is_decided:
            assert min(reach.measure, terms.threshold) == min(furthest, terms.threshold)


@given(
    st.lists(
        st.builds(Row, st.integers(0, 400), st.integers(1, 6), st.integers(0, 3), st.just(b"")), max_size=90
    ),
    TERMS,
    st.integers(2, 9),
    st.integers(2, 20),
    st.booleans(),
)
def test_many_strikes_are_judged_as_few_are(strikes, terms, block, fewest, is_in_order):
    """Blocks that are split, thinned and dropped change no answer."""
    seen = []
    window = None
    for row in _at_most_a_span_late(sorted(strikes) if is_in_order else strikes, terms):
        seen.append(row)
        seen.sort(key=lambda other: other.at)
        if window is None:
            window = LongWindow(terms, [row], block=block, fewest=fewest)
            continue
        reach = window.strike(row)
        index = max(number for number, other in enumerate(seen) if other == row)
        expected = reach_of_few(seen, index, terms)
        assert reach.is_decided == expected.is_decided
        assert min(reach.measure, terms.threshold) == min(expected.measure, terms.threshold)
        held = len(list(window.rows(-1, window.newest)))
        assert (held, window.newest) == (len(window), seen[-1].at)


def _stream(seed, count, *, values, spread):
    """Return many strikes, some late by up to two thirds of 60, the same ones for the same seed."""
    at, found = 10_000, []
    for _ in range(count):
        seed = (seed * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 64)
        dice = [seed >> shift & 0xFFF for shift in (16, 28, 40, 52)]
        at += dice[0] % spread
        late = dice[1] % 40 if dice[1] & 1 else 0
        kinds = (0, 0, 0, 1, 2, 4)[dice[3] % 6]
        found.append(Row(at - late, 1 + dice[2] % values, kinds, b""))
    return found


@given(
    st.integers(0, 1 << 32),
    st.builds(
        Terms,
        span=st.integers(40, 60),
        threshold=st.integers(1, 60),
        is_distinct=st.booleans(),
        needed=st.sampled_from([0, 0, 3, 7]),
    ),
    st.integers(2, 30),
    st.tuples(st.integers(2, 9), st.integers(2, 150), st.integers(2, 6)),
)
def test_what_a_long_window_keeps_is_what_the_definition_says(seed, terms, values, shape):
    """Of every instant that a late strike may still change: what its window holds, and of which kinds."""
    block, fewest, spread = shape
    first, *others = _stream(seed, 150, values=values, spread=spread)
    window = LongWindow(terms, [first], block=block, fewest=fewest)
    seen = [first]
    for number, row in enumerate(others):
        seen.append(row)
        reach = window.strike(row)
        instants = _instants(seen, row, terms)
        assert reach.is_decided == any(_is_reached(seen, end, terms) for end in instants)
        if reach.is_decided:
            assert reach.end == next(end for end in instants if _is_reached(seen, end, terms))
        if number % 10 == 0:
            _check(window, seen, terms)


def _check(window, seen, terms):
    assert len(window) == sum(len(block.ats) for block in window._blocks)
    assert window._lasts == [block.ats[-1] for block in window._blocks]
    newest = max(row.at for row in seen)
    for block in window._blocks:
        assert block.best == max(block.sums)
        assert block.total == sum(block.counted)
        for at, kept in zip(block.ats, block.sums, strict=True):
            if at >= newest - terms.span:
                measure, kinds = _window(seen, at, terms)
                assert min(kept + block.added, terms.threshold) == min(measure, terms.threshold)
                assert window._kinds_at(at) == kinds
    assert all(row.at > newest - 3 * terms.span for block in window._blocks[1:] for row in block.rows(0, 1))


@given(STRIKES, TERMS)
def test_the_decisive_strikes_fit_into_one_span(strikes, terms):
    """The evidence of a decision is a real window: younger than span, and enough."""
    table = _table(terms)
    for row in strikes:
        reach = _strike(table, "k", row)
        if reach.is_decided:
            rows = table.rows("k", reach.end)
            assert rows[-1].at == reach.end
            assert reach.end - rows[0].at < terms.span
            assert _window(rows, reach.end, terms) == (reach.measure, reach.kinds)
            assert reach.measure >= terms.threshold
            table.forget("k")


@given(STRIKES, TERMS, st.integers(0, 120), st.sampled_from([1, 32]))
def test_between_strikes_a_window_is_measured_by_its_definition(strikes, terms, now, few):
    """`explain` and `why-not` say how far a key has come."""
    table = _table(terms, few=few)
    ordered = sorted(row for row in strikes if row.at <= now)
    for row in ordered:
        _strike(table, "k", row)
    measure = _window(ordered, now, terms)[0]
    assert min(table.measure("k", now), terms.threshold) == min(measure, terms.threshold)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["strike", "strike", "forget"])), max_size=60
    ),
    st.integers(1, 6),
)
def test_the_key_that_was_idle_longest_leaves_first(deeds, max_keys):
    """A liar with many addresses cannot make it grow, pushes out whoever is quiet, and is counted."""
    table = WindowTable(span=1000, threshold=99, max_keys=max_keys)
    expected = OrderedDict()
    evicted = 0
    for at, (key, deed) in enumerate(deeds):
        expected.pop(key, None)
        if deed == "forget":
            table.forget(key)
            continue
        table.strike(key, at, 1, b"")
        expected[key] = None
        if len(expected) > max_keys:
            expected.popitem(last=False)
            evicted += 1
        assert list(table) == list(expected)
        assert table.evicted == evicted


def test_more_keys_leave_than_one_look_finds():
    """The idlest are looked up for many at once; who strikes meanwhile is idle no longer."""
    table = WindowTable(span=10**9, threshold=99, max_keys=3000)
    for number in range(3000):
        table.strike(f"old{number}", number, 1, b"")
    for number in range(0, 3000, 2):
        table.strike(f"old{number}", 5000 + number, 1, b"")
        table.strike(f"new{number}", 5000 + number, 1, b"")
    assert table.evicted == 1500
    left = set(table)
    assert left == {f"{age}{number}" for number in range(0, 3000, 2) for age in ("old", "new")}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=80), st.integers(1, 20))
def test_the_strikes_of_all_keys_are_bounded(strikes, max_strikes):
    """A few keys with many strikes are no way round the bound; the newest key stays."""
    table = WindowTable(span=1000, threshold=99, max_keys=10, max_strikes=max_strikes)
    held = {}
    for key, at in strikes:
        table.strike(key, at, 1, b"")
        held[key] = held.get(key, 0) + 1
        held = {other: held[other] for other in table}
        assert key in held
        assert table.strikes == sum(max(count, 32) if count > 32 else count for count in held.values())
        assert table.strikes <= max_strikes or len(table) == 1


@pytest.mark.parametrize(
    ("terms", "values"),
    [
        (Terms(span=400, threshold=5, needed=1), 4),
        (Terms(span=400, threshold=1), 4),
        (Terms(span=10, threshold=1), 4),
        (Terms(span=10, threshold=5), 4),
        (Terms(span=400, threshold=5, is_distinct=True), 4),
        (Terms(span=400, threshold=5, is_distinct=True, needed=3), 4),
        (Terms(span=4000, threshold=60, is_distinct=True), 40),
    ],
)
def test_a_key_that_nobody_decides_holds_a_bounded_number_of_strikes(terms, values):
    """A kind that never comes, a breaker that stays open, values repeated for ever."""
    table = _table(terms)
    for at in range(5000):
        table.strike("k", at, 1 + at % values, b"", kinds=2)
        assert table.strikes <= 260


def test_a_long_window_shows_what_decided_however_late_it_is():
    """A log that was read late may hold enough by itself; its strikes are there to be shown."""
    terms = Terms(span=10, threshold=5)
    window = LongWindow(terms, [Row(at, 1, 0, b"") for at in range(1000, 1400, 4)], block=4)
    for at in (500, 501, 502):
        assert not window.strike(Row(at, 1, 0, b"")).is_decided
    reach = window.strike(Row(503, 2, 0, b""))
    assert (reach.is_decided, reach.end) == (True, 503)
    assert [row.at for row in window.rows(493, 503)] == [500, 501, 502, 503]


def test_the_strikes_of_a_time_are_those_after_it_and_until_its_end():
    """As a window has them: the beginning is out, the end is in."""
    window = LongWindow(Terms(span=999, threshold=999), [Row(at, 1, 0, b"") for at in range(100)], block=8)
    assert [row.at for row in window.rows(10, 20)] == list(range(11, 21))


def test_a_value_that_comes_twice_in_one_instant_is_one_with_both_kinds():
    """And its neighbour of the next instant stays what it is."""
    terms = Terms(span=10, threshold=9, is_distinct=True)
    window = LongWindow(terms, [Row(5, 7, 1, b""), Row(6, 7, 0, b"")])
    window.strike(Row(5, 7, 2, b""))
    assert [(row.at, row.kinds) for row in window.rows(0, 9)] == [(5, 3), (6, 0)]


def test_as_many_strikes_as_are_allowed_may_stay():
    """One more, and the idlest key leaves; the only key never does."""
    table = WindowTable(span=1000, threshold=99, max_keys=9, max_strikes=3)
    for at, key in enumerate("abc"):
        table.strike(key, at, 1, b"")
    assert (len(table), table.evicted) == (3, 0)
    table.strike("d", 4, 1, b"")
    assert (list(table), table.evicted) == (["b", "c", "d"], 1)
    alone = WindowTable(span=1000, threshold=99, max_keys=9, max_strikes=1)
    for at in range(3):
        alone.strike("a", at, 1, b"")
    assert (alone.strikes, alone.evicted) == (3, 0)


@given(st.lists(st.integers(0, 200), min_size=50, max_size=200))
def test_repeating_one_value_does_not_fill_a_window(times):
    """A distinct count keeps few strikes of one value, however often it comes."""
    table = WindowTable(span=40, threshold=3, is_distinct=True, max_keys=3)
    for at in sorted(times):
        table.strike("k", at, 1, b"")
        assert table.strikes <= 5


def test_exactly_a_span_old_is_out():
    """The edge is decided: strikes younger than span count."""
    table = WindowTable(span=10, threshold=2, max_keys=3)
    table.strike("k", 0, 1, b"")
    assert not table.strike("k", 10, 1, b"").is_decided
    assert table.strike("k", 19, 1, b"").is_decided


def test_exactly_two_spans_old_is_dropped():
    """No strike that may still come, a span late, has a window that reaches back to it."""
    table = WindowTable(span=10, threshold=9, max_keys=3)
    table.strike("k", 0, 1, b"")
    table.strike("k", 19, 1, b"")
    assert table.strikes == 2
    table.strike("k", 20, 1, b"")
    assert [row.at for row in table.rows("k", 9)] == []
    assert table.strikes == 2


@pytest.mark.parametrize("count", [1, 40])
def test_an_idle_key_leaves_with_time(count):
    """Two spans after its last strike a key is forgotten."""
    table = WindowTable(span=10, threshold=99, max_keys=3)
    for _ in range(count):
        table.strike("k", 0, 1, b"")
    table.advance(19)
    assert len(table) == 1
    table.advance(20)
    assert (len(table), table.strikes) == (0, 0)


def test_what_was_given_with_a_strike_comes_back():
    """In the order of time, with amounts and kinds, packed or not."""
    table = WindowTable(span=1000, threshold=999, max_keys=3)
    rows = [Row(at, at + 1, at % 8, b"%08d" % at) for at in range(40)]
    for row in reversed(rows[:20]):
        _strike(table, "k", row)
    assert table.rows("k", 99) == rows[:20]
    for row in reversed(rows[20:]):
        _strike(table, "k", row)
    assert table.rows("k", 99) == rows


def test_an_amount_beyond_all_bounds_is_as_good_as_the_highest():
    """A line may say that it was repeated ten thousand times, and weigh a million."""
    table = WindowTable(span=10, threshold=5, max_keys=3)
    assert table.strike("k", 0, 10**10, b"").measure == 2**32 - 1


@pytest.mark.parametrize("settings", [{"span": 0}, {"threshold": 0}, {"max_keys": 0}])
def test_what_cannot_be_is_refused(settings):
    """Our own mistake raises."""
    with pytest.raises(ValueError, match="each at least 1"):
        WindowTable(**{"span": 1, "threshold": 1, "max_keys": 1, **settings})


@pytest.mark.parametrize(
    ("key", "item"), [("192.0.{}.{}", b"12345678"), ("2001:db8:{:x}:{:x}::/64", b"x" * 17)]
)
def test_a_source_of_a_flood_costs_few_bytes(key, item):
    """A million of them stay under 300 MB, what Python itself needs for their table and names included."""
    table = WindowTable(span=1000, threshold=5, max_keys=100_000)
    tracemalloc.start()
    try:
        for number in range(20_000):
            table.strike(key.format(number >> 8, number & 255), number, 1, item)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used / len(table) < 230
