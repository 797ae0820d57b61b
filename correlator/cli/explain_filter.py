"""`explain --filter PATH`: what one filter, given by its file, makes of lines; no site is needed for that.

So is a filter by its name where `--input jsonl` or `--option` asks for this.

With `--input jsonl` each line is an object `{"line": TEXT, "time": EPOCH or null}` and is answered at once:
`{"matched": true, "pattern": ..., "source": ..., "time": EPOCH, "fields": {...}}`. `source` is who is meant,
as text: an address in its canonical form, or with a filter of Fail2ban whatever it takes for one (a host's
name, an identity); `fields` are the named groups that took part, `F-USER` being `user`. The lines of one
input belong to one log, in order: filters that connect several lines do so.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from correlator.cli.output import colour, complain
from correlator.errors import ConfigError, Fault
from correlator.model import SECOND, Event, Micros, printable

if TYPE_CHECKING:
    from correlator.matching.filters import Filter

_NO_INPUT = 66  # EX_NOINPUT
_BAD_DATA = 65  # EX_DATAERR
_LONGEST = 1 << 20
_SHOWN = 80
_FORM = '{"line": TEXT, "time": EPOCH or null}'
HIGHEST_EPOCH = 221_845_392_000
"""Seconds since 1970, in the year 9000: what is later is no time of a log."""
_NOTHING: dict[str, Any] = {"matched": False, "pattern": None, "source": None, "time": None, "fields": {}}


def explain_alone(options: argparse.Namespace, reference: str) -> int:
    """Answer for each line; 0 where anything matched, 65 where any input was no such object.

    Raises: ConfigError for a filter with faults.
    """
    from correlator.config.filter_references import open_filter
    from correlator.matching.whole_line_filters import run_filter

    parameters = dict(_parameters(options.option))
    definition, faults = open_filter(reference, parameters)
    if definition is None:
        raise ConfigError(tuple(faults))
    filter_ = run_filter(definition)
    is_matched = is_faulty = False
    if options.line == "-" and sys.stdin is None:
        complain("portward explain: standard input is closed, and no LINE was given")
        return _NO_INPUT
    for number, text, at in _lines(options):
        if text is None:
            complain(f"portward explain: input line {number}: {at}")
            _show("", {**_NOTHING, "error": at}, as_json=options.json)
            is_faulty = True
            continue
        now = int(options.now * SECOND) if options.now is not None else time.time_ns() // 1000
        known = len(filter_.quarantined)
        answer = _answer(filter_, text, now, at)
        for pattern, why in [*filter_.quarantined.items()][known:]:
            complain(f"portward explain: input line {number}: pattern {pattern!r} {why}; it is tried no more")
        is_matched = is_matched or answer["matched"]
        _show(text, answer, as_json=options.json)
        if not options.json and not answer["matched"] and not filter_.reads_whole_lines:
            for why in _why_not(filter_, text, now):
                print(f"  {why}", flush=True)
    if is_faulty:
        return _BAD_DATA
    return 0 if is_matched else 1


def _parameters(options: list[str]) -> Iterator[tuple[str, str]]:
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                (Fault("--option", "option", repr(option), "NAME=VALUE, such as mode=aggressive"),)
            )
        yield name.strip(), value


def _lines(options: argparse.Namespace) -> Iterator[tuple[int, str | None, Any]]:
    """Yield (number, text, its time or None) of each line; (number, None, why) for what is no such object."""
    is_json = options.input == "jsonl"
    if options.line != "-":
        yield (1, *_parse(options.line)) if is_json else (1, options.line, None)
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        # as logs are read: any bytes, and a line ends with a line feed alone
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    number = 0
    while line := sys.stdin.readline(_LONGEST):  # one at a time: each is answered before the next is read
        number += 1
        if len(line) == _LONGEST and not line.endswith("\n"):
            _skip_rest()
            yield number, None, f"{_shown(line)}: longer than {_LONGEST} characters"
        elif not is_json:
            yield number, line.rstrip("\r\n"), None
        elif line.strip():
            yield number, *_parse(line)


def _skip_rest() -> None:
    while (rest := sys.stdin.readline(_LONGEST)) and not rest.endswith("\n"):
        pass


def _parse(line: str) -> tuple[str | None, Any]:
    """Return text and time of an object; (None, why) where it is none."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return None, f"{_shown(line)}: no JSON: {exc}; expected {_FORM}"
    if not isinstance(given, dict):
        return None, f"{_shown(line)}: no object, expected {_FORM}"
    text, at = given.get("line"), given.get("time")
    if not isinstance(text, str):
        got = _shown(json.dumps(text)) if "line" in given else "nothing"
        return None, f'"line": got {got}, expected text, as in {_FORM}'
    is_time = isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < HIGHEST_EPOCH
    if at is not None and not is_time:
        expected = "seconds since 1970, before the year 9000, or null"
        return None, f'"time": got {_shown(json.dumps(at))}, expected {expected}'
    return text.rstrip("\r\n"), None if at is None else round(at * SECOND)


def _shown(text: str) -> str:
    text = text.strip()
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _answer(filter_: Filter, text: str, now: Micros, at: Micros | None) -> dict[str, Any]:
    from correlator.matching.filter_tests import make_line
    from correlator.matching.filters import Unreadable
    from correlator.matching.whole_line_filters import WholeLineFilter

    if isinstance(filter_, WholeLineFilter):
        found = filter_.find(text, now, at=at)
        if found is not None:
            return _matched(found.pattern, found.identity, found.at, dict(found.fields))
    else:
        line = make_line(text, arrived=now if at is None else at, layout=filter_.layout)
        event = filter_.read(line) if filter_.wants(line.header.identifier) else None
        if event is None:
            event = next(iter(filter_.late), None)  # an earlier line, whose connection this one begins
        if isinstance(event, Event):
            when = event.at if at is None else at
            return _matched(event.pattern, str(event.source), when, dict(event.fields))
        if isinstance(event, Unreadable):
            return {**_NOTHING, "unreadable": event.reason}
    return _NOTHING


def _why_not(filter_: Filter, text: str, now: Micros) -> Iterator[str]:
    """Yield how far the patterns of a filter of ours get with a line."""
    from correlator.cli.explain_steps import find_misses, miss_lines
    from correlator.matching.filter_tests import make_line

    line = make_line(text, arrived=now, layout=filter_.layout)
    identifier = line.header.identifier
    if not filter_.wants(identifier):
        reads = ", ".join(map(repr, sorted(filter_.definition.identifiers or {""})))
        yield f"its program is {identifier!r}, and the filter reads {reads}"
        return
    yield from miss_lines(miss for miss in find_misses(filter_.definition, line) if miss["wants"])


def _matched(pattern: str, source: str, at: Micros, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "matched": True,
        "pattern": pattern,
        "source": source,
        "time": at // SECOND if at % SECOND == 0 else at / SECOND,
        "fields": fields,
    }


def _show(text: str, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer), flush=True)
        return
    from correlator.lines.syslog import format_instant

    print(colour(printable(text), "strong"))
    if not answer["matched"]:
        print(f"  {answer.get('unreadable') or answer.get('error') or 'not matched'}", flush=True)
        return
    at = format_instant(int(answer["time"] * SECOND))
    print(f"  {answer['pattern']}: {printable(answer['source'])} at {at}")
    for name, value in answer["fields"].items():
        print(f"    {name} = {printable(str(value))}")
    sys.stdout.flush()
