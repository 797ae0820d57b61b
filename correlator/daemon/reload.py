"""Whether a site that was read anew can be gone on with, and what came of it.

A filter or jail with a fault is left out of a start, because the others must not wait for it. Here nothing
waits: what runs is better than what somebody is in the middle of editing, so any new fault refuses the whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from correlator.config.site import Site
from correlator.errors import ConfigError, Fault, PortwardError
from correlator.model import Micros


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of the latest SIGHUP; for `portward reload`, which waits for `count` to grow."""

    count: int = 0
    at: Micros = 0
    problems: tuple[str, ...] = ()
    """Why it was refused; empty where it was done."""
    restart: tuple[str, ...] = ()
    """The other processes whose settings changed, and which read them at their start only."""


def load_anew(load: Callable[[], Site], running: Site, *, trouble: str) -> Site:
    """Return the site as it stands now.

    Raises: ConfigError where it has faults that the running one has not, or its paths are others;
    PortwardError where `trouble` says that what waits could not be brought over.
    """
    if trouble:
        raise PortwardError(f"what waits cannot be written, so it would be lost: {trouble}")
    site = load()
    news = tuple(fault for fault in site.faults if fault not in running.faults)
    if site.paths != running.paths:
        expected = "the paths that we started with: other ones need a restart"
        news += (Fault(str(site.where), "paths", "other paths", expected),)
    if news or site.fatal:
        raise ConfigError(news or site.fatal)
    return site


def find_restarts(site: Site, running: Site) -> tuple[str, ...]:
    """Return which of the other processes have other settings now."""
    return tuple(name for name in ("enforcer", "probe") if getattr(site, name) != getattr(running, name))


def list_problems(error: PortwardError) -> tuple[str, ...]:
    """Return what was wrong, one text each."""
    return tuple(map(str, error.faults)) if isinstance(error, ConfigError) else (str(error),)


class WatchedFiles:
    """Foreign files that a site is made from; whoever edits them knows nothing of a reload."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._known = self._look()
        self._seen = self._known

    def have_changed(self) -> bool:
        """Whether any file is another than when we began, and was left alone since the last question."""
        now = self._look()
        is_at_rest = now == self._seen
        self._seen = now
        if now == self._known or not is_at_rest:
            return False
        self._known = now
        return True

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_print_of, self._paths))


def _print_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
