"""The firewall's own words: netlink messages for set elements, and the table as text and as nft tells it.

Pure: bytes and text in and out. One table, `inet portward`, four sets, one chain ahead of connection
tracking (-200) and even of raw (-300), so that established connections and forwarded packets to
containers are dropped too. A permanent block is an element without timeout.

Source: linux/netfilter/nf_tables.h, nft(8), libnftables-json(5).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from correlator.enforcer.plans import Until
from correlator.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Message,
    pack_attribute,
    pack_message,
    pack_nested,
    read_attributes,
)
from correlator.model import Micros, Source

TABLE = "portward"
CHAIN = "prerouting"
PRIORITY = -310
SETS = ("source4", "source6", "prefix4", "prefix6")

GET_ELEMENTS = 10 << 8 | 13
GET_GENERATION = 10 << 8 | 16
_NEW_ELEMENTS = 10 << 8 | 12
_DELETE_ELEMENTS = 10 << 8 | 14
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SUBSYSTEM = 10
_FAMILY_INET = 1

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEMENT = 1
_ELEMENT_KEY, _ELEMENT_FLAGS, _ELEMENT_TIMEOUT, _ELEMENT_EXPIRATION = 1, 3, 4, 5
_DATA_VALUE = 1
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_INTERVAL_END = 1
_GENERATION_ID = 1

_HEADER = struct.Struct(">BBH")
_INET = _HEADER.pack(_FAMILY_INET, 0, 0)
_UNSPEC = _HEADER.pack(0, 0, 0)
_BATCH = _HEADER.pack(0, 0, _SUBSYSTEM)
_HEADS = {
    name: _INET
    + pack_attribute(_LIST_TABLE, TABLE.encode() + b"\0")
    + pack_attribute(_LIST_SET, name.encode() + b"\0")
    for name in SETS
}
_END_FLAG = pack_attribute(_ELEMENT_FLAGS, struct.pack(">I", _INTERVAL_END))


def set_of(source: Source) -> str:
    """Return the name of the set that holds `source`."""
    return f"{'source' if source.is_single else 'prefix'}{source.version}"


def remaining_ms(until: Until, now: Micros) -> int | None:
    """Return the kernel's timeout for a block, rounded up, at least 1; None for a permanent one."""
    return None if until is None else max(1, -((now - until) // 1000))


def spell_time(milliseconds: int) -> str:
    """Return a time as nft reads it, which takes eight digits at most: 28 hours are nine in milliseconds."""
    parts = []
    for unit, size in _UNITS:
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def pack_change(
    add: Sequence[tuple[Source, Until]], remove: Sequence[Source], *, now: Micros, sequence: int
) -> tuple[bytes, int]:
    """Return one transaction that denies `add` and no longer `remove`, and its last sequence number.

    A single address is added, deleted and added: before Linux 6.12 a plain second add leaves the old
    timeout, and a plain delete fails where the element is not there. So it does not matter what the
    kernel held. A prefix is deleted and added as told: the kernel takes no overlapping intervals, even
    for the length of a transaction, and refuses all of it where `remove` does not stand.
    Packets see the state before or after, nothing between.
    """
    parts = [pack_message(_BATCH_BEGIN, NLM_F_REQUEST, sequence, _BATCH)]
    steps: list[tuple[int, bytes]] = []
    for source in remove:
        head, bare = _HEADS[set_of(source)], _pack_elements(source, None)
        if source.is_single:
            steps.append((_NEW_ELEMENTS, head + bare))
        steps.append((_DELETE_ELEMENTS, head + bare))
    for source, until in add:
        head, bare = _HEADS[set_of(source)], _pack_elements(source, None)
        timed = _pack_elements(source, remaining_ms(until, now))
        if source.is_single:
            steps += [(_NEW_ELEMENTS, head + timed), (_DELETE_ELEMENTS, head + bare)]
        steps.append((_NEW_ELEMENTS, head + timed))
    for index, (kind, payload) in enumerate(steps):
        sequence += 1
        flags = NLM_F_REQUEST | (NLM_F_CREATE if kind == _NEW_ELEMENTS else 0)
        if index == len(steps) - 1:
            flags |= NLM_F_ACK
        parts.append(pack_message(kind, flags, sequence, payload))
    parts.append(pack_message(_BATCH_END, NLM_F_REQUEST, sequence + 1, _BATCH))
    return b"".join(parts), sequence


def pack_element_dump(name: str) -> bytes:
    """Return the payload that asks for every element of one set."""
    return _HEADS[name]


def pack_generation_request() -> bytes:
    """Return the payload that asks for the ruleset's generation, which every transaction moves on by one."""
    return _UNSPEC


def read_generation(message: Message) -> int:
    """Return the generation that the kernel told."""
    return int(struct.unpack(">I", read_attributes(message.payload, _HEADER.size)[_GENERATION_ID])[0])


def is_error(message: Message) -> bool:
    """True for an error or an acknowledgement."""
    return message.kind == NLMSG_ERROR


def read_elements(name: str, messages: Iterable[Message], now: Micros) -> dict[Source, Until]:
    """Return a set's elements with the absolute times they end, from the messages of a dump.

    A range that is no prefix (nobody but a hand puts one there) is told as the prefixes it consists of.
    """
    raw = [element for message in messages for element in _read_raw(message.payload)]
    if name.startswith("source"):
        return {
            Source(ipaddress.ip_network(key)): _until(remaining, now)
            for key, flags, remaining in raw
            if not flags
        }
    return _read_ranges(raw, now)


def ruleset(denied: Iterable[tuple[Source, Until]], *, now: Micros) -> str:
    """Return text for `nft -f` that makes the table as it should be from whatever is there, in one step."""
    elements: dict[str, list[str]] = {name: [] for name in SETS}
    for source, until in denied:
        remaining = remaining_ms(until, now)
        elements[set_of(source)].append(
            str(source) if remaining is None else f"{source} timeout {spell_time(remaining)}"
        )
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for name in SETS:
        kind = "ipv4_addr" if name.endswith("4") else "ipv6_addr"
        flags = "timeout" if name.startswith("source") else "interval, timeout"
        held = f" elements = {{ {', '.join(elements[name])} }};" if elements[name] else ""
        lines.append(f" set {name} {{ type {kind}; flags {flags};{held} }}")
    lines.append(f" chain {CHAIN} {{")
    lines.append(f"  type filter hook prerouting priority {PRIORITY}; policy accept;")
    lines += [f"  {protocol} saddr @{name} counter drop" for protocol, name in _RULES]
    return "\n".join([*lines, " }", "}", ""])


def change_text(add: Iterable[tuple[Source, Until]], remove: Iterable[Source], *, now: Micros) -> str:
    """Return text for `nft -f` that does what `pack_change` does, for very many elements."""
    bare: dict[str, list[str]] = {name: [] for name in SETS}
    timed: dict[str, list[str]] = {name: [] for name in SETS}
    for source in remove:
        bare[set_of(source)].append(str(source))
    for source, until in add:
        name, remaining = set_of(source), remaining_ms(until, now)
        if source.is_single:
            bare[name].append(str(source))
        timed[name].append(str(source) if remaining is None else f"{source} timeout {spell_time(remaining)}")
    lines = []
    for name in SETS:
        for verb, elements in (("add", bare), ("delete", bare), ("add", timed)):
            is_idle = verb == "add" and elements is bare and name.startswith("prefix")
            if elements[name] and not is_idle:
                lines.append(f"{verb} element inet {TABLE} {name} {{ {', '.join(elements[name])} }}")
    return "\n".join([*lines, ""])


def find_alteration(listing: Any) -> str | None:
    """Return what is not as `ruleset` makes it, in what `nft -j -t list table` tells; None where nothing is.

    Counters and handles count for nothing; a rule too many, ahead of ours or behind, counts.
    """
    try:
        entries = [next(iter(entry.items())) for entry in listing["nftables"] if "metainfo" not in entry]
        tables = [body for kind, body in entries if kind == "table"]
        if len(tables) != 1 or tables[0].get("flags"):
            return "the table's flags"
        sets = {
            body["name"]: (body["type"], sorted(_words(body.get("flags"))))
            for kind, body in entries
            if kind == "set"
        }
        if sets != _EXPECTED_SETS:
            return "the sets"
        chains = [
            (body["name"], body.get("type"), body.get("hook"), body.get("prio"), body.get("policy"))
            for kind, body in entries
            if kind == "chain"
        ]
        if chains != [(CHAIN, "filter", "prerouting", PRIORITY, "accept")]:
            return "the chain"
        rules = [_without_counters(body["expr"]) for kind, body in entries if kind == "rule"]
        if rules != _EXPECTED_RULES:
            return f"the rules: {len(rules)} of them, not as made"
        if any(kind not in {"table", "set", "chain", "rule"} for kind, _ in entries):
            return "something else in the table"
    except (KeyError, TypeError, AttributeError, StopIteration):
        return "something that cannot be read"
    return None


_RULES = (("ip", "source4"), ("ip6", "source6"), ("ip", "prefix4"), ("ip6", "prefix6"))
_EXPECTED_SETS = {
    name: (
        "ipv4_addr" if name.endswith("4") else "ipv6_addr",
        ["timeout"] if name.startswith("source") else ["interval", "timeout"],
    )
    for name in SETS
}
_EXPECTED_RULES = [
    [
        {
            "match": {
                "op": "==",
                "left": {"payload": {"protocol": protocol, "field": "saddr"}},
                "right": f"@{name}",
            }
        },
        "counter",
        {"drop": None},
    ]
    for protocol, name in _RULES
]


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _without_counters(expressions: Sequence[Mapping[str, Any]]) -> list[Any]:
    return ["counter" if "counter" in expression else expression for expression in expressions]


def _pack_elements(source: Source, timeout: int | None) -> bytes:
    first = source.packed
    timed = b"" if timeout is None else pack_attribute(_ELEMENT_TIMEOUT, struct.pack(">Q", timeout))
    elements = [pack_nested(_LIST_ELEMENT, _pack_key(first), timed)]
    if not source.is_single:
        after = int(source.network.broadcast_address) + 1
        size = len(first)
        if after < 1 << (8 * size):  # up to the very end of all addresses an interval has no end element
            elements.append(pack_nested(_LIST_ELEMENT, _pack_key(after.to_bytes(size, "big")), _END_FLAG))
    return pack_nested(_LIST_ELEMENTS, *elements)


def _pack_key(packed: bytes) -> bytes:
    return pack_nested(_ELEMENT_KEY, pack_attribute(_DATA_VALUE, packed))


def _read_raw(payload: bytes) -> Iterator[tuple[bytes, int, int | None]]:
    """Yield key, flags and remaining milliseconds of each element in one message of a dump."""
    listed = read_attributes(payload, _HEADER.size).get(_LIST_ELEMENTS, b"")
    offset = 0
    while offset + 4 <= len(listed):
        size = int.from_bytes(listed[offset : offset + 2], "little" if _IS_LITTLE else "big")
        if size < 4:
            return
        found = read_attributes(listed[offset + 4 : offset + size])
        offset += (size + 3) & ~3
        key = found.get(_ELEMENT_KEY)
        if key is None:
            continue
        flags = int.from_bytes(found.get(_ELEMENT_FLAGS, b""), "big")
        remaining = None
        if _ELEMENT_TIMEOUT in found or _ELEMENT_EXPIRATION in found:
            remaining = int.from_bytes(found.get(_ELEMENT_EXPIRATION, b""), "big")
        yield read_attributes(key)[_DATA_VALUE], flags, remaining


def _read_ranges(raw: list[tuple[bytes, int, int | None]], now: Micros) -> dict[Source, Until]:
    # At one address an end stands before the start of the next interval.
    ordered = sorted(raw, key=lambda element: (element[0], not element[1] & _INTERVAL_END))
    found: dict[Source, Until] = {}
    start: tuple[bytes, int | None] | None = None
    for key, flags, remaining in [*ordered, (b"", _INTERVAL_END, None)]:
        if start is not None:
            first = ipaddress.ip_address(start[0])
            bits = 8 * len(start[0])
            last = type(first)(int.from_bytes(key, "big") - 1 if key else (1 << bits) - 1)
            for network in ipaddress.summarize_address_range(first, last):
                found[Source(network)] = _until(start[1], now)
        start = None if flags & _INTERVAL_END else (key, remaining)
    return found


def _until(remaining: int | None, now: Micros) -> Until:
    return None if remaining is None else now + remaining * 1000


_IS_LITTLE = struct.pack("=H", 1) == b"\1\0"
