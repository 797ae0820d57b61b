"""Reads jail tables, `[jail.NAME]` of portward.toml and jails.d, into frozen definitions."""

from __future__ import annotations

from correlator.config.reader import Table
from correlator.jails import Count, JailDefinition

_DISTINCT = "distinct "


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
        actions=table.texts("actions", defaults.actions),
        is_blocking=mode == "block",
    )
    table.finish()
    return jail


def _count(table: Table) -> tuple[Count, str]:
    text = table.text("count", "strikes")
    if text.startswith(_DISTINCT) and text[len(_DISTINCT) :].isidentifier():
        return Count.DISTINCT, text[len(_DISTINCT) :]
    if text in ("strikes", "weight"):
        return Count(text), ""
    table.fault("count", text, '"strikes", "weight", or "distinct FIELD" such as "distinct port"')
    return Count.STRIKES, ""
