"""Reads a site's whole configuration: settings, jails, and the filters of the vendor and of the site.

`load_site` always returns what can be run beside all the faults it found: a fault in portward.toml
should stop a start, one in a filter's or a jail's own file only takes that filter or jail out (`fatal`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from correlator.config.actions import ActionShelf
from correlator.config.filter_references import is_path
from correlator.config.filter_shelf import FilterShelf
from correlator.config.filters import ALERT_LOG_TOKEN, PACKET_LOG_TOKEN
from correlator.config.jails import unknown_fields, unknown_kinds
from correlator.config.proofs import PROOFS, Proofs
from correlator.config.reader import near_miss
from correlator.config.settings import SiteSettings, load_settings
from correlator.config.vendor import built_file, settings_file
from correlator.counting.jail_definition import JailDefinition
from correlator.errors import Fault
from correlator.matching.filter_definition import FilterDefinition
from correlator.model import JOURNAL, Source
from correlator.settings import Paths

if TYPE_CHECKING:
    from correlator.engine import Engine
    from correlator.matching.filters import Filter


@dataclass(frozen=True, slots=True)
class Site(SiteSettings):
    """The effective configuration: jails here have all the filters they name."""

    filters: dict[str, FilterDefinition] = field(default_factory=dict)
    proofs: Proofs = field(default_factory=Proofs)
    """Which filters passed their tests: worth keeping where there is news."""


def load_site(folder: Path | None = None, *, mode: str | None = None, instead: Path | None = None) -> Site:
    """Read everything below `folder`; `mode` (`observe` or `block`) overrules what the files say.

    `instead` is read in the place of the folder's own portward.toml.
    """
    settings_at = folder if folder is not None and folder.is_file() else settings_file(folder)
    shelf = FilterShelf(settings_at.parent / "filters")
    settings = load_settings(folder, mode=mode, recommend=shelf.recommend, instead=instead)
    shelf.proofs = Proofs(built_file(PROOFS), settings.paths.correlator_proofs)
    faults = list(settings.faults)
    actions = ActionShelf(settings)
    jails = _sound_jails(settings.jails, shelf, actions, faults)
    used = sorted({name for jail in settings.jails.values() for name in jail.actions})
    enforcer = replace(settings.enforcer, actions=actions.load_all(used))
    filters = {
        name: _with_paths(definition, settings.paths)
        for name, definition in sorted(shelf.loaded.items())
        if any(name in jail.filters for jail in jails.values())
    }
    values = {member.name: getattr(settings, member.name) for member in fields(SiteSettings)}
    values |= {"jails": jails, "enforcer": enforcer, "faults": (*faults, *shelf.faults, *actions.faults)}
    return Site(**values, filters=filters, proofs=shelf.proofs)


def _with_paths(definition: FilterDefinition, paths: Paths) -> FilterDefinition:
    ours = {ALERT_LOG_TOKEN: str(paths.alert_log), PACKET_LOG_TOKEN: str(paths.packet_log)}
    files = tuple(ours.get(file, file) for file in definition.files)
    return replace(definition, files=files)


def run_filters(site: Site) -> list[Filter]:
    """Return this site's filters, running; what judges whole lines is imported where one does."""
    from correlator.matching.filters import Filter

    run: Callable[..., Filter] = Filter
    if any(definition.whole_lines is not None for definition in site.filters.values()):
        from correlator.matching.whole_line_filters import run_filter as run

    timeout = site.correlator.pattern_timeout
    return [run(definition, timeout=timeout) for definition in site.filters.values()]


def build_engine(
    site: Site, *, ignored_by: Callable[[Source], str | None], filters: Sequence[Filter] | None = None
) -> Engine:
    """Return an engine with this site's jails and filters, each file routed to the filters that read it.

    With `filters` these, which run already.
    """
    from correlator.counting.jails import Jail
    from correlator.engine import Engine

    routes: dict[str, list[str]] = {}
    for name, definition in site.filters.items():
        for file in definition.files:
            routes.setdefault(file, []).append(name)
    routes[JOURNAL] = [name for name, definition in site.filters.items() if definition.reads_journal]
    return Engine(
        run_filters(site) if filters is None else filters,
        [Jail(jail, max_sources=site.correlator.max_sources) for jail in site.jails.values()],
        routes=routes,
        ignored_by=ignored_by,
        max_line=site.correlator.max_line,
    )


def _sound_jails(
    jails: dict[str, JailDefinition], shelf: FilterShelf, actions: ActionShelf, faults: list[Fault]
) -> dict[str, JailDefinition]:
    """Return the jails that can run; a filter or action that is not there is a fault of the jail.

    A filter or action that is there and has faults is at fault itself: it must not stop what is sound.
    """
    sound = {}
    for name, jail in jails.items():
        loaded = [(filter_, shelf.load_for(jail, filter_)) for filter_ in jail.filters]
        present = tuple(definition.name for _filter, definition in loaded if definition is not None)
        faults += [
            Fault(
                jail.where,
                f"jail.{name}.filters",
                repr(filter_),
                f"a filter that is there{near_miss(filter_, shelf.paths)}",
            )
            for filter_ in sorted(set(jail.filters) - set(shelf.paths))
            if not is_path(filter_)
        ]
        faults += [
            Fault(jail.where, f"jail.{name}.actions", repr(action), "one of " + ", ".join(actions.names))
            for action in sorted(set(jail.actions) - set(actions.names))
            if not actions.is_reference(action)
        ]
        usable = tuple(action.name for name in jail.actions if (action := actions.load(name)) is not None)
        patterns = {
            filter_: [pattern.name for pattern in shelf.loaded[filter_].patterns] for filter_ in present
        }
        fields = {
            filter_: shelf.loaded[filter_].field_names
            for filter_ in present
            if shelf.loaded[filter_].whole_lines is None
        }
        unknown = [*unknown_kinds(jail, patterns), *unknown_fields(jail, fields)]
        faults += [
            Fault(jail.where, f"jail.{name}.{key}", repr(kind), f"one of {known}")
            for key, kind, known in unknown
        ]
        kinds = {kind.partition("/")[0] for kind in jail.all_of}
        can_decide = kinds <= set(present) and not any(key != "weights" for key, _kind, _known in unknown)
        if present and can_decide:
            sound[name] = replace(jail, filters=present, actions=usable or jail.actions)
    return sound
