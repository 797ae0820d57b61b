"""Reads a site's whole configuration: settings, jails, and the filters of the vendor and of the site.

`load_site` always returns what can be run beside all the faults it found: a fault in portward.toml
should stop a start, one in a filter or a jail only takes that filter or jail out (`fatal`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from correlator.config.filters import load_filter
from correlator.config.settings import SiteSettings, load_settings
from correlator.engine import Engine
from correlator.errors import Fault
from correlator.filters import Filter, FilterDefinition
from correlator.jails import Jail, JailDefinition
from correlator.model import Source
from correlator.settings import Paths

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Site(SiteSettings):
    """The effective configuration: jails here have all the filters they name."""

    filters: dict[str, FilterDefinition]


def vendor_folder(kind: str) -> Path:
    """Return where Portward's own `filters` or `actions` are: in a checkout, a wheel, or Debian's package."""
    candidates = (
        _PACKAGE.parent / kind,
        Path(sys.prefix) / "share/portward" / kind,
        Path("/usr/share/portward") / kind,
    )
    return next((folder for folder in candidates if folder.is_dir()), candidates[-1])


def load_site(folder: Path | None = None, *, mode: str | None = None) -> Site:
    """Read everything below `folder`; `mode` (`observe` or `block`) overrules what the files say."""
    settings = load_settings(folder, mode=mode)
    faults = list(settings.faults)
    filters = _filters(settings.where.parent / "filters", settings.jails, settings.paths, faults)
    jails = _sound_jails(settings.jails, filters, faults)
    values = {field.name: getattr(settings, field.name) for field in fields(SiteSettings)}
    return Site(**{**values, "jails": jails, "faults": tuple(faults)}, filters=filters)


def build_engine(site: Site, *, ignored_by: Callable[[Source], str | None]) -> Engine:
    """Return an engine with this site's filters and jails, each file routed to the filters that read it."""
    routes: dict[str, list[str]] = {}
    for name, definition in site.filters.items():
        for file in definition.files:
            routes.setdefault(file, []).append(name)
    return Engine(
        [Filter(definition, timeout=site.correlator.pattern_timeout) for definition in site.filters.values()],
        [Jail(jail, max_sources=site.correlator.max_sources) for jail in site.jails.values()],
        routes=routes,
        ignored_by=ignored_by,
        max_line=site.correlator.max_line,
    )


def _filters(
    site_folder: Path, jails: dict[str, JailDefinition], paths: Paths, faults: list[Fault]
) -> dict[str, FilterDefinition]:
    """Load the filters that any jail names; a site's file of the same name wins whole."""
    found: dict[str, FilterDefinition] = {}
    vendor = vendor_folder("filters")
    for name in sorted({name for jail in jails.values() for name in jail.filters}):
        path = next(
            (
                folder / f"{name}.toml"
                for folder in (site_folder, vendor)
                if (folder / f"{name}.toml").exists()
            ),
            None,
        )
        if path is None:
            continue
        definition, wrong = load_filter(path, alert_log=paths.alert_log)
        faults += wrong
        if definition is not None:
            found[name] = definition
    return found


def _sound_jails(
    jails: dict[str, JailDefinition], filters: dict[str, FilterDefinition], faults: list[Fault]
) -> dict[str, JailDefinition]:
    """Return the jails that can run; a filter or action that is not there is a fault of the jail."""
    known_filters = sorted(path.stem for path in vendor_folder("filters").glob("*.toml"))
    known_actions = sorted(path.stem for path in vendor_folder("actions").glob("*.toml"))
    sound = {}
    for name, jail in jails.items():
        present = tuple(filter_ for filter_ in jail.filters if filter_ in filters)
        faults += [
            Fault(
                jail.where,
                f"jail.{name}.filters",
                f"{filter_!r}, which is not there or has faults",
                "one of " + ", ".join(sorted({*known_filters, *filters})),
            )
            for filter_ in sorted(set(jail.filters) - set(present))
        ]
        faults += [
            Fault(jail.where, f"jail.{name}.actions", repr(action), "one of " + ", ".join(known_actions))
            for action in sorted(set(jail.actions) - set(known_actions))
        ]
        if present:
            sound[name] = replace(jail, filters=present)
    return sound
