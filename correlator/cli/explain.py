"""`explain`: every step of one line, from its header to the decision, without touching anything."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import colour, complain, print_json
from correlator.model import Event, printable

if TYPE_CHECKING:
    from correlator.config.site import Site
    from correlator.engine import Engine

_NO_INPUT = 66  # EX_NOINPUT


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
        help="only this filter: one in use, or a file of ours or of Fail2ban (filter.d/sshd.conf[mode=ddos])",
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
        help='lines as they stand, or {"line": TEXT, "time": EPOCH or null} each; with a filter by its path',
    )
    explain.add_argument(
        "--now",
        type=float,
        metavar="EPOCH",
        help="seconds since 1970 to take for now; with a filter by its path",
    )
    explain.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from correlator.config.filter_references import is_path

    if options.filter is not None and is_path(options.filter):
        from correlator.cli.explain_filter import explain_alone

        return explain_alone(options)
    site = sites.load(options)
    if options.filter is not None and options.filter not in site.filters:
        known = ", ".join(sorted(site.filters)) or "none"
        complain(f"portward explain: no filter {options.filter!r} in use; known: {known}")
        return 2
    lines: Iterable[str] = [options.line]
    if options.line == "-":
        if sys.stdin is None:
            complain("portward explain: standard input is closed, and no LINE was given")
            return _NO_INPUT
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # as logs are read
        lines = sys.stdin
    engine = _engine(site)
    is_understood = False
    for line in lines:
        steps = _explain(engine, line.rstrip("\n"), options.filter)
        is_understood = is_understood or steps["understood"]
        if options.json:
            print_json("explain", **steps)
        else:
            for text in _as_text(steps):
                print(text)
    return 0 if is_understood else 1


def _engine(site: Site) -> Engine:
    """Return an engine as the correlator would run it now, with the strikes that wait there."""
    from correlator.config.site import build_engine
    from correlator.enforcer.never_block import NeverBlock
    from correlator.store.state import StateReader

    guard = NeverBlock(site.enforcer)
    now = time.time_ns() // 1000
    engine = build_engine(site, ignored_by=lambda source: guard.find(source, now))
    if site.paths.correlator_database.exists():
        with closing(StateReader(site.paths.correlator_database)) as reader:
            engine.restore(reader.strikes(), [])
    return engine


def _explain(engine: Engine, text: str, only: str | None) -> dict[str, Any]:
    from correlator.filters import make_line
    from correlator.prefilter import Prefilter
    from correlator.syslog import format_instant, parse_header, read_stamp

    now = time.time_ns() // 1000
    line = make_line(text, arrived=now)
    header = parse_header(text)
    stamp = read_stamp(header.stamp, now)
    steps: dict[str, Any] = {
        "line": text,
        "header": {
            "stamp": header.stamp,
            "host": header.host,
            "identifier": header.identifier,
            "pid": header.pid,
        },
        "body": header.body,
        "time": format_instant(line.evidence.at),
        "time_from": "arrival: the line has no stamp we can read" if stamp is None else "its own stamp",
        "filters": [],
        "jails": [],
        "understood": False,
    }
    data = text.encode("utf-8", "surrogateescape") + b"\n"
    for name, filter_ in engine.filters.items():
        if only is not None and name != only:
            continue
        step: dict[str, Any] = {"filter": name, "file": filter_.definition.where}
        steps["filters"].append(step)
        if not filter_.wants(header.identifier):
            wanted = ", ".join(sorted(filter_.definition.identifiers))
            step["answer"] = f"not ours: identifier {header.identifier!r}, it reads {wanted}"
            continue
        if not any(Prefilter(filter_.literals()).candidates(data)):
            step["answer"] = "not ours: no candidate, the text its patterns need is not there"
            continue
        answer = filter_.read(line)
        if answer is None:
            step["answer"] = "not ours: no pattern matches, or it means nothing"
        elif isinstance(answer, Event):
            steps["understood"] = True
            step["answer"] = "understood"
            step["pattern"] = answer.pattern
            step["source"] = str(answer.source)
            step["spoofable"] = answer.is_spoofable
            step["fields"] = dict(answer.fields)
            steps["jails"].extend(_judged(engine, answer))
        else:
            step["answer"] = f"ours, but unreadable: {answer.reason}"
    return steps


def _judged(engine: Engine, event: Event) -> Iterator[dict[str, Any]]:
    from correlator.engine import format_decision

    listening = [jail for jail in engine.jails.values() if event.filter in jail.definition.filters]
    before = {jail.name: jail.windows.measure(jail.key_for(event) or "", event.at) for jail in listening}
    for jail, verdict in engine.judge(event):
        yield {
            "jail": jail.name,
            "key": verdict.key,
            "before": before[jail.name],
            "after": verdict.note,
            "decision": None if verdict.decision is None else format_decision(verdict.decision),
        }


def _as_text(steps: dict[str, Any]) -> Iterator[str]:
    header = steps["header"]
    yield f"line      {printable(steps['line'])}"
    yield (
        f"header    stamp {header['stamp']!r}, host {header['host']!r}, "
        f"identifier {header['identifier']!r}, pid {header['pid']!r}"
    )
    yield f"time      {steps['time']} (from {steps['time_from']})"
    yield f"body      {printable(steps['body'])}"
    for step in steps["filters"]:
        is_good = step["answer"] == "understood"
        yield f"filter    {step['filter']}: {colour(step['answer'], 'good' if is_good else 'warn')}"
        if is_good:
            yield f"pattern   {step['pattern']}" + (" (spoofable)" if step["spoofable"] else "")
            yield f"source    {step['source']}"
            for name, value in sorted(step["fields"].items()):
                if name != "source":
                    yield f"field     {name} = {printable(value)}"
    for step in steps["jails"]:
        yield f"jail      {step['jail']}: key {step['key']}, before {step['before']}, now {step['after']}"
        if step["decision"] is not None:
            yield f"decision  {colour(step['decision'], 'bad')}"
    if not steps["understood"]:
        yield "result    " + colour("MISSED: no filter understands this line", "warn")
