"""`why ADDR`: the lines that led to a decision and what became of it; `why-not ADDR`: what is missing."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import colour, format_left, print_json
from correlator.errors import PortwardError
from correlator.model import SECOND, Micros, Source, Strike, json_ready, parse_prefix, printable

if TYPE_CHECKING:
    from correlator.config.settings import SiteSettings
    from correlator.enforcer.protocol import BlockInForce
    from correlator.store.state import StateReader
    from correlator.store.state_rows import KeptDecision

_LINES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Window:
    """How far an address has come in one jail."""

    jail: str
    filters: tuple[str, ...]
    key: str
    """What the jail counts it by, or the account or address of ours that it struck."""
    is_observed: bool
    measure: int
    threshold: int
    span: Micros
    so_far: str
    """`3 of 5 strikes in 10m`, now."""
    is_kept_back: bool
    """True where its window was reached and waits: the breaker was open, and anybody could have forged it."""
    newest: Micros | None
    strikes: tuple[Strike, ...]
    """Its own, the newest last."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known about an address."""

    source: Source
    now: Micros
    in_force: list[BlockInForce]
    trouble: str
    """Why the enforcer does not answer."""
    never: str | None
    decisions: list[KeptDecision]
    windows: list[Window]

    @property
    def is_anything(self) -> bool:
        """Whether any line, decision, block or list names it."""
        seen = any(window.strikes for window in self.windows)
        return bool(self.decisions or self.in_force or self.never or seen)


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    why = commands.add_parser("why", parents=[common], help="why an address is, was or would be blocked")
    why.add_argument("address", metavar="ADDR")
    why.set_defaults(run=_run_why)
    why_not = commands.add_parser("why-not", parents=[common], help="why an address is not blocked")
    why_not.add_argument("address", metavar="ADDR")
    why_not.set_defaults(run=_run_why_not)


def _run_why(options: argparse.Namespace) -> int:
    settings = sites.load_settings(options)
    known = _look_up(parse_prefix(options.address), settings)
    if any(window.strikes for window in known.windows):  # how far they are, the jails' filters say with them
        known = _look_up(known.source, sites.load(options))
    if options.json:
        strikes = [strike for window in known.windows for strike in window.strikes]
        _print_known("why", known, strikes=strikes)
        return 0 if known.is_anything else 1
    _print_state(known)
    for decision in known.decisions:
        _print_decision(json_ready(decision))
    for window in known.windows:
        if window.strikes:
            _print_window(window, known.now)
    if not known.is_anything:
        print("no line, decision or block names it")
    return 0 if known.is_anything else 1


def _run_why_not(options: argparse.Namespace) -> int:
    site = sites.load(options)
    known = _look_up(parse_prefix(options.address), site)
    troubles = list(_find_troubles(site.paths.correlator_status))
    if options.json:
        _print_known("why-not", known, troubles=troubles)
        return 1 if known.in_force else 0
    _print_state(known)
    if known.in_force:
        print(f"why it is blocked says: portward why {known.source}")
        return 1
    for decision in known.decisions[:1]:
        _print_last(decision, known.now)
    for window in known.windows:
        _print_window(window, known.now)
    if not known.is_anything:
        print("never seen: no line that a filter understands named it, as far as we remember")
    for trouble in troubles:
        print(colour(f"and perhaps  {trouble}", "warn"))
    return 0


def _look_up(source: Source, settings: SiteSettings) -> Known:
    from correlator.enforcer.never_block import NeverBlock
    from correlator.store.state import StateReader

    now = time.time_ns() // 1000
    decisions: list[KeptDecision] = []
    windows: list[Window] = []
    if settings.paths.correlator_database.exists():
        with closing(StateReader(settings.paths.correlator_database)) as reader:
            decisions = reader.decisions(source=source)
            windows = list(_windows(source, settings, reader, now))
    in_force, trouble = _in_force(settings.paths.enforcer_socket, source)
    never = NeverBlock(settings.enforcer).find(source, now)
    return Known(source, now, in_force, trouble, never, decisions, windows)


def _windows(source: Source, settings: SiteSettings, reader: StateReader, now: Micros) -> Iterator[Window]:
    """Yield every window that its strikes wait in, and of each jail that counts by sources its own."""
    from correlator.counting.jails import Jail

    own: dict[tuple[str, str], list[Strike]] = {}
    for strike in reader.strikes(source=source):
        own.setdefault((strike.jail, strike.key), []).append(strike)
    keys = dict.fromkeys(own)
    for name, jail_of in settings.jails.items():
        if jail_of.is_keyed_by_source:
            keys[name, str(jail_of.counted_by(source))] = None
    for name, key in keys:
        definition = settings.jails.get(name)
        if definition is None:
            continue  # the site has taken that jail out
        jail = Jail(definition, max_sources=1)
        reach = None
        for strike in reader.waiting(name, key):
            reach = jail.tally(strike)
        measure, kinds = jail.windows.look(key, now)
        strikes = own.get((name, key), [])
        yield Window(
            jail=name,
            filters=definition.filters,
            key=key,
            is_observed=not definition.is_blocking,
            measure=measure,
            threshold=definition.threshold,
            span=definition.span,
            so_far=jail.describe(measure, kinds),
            is_kept_back=reach is not None and reach.is_decided,
            newest=strikes[-1].at if strikes else None,
            strikes=tuple(strikes),
        )


