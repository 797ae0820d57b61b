"""What a site's filters read, taken together: each source once, with the filters that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from correlator.lines.journal_match import fields_of
from correlator.matching.filter_definition import ANY_PROGRAM, FilterDefinition
from correlator.matching.filters import TRANSPORT
from correlator.matching.whole_line_filters import UID, UNIT
from correlator.settings import CorrelatorSettings
from correlator.tailers.journal import NOTHING_WANTED, Wanted


@dataclass(frozen=True, slots=True)
class Plan:
    """Which sources are to be followed."""

    files: Mapping[str, tuple[str, ...]]
    """For each path or pattern, the names of the filters that read it."""
    alert_log: str
    """The path that is looked at first and most often."""
    filters: tuple[str, ...] = ()
    """All of them: what comes from standard input is for each."""
    journal: tuple[str, ...] = ()
    """The filters that read the journal; none: it is not followed."""
    wanted: Wanted = NOTHING_WANTED
    journal_folder: Path | None = None
    """None: the journal of this host."""


def plan_sources(filters: Mapping[str, FilterDefinition], settings: CorrelatorSettings) -> Plan:
    """Return what these filters want followed."""
    files: dict[str, list[str]] = {}
    for name, definition in filters.items():
        for file in definition.files:
            files.setdefault(file, []).append(name)
    readers = {
        name: definition
        for name, definition in filters.items()
        if settings.follows_journal and definition.reads_journal
    }
    return Plan(
        files={file: tuple(names) for file, names in files.items()},
        alert_log=str(settings.paths.alert_log),
        filters=tuple(filters),
        journal=tuple(readers),
        wanted=_wanted(readers),
        journal_folder=settings.journal_folder,
    )


def _wanted(readers: Mapping[str, FilterDefinition]) -> Wanted:
    """Return which entries to fetch: by identifier, where every filter names the whole of its own."""
    fields = {TRANSPORT}  # who is not the kernel must not pass for it
    identifiers: set[str] | None = set()
    for definition in readers.values():
        fields |= fields_of(definition.journal or ())
        if definition.whole_lines is not None:
            fields |= {UID, UNIT}  # who wrote it, where its conditions ask for names alone
        is_open = (
            not definition.identifiers
            or definition.whole_lines is not None
            or any(ANY_PROGRAM in name for name in definition.identifiers)
        )
        identifiers = None if is_open or identifiers is None else identifiers | definition.identifiers
    return Wanted(None if identifiers is None else frozenset(identifiers), frozenset(fields))
