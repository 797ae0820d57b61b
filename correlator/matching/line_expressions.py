"""Builds, from what patterns need, the expressions over bytes by which the prefilter finds candidate lines.

The names of programs stand in it as a tree, and so do the beginnings of the bodies of each: a line of a
program that nobody reads costs the same however many there are. Looser than `parse_header` and the patterns,
never narrower. No repetition of a group is possessive: Python 3.11.2 forgets where it began. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from correlator.lines.syslog import HEADER, REPEATS_LAST
from correlator.matching.filter_definition import ANY_PROGRAM, is_named
from correlator.matching.needs import Need
from correlator.matching.openings import Opening, as_bytes, as_expression, literal, runs_of

_FEW = 16
_LONG_RUN = 16
_COMMON = b";<>QZXJKVYW'GHUBFLMPDTRNOSICAE|_,=)([]/.\"-:zqxjkvywbpgmhfdcu9876543210lnrtsaioe "
"""Bytes from the rarest to the most common in logs; what is not here is rarer still."""
_NAME = rb"[^ \t\n\r\f\v:\[]"
# What may stand before the program: a priority perhaps, a stamp, a host. Looser than `parse_header`. `(?:x|)`
# is several times as fast as `(?:x)?`, and a branch that begins with a class is ruled out by one byte.
_STAMP = rb"(?:[A-Z].{14}(?:\.\d{1,9}|)|[0-9](?:\S{18,39}|\d{3}-\d\d-\d\d \S{8,29}))"
_STAMP = rb"(?:%s|<\d{1,3}>%s)" % (_STAMP[3:-1], _STAMP)
_HOST = rb" (?:%s*+(?: |:[0-9A-Fa-f:.]++ )|)" % _NAME
_PID = rb"(?:\[[^\] \t\n\r\f\v]++\]|): ?+"
_FOLDED = rb"(?:message repeated \d{1,9} times: \[ ?|Last message '|)"
_REPEATING = (b"syslogd", b"syslog")
_FOLDED_LAST = {
    b"last message repeated ": b"",
    b"message repeated ": b"",  # the word before it was taken for the host
    b"--- last message repeated ": b"",
    **dict.fromkeys(_REPEATING, _PID + _HOST.lstrip() + rb"(?:--- |)last message repeated "),
}
_RFC5424 = rb"(?:1 \S++ \S++ |<\d{1,3}>1 \S++ \S++ )"
# A line with a program, exactly as `parse_header` has it, is none of no program.
PLAIN = rb"(?!%s)(?P<plain>.*)" % re.sub(rb"\?P<[a-z]+>", b"?:", HEADER.encode())


def expression_of_lines(needs: Sequence[Need], logins: Sequence[Need] = ()) -> bytes:
    """Return an expression of the lines, from their beginning, of which a program is known.

    A line that meets none of the needs, and one of those about logins, is marked by a group that took part.
    """
    traditional, rfc5424 = _expression_of_programs(needs, logins)
    return rb"(?:%s%s%s|%s%s)" % (_STAMP, _HOST, traditional, _RFC5424, rfc5424)


def expression_of_bodies(needs: Sequence[Need]) -> bytes:
    """Return an expression of the bodies that meet one of the needs, folded ones included."""
    return _folded_or_not(needs) if needs else rb"(?!)"


def fewest_texts(needs: Iterable[Need]) -> tuple[bytes, ...]:
    """Return texts of which each need has one, without those that come with another one always."""
    ordered = sorted(set(needs), key=lambda need: (len(need.literal), need.literal, need.texts))
    found: list[str] = []
    for need in ordered:
        if not any(text in own for text in found for own in (need.texts or ("",))):
            found.append(need.literal)
    return tuple(map(as_bytes, found))


def with_one_search(texts: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return texts of which each of these holds one: what several have in common is looked for once."""
    found: list[bytes] = []
    place_of: dict[bytes, int] = {}
    for text in texts:
        runs = [text[start : start + _LONG_RUN] for start in range(len(text) - _LONG_RUN + 1)]
        place = next((at for run in runs if (at := place_of.get(run)) is not None and run in found[at]), None)
        if place is None:
            place_of |= dict.fromkeys(runs, len(found))
            found.append(text)
        else:
            found[place] = _in_common(text, found[place])
    return tuple(found)


def _in_common(text: bytes, other: bytes) -> bytes:
    """Return the longest run that both hold; empty where it is so short that many lines hold it."""
    shared = b""
    for start in range(len(text) - _LONG_RUN + 1):
        end = start + max(_LONG_RUN, len(shared) + 1)
        while end <= len(text) and text[start:end] in other:
            shared, end = text[start:end], end + 1
    return shared


