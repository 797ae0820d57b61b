"""Reads jail tables, `[jail.NAME]` of portward.toml and jails.d, into frozen definitions."""

from __future__ import annotations

import re

from correlator.config.reader import Table
from correlator.errors import Fault
from correlator.jails import Count, JailDefinition

_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
)  # what the enforcer takes, and what stands in log lines
_SHOWN = 64
_MOST_ACTIONS = 8  # of one block, as the enforcer takes them
_DISTINCT = "distinct "


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
    defaults = JailDefinition(name=name, where=str(table.file.path), filters=())
    table.require("filters", 'the filters it listens to, such as ["portsentry"]')
    filters = table.texts("filters")
    kind, field = _count(table)
    mode = table.text("mode", "block" if is_blocking else "observe", choices=("observe", "block"))
    jail = JailDefinition(
        name=name,
        where=str(table.file.path),
        filters=filters,
        count=kind,
        field=field,
        threshold=table.number("threshold", defaults.threshold, least=1, most=100_000),
        span=table.duration("span", defaults.span),
        prefix4=table.number("prefix4", defaults.prefix4, least=16, most=32),
        prefix6=table.number("prefix6", defaults.prefix6, least=32, most=128),
        block_for=table.duration_or_forever("block_for", defaults.block_for),
        spoofable_block_for=table.duration("spoofable_block_for", defaults.spoofable_block_for),
        spoofable_a_minute=table.number(
            "spoofable_a_minute", defaults.spoofable_a_minute, least=0, most=1_000_000
        ),
        actions=_actions(table, defaults.actions),
        is_blocking=mode == "block",
    )
    table.finish()
    return jail


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
