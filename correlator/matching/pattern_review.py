"""Looks at a filter as an attacker would: whom can his text name, how long can his line take.

Warns of patterns that are found in the middle of a line, of free text before the address that can hold an
address itself, of patterns without text to search for, and of patterns that back-track: for these, lines are
made from the expression itself, with each of its repetitions pumped up, and tried against the time limit.
Warnings, not proof: what is not found here may exist. Pure; bounded by the expression's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import regex

from correlator.lines.layouts import find_text
from correlator.matching.filter_definition import (
    SOURCE,
    Condition,
    FilterDefinition,
    FilterTest,
    PatternDefinition,
    name_groups,
)
from correlator.matching.filter_tests import make_line, read_test
from correlator.matching.filters import Filter
from correlator.matching.logins import ACCOUNT, LOGIN
from correlator.matching.needs import required_literal
from correlator.matching.open_connections import CONNECTION
from correlator.matching.pattern_tree import (
    ALPHABET,
    CLOSINGS,
    LONG,
    OPENINGS,
    REPEATS,
    class_of,
    find_group,
    find_needed,
    is_at,
    parse_expression,
    pumps,
)
from correlator.matching.patterns import RecordConditions
from correlator.model import SECOND, Event, Micros

_VICTIMS = {4: "198.51.100.66", 6: "2001:db8:66::66"}
_WRITTEN_BY_THE_SERVICE = frozenset({"source", "port", "protocol", "count"})
_ARRIVED = 1_767_225_600 * SECOND
_LENGTHS = (40, 400, 8000)  # the last is what a line may hold
_TRIES = 3  # the limit is of wall time: a busy machine alone must not accuse a pattern
_MOST_PUMPS = 60
_MOST_MISSES = 5
_LEAST_REACH = 4  # characters: less is found in any line


def review_filter(definition: FilterDefinition, *, limit: Micros = SECOND // 20) -> Iterator[tuple[str, str]]:
    """Yield (name of the pattern, what is wrong with it). Raises: PatternError."""
    for pattern in definition.patterns:
        if pattern.expression:
            for warning in review_expression(pattern.expression, limit=limit):
                yield pattern.name, warning
        for condition in filter(lambda condition: condition.expression, pattern.conditions):
            if SOURCE in name_groups(condition.expression):
                for warning in review_expression(condition.expression, limit=limit, is_searched_for=False):
                    yield pattern.name, f"field {condition.path}: {warning}"
            elif slow := find_slow_line(condition.expression, limit):
                yield pattern.name, f"field {condition.path}: {slow}"
    for connection in definition.connections:
        for expression in filter(None, (connection.begins, connection.tells, connection.ends)):
            for warning in review_expression(expression, limit=limit):
                yield CONNECTION, warning
    for login in definition.logins:
        for expression in filter(None, (login.begins, login.ends)):
            for warning in review_expression(expression, limit=limit):
                yield LOGIN, warning
    yield from _review_fields(definition)


def review_expression(
    expression: str, *, limit: Micros = SECOND // 20, is_searched_for: bool = True
) -> Iterator[str]:
    """Yield what is wrong with the expression of a pattern.

    `is_searched_for`: whether lines are found by its text, and not by something else that they hold.
    """
    parsed = parse_expression(expression)
    if parsed is None:
        yield (
            "it cannot be reviewed: Python's re cannot read it (a group that stands twice, or what only the"
            " module regex knows), so look yourself whom it can be made to name, and how long it can take"
        )
    else:
        if not is_at(parsed, OPENINGS, 0):
            yield "it is not anchored with ^: a stranger's text in the middle of a line can match"
        yield from _review_text_before(parsed)
        if is_searched_for and not required_literal(expression):
            yield "no text of three letters stands in all lines it matches: every line must be searched"
    slow = find_slow_line(expression, limit)
    if slow:
        yield slow


def find_slow_line(expression: str, limit: Micros) -> str:
    """Return how a line made for this expression outruns the limit; empty where none was found."""
    parsed = parse_expression(expression)
    compiled = regex.compile(expression, regex.VERSION0)
    seconds = limit / SECOND
    for prefix, pump, tail in sorted(set(pumps(parsed or ())))[:_MOST_PUMPS]:
        for length in _LENGTHS:
            text = prefix + pump * (length // len(pump))
            # with what must follow somewhere, else the search ends before it has begun
            if any(_outruns(compiled, text + end, seconds) for end in ("\x00", f"\x00{tail}", f"{tail}\x00")):
                return (
                    f"it back-tracks: {len(text)} characters, {(prefix + pump * 2)[:60]!r} and so on,"
                    f" take it longer than {limit // 1000} ms"
                )
    return ""


def find_reach(expression: str, text: str) -> tuple[int, str]:
    """Return how much of a text an expression takes, and what of the expression asks for something else.

    Looks for the longest beginning of the expression that is found where the text begins; (0, "") where that
    is nothing, or where the expression is a choice between several.
    """
    cuts = _cuts(expression)
    low, high = 0, len(cuts)
    reach = 0
    while low < high:  # where a longer beginning of the expression is found, so is a shorter
        middle = (low + high + 1) // 2
        try:
            found = regex.compile(expression[: cuts[middle - 1]]).match(text, timeout=0.05)
        except (regex.error, TimeoutError):
            found = None
        if found is None:
            high = middle - 1
        else:
            low, reach = middle, found.end()
    return (reach, expression[cuts[low - 1] :]) if low else (0, "")


def near_misses(definition: FilterDefinition, body: str) -> Iterator[dict[str, Any]]:
    """Yield how far the patterns get that get somewhere, the nearest miss first."""
    if definition.whole_lines is not None:
        return
    reached = [
        (*find_reach(pattern.expression, body), pattern.name)
        for pattern in definition.patterns
        if pattern.expression
    ]
    nearest = max(reached, default=(0, "", ""))[0]
    for reach, wants, name in sorted(reached, reverse=True)[:_MOST_MISSES]:
        if reach >= max(_LEAST_REACH, nearest // 2):
            yield {"pattern": name, "matches": body[:reach], "stops_at": body[reach:], "wants": wants}


def unmet_conditions(definition: FilterDefinition, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield, for each pattern of records, the first thing that a record lacks or says otherwise."""
    for pattern in definition.patterns:
        for condition in pattern.conditions:
            if not RecordConditions([condition]).are_met(record, pattern.name, _search):
                yield _unmet(pattern, condition.path, _wanted(condition), record)
                break
        else:
            source = pattern.paths.get(SOURCE, "")
            if source and find_text(record, source) is None:
                yield _unmet(pattern, source, "an address", record)


