"""The firewall's words: bytes for the kernel, text for nft, and what is read back."""

import copy
import json
import struct

import pytest

from correlator.enforcer import nft_messages as nft
from correlator.enforcer.plans import Until
from correlator.kernel.netlink import Message, read_attributes, read_messages
from correlator.model import SECOND, Source, parse_prefix

NOW = 1_000 * SECOND

# What `nft -j -t list table inet portward` (1.0.6) said of a table made by `ruleset`.
LISTED = json.loads("""
{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
{"table": {"family": "inet", "name": "portward", "handle": 1}},
{"set": {"family": "inet", "name": "source4", "table": "portward", "type": "ipv4_addr", "handle": 2,
 "flags": ["timeout"]}},
{"set": {"family": "inet", "name": "source6", "table": "portward", "type": "ipv6_addr", "handle": 3,
 "flags": ["timeout"]}},
{"set": {"family": "inet", "name": "prefix4", "table": "portward", "type": "ipv4_addr", "handle": 4,
 "flags": ["interval", "timeout"]}},
{"set": {"family": "inet", "name": "prefix6", "table": "portward", "type": "ipv6_addr", "handle": 5,
 "flags": ["interval", "timeout"]}},
{"chain": {"family": "inet", "table": "portward", "name": "prerouting", "handle": 1, "type": "filter",
 "hook": "prerouting", "prio": -310, "policy": "accept"}},
{"rule": {"family": "inet", "table": "portward", "chain": "prerouting", "handle": 6, "expr": [{"match":
 {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@source4"}},
 {"counter": {"packets": 3, "bytes": 180}}, {"drop": null}]}},
{"rule": {"family": "inet", "table": "portward", "chain": "prerouting", "handle": 7, "expr": [{"match":
 {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "@source6"}},
 {"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]}},
{"rule": {"family": "inet", "table": "portward", "chain": "prerouting", "handle": 8, "expr": [{"match":
 {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@prefix4"}},
 {"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]}},
{"rule": {"family": "inet", "table": "portward", "chain": "prerouting", "handle": 9, "expr": [{"match":
 {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "@prefix6"}},
 {"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]}}]}
""")


def kinds(add: dict[str, Until], remove: list[str]) -> list[tuple[str, str]]:
    """Return what a change's batch does, message by message, each with its set."""
    batch, last = nft.pack_change(
        [(parse_prefix(text), until) for text, until in add.items()],
        [parse_prefix(text) for text in remove],
        now=NOW,
        sequence=7,
    )
    messages = list(read_messages(batch))
    assert [message.sequence for message in messages] == list(range(7, last + 2))
    names = {2572: "new", 2574: "delete", 16: "begin", 17: "end"}
    return [
        (names[message.kind], read_attributes(message.payload, 4).get(2, b"").rstrip(b"\0").decode())
        for message in messages
    ]


def test_a_single_address_is_added_deleted_and_added() -> None:
    """Then it does not matter what the kernel held, nor how old the kernel is."""
    assert kinds({"192.0.2.9": None}, ["2001:db8::1"]) == [
        ("begin", ""),
        ("new", "source6"),
        ("delete", "source6"),
        ("new", "source4"),
        ("delete", "source4"),
        ("new", "source4"),
        ("end", ""),
    ]


def test_a_prefix_is_deleted_and_added_as_told() -> None:
    """Removals come first: intervals may not overlap, not even within the batch."""
    assert kinds({"192.0.2.0/25": None}, ["192.0.2.0/24"]) == [
        ("begin", ""),
        ("delete", "prefix4"),
        ("new", "prefix4"),
        ("end", ""),
    ]


@pytest.mark.parametrize(
    ("until", "expected"),
    [(None, None), (NOW + 1, 1), (NOW + SECOND, 1000), (NOW + 1001, 2), (NOW - SECOND, 1)],
)
def test_remaining_is_rounded_up(until: Until, expected: int | None) -> None:
    """A block never ends before its time, and a timeout of zero, which means for ever, is never sent."""
    assert nft.remaining_ms(until, NOW) == expected


def test_the_ruleset_is_one_transaction_from_nothing() -> None:
    """It starts by making and deleting the table, so that it works from whatever stands there."""
    text = nft.ruleset(
        [(parse_prefix("192.0.2.9"), NOW + SECOND), (parse_prefix("2001:db8::/64"), None)], now=NOW
    )
    assert text.startswith("add table inet portward\ndelete table inet portward\ntable inet portward {\n")
    assert " set source4 { type ipv4_addr; flags timeout; elements = { 192.0.2.9 timeout 1s }; }\n" in text
    assert " set prefix6 { type ipv6_addr; flags interval, timeout; elements = { 2001:db8::/64 }; }\n" in text
    assert "  type filter hook prerouting priority -310; policy accept;\n" in text
    assert text.count("counter drop") == 4


