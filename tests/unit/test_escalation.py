"""Growing lengths: what is remembered, for how long, and how much of it."""

import pytest

from correlator.counting.escalation import Escalation

HOUR = 3600


def _escalation(**settings):
    return Escalation((10, 100, None), **{"remember": HOUR, "most_keys": 3, **settings})


def test_the_key_that_was_blocked_longest_ago_leaves_first():
    """The memory is bounded, and what left is counted."""
    escalation = _escalation(most_keys=2)
    for key in ("a", "b", "a", "c"):
        escalation.record(key, escalation.next_step(key, 0), 10)
    assert [escalation.next_step(key, 11) for key in ("a", "b", "c")] == [3, 1, 2]
    assert (len(escalation), escalation.forgotten) == (2, 1)


def test_time_forgets_what_is_over():
    """Exactly `remember` after its end; what has no end stays."""
    escalation = _escalation()
    escalation.record("a", 1, 10)
    escalation.record("b", 3, None)
    escalation.advance(10 + HOUR - 1)
    assert len(escalation) == 2
    escalation.advance(10 + HOUR)
    assert len(escalation) == 1
    assert escalation.next_step("b", 10**18) == 3


def test_a_step_is_taken_back_once():
    """A block that failed leaves the key where it was before."""
    escalation = _escalation()
    escalation.record("a", 2, 10)
    escalation.take_back("a")
    assert escalation.next_step("a", 11) == 2
    escalation.take_back("a")
    escalation.take_back("nobody")
    assert (escalation.next_step("a", 11), len(escalation)) == (1, 0)


def test_a_step_past_the_last_length_is_the_last():
    """A site may have shortened its list since."""
    assert _escalation().length_of(9) is None


@pytest.mark.parametrize("settings", [{"most_keys": 0}, {"lengths": ()}])
def test_what_cannot_be_is_refused(settings):
    """Our own mistake raises."""
    lengths = settings.pop("lengths", (1,))
    with pytest.raises(ValueError, match="each at least 1"):
        Escalation(lengths, **{"remember": 1, "most_keys": 1, **settings})
