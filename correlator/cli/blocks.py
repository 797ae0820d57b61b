"""`blocks`, `block`, `release`, `history`: what is denied, by hand and by jail, now and before."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import complain, format_left, print_json, print_table
from correlator.errors import PortwardError, SourceError
from correlator.model import OutcomeKind, Source, parse_prefix, parse_source

if TYPE_CHECKING:
    from correlator.enforcer.client import EnforcerClient
    from correlator.enforcer.protocol import Answer, BlockInForce


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    blocks = commands.add_parser("blocks", parents=[common], help="every block in force")
    blocks.set_defaults(run=_run_blocks)
    block = commands.add_parser("block", parents=[common], help="deny an address or prefix")
    block.add_argument("address", metavar="ADDR")
    block.add_argument(
        "--for", dest="duration", default="1h", metavar="TIME", help="10m, 1h, 1d, forever (default 1h)"
    )
    block.add_argument("--reason", default="by hand", help="kept with the block")
    block.add_argument(
        "--even-myself", action="store_true", help="also where it is the address that this login comes from"
    )
    block.set_defaults(run=_run_block)
    release = commands.add_parser("release", parents=[common], help="deny an address or prefix no longer")
    which = release.add_mutually_exclusive_group(required=True)
    which.add_argument("address", nargs="?", metavar="ADDR")
    which.add_argument("--all", action="store_true", help="every block")
    release.set_defaults(run=_run_release)
    history = commands.add_parser("history", parents=[common], help="every block there was, newest last")
    history.add_argument("address", nargs="?", metavar="ADDR", help="only of this address or prefix")
    history.set_defaults(run=_run_history)


@contextmanager
def _enforcer(options: argparse.Namespace) -> Iterator[EnforcerClient]:
    from correlator.enforcer.client import EnforcerClient

    with closing(EnforcerClient(sites.load_settings(options).paths.enforcer_socket)) as client:
        yield client


def _run_blocks(options: argparse.Namespace) -> int:
    with _enforcer(options) as client:
        blocks = client.blocks()
    now = time.time_ns() // 1000
    if options.json:
        print_json("blocks", blocks=blocks)
        return 0
    if not blocks:
        print("nothing is blocked")
        return 0
    print_table(
        ("SOURCE", "LEFT", "JAIL", "PORT", "ACTIONS", "REASON"),
        (
            (
                block.source,
                format_left(block.until, now),
                block.jail,
                f"{block.port}/{block.protocol}" if block.protocol else "-",
                ",".join(_shown(name, ending) for name, ending in _endings(block)),
                block.reason,
            )
            for block in sorted(blocks, key=lambda block: block.created)
        ),
    )
    return 0


def _run_block(options: argparse.Namespace) -> int:
    from correlator.config.reader import FOREVER, parse_duration
    from correlator.enforcer.fields import MAX_UNTIL, RequestError, read_reason
    from correlator.enforcer.protocol import BlockRequest, OutcomeAnswer

    source = parse_prefix(options.address)
    now = time.time_ns() // 1000
    duration = None if options.duration == FOREVER else parse_duration(options.duration)
    if options.duration != FOREVER and (not duration or now + duration > MAX_UNTIL):
        expected = "10m, 1h, 1d or forever" + (", and an end before the year 2400" if duration else "")
        complain(f"portward block: --for: got {options.duration!r}, expected {expected}")
        return 2
    if not options.even_myself and (me := own_login()) is not None and source.covers(me):
        complain(f"portward block: {source} is where this login comes from ({me}); --even-myself does it")
        return 1
    try:
        read_reason(options.reason)
    except RequestError as exc:
        complain(f"portward block: --{exc}")
        return 2
    request = BlockRequest(
        id=1,
        request=f"manual:{source}:{now}:{os.getpid()}",
        source=source,
        until=None if duration is None else now + duration,
        reason=options.reason,
    )
    with _enforcer(options) as client:
        answer = client.ask(request)
    if not isinstance(answer, OutcomeAnswer):
        raise _refused(answer)
    outcome = answer.outcome
    if options.json:
        print_json("block", outcome=outcome)
    elif outcome.kind in (OutcomeKind.DONE, OutcomeKind.EXISTS):
        word = "blocked" if outcome.kind is OutcomeKind.DONE else "blocked already"
        print(f"{word} {source}, left: {format_left(outcome.until, now)}")
    else:
        complain(f"portward block: {outcome.kind.value}: {outcome.detail}")
    return 0 if outcome.kind in (OutcomeKind.DONE, OutcomeKind.EXISTS) else 1


def own_login() -> Source | None:
    """Return the address that the login session we run in comes from, None where it is a local one.

    sshd tells it to the session's processes; sudo takes it out of ours, so our ancestors are asked as well.
    """
    process = os.getpid()
    while process > 1:
        try:
            environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            return None
        for entry in environment:
            name, _, value = entry.partition(b"=")
            if name in (b"SSH_CONNECTION", b"SSH_CLIENT") and value.split():
                with suppress(SourceError):
                    return parse_source(value.split()[0].decode("ascii", "replace"))
        process = int(parent)
    return None


def _run_release(options: argparse.Namespace) -> int:
    from correlator.enforcer.protocol import ReleasedAnswer, ReleaseRequest
    from correlator.lines.syslog import format_instant

    source = None if options.all else parse_prefix(options.address)
    with _enforcer(options) as client:
        undone = [block for block in client.blocks() if block.source == source]
        answer = client.ask(ReleaseRequest(1, source))
    if not isinstance(answer, ReleasedAnswer):
        raise _refused(answer)
    if options.json:
        print_json("release", released=answer.count, denied_by=answer.denied_by, undone=undone)
    elif answer.count:
        print(f"released {'every block' if source is None else source}: {answer.count}")
        for block in undone:
            why = block.reason or "no reason given"
            print(f"  blocked {format_instant(block.created)} by {block.jail}: {why}")
            _print_undone(block)
    else:
        print("nothing was blocked" if source is None else f"{source} was not blocked")
    if answer.denied_by is not None and not options.json:
        complain(f"still denied by the block of {answer.denied_by}")
    return 0 if answer.count else 1


def _endings(block: BlockInForce) -> list[tuple[str, str]]:
    """Return each action of a block with how far it has come; done, where that is not written down yet."""
    return list(zip(block.actions, block.endings or ["done"] * len(block.actions), strict=True))


def _shown(name: str, ending: str) -> str:
    return name if ending in ("done", "told") else f"{name} ({ending})"


def _print_undone(block: BlockInForce) -> None:
    """Say what a release undoes, and what it leaves: what failed, who was told, what was there before us."""
    undone = [name for name, ending in _endings(block) if ending in ("done", "under way")]
    others = [f"{name} ({ending})" for name, ending in _endings(block) if name not in undone]
    if undone:
        print(f"  undone: {', '.join(undone)}")
    if others:
        print(f"  nothing to undo: {', '.join(others)}")


def _refused(answer: Answer) -> PortwardError:
    from correlator.enforcer.protocol import ErrorAnswer

    detail = answer.detail if isinstance(answer, ErrorAnswer) else f"got {type(answer).__name__}"
    return PortwardError(f"the enforcer did not understand: {detail}")


def _run_history(options: argparse.Namespace) -> int:
    from correlator.lines.syslog import format_instant
    from correlator.store.block_reader import BlockReader
    from correlator.store.blocks import BlockRow

    path = sites.load_settings(options).paths.blocks_database
    source = None if options.address is None else parse_prefix(options.address)
    rows: tuple[BlockRow, ...] = ()
    if path.exists():
        with closing(BlockReader(path)) as reader:
            rows = reader.history(source)
    if options.json:
        print_json("history", blocks=rows)
        return 0 if rows else 1
    if not rows:
        print("nothing was ever blocked" if source is None else f"{source} was never blocked")
        return 1
    print_table(
        ("TIME", "SOURCE", "STATE", "UNTIL", "JAIL", "PORT", "DETAIL"),
        (
            (
                format_instant(row.created),
                row.source,
                row.state.value,
                "forever" if row.until is None else format_instant(row.until),
                row.jail,
                f"{row.port}/{row.protocol}" if row.protocol else "-",
                row.detail or row.reason,
            )
            for row in rows
        ),
    )
    return 0