def _unmet(pattern: PatternDefinition, path: str, wants: str, record: Mapping[str, Any]) -> dict[str, Any]:
    return {"pattern": pattern.name, "field": path, "wants": wants, "got": find_text(record, path)}


def _wanted(condition: Condition) -> str:
    """Return what a condition asks for, in words."""
    if condition.is_missing:
        return "missing"
    if condition.expression:
        return f"text with {condition.expression}"
    few = sorted(condition.values)[:_MOST_MISSES]
    return " or ".join([*map(repr, few), *(["another one"] if len(condition.values) > len(few) else [])])


def _search(_name: str, compiled: Any, text: str) -> Any:
    try:
        return compiled.search(text, timeout=0.05)
    except TimeoutError:
        return None


def _cuts(expression: str) -> list[int]:
    """Return where an expression can be cut so that its beginning is one; nowhere in a choice."""
    cuts = []
    depth, index = 0, 0
    is_class = False
    while index < len(expression):
        one = expression[index]
        index += 2 if one == "\\" else 1
        if is_class:
            is_class = one != "]" or expression[index - 2] == "["
        elif one == "[":
            is_class = True
        elif one in "()":
            depth += 1 if one == "(" else -1
        elif one == "|" and depth == 0:
            return []
        if depth == 0 and not is_class and expression[index : index + 1] not in ("*", "+", "?", "{"):
            cuts.append(index)
    return [cut for cut in cuts if expression.count("{", 0, cut) == expression.count("}", 0, cut)]


def _outruns(compiled: Any, text: str, seconds: float) -> bool:
    for _ in range(_TRIES):
        try:
            compiled.search(text, timeout=seconds, concurrent=False)
        except TimeoutError:
            continue
        return False
    return True


def _review_text_before(parsed: Any) -> Iterator[str]:
    """Warn of free text before the address, where something else than the line's end can follow it."""
    groups = parsed.state.groupdict
    group = next((groups[name] for name in (SOURCE, CONNECTION, ACCOUNT) if name in groups), None)
    before: list[set[str]] = []
    after: list[set[str]] = []
    seen = _sort_free_text(parsed, group, before, after, is_after=False)
    if not seen or not before:
        return
    if not is_at(parsed, CLOSINGS, -1):
        yield (
            "free text stands before the address and the expression does not end with $:"
            " an address that a stranger typed there can be taken for the source"
        )
    elif any(needed <= allowed for needed in before for allowed in after):
        yield (
            "free text stands before the address and behind it:"
            " what a stranger typed can be taken for the source and the real one for more of his text"
        )


