"""Reads jail tables, `[jail.NAME]` of portward.toml and jails.d, into frozen definitions.

Every key stands in `portward.toml` with its meaning. Where `key = "prefix"` the lengths have other defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from correlator.config.reader import FOREVER, Table, parse_duration
from correlator.counting.jail_definition import MOST_KINDS, Count, JailDefinition, Key
from correlator.errors import Fault
from correlator.model import Micros

_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
)  # what the enforcer takes, and what stands in log lines
_SHOWN = 64
_MOST_ACTIONS = 8  # of one block, as the enforcer takes them
_MOST_LENGTHS = 16
_HIGHEST_WEIGHT = 1_000_000
_DISTINCT = "distinct "
_PREFIX4, _PREFIX6 = 24, 48
"""What a jail counts by prefixes: what one customer of a provider usually has, or is next to."""


_DEFAULTS = JailDefinition(name="", where="", filters=())


def is_jail_name(name: str, table: Table) -> bool:
    """Whether a jail may have this name; a fault where not."""
    if _NAME.fullmatch(name):
        return True
    line = table.file.line_of(table.path)
    where = f"{table.file.path}:{line}" if line else str(table.file.path)
    expected = "a name of letters, digits and `_.-`, at most 64, the first a letter or digit"
    table.file.faults.append(Fault(where, "jail", repr(name[:_SHOWN]), expected))
    return False


def read_jail(name: str, table: Table, *, is_blocking: bool) -> JailDefinition:
    """Return the jail that a table `[jail.NAME]` defines; faults are noted in the table's file."""
    defaults = _DEFAULTS
    filters = _filters(table)
    key = Key(table.text("key", defaults.key.value, choices=[key.value for key in Key]))
    prefix4, prefix6 = (_PREFIX4, _PREFIX6) if key is Key.PREFIX else (defaults.prefix4, defaults.prefix6)
    count, field = _count(table)
    mode = table.text("mode", "block" if is_blocking else "observe", choices=("observe", "block"))
    jail = JailDefinition(
        name=name,
        where=str(table.file.path),
        filters=filters,
        key=key,
        count=count,
        field=field,
        only=_only(table),
        weights=_weights(table, filters),
        all_of=_all_of(table, filters),
        threshold=table.number("threshold", defaults.threshold, least=1, most=100_000),
        span=table.duration("span", defaults.span),
        prefix4=table.number("prefix4", prefix4, least=16, most=32),
        prefix6=table.number("prefix6", prefix6, least=32, most=128),
        block_for=table.duration_or_forever("block_for", defaults.block_for),
        escalate=_escalate(table),
        remember=table.duration("remember", defaults.remember),
        spoofable_block_for=table.duration("spoofable_block_for", defaults.spoofable_block_for),
        spoofable_a_minute=table.number(
            "spoofable_a_minute", defaults.spoofable_a_minute, least=0, most=1_000_000
        ),
        merge_at=_merge_at(table, defaults.merge_at),
        merge4=table.number("merge4", defaults.merge4, least=16, most=32),
        merge6=table.number("merge6", defaults.merge6, least=32, most=128),
        actions=_actions(table, defaults.actions),
        is_blocking=mode == "block",
        files=table.texts("files"),
        zone=_zone(table),
        ignore=table.sources("ignore"),
    )
    table.finish()
    return jail


def unknown_kinds(jail: JailDefinition, patterns: Mapping[str, Iterable[str]]) -> list[tuple[str, str, str]]:
    """Return what a jail says of patterns that its filters do not have: the key, the name, the known ones.

    `patterns`: the names of each filter's patterns; of a filter that is not in it nothing is said.
    """
    found = []
    for key, names in (("all_of", jail.all_of), ("weights", jail.weights)):
        for name in names:
            filter_, slash, pattern = name.partition("/")
            known = sorted(patterns.get(filter_, ()))
            if slash and filter_ in patterns and pattern not in known:
                found.append((key, name, ", ".join(f"{filter_}/{other}" for other in known)))
    return found


def unknown_fields(jail: JailDefinition, fields: Mapping[str, Iterable[str]]) -> list[tuple[str, str, str]]:
    """Return the same for fields that none of its filters names; `fields`: those that each filter names."""
    known = sorted({name for names in fields.values() for name in names})
    is_sure = set(jail.filters) <= set(fields)
    asked = [("only", name) for name in jail.only]
    asked += [("count", jail.field)] if jail.field and jail.field != "source" else []
    return [(key, name, ", ".join(known)) for key, name in asked if is_sure and name not in known]


