"""`replay FILE...`: old logs through the configured filters, windows and jails; nothing is blocked."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli.output import complain
from correlator.cli.progress import Progress
from correlator.errors import ConfigError
from correlator.model import Block, Chunk, Entries, Ignore, Source

if TYPE_CHECKING:
    from correlator.cli.replay_report import Report
    from correlator.config.site import Site
    from correlator.engine import Engine
    from correlator.tailers.archive import Archive

_USAGE = 2
_MOST_FILES = 256  # all are open at once, to be judged in the order of their times
_KNOWN_SOURCES = 1 << 16


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    replay = commands.add_parser(
        "replay",
        parents=[common],
        help="what old logs would have led to: who, when and why; nothing is blocked",
    )
    replay.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a log, plain or packed by gzip, bzip2, xz or zstd, a .journal file, or - for standard input",
    )
    replay.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="NAME|PATH",
        help="read every FILE by this filter, in use or not; may be repeated (default: by those in use that"
        " name the file, else by those that know their lines by the program)",
    )
    replay.add_argument(
        "--jail", action="append", default=[], metavar="NAME", help="only this jail; may be repeated"
    )
    replay.add_argument(
        "--compare",
        type=Path,
        metavar="OTHER.toml",
        help="what other settings in the place of portward.toml would change, or another folder of them",
    )
    replay.add_argument(
        "--progress", action="store_true", help="tell how far it is, also where no terminal shows it"
    )
    replay.set_defaults(run=_run)


@dataclass(slots=True)
class _Job:
    """What is to be read, and how."""

    files: list[str]
    asked: list[str]
    """Filters that read every file; empty: whoever claims it."""
    progress: Progress
    rounds: int = 1
    round: int = 0
    lines: int = 0
    """Of the rounds that are over."""


def _run(options: argparse.Namespace) -> int:
    from correlator.cli.replay_report import JsonPrinter, TextPrinter
    from correlator.config.replay_site import load_replay_site

    files = list(dict.fromkeys(options.files))
    if len(files) > _MOST_FILES:
        complain(f"portward replay: got {len(files)} files, expected at most {_MOST_FILES}")
        return _USAGE
    if options.compare is not None and "-" in files:
        complain("portward replay: --compare reads everything twice, and standard input can be read once")
        return _USAGE
    load = functools.partial(load_replay_site, filters=options.filter, jails=options.jail)
    site = _sound(load(options.config))
    job = _Job(files, options.filter, Progress(is_wanted=options.progress))
    printer = JsonPrinter() if options.json else TextPrinter()
    if options.compare is None:
        report = _replay(site, job, printer.show)
        if report is not None:
            printer.finish(report)
        return _USAGE if report is None else report.exit_status
    if options.compare.is_dir():
        other = _sound(load(options.compare))
    else:
        other = _sound(load(options.config, instead=options.compare))
    job.rounds = 2
    before, after = _replay(site, job), _replay(other, job)
    if before is None or after is None:
        return _USAGE
    printer.finish_comparison(before, after)
    return max(before.exit_status, after.exit_status)


def _sound(site: Site) -> Site:
    """Return a site, its faults said. Raises: ConfigError where the settings file itself is at fault."""
    if site.fatal:
        raise ConfigError(site.faults)
    for fault in site.faults:
        complain(f"portward: {fault}")
    return site


def _replay(site: Site, job: _Job, show: Callable[[Block | Ignore], None] | None = None) -> Report | None:
    """Return what a configuration makes of the logs; None where nobody reads one of them, which is said."""
    from correlator.cli.replay_report import Report
    from correlator.config.replay_site import build_replay_engine
    from correlator.replaying import Tally, replay
    from correlator.tailers.archive import Archive

    tally = Tally()
    with ExitStack() as stack:
        archives = [stack.enter_context(closing(Archive(file))) for file in job.files]
        routes = _routes(site, archives, job.asked)
        if routes is None:
            return None
        engine = build_replay_engine(site, routes, ignored_by=_never_blocked(site))
        for decision in replay(engine, [_watched(archive, archives, engine, job) for archive in archives]):
            tally.take(decision)
            if show is not None:
                job.progress.clear()
                show(decision)
        job.progress.clear()
        job.round += 1
        job.lines += sum(counters.lines for counters in engine.origins.values())
        return Report.of(engine, tally, archives)


def _routes(site: Site, archives: list[Archive], asked: list[str]) -> dict[str, list[str]] | None:
    from correlator.config.replay_site import readers_of

    routes: dict[str, list[str]] = {}
    for archive in archives:
        readers = readers_of(archive.path, site.filters, asked=asked, is_journal=archive.is_journal)
        if not readers:
            known = ", ".join(sorted(site.filters)) or "none"
            where = f"portward replay: {archive.path}"
            complain(f"{where}: read by no filter in use ({known}); name one with --filter")
            return None
        routes[archive.origin] = readers
    return routes


def _never_blocked(site: Site) -> Callable[[Source], str | None]:
    from correlator.enforcer.never_block import NeverBlock

    guard = NeverBlock(site.enforcer)
    now = time.time_ns() // 1000
    return functools.lru_cache(maxsize=_KNOWN_SOURCES)(lambda source: guard.find(source, now))


def _watched(
    archive: Archive, archives: list[Archive], engine: Engine, job: _Job
) -> Iterator[Chunk | Entries]:
    """Yield what a log holds, and tell how far all of them are."""
    for arrived in archive.chunks():
        yield arrived
        share = None
        if all(other.size for other in archives):
            read = sum(other.position for other in archives) / sum(other.size for other in archives)
            share = (job.round + read) / job.rounds
        lines = job.lines + sum(counters.lines for counters in engine.origins.values())
        job.progress.tell(share=share, lines=lines)
