"""`ignore`: never block an address or prefix from now on, or no longer so."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import complain, print_json
from correlator.errors import PermissionDeniedError, UnreachableError
from correlator.model import Source, parse_prefix, printable

if TYPE_CHECKING:
    from pathlib import Path

_MODE = 0o644
_LONGEST_REASON = 200


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    ignore = commands.add_parser(
        "ignore",
        parents=[common],
        help="never block an address or prefix, and release it where it is blocked",
    )
    ignore.add_argument("address", nargs="?", metavar="ADDR")
    ignore.add_argument("--remove", action="store_true", help="take it out of the ignore file again")
    ignore.add_argument("--reason", default="", help="kept behind it as a comment")
    ignore.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    path = sites.load_settings(options).paths.ignore
    if options.address is None:
        return _list(options, path)
    source = parse_prefix(options.address)
    try:
        lines = (
            path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []
        )
        kept = [line for line in lines if _entry(line) != source]
        is_there = len(kept) < len(lines)
        if options.remove:
            if is_there:
                _write(path, kept)
        elif not is_there:
            reason = printable(options.reason)[:_LONGEST_REASON] or "portward ignore"
            _write(path, [*lines, f"{source}  # {reason}, {time.strftime('%Y-%m-%d')}"])
    except OSError as exc:
        raise PermissionDeniedError(f"{path}: {exc.strerror}") from exc
    released = 0 if options.remove or is_there else _release(options, source)
    _tell(options, source, is_there=is_there, released=released)
    return 0 if options.remove == is_there else 1


def _tell(options: argparse.Namespace, source: Source, *, is_there: bool, released: int) -> None:
    if options.json:
        print_json("ignore", source=source, was_ignored=is_there, released=released)
    elif options.remove:
        print(f"{source} may be blocked again" if is_there else f"{source} was not in the ignore file")
    elif is_there:
        print(f"{source} is ignored already")
    else:
        print(
            f"{source} is ignored from now on" + (f"; {released} blocks of it released" if released else "")
        )


def _list(options: argparse.Namespace, path: Path) -> int:
    """Print what the ignore file holds."""
    from correlator.ignores import parse_ignore_file

    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    entries, faults = parse_ignore_file(text, str(path))
    if options.json:
        print_json("ignore", file=str(path), entries=[str(source) for source, _ in entries], faults=faults)
    else:
        for source, _ in entries:
            print(source)
        for fault in faults:
            complain(f"fault: {fault}")
    return 0 if len(entries) else 1


def _entry(line: str) -> Source | None:
    """Return the source of one line of the file, None where it has none."""
    words = line.partition("#")[0].split()
    try:
        return parse_prefix(words[0]) if words else None
    except ValueError:
        return None


def _write(path: Path, lines: list[str]) -> None:
    from correlator.store.atomic import replace

    mode = os.stat(path).st_mode & 0o7777 if path.exists() else _MODE
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"), mode)


def _release(options: argparse.Namespace, source: Source) -> int:
    """Have the enforcer look at the file now; return how many blocks that ended. It may not run at all."""
    from correlator.enforcer.client import EnforcerClient
    from correlator.enforcer.protocol import SyncRequest

    try:
        with closing(EnforcerClient(sites.load_settings(options).paths.enforcer_socket)) as client:
            before = {block.source for block in client.blocks()}
            client.ask(SyncRequest(1))
            gone = before - {block.source for block in client.blocks()}
            return sum(source.covers(other) or other.covers(source) for other in gone)
    except (UnreachableError, PermissionDeniedError):
        return 0
