"""What `explain` finds out about one line: header, time, who reads it, how far patterns get, what follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from correlator.cli.output import colour
from correlator.model import Event, Micros, Source, printable

if TYPE_CHECKING:
    from correlator.engine import Engine
    from correlator.lines.layouts import Reading
    from correlator.matching.filter_definition import FilterDefinition
    from correlator.matching.filters import Filter
    from correlator.matching.patterns import Line

_FEW = 3
_LONGEST_RECORD = 1 << 18  # as `reading` has it


class Judges(Protocol):
    """Who judges an event."""

    @property
    def engine(self) -> Engine:
        """The jails, and what waits in their windows."""

    def ignored_by(self, source: Source) -> str | None:
        """Return which list names a source; None: none."""


def explain_line(
    filters: Sequence[Filter],
    text: str,
    now: Micros,
    *,
    only: str | None,
    judges: Judges,
    max_line: int,
) -> dict[str, Any]:
    """Return every step of one line, as data."""
    from correlator.lines.layout_definition import TEXT
    from correlator.lines.layouts import read_line
    from correlator.lines.syslog import format_instant

    reading = read_line(text, TEXT, arrived=now)
    header = reading.header
    steps: dict[str, Any] = {
        "line": text,
        "header": {
            "stamp": header.stamp,
            "host": header.host,
            "identifier": header.identifier,
            "pid": header.pid,
            "repeats": header.repeats,
        },
        "body": header.body,
        "time": format_instant(now if reading.stamp is None else reading.stamp),
        "time_from": "arrival: the line has no stamp we can read"
        if reading.stamp is None
        else "its own stamp",
        "filters": [],
        "jails": [],
        "understood": False,
    }
    for filter_ in filters:
        name = filter_.name
        if only is not None and name != only:
            continue
        step, event = _ask(filter_, text, reading, now, max_line)
        steps["filters"].append(step)
        if event is not None:
            steps["understood"] = True
            step["ignored_by"] = judges.ignored_by(event.source)
            if step["time"] != steps["time"]:
                steps["time"], steps["time_from"] = step["time"], f"what filter {name} reads as the date"
            steps["jails"].extend(_judged(judges.engine, event))
    if steps["understood"] and only is None:
        _leave_out_misses(steps["filters"])
    for step in steps["filters"]:
        if "misses" in step:
            step["misses"] = list(step["misses"])  # not found out before somebody is told of it
    return steps


def _leave_out_misses(steps: list[dict[str, Any]]) -> None:
    """Say nothing of how far the others got with a line that one of them understands."""
    for step in steps:
        step.pop("misses", None)
        if step.get("is_unreadable"):
            step |= {"is_unreadable": False, "answer": "not ours: another filter understands it"}


def _is_too_long(length: int, filter_: Filter, body: str, max_line: int) -> bool:
    """Whether a line of so many bytes is never read by a filter: records may be longer than text."""
    from correlator.lines.layouts import RECORD_BEGINS

    is_record = filter_.layout.is_json and body.lstrip().startswith(RECORD_BEGINS)
    return length > (max(max_line, _LONGEST_RECORD) if is_record else max_line)


def _ask(
    filter_: Filter, text: str, reading: Reading, now: Micros, max_line: int
) -> tuple[dict[str, Any], Event | None]:
    from correlator.lines.syslog import format_instant
    from correlator.matching.filter_tests import make_line

    identifier = reading.header.identifier
    step: dict[str, Any] = {"filter": filter_.name, "file": filter_.definition.where, "is_for": True}
    if not filter_.wants(identifier):
        wanted = ", ".join(sorted(map(_program, filter_.definition.identifiers))) or _program("")
        step |= {"is_for": False, "answer": f"not ours: identifier {identifier!r}, it reads {wanted}"}
        return step, None
    if _is_too_long(len(text.encode("utf-8", "surrogateescape")), filter_, reading.header.body, max_line):
        step["answer"] = f"not read: longer than {max_line} bytes (max_line), which is counted and shown"
        return step, None
    line = make_line(text, arrived=now, layout=filter_.layout)
    needs = (*filter_.needs(), *filter_.needs_of_logins())
    if not any(need.fits(text if need.identifiers is None else line.header.body) for need in needs):
        step["answer"] = "not ours: no candidate, the text its patterns need is not there"
        step["misses"] = find_misses(filter_.definition, line)
        return step, None
    known = len(filter_.quarantined)
    answer = filter_.read(line)
    step["quarantined"] = dict([*filter_.quarantined.items()][known:])
    if answer is None:
        answer = next(iter(filter_.late), None)
    if isinstance(answer, Event):
        step |= {
            "answer": "understood",
            "pattern": answer.pattern,
            "source": str(answer.source),
            "time": format_instant(answer.at),
            "spoofable": answer.is_spoofable,
            "weight": answer.weight,
            "count": answer.count,
            "fields": dict(answer.fields),
        }
        return step, answer
    if answer is None and filter_.told:
        step |= {"is_kept_in_mind": True, "answer": f"kept in mind: it {filter_.told}"}
        return step, None
    misses = list(find_misses(filter_.definition, line))
    step["misses"] = [miss for miss in misses if miss["wants"]]
    if answer is not None:
        ours = "ours in its own files only" if filter_.definition.knows_its_files_only else "ours"
        step |= {"is_unreadable": True, "answer": f"{ours}, but unreadable: {answer.reason}"}
    elif len(step["misses"]) == len(misses):
        step["answer"] = "not ours: no pattern matches, or it means nothing"
    else:
        step["answer"] = "means nothing: a pattern matches, and an [[ignore]] takes it out"
    return step, None


def find_misses(definition: FilterDefinition, line: Line) -> Iterator[dict[str, Any]]:
    """Yield how far patterns get with a line, and what a record lacks for them."""
    from correlator.matching.pattern_review import near_misses, unmet_conditions

    yield from near_misses(definition, line.header.body)
    if line.record is not None:
        yield from unmet_conditions(definition, line.record)


def _program(identifier: str) -> str:
    return {"": "lines of no program", "*": "any program"}.get(identifier, identifier)


def _judged(engine: Engine, event: Event) -> Iterator[dict[str, Any]]:
    from correlator.engine import format_decision

    listening = [jail for jail in engine.jails.values() if event.filter in jail.definition.filters]
    before = {jail.name: jail.windows.measure(jail.key_for(event) or "", event.at) for jail in listening}
    for jail, verdict in engine.judge(event):
        definition = jail.definition
        yield {
            "jail": jail.name,
            "key": verdict.key,
            "unit": definition.unit,
            "threshold": definition.threshold,
            "before": before[jail.name],
            "after": verdict.note,
            "decision": None if verdict.decision is None else format_decision(verdict.decision),
        }


def explanation_text(steps: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that a person reads."""
    header = steps["header"]
    yield f"line      {printable(steps['line'])}"
    yield (
        f"header    stamp {header['stamp']!r}, host {header['host']!r}, "
        f"identifier {header['identifier']!r}, pid {header['pid']!r}"
        + (f", said {header['repeats']} times" if header["repeats"] > 1 else "")
    )
    yield f"time      {steps['time']} (from {steps['time_from']})"
    yield f"body      {printable(steps['body'])}"
    others = [step["filter"] for step in steps["filters"] if not step["is_for"]]
    for step in steps["filters"]:
        if step["is_for"] or len(others) <= _FEW:
            yield from _filter_text(step)
    if len(others) > _FEW:
        yield f"others    {', '.join(others)}: they read other programs"
    for step in steps["jails"]:
        before = f"{step['before']} before"
        yield f"jail      {step['jail']}: key {step['key']}, {before}, now {step['after']}"
        if step["decision"] is not None:
            yield f"decision  {colour(step['decision'], 'bad')}"
        else:
            yield "decision  none"
    if steps["understood"] and not steps["jails"]:
        yield "jail      " + colour("none listens to this filter", "warn")
    if any(step.get("is_kept_in_mind") for step in steps["filters"]):
        yield "result    no strike by itself: address and failure stand in different lines"
    elif not steps["understood"]:
        yield "result    " + colour("MISSED: no filter understands this line", "warn")
    for name in steps.get("would_be_understood_by", ()):
        yield f'hint      filter {name} understands it, and is not enabled: enabled = ["{name}"]'


