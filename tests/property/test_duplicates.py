"""One message by several ways is one; several from one origin are several; and memory is bounded."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from correlator.lines.duplicates import Duplicates
from correlator.model import SECOND

MESSAGES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.integers(0, 6)), max_size=20)


def _take(duplicates, origin, message, *, late=0, times=1):
    body, pid, second = message
    at = 10**15 + second * SECOND + late
    return duplicates.take(origin, identifier="sshd", pid=pid, body=body, at=at, times=times)


@given(MESSAGES, st.integers(1, 4), st.data())
def test_what_every_origin_has_is_counted_once_each(messages, origins, data):
    """In any interleaving, as long as each origin keeps the order."""
    queues = {origin: sorted(messages, key=lambda message: message[2]) for origin in range(origins)}
    duplicates = Duplicates()
    counted = Counter()
    while queues:
        origin = data.draw(st.sampled_from(sorted(queues)))
        if not queues[origin]:
            del queues[origin]
            continue
        message = queues[origin].pop(0)
        counted[message] += _take(duplicates, f"o{origin}", message)
    assert counted == Counter(messages)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=6), st.integers(1, 5))
def test_a_stamp_may_fall_into_the_next_second(late, count):
    """The journal receives a message before the edge of a second, and rsyslog stamps it after it."""
    duplicates = Duplicates()
    counted = [
        _take(duplicates, f"o{origin}", ("a", str(pid), 0), late=later * SECOND)
        for origin, later in enumerate(late)
        for pid in range(count)
    ]
    assert sum(counted) == count


@given(MESSAGES)
def test_from_one_origin_everything_counts(messages):
    """Twice in one file is twice."""
    duplicates = Duplicates()
    assert all(_take(duplicates, "file", message) == 1 for message in messages)


@given(st.lists(st.tuples(st.sampled_from(["file", "journal"]), st.integers(0, 5)), max_size=30))
def test_a_message_was_said_as_often_as_the_origin_says_that_has_it_most_often(arrivals):
    """Never less than any origin has, never more than all together."""
    duplicates = Duplicates()
    counted = sum(_take(duplicates, origin, ("a", "1", second)) for origin, second in arrivals)
    most = Counter(origin for origin, _ in arrivals)
    assert max(most.values(), default=0) <= counted <= len(arrivals)


@given(st.lists(st.tuples(st.sampled_from(["file", "journal"]), st.integers(1, 9)), max_size=12))
def test_in_one_second_it_is_exactly_the_most(arrivals):
    """Also where a line says that it was repeated."""
    duplicates = Duplicates()
    counted = sum(_take(duplicates, origin, ("a", "1", 0), times=times) for origin, times in arrivals)
    totals = Counter()
    for origin, times in arrivals:
        totals[origin] += times
    assert counted == max(totals.values(), default=0)


@given(st.lists(st.integers(0, 99), max_size=60), st.integers(1, 5))
def test_memory_is_bounded_and_keeps_the_latest(bodies, most):
    """A stranger who says ever new things pushes out old ones only."""
    duplicates = Duplicates(most=most)
    for number, body in enumerate(bodies):
        assert _take(duplicates, "file", (str(body), str(number), 0)) == 1
        assert len(duplicates) <= most
    for number in range(max(0, len(bodies) - most), len(bodies)):
        assert _take(duplicates, "journal", (str(bodies[number]), str(number), 0)) == 0


def test_stamps_two_seconds_apart_are_two_messages():
    """The edge: the next second is the same, the one after it is not."""
    duplicates = Duplicates()
    assert [_take(duplicates, "file", ("a", "1", 0)), _take(duplicates, "journal", ("a", "1", 2))] == [1, 1]
    assert _take(duplicates, "syslog", ("a", "1", 1)) == 0


def test_who_said_it_matters():
    """Another process, or other words, is another message; lines of no program are never the same."""
    duplicates = Duplicates()
    told = {"identifier": "sshd", "pid": "1", "body": "x", "at": 0}
    assert duplicates.take("file", **told) == 1
    for change in ({"identifier": "su"}, {"pid": "2"}, {"body": "y"}, {"identifier": ""}, {"identifier": ""}):
        assert duplicates.take("journal", **(told | change)) == 1
    assert duplicates.take("journal", **told) == 0
