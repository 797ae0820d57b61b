"""Tells how every match of an anchored expression begins, as expressions over bytes.

`^ {0,8}(?P<account>[a-z]{1,64}) : user NOT ` begins with up to eight spaces, a name and a fixed text: a body
that begins otherwise need not be searched. Looser than the expression, never narrower: a character is one to
four bytes, what stands ahead or behind is not looked at, and where an item is not simple the opening ends.
It ends too before what could as well belong to the repetition before it (`[a-z ]{1,64} x`): each way to take
an opening would have the rest of the line searched again, a stranger's line of any length. No repetition of
a group is told, and no possessive one: Python 3.11.2 forgets where it began. Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from correlator.matching.pattern_tree import (
    ONE_CHARACTER,
    OPENINGS,
    REPEATS,
    is_at,
    parse_expression,
    taken_of,
)

Opening = tuple[bytes, ...]
"""What follows one another: each a literal byte, or a class in brackets and how often it is repeated."""
_MOST = 32
"""Openings of one expression."""
_CERTAIN = 8
"""Literal bytes that rule out nearly all bodies."""
_LONGEST = 64
_ENDLESS = 256
"""Bytes of a repetition above which it may be of any length."""
_WIDE = 8
"""Times that any character may be repeated; beyond it nothing is told by it."""
_ASCII = "".join(chr(code) for code in range(128) if code != ord("\n"))
_ODD_SPACES = frozenset("\x1c\x1d\x1e\x1f")  # `re` takes them for spaces, `regex` does not
_IN_NO_LINE = re.compile("[\n\ud800-\udc7f\udd00-\udfff]")
_NOTHING = b"(?!)"
_Begun = set[tuple[Opening, bool]]
"""Openings so far, each with whether it is all that is matched so far."""


def as_bytes(text: str) -> bytes:
    """Return text as it stands in a log."""
    return text.encode("utf-8", "surrogateescape")


def may_be_in_line(text: str) -> bool:
    """Whether a line can hold it: none holds a line feed, or what no bytes are decoded to."""
    return _IN_NO_LINE.search(text) is None


def literal(text: bytes) -> Opening:
    """Return the opening that is nothing but this text."""
    return tuple(text[index : index + 1] for index in range(len(text)))


def as_expression(opening: Opening) -> bytes:
    """Return an opening as one expression."""
    return b"".join(re.escape(part) if len(part) == 1 else part for part in opening)


def runs_of(opening: Opening) -> list[bytes]:
    """Return the texts that stand in it without a gap; the first and the last may be nothing."""
    runs = [b""]
    for part in opening:
        if len(part) == 1:
            runs[-1] += part
        else:
            runs.append(b"")
    return runs


@functools.lru_cache(maxsize=8)  # asked once for the texts in them, and soon again
def openings_of(expression: str) -> frozenset[Opening]:
    """Return openings of which every match has one, from where the text begins; empty: not known."""
    parsed = parse_expression(expression)
    if parsed is None or parsed.state.flags & re.IGNORECASE or not is_at(parsed, OPENINGS, 0):
        return frozenset()
    found = frozenset(_without_choice(opening) for opening, _is_whole in _begin(list(parsed)))
    return frozenset() if () in found else found


def _begin(items: Sequence[Any]) -> _Begun:
    done: _Begun = set()
    begun: set[Opening] = {()}
    for operation, argument in items:
        name = str(operation)
        if name in ("AT", "ASSERT", "ASSERT_NOT"):
            continue
        added = _begin_item(name, operation, argument)
        if added is None or len(begun) * len(added) + len(done) > _MOST:
            return done | {(opening, False) for opening in begun}
        longer: set[Opening] = set()
        for opening in begun:
            for more, is_whole in added:
                if _is_enough(opening, more) or not _is_decided(opening, more):
                    done.add((opening, False))
                elif is_whole:
                    longer.add(opening + more)
                else:
                    done.add((opening + more, False))
        begun = longer
    return done | {(opening, True) for opening in begun}


def _is_enough(opening: Opening, more: Opening) -> bool:
    """Whether it is told well enough how few bodies begin: each class costs the first line of a log."""
    has_class = any(len(part) > 1 for part in more)
    return len(opening) > _LONGEST or (has_class and sum(len(part) == 1 for part in opening) >= _CERTAIN)


def _is_decided(opening: Opening, more: Opening) -> bool:
    """Whether no byte of what comes next could be the repetition's before it as well.

    So there is one way to take an opening, and what is looked for behind it is looked for once in a line.
    """
    for part in more:
        for before in reversed(opening):
            fewest, most = _times(before)
            if fewest < most and not _bytes_of(before).isdisjoint(_bytes_of(part)):
                return False
            if fewest > 0:
                break
        if _times(part)[0] > 0:
            return True
    return True


def _without_choice(opening: Opening) -> Opening:
    """Return an opening without the repetitions with which it ends, but for what they cannot do without."""
    while opening and (times := _times(opening[-1]))[0] < times[1]:
        bracket, fewest = opening[-1].rpartition(b"{")[0], times[0]
        opening = (*opening[:-1], b"%s{%d}" % (bracket, fewest)) if fewest else opening[:-1]
    return opening


@functools.lru_cache(maxsize=512)
def _times(part: bytes) -> tuple[int, int]:
    """Return how often a part is repeated, at least and at most."""
    if not part.endswith(b"}") or len(part) == 1:
        return 1, 1
    fewest, _comma, most = part[part.rindex(b"{") + 1 : -1].partition(b",")
    return int(fewest), int(most or _ENDLESS * 4) if _comma else int(fewest)


@functools.lru_cache(maxsize=512)
def _bytes_of(part: bytes) -> frozenset[int]:
    """Return the bytes that one round of a part takes."""
    one = re.escape(part) if len(part) == 1 else part[: part.rfind(b"]") + 1] or part
    return frozenset(code for code in range(256) if re.match(one, bytes((code,))))


def _begin_item(name: str, operation: Any, argument: Any) -> _Begun | None:
    match name:
        case "LITERAL":
            text = chr(argument)
            return {(literal(as_bytes(text)) if may_be_in_line(text) else (_NOTHING,), True)}
        case "IN" if all(str(what) == "LITERAL" for what, _how in argument):
            return {one for what, how in argument for one in _begin_item("LITERAL", what, how) or ()}
        case "ATOMIC_GROUP":
            return _begin(list(argument))
        case "SUBPATTERN" if not argument[1] & re.IGNORECASE:
            return _begin(list(argument[3]))
        case "BRANCH":
            return {one for branch in argument[1] for one in _begin(list(branch))}
        case _ if name in ONE_CHARACTER:
            return {(_class(operation, argument, 1, 1), True)}
        case _ if name in REPEATS:
            return _begin_repeat(*argument)
    return None


def _begin_repeat(fewest: int, most: int, inner: Any) -> _Begun | None:
    if most == 0:
        return {((), True)}
    items = list(inner)
    while len(items) == 1 and str(items[0][0]) == "SUBPATTERN" and not items[0][1][1] & re.IGNORECASE:
        items = list(items[0][1][3])
    if len(items) == 1 and str(items[0][0]) in ONE_CHARACTER and (fewest, most) != (0, 1):
        operation, argument = items[0]
        if str(operation) == "ANY" and most > _WIDE:
            return None  # all that is looked for behind it is found anywhere
        some = (_class(operation, argument, fewest, most), True)
        return {some, ((), True)} if fewest == 0 and some[0] == (_NOTHING,) else {some}
    if most == 1:
        return _begin(items) | ({((), True)} if fewest == 0 else set())
    if fewest >= 1:
        return {(opening, False) for opening, _is_whole in _begin(items)}
    return None


def _class(operation: Any, argument: Any, fewest: int, most: int) -> Opening:
    """Return the opening that is that many characters of a class, not of a line feed."""
    taken = taken_of(_ASCII, operation, argument)
    if str(operation) == "IN" and "CATEGORY" in str(argument):
        taken |= _ODD_SPACES
    is_wide = _is_wide(operation, argument)
    listed = _ranges(taken, is_wide=is_wide)
    if not listed:
        return (_NOTHING,)
    most = most * 4 if is_wide else most
    upper = "" if most > _ENDLESS else f"{most}"
    times = "" if fewest == most == 1 else f"{{{fewest},{upper}}}"
    return (f"[{listed}]{times}".encode(),)


@functools.lru_cache(maxsize=512)
def _ranges(taken: frozenset[str], *, is_wide: bool) -> str:
    """Return what stands in the brackets of a class of these, and of all beyond ASCII where it is wide."""
    found = r"\x80-\xff" if is_wide else ""
    codes = sorted(map(ord, taken))
    for _distance, run in groupby(enumerate(codes), key=lambda pair: pair[1] - pair[0]):
        of_run = [code for _index, code in run]
        found += f"\\x{of_run[0]:02x}" + (f"-\\x{of_run[-1]:02x}" if len(of_run) > 1 else "")
    return found


def _is_wide(operation: Any, argument: Any) -> bool:
    """Whether it may take what is not ASCII."""
    match str(operation):
        case "ANY" | "NOT_LITERAL" | "NEGATE" | "CATEGORY":
            return True
        case "LITERAL":
            return bool(argument > 127)
        case "RANGE":
            return bool(argument[1] > 127)
        case "IN":
            return any(_is_wide(what, how) for what, how in argument)
    return False