def _sort_free_text(
    parsed: Any,
    group: int | None,
    before: list[set[str]],
    after: list[set[str]],
    *,
    is_after: bool,
    following: Sequence[Any] = (),
) -> bool:
    """Collect the free text of a sequence, and return whether the source has been passed.

    Of text before it what must follow is noted, of text behind it which characters it takes.
    """
    items = list(parsed)
    for index, (operation, argument) in enumerate(items):
        rest = [*items[index + 1 :], *following]
        inner: list[Any] = []
        match str(operation):
            case "SUBPATTERN" if argument[0] is not None and argument[0] == group:
                is_after = True
            case "SUBPATTERN":
                inner = [argument[3]]
            case "ATOMIC_GROUP":
                inner = [argument]
            case "BRANCH":
                inner = list(argument[1])
            case name if name in REPEATS and argument[1] >= LONG and _is_free(argument[2], rest, group):
                if is_after:
                    after.append(class_of(argument[2]) or set())
                else:
                    before.append(find_needed(rest, group)[0])
            case name if name in REPEATS:
                inner = [argument[2]]
        passed = [
            _sort_free_text(one, group, before, after, is_after=is_after, following=rest) for one in inner
        ]
        is_after = is_after or any(passed)
    return is_after


def _is_free(inner: Any, following: Sequence[Any], group: int | None) -> bool:
    r"""Whether a repetition takes text that could hold an address and what must stand before the real one.

    A character that the repetition does not take is the author's claim that the service never writes it
    there; but that `\S` or `[^"]` takes no space is only an author who never met a name with one.
    """
    allowed = class_of(inner, widen=True)
    if allowed is None or not {".", "1"} <= allowed:
        return False
    return find_needed(following, group)[0] <= allowed


def _review_fields(definition: FilterDefinition) -> Iterator[tuple[str, str]]:
    """Plant the service's own words about somebody else in each field that the tests show."""
    filter_ = Filter(definition)
    expressions = {pattern.name: pattern for pattern in definition.patterns if pattern.expression}
    accused: set[tuple[str, str]] = set()
    for test in definition.tests:
        event = _understood(filter_, test)
        pattern = None if event is None else expressions.get(event.pattern)
        if event is not None and pattern is not None:
            accused.update((pattern.name, name) for name in _fields_that_rule(filter_, pattern, test, event))
    for pattern_name, name in sorted(accused):
        yield pattern_name, f"text in the field {name!r} can choose the source"


def _fields_that_rule(
    filter_: Filter, pattern: PatternDefinition, test: FilterTest, event: Event
) -> Iterator[str]:
    body = make_line(test.line, arrived=_ARRIVED).header.body
    found = regex.compile(pattern.expression, regex.VERSION0).search(body)
    if found is None or SOURCE not in found.re.groupindex or found.start(SOURCE) < 0:
        return
    victim = _VICTIMS[event.source.version]
    low, high = found.span(SOURCE)
    for name in found.re.groupindex:
        start, end = found.span(name)
        if name in _WRITTEN_BY_THE_SERVICE or start < 0:
            continue
        forged = {body[:low] + victim + body[high:]}
        if end <= low:
            forged.add(body[end:low] + victim + body[high:])
        allowed = _allowed_in(pattern.expression, name)
        for planted in (spelled for text in sorted(forged) for spelled in (text, f"x{text}", f"{text} x")):
            hostile = test.line.replace(body, body[:start] + planted + body[end:])
            answer = _understood(filter_, test, hostile) if set(planted) <= allowed else None
            if answer is not None and str(answer.source) == victim:
                yield name


def _allowed_in(expression: str, name: str) -> set[str]:
    """Return the characters that the service may write into a field, as the expression claims."""
    parsed = parse_expression(expression)
    inner = None if parsed is None else find_group(parsed, parsed.state.groupdict.get(name))
    allowed = None if inner is None else class_of(inner, widen=True)
    return set(ALPHABET) if allowed is None else allowed


def _understood(filter_: Filter, test: FilterTest, line: str = "") -> Event | None:
    answer = read_test(filter_, test, line)
    return answer if isinstance(answer, Event) else None
