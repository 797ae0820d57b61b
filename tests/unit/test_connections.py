"""Lines of one connection count together: what follows from which order of them."""

from correlator.matching.connections import Connections
from correlator.model import SECOND

ADDRESS = {"ip4": "192.0.2.1"}


def _merge(connections, *matches, name="[1]"):
    """Feed matches one second apart; return what each led to."""
    return [
        connections.merge(name, fields, f"line {number}", number * SECOND)
        for number, fields in enumerate(matches, start=1)
    ]


def test_a_failure_without_an_address_waits_for_the_line_that_brings_it():
    """`Too many failures` first, `Connection closed by ADDRESS` later: one failure, with both lines."""
    first, second = _merge(Connections(), {"user": "a"}, {**ADDRESS, "nofail": "x", "mlfforget": "y"})
    assert first is None
    assert second.fields == {"user": "a", **ADDRESS}
    assert second.lines == ("line 1", "line 2")


def test_information_is_no_failure_and_is_remembered():
    """`Connection from ADDRESS` gives the later failure its address and its evidence."""
    first, second = _merge(Connections(), {**ADDRESS, "nofail": "x"}, {"user": "a"})
    assert first is None
    assert second.fields == {**ADDRESS, "user": "a"}
    assert second.lines == ("line 1", "line 2")


def test_what_was_reported_is_not_reported_again():
    """Each failure carries the lines since the last."""
    found = _merge(Connections(), {**ADDRESS, "user": "a"}, {**ADDRESS, "user": "a"})
    assert [failure.lines for failure in found] == [("line 1",), ("line 2",)]


def test_a_good_login_of_another_user_does_not_wash_failures_away():
    """Whoever has one account could otherwise guess the passwords of all."""
    gained = {**ADDRESS, "mlfgained": "x"}
    assert _merge(Connections(), {**ADDRESS, "user": "a"}, {**gained, "user": "a"})[1] is None
    assert _merge(Connections(), {**ADDRESS, "user": "a"}, {**gained, "user": "b"})[1] is not None


def test_a_connection_that_ended_is_forgotten():
    """Its number will be given to another."""
    connections = Connections()
    _merge(connections, {**ADDRESS, "nofail": "x"}, {"nofail": "x", "mlfforget": "y"})
    assert len(connections) == 0
    assert _merge(connections, {"user": "a"}) == [None]


def test_connections_are_forgotten_after_five_minutes_and_above_a_hundred():
    """A stranger who opens connections must not fill our memory, nor keep a number for ever."""
    connections = Connections()
    for number in range(300):
        connections.merge(str(number), {**ADDRESS, "nofail": "x"}, "line", SECOND)
    assert len(connections) == 100
    assert connections.merge("299", {"user": "a"}, "line", 302 * SECOND) is None
    assert len(connections) == 1