def _filters(table: Table) -> tuple[str, ...]:
    """Return the names and references of `filters`, or of `filter`, which is one."""
    if table.has("filter"):
        return (table.text("filter", ""), *table.texts("filters"))
    table.require("filters", 'the filters it listens to, such as ["portsentry"]')
    return table.texts("filters")


def _merge_at(table: Table, default: int) -> int:
    number = table.number("merge_at", default, least=0, most=256)
    if number == 1:
        table.fault("merge_at", 1, "0, which is never, or a number of neighbours from 2 to 256")
        return default
    return number


def _zone(table: Table) -> str:
    zone = table.text("zone", "")
    if not zone:
        return ""
    from correlator.lines.zones import find_zone

    if find_zone(zone) is None:
        table.fault("zone", zone, "a zone of fixed offset, such as UTC or UTC+0100")
        return ""
    return zone


def _weights(table: Table, filters: tuple[str, ...]) -> Mapping[str, int]:
    weights = table.table("weights")
    return MappingProxyType(
        {
            name: weights.number(name, 1, least=0, most=_HIGHEST_WEIGHT)
            for name in weights.any_values()
            if _is_kind(weights, name, name, filters)
        }
    )


def _only(table: Table) -> Mapping[str, frozenset[str]]:
    only = table.table("only")
    return MappingProxyType(
        {name: frozenset(_texts(only, name, value)) for name, value in only.any_values().items()}
    )


def _texts(table: Table, name: str, value: Any) -> Iterator[str]:
    """Yield how events may spell a value of a field, or those of a list."""
    for one in value if isinstance(value, list) and value else [value]:
        if isinstance(one, str | int) and not isinstance(one, bool):
            yield str(one)
        else:
            table.fault(name, one, "text, a number, or a list of them")


def _all_of(table: Table, filters: tuple[str, ...]) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(table.texts("all_of")))
    if len(kinds) > MOST_KINDS:
        table.fault("all_of", list(kinds), f"at most {MOST_KINDS} kinds of evidence")
        return ()
    return tuple(kind for kind in kinds if _is_kind(table, "all_of", kind, filters))


def _is_kind(table: Table, key: str, name: str, filters: tuple[str, ...]) -> bool:
    """Whether a name says `FILTER` or `FILTER/PATTERN` of a filter that the jail listens to."""
    if name.partition("/")[0] in filters:
        return True
    expected = "FILTER or FILTER/PATTERN, the filter one of " + (", ".join(filters) or "`filters`")
    table.fault(key, name, expected)
    return False


def _escalate(table: Table) -> tuple[Micros | None, ...]:
    """Return growing lengths of time, of which the last may be `forever`."""
    texts = table.texts("escalate")
    lengths = [None if text == FOREVER else parse_duration(text) for text in texts]
    timed = lengths[:-1] if texts[-1:] == (FOREVER,) else lengths
    known = [length for length in timed if length]
    if len(known) != len(timed) or known != sorted(set(known)) or len(lengths) > _MOST_LENGTHS:
        table.fault(
            "escalate",
            list(texts),
            f"at most {_MOST_LENGTHS} lengths of time, each longer than the one before, such as"
            ' ["10m", "1h", "1d", "1w"]; the last may be "forever"',
        )
        return ()
    return tuple(lengths)


def _actions(table: Table, default: tuple[str, ...]) -> tuple[str, ...]:
    actions = table.texts("actions", default)
    if not 1 <= len(actions) <= _MOST_ACTIONS:
        table.fault("actions", list(actions), f'1 to {_MOST_ACTIONS} actions, such as ["nftables"]')
        return default
    return actions


def _count(table: Table) -> tuple[Count, str]:
    text = table.text("count", "strikes")
    if text.startswith(_DISTINCT) and text[len(_DISTINCT) :].isidentifier():
        return Count.DISTINCT, text[len(_DISTINCT) :]
    if text in ("strikes", "weight"):
        return Count(text), ""
    table.fault("count", text, '"strikes", "weight", or "distinct FIELD" such as "distinct port"')
    return Count.STRIKES, ""