def _expression_of_programs(needs: Sequence[Need], logins: Sequence[Need]) -> tuple[bytes, bytes]:
    """Return expressions of what follows the host: in a traditional line, and in one of RFC 5424."""
    wanted, told = _by_name(needs), _by_name(logins)
    for name in told:  # the mark must stand on no line that a glob would have found
        wanted[name] = wanted.get(name, set()).union(
            *(also for glob, also in wanted.items() if is_named(name, [glob]))
        )
    bodies = {name: _either(_folded_or_not, wanted.get(name), told.get(name)) for name in wanted | told}
    anywhere = {name: _either(_anywhere_behind, wanted.get(name), told.get(name)) for name in wanted | told}
    lines = {literal(as_bytes(name)): _PID + body for name, body in bodies.items() if ANY_PROGRAM not in name}
    for text, behind in _FOLDED_LAST.items():
        spelled = literal(text)
        lines[spelled] = rb"(?:%s|%s)" % (behind, lines[spelled]) if spelled in lines else behind
    modern = {
        literal(as_bytes(name)): rb" " + behind
        for name, behind in anywhere.items()
        if ANY_PROGRAM not in name
    }
    repeated = rb" " + _holding([as_bytes(REPEATS_LAST)])
    for spelled in map(literal, _REPEATING):
        modern[spelled] = rb"(?:%s|%s)" % (repeated, modern[spelled]) if spelled in modern else repeated
    traditional, rfc5424 = [_tree(lines)], [_tree(modern)]
    for name in sorted(name for name in bodies if ANY_PROGRAM in name):
        glob = (_NAME + b"*").join(map(re.escape, map(as_bytes, name.split(ANY_PROGRAM))))
        if name.endswith(ANY_PROGRAM):
            glob += b"+"  # nothing of a name can follow: what was taken need not be given back
        traditional.append(glob + _PID + bodies[name])
        rfc5424.append(glob.replace(_NAME, rb"\S") + rb" " + anywhere[name])
    return rb"(?:%s)" % b"|".join(traditional), rb"(?:%s)" % b"|".join(rfc5424)


def _by_name(needs: Iterable[Need]) -> dict[str, set[Need]]:
    by_name: dict[str, set[Need]] = {}
    for need in needs:
        for name in need.identifiers or ():
            if name:
                by_name.setdefault(name, set()).add(need)
    return by_name


def _either(
    expression: Callable[[Iterable[Need]], bytes], wanted: set[Need] | None, told: set[Need] | None
) -> bytes:
    """Return an expression of what meets a need, and behind it of what tells of a login, which is marked."""
    parts = [expression(wanted)] if wanted else []
    if told:
        parts.append(expression(told) + b"()")
    return rb"(?:%s)" % b"|".join(parts)


def _folded_or_not(needs: Iterable[Need]) -> bytes:
    """Return an expression of the bodies that meet one of the needs, alone or as what was said repeatedly."""
    return _FOLDED + _body(needs)


def _body(needs: Iterable[Need]) -> bytes:
    behind: dict[Opening, set[bytes]] = {}
    free = []
    for need in needs:
        ways = need.ways_to_begin()
        if not ways:
            free.append(need)
        for opening in ways:
            runs = runs_of(opening)
            more = _rarest(text for text in map(as_bytes, need.texts) if not any(text in run for run in runs))
            behind.setdefault(opening, set()).add(more)
    texts = fewest_texts(free)
    if b"" in texts:
        return b""
    tree: dict[Opening, bytes] = {}
    for opening, held in sorted(behind.items()):
        if not any(opening[: len(shorter)] == shorter and tree[shorter] == b"" for shorter in tree):
            tree[opening] = b"" if b"" in held else _behind(runs_of(opening)[-1], sorted(held))
    parts = [_tree(tree)] if tree else []
    if texts:
        parts.append(_holding(texts))
    return rb"(?:%s)" % b"|".join(parts)


def _behind(ending: bytes, texts: Sequence[bytes]) -> bytes:
    """Return what follows an opening in a body that holds one of the texts, which may begin in its ending."""
    rests = [
        re.escape(text[length:])
        for text in texts
        for length in range(1, len(text))
        if ending.endswith(text[:length])
    ]
    return rb"(?:%s)" % b"|".join((*rests, _holding(texts))) if rests else _holding(texts)


def _anywhere_behind(needs: Iterable[Need]) -> bytes:
    return _holding(fewest_texts(needs))


def _holding(texts: Sequence[bytes]) -> bytes:
    """Return an expression of what follows in a line that holds one of the texts.

    `.*text` is looked for from the line's end, by its first byte: ten times as fast as `.*?text`, and best
    where that byte is rare.
    """
    if b"" in texts:
        return b""
    if len(texts) > _FEW:
        return b".*" + _tree(dict.fromkeys(map(literal, texts), b""))
    parts = [_holding_one(text) for text in texts]
    return parts[0] if len(parts) == 1 else rb"(?:%s)" % b"|".join(parts)


def _rarest(texts: Iterable[bytes]) -> bytes:
    """Return the text with the rarest byte in it, of several the longest."""
    return min(texts, key=lambda text: (min(map(_COMMON.find, text)), -len(text)), default=b"")


def _holding_one(text: bytes) -> bytes:
    at = min(range(len(text)), key=lambda index: (_COMMON.find(text[index]), index))
    head = rb"(?<=%s)" % re.escape(text) if at else b""
    return b".*" + re.escape(text[at:]) + head


def _tree(ways: dict[Opening, bytes]) -> bytes:
    """Return an expression of the openings, each with what follows it; what several share stands once."""
    if not ways:
        return rb"(?!)"
    branches: list[bytes] = []
    for first in sorted({opening[:1] for opening in ways if opening}):
        rest = {opening: behind for opening, behind in ways.items() if opening[:1] == first}
        shared = _shared(rest)
        branches.append(
            as_expression(shared)
            + _tree({opening[len(shared) :]: behind for opening, behind in rest.items()})
        )
    if () in ways:
        branches.append(ways[()])
    return branches[0] if len(branches) == 1 else rb"(?:%s)" % b"|".join(branches)


def _shared(openings: Iterable[Opening]) -> Opening:
    ordered = sorted(openings)
    low, high = ordered[0], ordered[-1]
    length = next(
        (index for index, (a, b) in enumerate(zip(low, high, strict=False)) if a != b),
        min(len(low), len(high)),
    )
    return low[:length]