def _filter_text(step: dict[str, Any]) -> Iterator[str]:
    is_good = step["answer"] == "understood"
    yield f"filter    {step['filter']}: {colour(printable(step['answer']), 'good' if is_good else 'warn')}"
    for pattern, why in step.get("quarantined", {}).items():
        yield f"limit     pattern {pattern} {colour(why, 'bad')}: the correlator tries it no more"
    yield from miss_lines(step.get("misses", ()))
    if not is_good:
        return
    yield f"pattern   {step['pattern']}" + (" (spoofable)" if step["spoofable"] else "")
    yield f"source    {step['source']}"
    for name, value in sorted(step["fields"].items()):
        if name != "source":
            yield f"field     {name} = {printable(value)}"
    if step["count"] > 1 or step["weight"] > 1:
        yield f"counts    {step['count']} times, weight {step['weight']}"
    yield f"ignore    {step['ignored_by'] or 'no list names the source'}"


def miss_lines(misses: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield what a person reads of `find_misses`."""
    for miss in misses:
        if "field" in miss:
            got = "nothing" if miss["got"] is None else repr(printable(miss["got"]))
            wants = printable(miss["wants"])
            yield f"miss      pattern {miss['pattern']} wants {miss['field']} to be {wants}"
            yield f"          got {got}"
            continue
        matched, rest = printable(miss["matches"]), printable(miss["stops_at"])
        yield f"miss      pattern {miss['pattern']} takes {matched!r}"
        yield f"          then wants {printable(miss['wants'])}, got {rest!r}"
