"""Plans: what a request comes to, what the kernel must change, how belief and kernel differ."""

import pytest

from correlator.enforcer import plans
from correlator.enforcer.plans import (
    MAX_CARVED,
    Add,
    Belief,
    Change,
    Drift,
    Exists,
    Extend,
    Plan,
    Refuse,
    Until,
    compare,
    flatten,
    kernel_view,
    plan_block,
    plan_change,
)
from correlator.model import SECOND, Source, parse_prefix

NOW = 1_000 * SECOND
SOON = NOW + 60 * SECOND
LATER = NOW + 600 * SECOND
SOURCE = parse_prefix("192.0.2.9")
FLOOR = "the widest prefix that may be blocked"
PREFIX = parse_prefix("192.0.2.0/24")


def believe(blocks: dict[str, Until]) -> Belief:
    """Return a belief from text."""
    return Belief((parse_prefix(text), until) for text, until in blocks.items())


@pytest.mark.parametrize(
    ("belief", "source", "until", "plan"),
    [
        ({}, "192.0.2.9", SOON, Add()),
        ({}, "192.0.2.9", None, Add()),
        ({}, "192.0.2.9", NOW, Refuse("its time was over before it could be carried out")),
        ({"192.0.2.9": SOON}, "192.0.2.9", SOON, Exists(SOURCE, SOON)),
        ({"192.0.2.9": LATER}, "192.0.2.9", SOON, Exists(SOURCE, LATER)),
        ({"192.0.2.9": None}, "192.0.2.9", LATER, Exists(SOURCE, None)),
        ({"192.0.2.9": LATER}, "192.0.2.9", None, Extend(LATER)),
        ({"192.0.2.9": SOON}, "192.0.2.9", LATER, Extend(SOON)),
        ({"192.0.2.0/24": LATER}, "192.0.2.9", SOON, Exists(PREFIX, LATER)),
        ({"192.0.2.0/24": SOON}, "192.0.2.9", LATER, Add()),
        ({"192.0.2.9": SOON}, "192.0.2.0/24", LATER, Add((SOURCE,))),
        ({"192.0.2.9": LATER}, "192.0.2.0/24", SOON, Add()),
        ({"192.0.2.0/24": SOON, "192.0.2.9": LATER}, "192.0.2.0/24", LATER, Extend(SOON, (SOURCE,))),
        ({"192.0.3.9": SOON}, "192.0.2.0/24", LATER, Add()),
        ({"2001:db8::1": SOON}, "2001:db8::/64", LATER, Add((parse_prefix("2001:db8::1"),))),
        ({}, "192.0.0.0/16", SOON, Add()),
        ({}, "192.0.0.0/15", SOON, Refuse(f"192.0.0.0/15 is wider than /16, {FLOOR}")),
        ({}, "2001:db8::/31", SOON, Refuse(f"2001:db8::/31 is wider than /32, {FLOOR}")),
    ],
)  # fmt: skip
def test_plan_block(belief: dict[str, Until], source: str, until: Until, plan: Plan) -> None:
    """Denied long enough exists; not long enough is extended; what is covered and outlasted is swallowed."""
    assert plan_block(believe(belief), parse_prefix(source), until, NOW) == plan


def test_a_prefix_is_not_carved_without_end() -> None:
    """Thousands of longer blocks inside a wide prefix would make as many pieces: refused."""
    belief = believe({f"2001:db8:0:{index:x}::/64": None for index in range(MAX_CARVED + 1)})
    plan = plan_block(belief, parse_prefix("2001:db8::/48"), SOON, NOW)
    assert isinstance(plan, Refuse)


