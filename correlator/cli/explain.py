"""`explain`: every step of one line, from its header to the decision, without touching anything."""

from __future__ import annotations

import argparse
import functools
import io
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import complain, print_json
from correlator.errors import ConfigError, PortwardError
from correlator.model import SECOND, Event, Micros, Source

if TYPE_CHECKING:
    from correlator.config.site import Site
    from correlator.enforcer.never_block import NeverBlock
    from correlator.engine import Engine
    from correlator.matching.filters import Filter

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
    from correlator.config.site import run_filters

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
    filters = run_filters(site)
    judges = _Judges(site, filters, now)
    is_understood = False
    for line in lines:
        steps = explain_line(
            filters,
            line.rstrip("\r\n"),
            now,
            only=options.filter,
            judges=judges,
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
    from correlator.config.filter_shelf import FilterShelf
    from correlator.config.reader import near_miss
    from correlator.config.vendor import settings_file

    shelf = FilterShelf(settings_file(options.config).parent / "filters")
    if options.filter not in shelf.paths:
        raise NoFilterError(f"no filter {options.filter!r}{near_miss(options.filter, shelf.paths)}")
    return str(shelf.paths[options.filter].absolute())


def _with_filter(site: Site, name: str) -> Site:
    """Return the site with one filter more that no jail listens to. Raises: NoFilterError, ConfigError."""
    from correlator.config.filter_shelf import FilterShelf
    from correlator.config.reader import near_miss

    shelf = FilterShelf(site.where.parent / "filters")
    definition = shelf.load(name)
    if definition is None and name not in shelf.paths:
        raise NoFilterError(f"no filter {name!r}{near_miss(name, [*shelf.paths, *site.filters])}")
    if definition is None:
        raise ConfigError(tuple(shelf.faults))
    return replace(site, filters={**site.filters, name: definition})


class _Judges:
    """Who judges an event; imported when there is one, or a strike that waits."""

    def __init__(self, site: Site, filters: Sequence[Filter], now: Micros) -> None:
        """Read which strikes wait. Raises: OSError and PortwardError where that may not be known."""
        self._site = site
        self._filters = filters
        self._now = now
        if site.paths.correlator_database.exists():
            from correlator.store.state import StateReader

            with closing(StateReader(site.paths.correlator_database)) as reader:
                strikes = reader.strikes()
                for first in strikes:
                    self.engine.restore(chain([first], strikes), [])  # with all that follow

    def ignored_by(self, source: Source) -> str | None:
        """Return which list names a source; None: none."""
        return self._guard.find(source, self._now)

    @functools.cached_property
    def _guard(self) -> NeverBlock:
        from correlator.enforcer.never_block import NeverBlock

        return NeverBlock(self._site.enforcer)

    @functools.cached_property
    def engine(self) -> Engine:
        """An engine as the correlator would run it now, with the strikes that wait there."""
        from correlator.config.site import build_engine

        return build_engine(self._site, ignored_by=self.ignored_by, filters=self._filters)


def _not_enabled(site: Site, text: str, now: Micros) -> Iterator[str]:
    """Yield the filters that no jail listens to and that understand the line."""
    from correlator.config.filter_shelf import FilterShelf
    from correlator.lines.syslog import parse_header
    from correlator.matching.filter_definition import is_named
    from correlator.matching.filter_tests import make_line
    from correlator.matching.filters import Filter
    from correlator.matching.patterns import PatternError

    identifier = parse_header(text).identifier
    shelf = FilterShelf(site.where.parent / "filters")
    shelf.proofs = site.proofs
    for name in sorted(shelf.paths.keys() - site.filters):
        definition, _faults = shelf.read(name) if shelf.may_read(name, identifier) else (None, [])
        if definition is None or not is_named(identifier, definition.identifiers):
            continue
        try:
            filter_ = Filter(definition)
        except PatternError:
            continue
        line = make_line(text, arrived=now, layout=filter_.layout)
        if filter_.wants(line.header.identifier) and isinstance(filter_.read(line), Event):
            yield name
