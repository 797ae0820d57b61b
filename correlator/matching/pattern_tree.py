"""Walks expressions as Python's `re` parses them: what they must hold, whether they are anchored, samples.

The parser is not public; what it makes has not changed shape for ten years, and an expression that it cannot
read (some of `regex`'s own) is one of which nothing is known. Pure.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

OPENINGS = frozenset({"AT_BEGINNING", "AT_BEGINNING_STRING"})
CLOSINGS = frozenset({"AT_END", "AT_END_STRING"})
REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
LONG = 8
"""A repetition of fewer is no way to lose time, nor to hide an address."""
ONE_CHARACTER = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN"})
ALPHABET = "".join(chr(code) for code in range(32, 127))
# What `regex` reads otherwise than `re`, who says nothing of it. The false alarms cost only speed.
_OTHERWISE = re.compile(
    r"(?<!\\)(?:\\\\)*\{[\s\d]*<?=?\s*[deis]"  # errors that a match may have: `{e<=1}`, `{1<=s<=2}`
    r"|\[:[^]]*:\]"  # `[^[:digit:]]`: `re` warns only of a set that begins a set
)
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")
# There it skips all white space, not only that of ASCII, and inside of `{1, 2}` and `\1 2` too.
_OTHERWISE_IN_VERBOSE = re.compile(r"[^\S \t-\r]|\{[\d,]*[\s#]|\\(?:\d+|x[0-9a-fA-F]?)[\s#]")
_MOST_SAMPLE = 500


@functools.lru_cache(maxsize=8)  # who is told one thing of an expression asks for the next
def parse_expression(expression: str) -> Any:
    """Return the tree of an expression; None where `re` cannot read it, or reads it as `regex` does not.

    Those are sets in sets (`[[a]b]`), of which `re` warns, and what is searched for here.
    """
    if _OTHERWISE.search(expression):
        return None
    if _VERBOSE.search(expression) and _OTHERWISE_IN_VERBOSE.search(expression):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            return re._parser.parse(expression)  # type: ignore[attr-defined]  # noqa: SLF001  no public parser
    except (re.error, AttributeError, OverflowError, RecursionError, FutureWarning, ValueError):
        return None


def is_at(parsed: Any, places: frozenset[str], end: int) -> bool:
    """Whether a sequence of the tree must begin (`end` 0) or finish (`end` -1) at one of these places."""
    items = [item for item in parsed if str(item[0]) not in ("ASSERT", "ASSERT_NOT")]
    if not items:
        return False
    operation, argument = items[end]
    match str(operation):
        case "AT":
            return str(argument) in places
        case "SUBPATTERN":
            return is_at(argument[3], places, end)
        case "ATOMIC_GROUP":
            return is_at(argument, places, end)
        case "BRANCH":
            return all(is_at(branch, places, end) for branch in argument[1])
    return False


def class_of(parsed: Any, *, widen: bool = False) -> set[str] | None:
    """Return the characters that a sequence of one item takes; `widen`: a space too, unless they are listed.

    None for anything else: `(?:(?! from ).)*` says itself where it ends.
    """
    items = list(parsed)
    if len(items) != 1:
        return None
    operation, argument = items[0]
    if str(operation) == "SUBPATTERN":
        return class_of(argument[3], widen=widen)
    if str(operation) in REPEATS:
        return class_of(argument[2], widen=widen)
    is_listed = str(operation) == "LITERAL" or (
        str(operation) == "IN" and str(argument[0][0]) != "NEGATE" and "NOT" not in str(argument)
    )
    allowed = taken_of(ALPHABET, operation, argument)
    return {*allowed, " "} if widen and not is_listed else {*allowed}


def find_needed(items: Sequence[Any], group: int | None) -> tuple[set[str], bool]:
    """Return the characters that must stand before the source, and whether the source was reached."""
    found: set[str] = set()
    for operation, argument in items:
        name, is_over = str(operation), False
        if name == "LITERAL":
            found.add(chr(argument))
        elif name == "SUBPATTERN" and argument[0] is not None and argument[0] == group:
            is_over = True
        elif name == "SUBPATTERN":
            inside, is_over = find_needed(list(argument[3]), group)
            found |= inside
        elif name == "BRANCH":
            branches = [find_needed(list(branch), group) for branch in argument[1]]
            found |= set.intersection(*(inside for inside, _ in branches))
            is_over = any(over for _, over in branches)
        elif name in REPEATS and argument[0] >= 1:
            inside, is_over = find_needed(list(argument[2]), group)
            found |= inside
        if is_over:
            return found, True
    return found, False


def find_group(parsed: Any, number: int | None) -> Any:
    """Return what stands inside the group of this number; None where there is none."""
    for operation, argument in parsed:
        match str(operation):
            case "SUBPATTERN" if argument[0] is not None and argument[0] == number:
                return argument[3]
            case "SUBPATTERN":
                inner = [argument[3]]
            case "ATOMIC_GROUP":
                inner = [argument]
            case "BRANCH":
                inner = argument[1]
            case name if name in REPEATS:
                inner = [argument[2]]
            case _:
                inner = []
        for one in inner:
            if (found := find_group(one, number)) is not None:
                return found
    return None


def taken_of(characters: str, operation: Any, argument: Any) -> frozenset[str]:
    """Return those of some characters that an item of a tree takes; none where it takes other than one."""
    if str(operation) not in ONE_CHARACTER:
        return frozenset()
    return _taken_of(characters, operation, tuple(argument) if isinstance(argument, list) else argument)


@functools.lru_cache(maxsize=512)  # filters are written in the same few classes
def _taken_of(characters: str, operation: Any, argument: Any) -> frozenset[str]:
    return frozenset(one for one in characters if takes(operation, argument, one))


def takes(operation: Any, argument: Any, character: str) -> bool:
    """Whether an item of a tree that takes one character takes this one."""
    match str(operation):
        case "ANY":
            return True
        case "LITERAL":
            return bool(argument == ord(character))
        case "NOT_LITERAL":
            return bool(argument != ord(character))
        case "RANGE":
            return bool(argument[0] <= ord(character) <= argument[1])
        case "CATEGORY":
            return _is_of(str(argument), character)
        case "IN":
            is_negated = str(argument[0][0]) == "NEGATE"
            return is_negated != any(takes(what, how, character) for what, how in argument[is_negated:])
    return False


def _is_of(category: str, character: str) -> bool:
    name = category.removeprefix("CATEGORY_")
    is_not = name.startswith("NOT_")
    match name.removeprefix("NOT_"):
        case "DIGIT":
            is_one = character.isdigit()
        case "SPACE":
            is_one = character.isspace()
        case _:
            is_one = character.isalnum() or character == "_"
    return is_not != is_one


def sample(parsed: Any) -> str:
    """Return a short text that a sequence of the parse tree matches, or nearly."""
    parts = []
    for operation, argument in parsed:
        match str(operation):
            case "SUBPATTERN":
                parts.append(sample(argument[3]))
            case "ATOMIC_GROUP":
                parts.append(sample(argument))
            case "BRANCH":
                parts.append(sample(argument[1][0]))
            case name if name in REPEATS:
                parts.append(sample(argument[2]) * min(argument[0], LONG))
            case "AT" | "ASSERT" | "ASSERT_NOT" | "GROUPREF" | "GROUPREF_EXISTS":
                pass
            case "LITERAL":
                parts.append(chr(argument))
            case _:
                parts.append(next((one for one in "a1 .:/" if takes(operation, argument, one)), "a"))
    return "".join(parts)[:_MOST_SAMPLE]


def pumps(parsed: Any, prefix: str = "", tail: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (what stands before, what can be repeated, what follows) for each long repetition."""
    items = list(parsed)
    for index, (operation, argument) in enumerate(items):
        before = (prefix + sample(items[:index]))[:_MOST_SAMPLE]
        after = (sample(items[index + 1 :]) + tail)[:_MOST_SAMPLE]
        match str(operation):
            case "SUBPATTERN":
                yield from pumps(argument[3], before, after)
            case "ATOMIC_GROUP":
                yield from pumps(argument, before, after)
            case "BRANCH":
                for branch in argument[1]:
                    yield from pumps(branch, before, after)
            case name if name in REPEATS:
                if argument[1] >= LONG:
                    for text in _bodies(argument[2], after):
                        yield before, text, after
                yield from pumps(argument[2], before, after)


def _bodies(inner: Any, following: str) -> Iterator[str]:
    """Yield texts that one round of a repetition takes: of each branch, and what also fits what follows."""
    items = list(inner)
    texts = {sample(items)}
    for operation, argument in items:
        if str(operation) == "SUBPATTERN":
            texts.update(_bodies(argument[3], following))
        elif str(operation) == "BRANCH":
            texts.update(sample(branch) for branch in argument[1])
        elif str(operation) in REPEATS:
            texts.update(_bodies(argument[2], following))
        elif len(items) == 1 and all(takes(operation, argument, one) for one in following[:20]):
            texts.add(following[:20])
    yield from sorted(text for text in texts if text)
