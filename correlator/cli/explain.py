"""`explain`: every step of one line, from its header to the decision, without touching anything."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import complain, print_json
from correlator.errors import ConfigError, PortwardError
from correlator.model import SECOND, Event, Micros, Source

if TYPE_CHECKING:
    from correlator.config.site import Site
    from correlator.engine import Engine

_NO_INPUT = 66  # EX_NOINPUT


class NoFilterError(PortwardError):
    """A filter of this name is not there; says which are."""

    exit_status = 2


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    explain = commands.add_parser(
        "explain", parents=[common], help="why a line does or does not match, step by step"
    )
    explain.add_argument(
        "line", nargs="?", default="-", metavar="LINE", help="a log line; - reads them from stdin"
    )
    explain.add_argument(
        "--filter",
        metavar="NAME|PATH",
        help="only this filter: by name, or a file of ours or of Fail2ban (filter.d/sshd.conf[mode=ddos]);"
        " by its file, and with --input jsonl or --option, it answers alone, without a site",
    )
    explain.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the filter, or a parameter of one of Fail2ban (mode=aggressive); may be repeated",
    )
    explain.add_argument(
        "--input",
        choices=("text", "jsonl"),
        default="text",
        help='lines as they stand, or {"line": TEXT, "time": EPOCH or null} each; with --filter',
    )
    explain.add_argument(
        "--now",
        type=_epoch,
        metavar="EPOCH",
        help="seconds since 1970 to take for now",
    )
    explain.set_defaults(run=_run, refuse=explain.error)


def _epoch(text: str) -> float:
    from correlator.cli.explain_filter import HIGHEST_EPOCH

    try:
        at = float(text)
    except ValueError:
        at = -1.0
    if not 0 <= at < HIGHEST_EPOCH:
        raise argparse.ArgumentTypeError(f"{text!r}: not seconds since 1970, before the year 9000")
    return at


def _run(options: argparse.Namespace) -> int:
    from correlator.config.filter_references import is_path

    is_alone = options.input == "jsonl" or bool(options.option)
    if is_alone and options.filter is None:
        options.refuse("--input jsonl and --option need --filter NAME|PATH")
    if options.filter is not None and (is_alone or is_path(options.filter)):
        from correlator.cli.explain_filter import explain_alone

        reference = options.filter if is_path(options.filter) else _path_of(options)
        return explain_alone(options, reference)
    from correlator.cli.explain_steps import explain_line, explanation_text
    from correlator.enforcer.never_block import NeverBlock

    site = sites.load(options)
    if options.filter is not None and options.filter not in site.filters:
        site = _with_filter(site, options.filter)
    lines: Iterable[str] = [options.line]
    if options.line == "-":
        if sys.stdin is None:
            complain("portward explain: standard input is closed, and no LINE was given")
            return _NO_INPUT
        if isinstance(sys.stdin, io.TextIOWrapper):
            # as logs are read: any bytes, and a line ends with a line feed alone
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
        lines = sys.stdin
    now = time.time_ns() // 1000 if options.now is None else int(options.now * SECOND)
    guard = NeverBlock(site.enforcer)

    def ignored_by(source: Source) -> str | None:
        return guard.find(source, now)

    engine = _engine(site, ignored_by)
    is_understood = False
    for line in lines:
        steps = explain_line(
            engine,
            line.rstrip("\r\n"),
            now,
            only=options.filter,
            ignored_by=ignored_by,
            max_line=site.correlator.max_line,
        )
        if not steps["understood"] and options.filter is None and options.line != "-":
            steps["would_be_understood_by"] = list(_not_enabled(site, steps["line"], now))
        is_understood = is_understood or steps["understood"]
        if options.json:
            print_json("explain", **steps)
        else:
            for text in explanation_text(steps):
                print(text)
        sys.stdout.flush()  # whoever asks line by line waits for it
    return 0 if is_understood else 1


def _path_of(options: argparse.Namespace) -> str:
    """Return the file of a filter by its name. Raises: NoFilterError."""
    from correlator.config.reader import near_miss
    from correlator.config.settings import settings_file
    from correlator.config.site import FilterShelf

    shelf = FilterShelf(settings_file(options.config).parent / "filters")
    if options.filter not in shelf.paths:
        raise NoFilterError(f"no filter {options.filter!r}{near_miss(options.filter, shelf.paths)}")
    return str(shelf.paths[options.filter].absolute())


def _with_filter(site: Site, name: str) -> Site:
    """Return the site with one filter more that no jail listens to. Raises: NoFilterError, ConfigError."""
    from correlator.config.reader import near_miss
    from correlator.config.site import FilterShelf

    shelf = FilterShelf(site.where.parent / "filters")
    definition = shelf.load(name)
    if definition is None and name not in shelf.paths:
        raise NoFilterError(f"no filter {name!r}{near_miss(name, [*shelf.paths, *site.filters])}")
    if definition is None:
        raise ConfigError(tuple(shelf.faults))
    return replace(site, filters={**site.filters, name: definition})


def _engine(site: Site, ignored_by: Callable[[Source], str | None]) -> Engine:
    """Return an engine as the correlator would run it now, with the strikes that wait there."""
    from correlator.config.site import build_engine
    from correlator.store.state import StateReader

    engine = build_engine(site, ignored_by=ignored_by)
    if site.paths.correlator_database.exists():
        with closing(StateReader(site.paths.correlator_database)) as reader:
            engine.restore(reader.strikes(), [])
    return engine


def _not_enabled(site: Site, text: str, now: Micros) -> Iterator[str]:
    """Yield the filters that no jail listens to and that understand the line."""
    from correlator.config.filters import read_filter
    from correlator.config.site import FilterShelf
    from correlator.lines.syslog import parse_header
    from correlator.matching.filter_tests import make_line
    from correlator.matching.filters import Filter
    from correlator.matching.patterns import PatternError

    identifier = parse_header(text).identifier
    shelf = FilterShelf(site.where.parent / "filters")
    for name, path in sorted(shelf.paths.items()):
        definition, _faults = (None, []) if name in site.filters else read_filter(path)
        names = [""] if definition is None else definition.identifiers or [""]
        if definition is None or not any(fnmatchcase(identifier, known) for known in names):
            continue
        try:
            filter_ = Filter(definition)
        except PatternError:
            continue
        line = make_line(text, arrived=now, layout=filter_.layout)
        if filter_.wants(line.header.identifier) and isinstance(filter_.read(line), Event):
            yield name
