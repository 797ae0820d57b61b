"""What a replay found, as text for people or as one JSON object; also what another configuration changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from correlator.cli.output import SCHEMA, colour, format_left, print_table
from correlator.engine import format_decision
from correlator.lines.syslog import format_instant
from correlator.model import Block, Ignore, Micros, json_ready, printable
from correlator.replaying import Change, ChangeKind, Past, Tally, compare

if TYPE_CHECKING:
    from correlator.engine import Engine
    from correlator.tailers.archive import Archive

_BAD_DATA = 65  # EX_DATAERR
_COLOURS = {ChangeKind.ADDED: "bad", ChangeKind.REMOVED: "good"}


@dataclass(frozen=True, slots=True)
class Report:
    """What one configuration made of the logs."""

    tally: Tally
    files: list[dict[str, Any]]
    jails: list[dict[str, Any]]
    quarantined: dict[str, dict[str, str]]
    unreadable: list[dict[str, str]]

    @classmethod
    def of(cls, engine: Engine, tally: Tally, archives: Sequence[Archive]) -> Report:
        """Return the report of a replay that is over."""
        return cls(
            tally=tally,
            files=[_row_of_file(engine, archive) for archive in archives],
            jails=[
                {"jail": jail.name, "evicted": jail.windows.evicted, **asdict(jail.counters)}
                for jail in engine.jails.values()
            ],
            quarantined={
                name: dict(filter_.quarantined)
                for name, filter_ in engine.filters.items()
                if filter_.quarantined
            },
            unreadable=[
                {"filter": item.filter, "reason": item.reason, "line": printable(item.evidence.line)}
                for item in engine.unreadable
            ],
        )

    @property
    def exit_status(self) -> int:
        """65 where a file is damaged, 1 where no line was understood, else 0."""
        if any(file["trouble"] for file in self.files):
            return _BAD_DATA
        return 0 if any(file["events"] for file in self.files) else 1

    @property
    def in_short(self) -> str:
        """`12 blocks of 10 sources, 3 kept back`."""
        tally = self.tally
        kept = f", {tally.kept_back} times kept back" if tally.kept_back else ""
        return f"{_count(tally.blocks, 'block')} of {_count(len(tally.sources), 'source')}{kept}"


def _row_of_file(engine: Engine, archive: Archive) -> dict[str, Any]:
    counters = engine.origins.get(archive.origin)
    counted = (
        asdict(counters) if counters is not None else dict.fromkeys(("lines", "events", "unreadable"), 0)
    )
    return {"file": archive.path, **counted, "long_lines": archive.long_lines, "trouble": archive.trouble}


class TextPrinter:
    """Prints each decision as it comes, then what was read and counted."""

    def show(self, decision: Block | Ignore) -> None:
        """Print a decision with the line that led to it."""
        print(f"{format_instant(decision.at)}  {format_decision(decision)}")
        for item in decision.evidence[-1:]:
            print(f"    {printable(item.line)}  [{item.origin}+{item.offset}]")

    def finish(self, report: Report) -> None:
        """Print the counts."""
        print(report.in_short)
        _print_counts(report)

    def finish_comparison(self, before: Report, after: Report) -> None:
        """Print what changes."""
        changes = compare(before.tally.sources, after.tally.sources)
        for change in changes:
            print(_change_line(change))
        print(f"now       {before.in_short}")
        print(f"then      {after.in_short}")
        same = len(before.tally.sources.keys() & after.tally.sources.keys())
        counts = {kind: sum(change.kind is kind for change in changes) for kind in ChangeKind}
        same -= sum(counts[kind] for kind in (ChangeKind.EARLIER, ChangeKind.LATER, ChangeKind.OTHERWISE))
        print(
            "sources   "
            + ", ".join(f"{count} {kind.value}" for kind, count in counts.items())
            + f", {same} as now"
        )
        _print_counts(after)


class JsonPrinter:
    """Prints one object; its decisions are written as they come, so that no number of them fills memory."""

    def __init__(self) -> None:
        self._shown = 0

    def show(self, decision: Block | Ignore) -> None:
        """Write a decision into the list."""
        self._begin(", " if self._shown else "")
        self._shown += 1
        kind = "block" if isinstance(decision, Block) else "kept back"
        print(json.dumps({"kind": kind, **json_ready(decision)}), end="")

    def finish(self, report: Report) -> None:
        """Close the list and write the counts."""
        self._begin("")
        rest = json.dumps(_in_json(report))
        print(f"], {rest[1:]}")

    def finish_comparison(self, before: Report, after: Report) -> None:
        """Write what changes."""
        changes = compare(before.tally.sources, after.tally.sources)
        told = {"schema": SCHEMA, "kind": "replay", "changes": json_ready(changes)}
        print(json.dumps({**told, "before": _in_json(before), "after": _in_json(after)}))

    def _begin(self, between: str) -> None:
        opening = f'{{"schema": {SCHEMA}, "kind": "replay", "decisions": ['
        print(between if self._shown else opening, end="")


def _in_json(report: Report) -> dict[str, Any]:
    return {
        "blocks": report.tally.blocks,
        "sources": len(report.tally.sources),
        "kept_back": report.tally.kept_back,
        "files": report.files,
        "jails": report.jails,
        "quarantined": report.quarantined,
        "unreadable": report.unreadable,
    }


def _print_counts(report: Report) -> None:
    columns = ("lines", "events", "unreadable", "cut", "duplicates", "skewed", "long_lines", "trouble")
    print()
    print_table(
        ("FILE", *(column.upper().replace("_", " ") for column in columns)),
        ((file["file"], *(file.get(column, 0) or "-" for column in columns)) for file in report.files),
    )
    counts = ("strikes", "blocks", "ignored", "denied_already", "kept_back", "incomplete", "evicted")
    print()
    print_table(
        ("JAIL", *(column.upper().replace("_", " ") for column in counts)),
        ((jail["jail"], *(jail[column] or "-" for column in counts)) for jail in report.jails),
    )
    for name, patterns in report.quarantined.items():
        for pattern, reason in patterns.items():
            print(colour(f"quarantined: filter {name}, pattern {pattern}: {reason}", "bad"))
    for item in report.unreadable:
        print(f"unreadable: {item['filter']}: {item['reason']}: {item['line']}")


def _change_line(change: Change) -> str:
    old, new = change.before, change.after
    word = colour(f"{change.kind.value:<9}", _COLOURS.get(change.kind, "warn"))
    if old is None or new is None:
        past = new or old
        return f"{word} {change.source}  {'' if past is None else _past(past)}"
    if change.kind is ChangeKind.OTHERWISE:
        return f"{word} {change.source}  {_past(old)}; then {_past(new)}"
    by = _apart(old.first, new.first)
    return f"{word} {change.source}  {format_instant(old.first)} -> {_past(new)} ({by} {change.kind.value})"


def _past(past: Past) -> str:
    until = "forever" if past.until is None else f"until {format_instant(past.until)}"
    times = f", {past.blocks} times in all" if past.blocks > 1 else ""
    return f"{format_instant(past.first)} by jail {past.jail}, {until}{times}"


def _apart(one: Micros, other: Micros) -> str:
    return format_left(max(one, other), min(one, other))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
