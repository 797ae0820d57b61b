"""`why ADDR`: the lines that led to a decision, what was decided, and what became of it."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from typing import Any

from correlator.cli import site as sites
from correlator.cli.output import colour, format_left, print_json
from correlator.errors import PortwardError
from correlator.model import SECOND, Micros, Source, json_ready, parse_prefix, printable


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    why = commands.add_parser("why", parents=[common], help="why an address is, was or would be blocked")
    why.add_argument("address", metavar="ADDR")
    why.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from correlator.enforcer.never_block import NeverBlock
    from correlator.store.state import StateReader

    site = sites.load_settings(options)
    source = parse_prefix(options.address)
    now = time.time_ns() // 1000
    decisions, strikes = [], []
    if site.paths.correlator_database.exists():
        with closing(StateReader(site.paths.correlator_database)) as reader:
            decisions = reader.decisions(source=source)
            strikes = list(reader.strikes(source=source))
    in_force, trouble = _in_force(site.paths.enforcer_socket, source)
    never = NeverBlock(site.enforcer).find(source, now)
    is_known = bool(decisions or strikes or in_force or never)
    if options.json:
        print_json(
            "why",
            source=source,
            in_force=in_force,
            never_blocked=never,
            decisions=decisions,
            strikes=strikes,
            enforcer=trouble or "answered",
        )
        return 0 if is_known else 1
    _print_state(source, in_force, never, trouble, now)
    for decision in decisions:
        _print_decision(json_ready(decision))
    for strike in strikes:
        where = f"{strike.evidence.origin}+{strike.evidence.offset}"
        print(f"waits in jail {strike.jail} (key {strike.key}): {printable(strike.evidence.line)}  [{where}]")
    if not is_known:
        print("no line, decision or block names it")
    return 0 if is_known else 1


def _in_force(path: Any, source: Source) -> tuple[list[Any], str]:
    from correlator.enforcer.client import EnforcerClient

    try:
        with closing(EnforcerClient(path)) as client:
            blocks = client.blocks()
    except PortwardError as exc:
        return [], str(exc)
    return [block for block in blocks if block.source.covers(source) or source.covers(block.source)], ""


def _print_state(source: Source, in_force: list[Any], never: str | None, trouble: str, now: Micros) -> None:
    if in_force:
        for block in in_force:
            print(
                colour(f"{block.source} is BLOCKED", "bad")
                + f", left: {format_left(block.until, now)}, jail {block.jail}"
            )
    elif trouble:
        print(f"{source}: whether it is blocked now is not known: {trouble}")
    else:
        print(f"{source} is not blocked")
    if never is not None:
        print(f"never blocked: {never}")


def _print_decision(decision: dict[str, Any]) -> None:
    from correlator.jails import format_span
    from correlator.syslog import format_instant

    body = decision["body"]
    until = "forever" if decision["until"] is None else format_instant(decision["until"])
    outcome = decision["state"] + (f": {decision['detail']}" if decision["detail"] else "")
    print(
        f"{format_instant(decision['at'])}  {decision['kind']} {decision['source']}"
        f" by jail {decision['jail']}"
    )
    if decision["kind"] == "ignore":
        print(f"  reason    {printable(body['reason'])}")
    else:
        ports = ",".join(map(str, body["ports"])) or "-"
        span = format_span(body["span"]) if body["span"] >= SECOND else f"{body['span']}us"
        print(f"  because   {body['strikes']} strikes within {span}, ports {ports}")
        print(f"  until     {until}")
        print(f"  outcome   {printable(outcome)}")
    for item in body["evidence"]:
        print(f"  line      {printable(item['line'])}  [{item['origin']}+{item['offset']}]")
