"""`sources`: each log that is followed: position, what comes, what is wrong. `reload`: read all anew."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from correlator.cli import site as sites
from correlator.cli.kept_out import Reader, reader_of, what_keeps_out
from correlator.cli.output import colour, complain, print_json, print_table
from correlator.cli.status import read_correlator
from correlator.errors import UnreachableError
from correlator.lines.syslog import format_instant
from correlator.model import SECOND, Micros

_HEADINGS = ("SOURCE", "STATE", "POSITION", "BACKLOG", "A MINUTE", "LAST", "SKEW", "FILTERS", "TROUBLE")
_FILTERS_SHOWN = 4
_ABSENT_SHOWN = 8
_DENIED = "permission denied"
_ANSWER_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_EX_CONFIG = 78


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    sources = commands.add_parser(
        "sources", parents=[common], help="each log that is followed: position, backlog, rate, troubles"
    )
    sources.add_argument("--all", action="store_true", help="list also what is not there, however much it is")
    sources.set_defaults(run=_run_sources)
    reload = commands.add_parser(
        "reload", parents=[common], help="read filters, jails and settings anew; windows and positions go on"
    )
    reload.set_defaults(run=_run_reload)


def _run_sources(options: argparse.Namespace) -> int:
    correlator = read_correlator(sites.load_settings(options).paths.correlator_status)
    found = correlator.get("sources", [])
    unread = find_unread(correlator.get("filters", []), found)
    refused = [source["origin"] for source in found if source["state"] == "refused"]
    is_good = correlator["state"] == "running" and not unread and not refused
    if options.json:
        print_json("sources", state=correlator["state"], sources=found, unread=unread, refused=refused)
        return 0 if is_good else 1
    if correlator["state"] != "running":
        detail = f": {correlator['detail']}" if "detail" in correlator else ""
        complain(f"portward sources: the correlator is {correlator['state']}{detail}")
    absent = [source for source in found if source["state"] == "waiting"]
    is_brief = len(absent) > _ABSENT_SHOWN and not options.all
    shown = [source for source in found if source not in absent] if is_brief else found
    if shown:
        now = time.time_ns() // 1000
        reader = reader_of(correlator.get("pid", 0))
        print_table(_HEADINGS, (list(_cells(source, now, reader)) for source in shown))
        if reader is not None and any(_DENIED in source["trouble"].lower() for source in shown):
            print(colour(f"the correlator reads as {reader}: one of them must have the right", "warn"))
    if is_brief:
        print(f"{len(absent)} files and patterns are not there: `portward sources --all` lists them too")
    for name in unread:
        print(
            colour(f"filter {name} reads nothing now: none of its sources is there, or may be read", "warn")
        )
    return 0 if is_good else 1


def find_unread(filters: Iterable[str], sources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the filters none of whose sources is followed."""
    read = {
        name
        for source in sources
        if source["state"] == "following" and source["kind"] != "pattern"
        for name in source["filters"]
    }
    return [name for name in filters if name not in read]


def _cells(source: Mapping[str, Any], now: Micros, reader: Reader | None) -> Iterator[str]:
    yield source["origin"]
    yield source["state"]
    yield _position(source)
    if "behind" in source:
        yield f"{source['behind'] / SECOND:.0f} s" if source["behind"] else "0"
    else:
        yield _size(source["backlog"]) if "backlog" in source else "-"
    yield str(source.get("rate", "-"))
    last_at = source.get("last_at")
    yield "-" if last_at is None else f"{max(0, now - last_at) // SECOND} s ago"
    yield f"{source['last_skew'] / SECOND:+.0f} s, {source['skewed']} lines" if source.get("skewed") else "-"
    filters = source["filters"]
    more = f" and {len(filters) - _FILTERS_SHOWN} more" if len(filters) > _FILTERS_SHOWN else ""
    yield ",".join(filters[:_FILTERS_SHOWN]) + more
    yield _trouble(source, reader) or "-"


def _trouble(source: Mapping[str, Any], reader: Reader | None) -> str:
    """Return what is wrong; of a file that may not be read, what keeps the correlator out of it."""
    trouble: str = source["trouble"]
    if reader is not None and source["kind"] == "file" and trouble.lower() == _DENIED:
        keeps_out = what_keeps_out(source["origin"], reader)
        return f"{trouble}: {keeps_out}" if keeps_out else trouble
    return trouble


def _position(source: Mapping[str, Any]) -> str:
    """Return how far we are: a byte, the time of a journal entry, how many files a pattern means."""
    if source.get("at") is not None:
        return format_instant(source["at"])
    if "matches" in source:
        return "1 file" if source["matches"] == 1 else f"{source['matches']} files"
    return (
        "-" if source["state"] != "following" and not source.get("offset") else str(source.get("offset", "-"))
    )


def _size(count: int) -> str:
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def _run_reload(options: argparse.Namespace) -> int:
    paths = sites.load_settings(options).paths
    pid = _find_correlator(paths.correlator_run / "correlator.lock")
    before = read_correlator(paths.correlator_status).get("reload", {}).get("count", 0)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while (found := read_correlator(paths.correlator_status).get("reload", {})).get("count", 0) == before:
        if time.monotonic() > deadline:
            raise UnreachableError(f"the correlator, process {pid}, did not answer in {_ANSWER_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
    if options.json:
        print_json("reload", **found)
    else:
        for problem in found["problems"]:
            complain(f"fault: {problem}")
        print("refused: everything stays as it was" if found["problems"] else "done")
        for name in found["restart"]:
            print(
                colour(f"the {name} reads its settings at its start: restart it to have the new ones", "warn")
            )
    return _EX_CONFIG if found["problems"] else 0


def _find_correlator(lock: Path) -> int:
    """Return the process that holds the lock. Raises: UnreachableError where none does."""
    try:
        with open(lock, encoding="ascii", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read(32))
    except (FileNotFoundError, ValueError):
        pass
    raise UnreachableError(f"no correlator runs here: nobody holds {lock}")