@pytest.mark.parametrize(
    ("belief", "put", "drop", "add", "remove"),
    [
        ({}, {"192.0.2.9": SOON}, [], {"192.0.2.9": SOON}, []),
        ({"192.0.2.9": SOON}, {"192.0.2.9": LATER}, [], {"192.0.2.9": LATER}, []),
        ({"192.0.2.9": SOON}, {}, ["192.0.2.9"], {}, ["192.0.2.9"]),
        ({"192.0.2.9": SOON}, {"192.0.2.0/24": LATER}, ["192.0.2.9"], {"192.0.2.0/24": LATER}, ["192.0.2.9"]),
        # A prefix whose end moves is taken out and put in again: the kernel takes no second one.
        ({"192.0.2.0/24": SOON}, {"192.0.2.0/24": LATER}, [], {"192.0.2.0/24": LATER}, ["192.0.2.0/24"]),
        # A longer one inside a shorter one: two halves that do not overlap.
        (
            {"192.0.2.0/24": SOON},
            {"192.0.2.128/25": LATER},
            [],
            {"192.0.2.0/25": SOON, "192.0.2.128/25": LATER},
            ["192.0.2.0/24"],
        ),
        # And one again when the inner one is released.
        (
            {"192.0.2.0/24": SOON, "192.0.2.128/25": LATER},
            {},
            ["192.0.2.128/25"],
            {"192.0.2.0/24": SOON},
            ["192.0.2.0/25", "192.0.2.128/25"],
        ),
        # A shorter one inside a longer one changes nothing until the longer one goes.
        ({"192.0.2.0/24": LATER, "192.0.2.128/25": SOON}, {}, ["192.0.2.128/25"], {}, []),
        (
            {"192.0.2.0/24": LATER, "192.0.2.128/25": SOON},
            {},
            ["192.0.2.0/24"],
            {"192.0.2.128/25": SOON},
            ["192.0.2.0/24"],
        ),
    ],
)
def test_plan_change(
    belief: dict[str, Until], put: dict[str, Until], drop: list[str], add: dict[str, Until], remove: list[str]
) -> None:
    """What the kernel must change is as little as possible, and never overlaps."""
    change = plan_change(
        believe(belief),
        {parse_prefix(text): until for text, until in put.items()},
        [parse_prefix(text) for text in drop],
    )
    assert {str(source): until for source, until in change.add} == add
    assert sorted(map(str, change.remove)) == remove


def test_nothing_to_change_is_nothing() -> None:
    """Releasing who is not denied asks nothing of the kernel."""
    assert plan_change(Belief(), {}, [SOURCE]) == Change()


def test_flatten_keeps_the_longest_around_every_address() -> None:
    """Three prefixes in each other; each address ends with the longest one around it."""
    prefixes = {"10.0.0.0/16": SOON, "10.0.0.0/18": LATER, "10.0.0.0/24": SOON + 1, "10.0.128.0/24": None}
    flat = flatten({parse_prefix(text): until for text, until in prefixes.items()})
    for address, until in (
        ("10.0.0.1", LATER),
        ("10.0.63.255", LATER),
        ("10.0.64.0", SOON),
        ("10.0.128.77", None),
        ("10.0.129.0", SOON),
        ("10.0.255.255", SOON),
    ):
        around = [piece for piece in flat if piece.covers(parse_prefix(address))]
        assert [flat[piece] for piece in around] == [until]


def test_compare_tells_what_lacks_what_is_too_much_and_what_is_off() -> None:
    """Two seconds are no difference; what ends within them is left to the kernel."""
    desired = kernel_view(
        believe({"10.0.0.1": SOON, "10.0.0.2": LATER, "10.0.0.3": None, "10.0.0.4": NOW + SECOND})
    )
    kernel: dict[Source, Until] = {
        parse_prefix("10.0.0.1"): SOON - 2 * SECOND,
        parse_prefix("10.0.0.2"): LATER - 3 * SECOND,
        parse_prefix("10.0.0.5"): None,
        parse_prefix("10.0.0.6"): NOW + SECOND,
    }
    drift = compare(desired, kernel, NOW)
    assert drift == Drift(
        add=((parse_prefix("10.0.0.3"), None),),
        remove=(parse_prefix("10.0.0.5"),),
        refresh=((parse_prefix("10.0.0.2"), LATER),),
    )
    assert drift
    assert not compare(desired, dict(desired), NOW)


def test_a_permanent_element_is_not_a_timed_one() -> None:
    """Neither stands for the other."""
    assert compare({SOURCE: None}, {SOURCE: LATER}, NOW).refresh == ((SOURCE, None),)
    assert compare({SOURCE: LATER}, {SOURCE: None}, NOW).refresh == ((SOURCE, LATER),)


def test_so_many_blocks_are_in_force_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of forged sources must not fill the kernel's memory; what takes another's place still may."""
    monkeypatch.setattr(plans, "MAX_BLOCKS", 2)
    belief = Belief([(parse_prefix("192.0.2.1"), LATER), (parse_prefix("192.0.2.2"), LATER)])
    refused = plan_block(belief, parse_prefix("198.51.100.1"), LATER, NOW)
    assert refused == Refuse("2 blocks are in force, the most there may be")
    assert isinstance(plan_block(belief, parse_prefix("192.0.2.1"), LATER + 1, NOW), Extend)
    assert isinstance(plan_block(belief, parse_prefix("192.0.2.0/24"), LATER, NOW), Add)
