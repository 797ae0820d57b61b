"""Enough denied neighbours make their network the one that is denied."""

from hypothesis import given
from hypothesis import strategies as st

from correlator.counting.jails import Jail, JailDefinition
from correlator.counting.neighbours import Neighbours
from correlator.model import SECOND, Event, Evidence, parse_prefix, parse_source

HOUR = 3600 * SECOND


def widen(neighbours, source, at=0, until=HOUR):
    """What is denied in the place of a source, as text."""
    return str(neighbours.widen(parse_prefix(source), at, until))


def test_the_third_neighbour_makes_it_the_network():
    """And it begins anew after that; other networks are counted by themselves."""
    neighbours = Neighbours(3)
    assert widen(neighbours, "198.51.100.1") == "198.51.100.1"
    assert widen(neighbours, "198.51.101.2") == "198.51.101.2"
    assert widen(neighbours, "198.51.100.2") == "198.51.100.2"
    assert widen(neighbours, "198.51.100.3") == "198.51.100.0/24"
    assert widen(neighbours, "198.51.100.4") == "198.51.100.4"


def test_the_same_source_counts_once():
    """However often it is denied."""
    neighbours = Neighbours(2)
    assert [widen(neighbours, "198.51.100.1") for _ in range(5)] == ["198.51.100.1"] * 5


def test_who_is_denied_no_longer_counts_no_longer():
    """Over by its time, exactly then; or released."""
    neighbours = Neighbours(2)
    widen(neighbours, "198.51.100.1", until=HOUR)
    assert widen(neighbours, "198.51.100.2", at=HOUR, until=2 * HOUR) == "198.51.100.2"
    neighbours.forget(parse_prefix("198.51.100.2"))
    neighbours.forget(parse_prefix("203.0.113.1"))
    assert widen(neighbours, "198.51.100.3", at=HOUR, until=None) == "198.51.100.3"
    assert widen(neighbours, "198.51.100.4", at=100 * HOUR, until=None) == "198.51.100.0/24"


def test_ipv6_neighbours_share_a_wider_network():
    """A /64 is one customer's; what is as wide as the network is never widened."""
    neighbours = Neighbours(2)
    widen(neighbours, "2001:db8:1:1::/64")
    assert widen(neighbours, "2001:db8:1:2::/64") == "2001:db8:1::/48"
    assert widen(neighbours, "2001:db8:2::/48") == "2001:db8:2::/48"
    assert widen(neighbours, "198.51.100.0/24") == "198.51.100.0/24"


@given(st.lists(st.integers(0, 1 << 16), max_size=300))
def test_the_table_is_bounded(numbers):
    """Whatever comes: a network more and the one heard of longest ago leaves."""
    neighbours = Neighbours(3, most=5)
    for number in numbers:
        widen(neighbours, f"10.{number >> 8 & 255}.{number & 255}.{number % 7}", until=None)
        assert len(neighbours) <= 5


def test_a_jail_denies_the_network_beside_its_last_member():
    """Two decisions: the network's may be refused, for somebody in it; the source's own stands."""
    jail = Jail(JailDefinition(name="scan", where="", filters=("f",), merge_at=3), max_sources=100)
    found = [judge(jail, f"198.51.100.{number}", number) for number in range(1, 5)]
    assert found == [
        ["198.51.100.1"],
        ["198.51.100.2"],
        ["198.51.100.3", "198.51.100.0/24"],
        ["198.51.100.4"],
    ]


def test_forged_neighbours_have_nobodys_network_denied():
    """Or a few packets would cut off a whole provider."""
    jail = Jail(JailDefinition(name="scan", where="", filters=("f",), merge_at=2), max_sources=100)
    found = [judge(jail, f"198.51.100.{number}", number, is_spoofable=True) for number in range(1, 5)]
    assert found == [[f"198.51.100.{number}"] for number in range(1, 5)]


def test_neighbours_are_known_after_a_restart():
    """From the blocks that are in force; one that was released counts no longer."""
    definition = JailDefinition(name="scan", where="", filters=("f",), merge_at=3)
    jail = Jail(definition, max_sources=100)
    blocks = [block for number in (1, 2) for block in decide(jail, f"198.51.100.{number}", number)]
    again = Jail(definition, max_sources=100)
    again.restore(blocks, [])
    assert judge(again, "198.51.100.3", 3) == ["198.51.100.3", "198.51.100.0/24"]
    once_more = Jail(definition, max_sources=100)
    once_more.restore(blocks, [])
    once_more.forget(parse_prefix("198.51.100.1"))
    assert judge(once_more, "198.51.100.3", 3) == ["198.51.100.3"]


def decide(jail, source, at, *, is_spoofable=False):
    """What a jail decides over one event."""
    line = Evidence(at * SECOND, "log", 0, "line")
    event = Event(at * SECOND, "f", "p", parse_source(source), line, is_spoofable=is_spoofable)
    return jail.judge(event, ignored_by=lambda _: None, is_denied=lambda _: False).decisions


def judge(jail, source, at, **more):
    """The same as the sources that are denied."""
    return [str(block.source) for block in decide(jail, source, at, **more)]