@pytest.mark.parametrize(
    ("milliseconds", "spelled"),
    [
        (1, "1ms"),
        (99_999_999, "1d3h46m39s999ms"),
        (604_800_000, "7d"),
        (11_750_400_000_000, "136000d"),
    ],
)
def test_nft_gets_no_number_that_is_too_long_for_it(milliseconds: int, spelled: str) -> None:
    """It takes eight digits at most, and refuses the whole table over a block of 28 hours in milliseconds."""
    assert nft.spell_time(milliseconds) == spelled


def test_change_text_does_the_same_in_words() -> None:
    """For very many elements nft carries the change."""
    text = nft.change_text(
        [(parse_prefix("192.0.2.9"), NOW + SECOND), (parse_prefix("192.0.2.0/25"), None)],
        [parse_prefix("192.0.2.0/24")],
        now=NOW,
    )
    assert text == (
        "add element inet portward source4 { 192.0.2.9 }\n"
        "delete element inet portward source4 { 192.0.2.9 }\n"
        "add element inet portward source4 { 192.0.2.9 timeout 1s }\n"
        "delete element inet portward prefix4 { 192.0.2.0/24 }\n"
        "add element inet portward prefix4 { 192.0.2.0/25 }\n"
    )


def test_the_table_as_made_has_no_alteration() -> None:
    """Counters and handles count for nothing."""
    assert nft.find_alteration(LISTED) is None


@pytest.mark.parametrize(
    ("where", "change", "told"),
    [
        (
            1,
            {"table": {"name": "portward", "flags": "inet"}},
            "the table's flags",
        ),  # dormant, as 1.0.6 spells it
        (2, None, "the sets"),
        (4, {"set": {"name": "prefix4", "type": "ipv4_addr", "flags": ["timeout"]}}, "the sets"),
        (6, None, "the chain"),
        (
            6,
            {"chain": {"name": "prerouting", "type": "filter", "hook": "prerouting", "prio": 0}},
            "the chain",
        ),
        (7, None, "the rules: 3 of them, not as made"),
        (7, {"rule": {"expr": [{"accept": None}]}}, "the rules: 4 of them, not as made"),
        (8, {"flowtable": {}}, "the rules: 3 of them, not as made"),
        (8, {"rule": 7}, "something that cannot be read"),
    ],
)
def test_every_alteration_is_found(where: int, change: dict[str, object] | None, told: str) -> None:
    """A rule, a set, the chain or its priority by another hand is not our table any more."""
    listing = copy.deepcopy(LISTED)
    listing["nftables"][where : where + 1] = [] if change is None else [change]
    assert nft.find_alteration(listing) == told


def test_rules_in_another_order_are_an_alteration() -> None:
    """An accept ahead of ours would undo them all."""
    listing = copy.deepcopy(LISTED)
    listing["nftables"].insert(7, {"rule": {"expr": [{"accept": None}]}})
    assert nft.find_alteration(listing) == "the rules: 5 of them, not as made"
    assert nft.find_alteration({"nftables": []}) == "the table's flags"
    assert nft.find_alteration([]) == "something that cannot be read"


def dump(*elements: tuple[str, int, int | None]) -> list[Message]:
    """Return a dump's message with these elements: key, flags, milliseconds left."""
    packed = b""
    for text, flags, remaining in elements:
        body = nft._pack_key(parse_prefix(text).packed)
        if flags:
            body += nft.pack_attribute(3, struct.pack(">I", flags))
        if remaining is not None:
            body += nft.pack_attribute(4, struct.pack(">Q", 9_000_000)) + nft.pack_attribute(
                5, struct.pack(">Q", remaining)
            )
        packed += nft.pack_nested(1, body)
    return [Message(2572, 0, 1, b"\1\0\0\0" + nft.pack_nested(3, packed))]


def test_read_elements_of_single_addresses() -> None:
    """Each with the time it ends, permanent ones with None."""
    found = nft.read_elements("source4", dump(("192.0.2.9", 0, 5), ("192.0.2.10", 0, None)), NOW)
    assert found == {parse_prefix("192.0.2.9"): NOW + 5000, parse_prefix("192.0.2.10"): None}


def test_read_elements_of_intervals_in_any_order() -> None:
    """Adjacent ones share a border, an odd one is told as prefixes, the last may be open to the end."""
    messages = dump(
        ("255.255.0.0", 0, 7),
        ("192.0.2.128", 0, None),
        ("192.0.3.0", 1, None),
        ("192.0.2.0", 0, 5),
        ("192.0.2.128", 1, None),
        ("0.0.0.0", 1, None),
        ("198.51.100.0", 0, None),
        ("198.51.100.3", 1, None),
    )
    expected: dict[Source, Until] = {
        parse_prefix("192.0.2.0/25"): NOW + 5000,
        parse_prefix("192.0.2.128/25"): None,
        parse_prefix("198.51.100.0/31"): None,
        parse_prefix("198.51.100.2"): None,
        parse_prefix("255.255.0.0/16"): NOW + 7000,
    }
    assert nft.read_elements("prefix4", messages, NOW) == expected