def _in_force(path: Path, source: Source) -> tuple[list[BlockInForce], str]:
    from correlator.enforcer.client import EnforcerClient

    try:
        with closing(EnforcerClient(path)) as client:
            blocks = client.blocks()
    except PortwardError as exc:
        return [], str(exc)
    return [block for block in blocks if block.source.covers(source) or source.covers(block.source)], ""


def _find_troubles(path: Path) -> Iterator[str]:
    """Yield what keeps the correlator from seeing lines, as far as its status says."""
    try:
        status = json.loads(path.read_bytes())
        pid, sources, quarantined = status["pid"], status["sources"], status["quarantined"]
    except (OSError, ValueError, KeyError, TypeError):
        yield "the correlator is not running: nothing is read"
        return
    if not Path(f"/proc/{pid}").exists():
        yield "the correlator is not running: nothing is read"
    for item in sources:
        if item.get("trouble"):
            yield f"a line of {item['origin']} is not read: {printable(item['trouble'])}"
    for name, patterns in quarantined.items():
        for pattern, reason in patterns.items():
            yield f"filter {name} does not use its pattern {pattern}: {printable(reason)}"


def _print_known(kind: str, known: Known, **more: Any) -> None:
    print_json(
        kind,
        source=known.source,
        in_force=known.in_force,
        never_blocked=known.never,
        decisions=known.decisions,
        windows=known.windows,
        enforcer=known.trouble or "answered",
        **more,
    )


def _print_state(known: Known) -> None:
    if known.in_force:
        for block in known.in_force:
            print(
                colour(f"{block.source} is BLOCKED", "bad")
                + f", left: {format_left(block.until, known.now)}, jail {block.jail}"
            )
    elif known.trouble:
        print(f"{known.source}: whether it is blocked now is not known: {known.trouble}")
    else:
        print(f"{known.source} is not blocked")
    if known.never is not None:
        print(f"never blocked: {known.never}")


def _print_window(window: Window, now: Micros) -> None:
    if window.newest is None:
        if window.measure == 0:
            print(f"jail {window.jail}: nothing from it waits ({', '.join(window.filters)})")
        else:
            print(f"jail {window.jail} (key {printable(window.key)}): {window.so_far}, none of it its own")
        return
    print(
        f"jail {window.jail} (key {printable(window.key)}): {window.so_far}, last {_ago(window.newest, now)}"
    )
    if window.is_kept_back:
        reason = "enough, but anybody could have forged it, and the breaker was open; it counts on"
        print(colour(f"  kept back {reason}", "warn"))
    if window.is_observed:
        print("  observes: this jail would block nothing")
    for strike in window.strikes[-_LINES_SHOWN:]:
        where = f"{strike.evidence.origin}+{strike.evidence.offset}"
        print(f"  line      {printable(strike.evidence.line)}  [{where}]")
    if len(window.strikes) > _LINES_SHOWN:
        print(f"  and {len(window.strikes) - _LINES_SHOWN} older ones")


def _print_last(decision: KeptDecision, now: Micros) -> None:
    """Say what became of the latest decision, as it did not end in a block that is in force."""
    when = _ago(decision.at, now)
    if decision.kind == "ignore":
        print(f"decided {when} by jail {decision.jail}, and not blocked: {printable(decision.detail)}")
    elif decision.kind == "observe":
        print(f"decided {when} by jail {decision.jail}, which only observes")
    else:
        detail = f": {printable(decision.detail)}" if decision.detail else ""
        print(f"blocked {when} by jail {decision.jail}; it is {decision.state}{detail}")


def _ago(at: Micros, now: Micros) -> str:
    return f"{format_left(now, at)} ago" if now > at else "just now"


def _print_decision(decision: dict[str, Any]) -> None:
    from correlator.counting.jails import format_span
    from correlator.lines.syslog import format_instant

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
        struck = f" on {printable(body['struck'])}" if body.get("struck") else ""
        step = f", its jail's length number {body['step']}" if body.get("step") else ""
        measure = f"{body['strikes']} {printable(body.get('unit', 'strikes'))}"
        print(f"  because   {measure} within {span}{struck}, ports {ports}")
        print(f"  until     {until}{step}")
        print(f"  outcome   {printable(outcome)}")
    for item in body["evidence"]:
        print(f"  line      {printable(item['line'])}  [{item['origin']}+{item['offset']}]")
