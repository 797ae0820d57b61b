"""The site as a replay runs it: the filters and jails that are asked for, and which filters read which log.

A filter that no jail listens to gets the jail that its author recommends, so that `--filter sshd` answers on
a machine where nothing is enabled yet; one of Fail2ban's that has none gets Fail2ban's defaults.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from correlator.config.filter_references import is_path, open_filter
from correlator.config.filter_shelf import FilterShelf
from correlator.config.jails import read_jail
from correlator.config.reader import File, Table, near_miss
from correlator.config.site import Site, load_site
from correlator.config.vendor import settings_file
from correlator.counting.jail_definition import JailDefinition
from correlator.counting.jails import Jail
from correlator.engine import Engine
from correlator.errors import ConfigError, Fault
from correlator.matching.filter_definition import FilterDefinition
from correlator.matching.whole_line_filters import run_filter
from correlator.model import SECOND, Source

_ROTATED = re.compile(r"(?:\.\d{1,5}|-\d{8}(?:-?\d{2,10})?)?(?:\.(?:gz|bz2|xz|zst))?$")
_FAIL2BAN_THRESHOLD = 5
_FAIL2BAN_SPAN = 600 * SECOND


def load_replay_site(
    folder: Path | None,
    *,
    filters: Sequence[str] = (),
    jails: Sequence[str] = (),
    instead: Path | None = None,
) -> Site:
    """Return the site with every jail blocking, and of its filters and jails those that are asked for.

    `filters` are names or paths. Raises: ConfigError for one that is not there or has faults.
    """
    site = load_site(folder, mode="block", instead=instead)
    for reference in filters:
        if reference not in site.filters:
            site = _with_filter(site, reference, settings_file(folder).parent / "filters")
    unknown = [name for name in jails if name not in site.jails]
    if unknown:
        raise ConfigError(
            tuple(
                Fault("--jail", "jail", repr(name), f"a jail that is there{near_miss(name, site.jails)}")
                for name in unknown
            )
        )
    chosen = {
        name: jail
        for name, jail in site.jails.items()
        if (not jails or name in jails) and (not filters or set(jail.filters) & set(filters))
    }
    used = {name for jail in chosen.values() for name in jail.filters}
    wanted = set(filters) or used
    return replace(
        site,
        jails=chosen,
        filters={name: found for name, found in site.filters.items() if name in used & wanted},
    )


def readers_of(
    path: str, filters: Mapping[str, FilterDefinition], *, asked: Sequence[str] = (), is_journal: bool = False
) -> list[str]:
    """Return the filters that read a log: those that are asked for, else those that claim its path.

    A log that nobody claims is read by every filter that knows its lines by their programs. Rotation and
    compression change nothing about whose a path is.
    """
    if asked:
        return [name for name in filters if name in asked]
    if is_journal:
        return [name for name, definition in filters.items() if definition.reads_journal]
    whole = os.path.realpath(path)
    names = {whole, _ROTATED.sub("", whole)}
    claimed = [
        name
        for name, definition in filters.items()
        if path != "-" and any(fnmatch.filter(names, pattern) for pattern in definition.files)
    ]
    if claimed:
        return claimed
    by_program = [
        name
        for name, definition in filters.items()
        if any(definition.identifiers) or definition.whole_lines is not None
    ]
    return [name for name in by_program if not filters[name].knows_its_files_only] or by_program


def build_replay_engine(
    site: Site, routes: Mapping[str, Sequence[str]], *, ignored_by: Callable[[Source], str | None]
) -> Engine:
    """Return an engine that reads each log by its filters."""
    timeout = site.correlator.pattern_timeout
    return Engine(
        [run_filter(definition, timeout=timeout) for definition in site.filters.values()],
        [Jail(jail, max_sources=site.correlator.max_sources) for jail in site.jails.values()],
        routes=routes,
        ignored_by=ignored_by,
        max_line=site.correlator.max_line,
    )


def _with_filter(site: Site, reference: str, folder: Path) -> Site:
    """Return the site with a filter more, and the jail that its author recommends."""
    if is_path(reference):
        definition, faults = open_filter(reference)
    else:
        shelf = FilterShelf(folder)
        definition, faults = shelf.load(reference), shelf.faults
        if definition is None and not faults:
            expected = f"a filter that is there{near_miss(reference, shelf.paths)}"
            faults = [Fault("--filter", "filter", repr(reference), expected)]
    if definition is None:
        raise ConfigError(tuple(faults))
    definition = replace(definition, name=reference)
    if any(reference in jail.filters for jail in site.jails.values()):
        return replace(site, filters={**site.filters, reference: definition})
    jail = _recommended(definition, site.where)
    return replace(
        site, filters={**site.filters, reference: definition}, jails={**site.jails, jail.name: jail}
    )


def _recommended(definition: FilterDefinition, where: Path) -> JailDefinition:
    name = Path(definition.name.partition("[")[0]).stem
    if definition.whole_lines is not None:
        return JailDefinition(
            name,
            definition.where,
            (definition.name,),
            threshold=_FAIL2BAN_THRESHOLD,
            span=_FAIL2BAN_SPAN,
            block_for=_FAIL2BAN_SPAN,
            is_blocking=True,
        )
    values = {**definition.jail, "filters": [definition.name]}
    return read_jail(name, Table(File(where, []), f"jail.{name}", values), is_blocking=True)
