"""Reads a site's whole configuration: settings, jails, and the filters of the vendor and of the site.

`load_site` always returns what can be run beside all the faults it found: a fault in portward.toml
should stop a start, one in a filter's or a jail's own file only takes that filter or jail out (`fatal`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.config.actions import ActionShelf
from correlator.config.filter_references import is_path, open_filter
from correlator.config.filters import (
    ALERT_LOG_TOKEN,
    PACKET_LOG_TOKEN,
    define_filter,
    open_file,
    prove_filter,
)
from correlator.config.jails import unknown_fields, unknown_kinds
from correlator.config.proofs import PROOFS, Proofs
from correlator.config.reader import File, near_miss
from correlator.config.settings import SiteSettings, UnknownFilterError, load_settings, settings_file
from correlator.config.vendor import vendor_folder
from correlator.counting.jail_definition import JailDefinition
from correlator.errors import Fault
from correlator.matching.filter_definition import FilterDefinition
from correlator.model import JOURNAL, Source
from correlator.settings import Paths

if TYPE_CHECKING:
    from correlator.engine import Engine


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
    shelf.proofs = Proofs(vendor_folder("filters") / PROOFS, settings.paths.correlator_proofs)
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


class FilterShelf:
    """The filters that there are, each loaded when somebody asks for it; a site's file wins whole."""

    def __init__(self, site_folder: Path) -> None:
        """Look into the site's folder first, then into the vendor's."""
        self.faults: list[Fault] = []
        self.loaded: dict[str, FilterDefinition] = {}
        self.proofs = Proofs(vendor_folder("filters") / PROOFS)
        """Whose tests need not be run."""
        self.paths: dict[str, Path] = {}
        for folder in (vendor_folder("filters"), site_folder):
            self.paths |= {name[: -len(".toml")]: folder / name for name in _filter_files(folder)}
        self._asked: set[str] = set()
        self._read: dict[str, tuple[FilterDefinition | None, File, list[Fault]]] = {}

    def load_for(self, jail: JailDefinition, name: str) -> FilterDefinition | None:
        """Return a filter as a jail uses it; one of Fail2ban's reads what its jail says: each has its own."""
        if not is_path(name):
            return self.load(name)
        instance = f"{_short(name)}@{jail.name}"
        if instance not in self._asked:
            self._asked.add(instance)
            definition, wrong = open_filter(name, is_journal=not jail.files)
            self.faults += wrong
            if definition is not None:
                self.loaded[instance] = _of_jail(definition, instance, jail)
        return self.loaded.get(instance)

    def load(self, name: str) -> FilterDefinition | None:
        """Return a filter; None where there is none, or where it has faults: they are noted once."""
        if name not in self._asked and name in self.paths:
            definition, file, wrong = self._reading(name)
            if definition is not None:
                definition, wrong = prove_filter(definition, file, self.proofs)
            self.faults += wrong
            if definition is not None:
                self.loaded[name] = definition
        self._asked.add(name)
        return self.loaded.get(name)

    def recommend(self, name: str) -> Mapping[str, Any]:
        """Return what a filter recommends for its jail, nothing where its file has faults.

        Raises: UnknownFilterError where there is no such filter.
        """
        if name not in self.paths:
            raise UnknownFilterError(f"a filter that is there{near_miss(name, self.paths)}")
        definition, _file, _faults = self._reading(name)
        return {} if definition is None else definition.jail

    def _reading(self, name: str) -> tuple[FilterDefinition | None, File, list[Fault]]:
        """Return what stands in a filter's file, read once: what is proved and what runs must be the same."""
        if name not in self._read:
            file, faults = open_file(self.paths[name])
            self._read[name] = (None if faults else define_filter(file), file, faults)
        return self._read[name]


def _short(reference: str) -> str:
    """Return what a reference is called where it is shown: the name of its file."""
    return Path(reference.partition("[")[0]).name


def _of_jail(definition: FilterDefinition, name: str, jail: JailDefinition) -> FilterDefinition:
    """Return a filter that says nothing of its sources, with those of its jail."""
    how = definition.whole_lines
    return replace(
        definition,
        name=name,
        files=(*definition.files, *jail.files),
        journal=() if jail.files else definition.journal,
        whole_lines=None if how is None else replace(how, zone=jail.zone),
    )


def _filter_files(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _with_paths(definition: FilterDefinition, paths: Paths) -> FilterDefinition:
    ours = {ALERT_LOG_TOKEN: str(paths.alert_log), PACKET_LOG_TOKEN: str(paths.packet_log)}
    files = tuple(ours.get(file, file) for file in definition.files)
    return replace(definition, files=files)


def build_engine(site: Site, *, ignored_by: Callable[[Source], str | None]) -> Engine:
    """Return an engine with this site's filters and jails, each file routed to the filters that read it."""
    from correlator.counting.jails import Jail
    from correlator.engine import Engine
    from correlator.matching.whole_line_filters import run_filter

    routes: dict[str, list[str]] = {}
    for name, definition in site.filters.items():
        for file in definition.files:
            routes.setdefault(file, []).append(name)
    routes[JOURNAL] = [name for name, definition in site.filters.items() if definition.reads_journal]
    return Engine(
        [
            run_filter(definition, timeout=site.correlator.pattern_timeout)
            for definition in site.filters.values()
        ],
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
