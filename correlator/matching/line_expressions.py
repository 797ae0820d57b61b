"""Builds, from what patterns need, the expressions over bytes by which the prefilter finds candidate lines.

The names of programs stand in it as a tree, and so do the beginnings of the bodies of each: a line of a
program that nobody reads costs the same however many there are. Looser than `parse_header` and the patterns,
never narrower. No repetition of a group is possessive: Python 3.11.2 forgets where it began. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from correlator.lines.syslog import HEADER
from correlator.matching.needs import ANY_PROGRAM, Need

_FEW = 16
_COMMON = b";<>QZXJKVYW'GHUBFLMPDTRNOSICAE|_,=)([]/.\"-:zqxjkvywbpgmhfdcu9876543210lnrtsaioe "
"""Bytes from the rarest to the most common in logs; what is not here is rarer still."""
_NAME = rb"[^ \t\n\r\f\v:\[]"
# What may stand before the program: a priority perhaps, a stamp, a host. Looser than `parse_header`. `(?:x|)`
# is several times as fast as `(?:x)?`, and a branch that begins with a class is ruled out by one byte.
_STAMP = rb"(?:[A-Z].{14}|[0-9](?:\S{18,39}|\d{3}-\d\d-\d\d \S{8,29}))"
_STAMP = rb"(?:%s|<\d{1,3}>%s)" % (_STAMP[3:-1], _STAMP)
_HOST = rb" (?:%s++ |)" % _NAME
_PID = rb"(?:\[[^\] \t\n\r\f\v]++\]|): ?+"
_FOLDED = rb"(?:message repeated \d{1,9} times: \[ ?|Last message '|)"
_FOLDED_LAST = {
    b"last message repeated ": b"",
    b"message repeated ": b"",  # the word before it was taken for the host
    b"--- last message repeated ": b"",
    b"syslogd": _PID + rb"(?:--- |)last message repeated ",
    b"syslog": _PID + rb"(?:--- |)last message repeated ",
}
_RFC5424 = rb"(?:1 \S++ \S++ |<\d{1,3}>1 \S++ \S++ )"
# A line with a program, exactly as `parse_header` has it, is none of no program.
PLAIN = rb"(?!%s)(?P<plain>.*)" % re.sub(rb"\?P<[a-z]+>", b"?:", HEADER.encode())


def expression_of_lines(needs: Sequence[Need]) -> bytes:
    """Return an expression of the lines, from their beginning, of which a program is known."""
    traditional, rfc5424 = _expression_of_programs(needs)
    return rb"(?:%s%s%s|%s%s)" % (_STAMP, _HOST, traditional, _RFC5424, rfc5424)


def expression_of_bodies(needs: Sequence[Need]) -> bytes:
    """Return an expression of the bodies that meet one of the needs, folded ones included."""
    return _FOLDED + _body(needs) if needs else rb"(?!)"


def fewest_texts(needs: Iterable[Need]) -> tuple[bytes, ...]:
    """Return texts of which each need has one, without those that come with another one always."""
    ordered = sorted(set(needs), key=lambda need: (len(need.literal), need.literal, need.texts))
    found: list[str] = []
    for need in ordered:
        if not any(text in own for text in found for own in (need.texts or ("",))):
            found.append(need.literal)
    return tuple(map(as_bytes, found))


def _expression_of_programs(needs: Sequence[Need]) -> tuple[bytes, bytes]:
    """Return expressions of what follows the host: in a traditional line, and in one of RFC 5424."""
    by_name: dict[str, set[Need]] = {}
    for need in needs:
        for name in need.identifiers or ():
            if name:
                by_name.setdefault(name, set()).add(need)
    plain = {name: wanted for name, wanted in by_name.items() if ANY_PROGRAM not in name}
    globs = {name: wanted for name, wanted in by_name.items() if ANY_PROGRAM in name}
    lines = {as_bytes(name): _PID + _FOLDED + _body(wanted) for name, wanted in plain.items()}
    for spelled, behind in _FOLDED_LAST.items():
        lines[spelled] = rb"(?:%s|%s)" % (lines[spelled], behind) if spelled in lines else behind
    modern = {as_bytes(name): rb" " + _anywhere_behind(wanted) for name, wanted in plain.items()}
    traditional, rfc5424 = [_tree(lines)], [_tree(modern)]
    for name, wanted in sorted(globs.items()):
        glob = (_NAME + b"*").join(map(re.escape, map(as_bytes, name.split(ANY_PROGRAM))))
        if name.endswith(ANY_PROGRAM):
            glob += b"+"  # nothing of a name can follow: what was taken need not be given back
        traditional.append(glob + _PID + _FOLDED + _body(wanted))
        rfc5424.append(glob.replace(_NAME, rb"\S") + rb" " + _anywhere_behind(wanted))
    return rb"(?:%s)" % b"|".join(traditional), rb"(?:%s)" % b"|".join(rfc5424)


def _body(needs: Iterable[Need]) -> bytes:
    """Return an expression of the bodies that meet one of the needs."""
    behind: dict[bytes, set[bytes]] = {}
    free = []
    for need in needs:
        if not need.beginnings:
            free.append(need)
        for text in need.beginnings:
            more = _rarest(other for other in need.texts if other not in text)
            behind.setdefault(as_bytes(text), set()).add(_behind(as_bytes(text), more))
    texts = fewest_texts(free)
    if b"" in texts:
        return b""
    tree: dict[bytes, bytes] = {}
    for begun, ways in sorted(behind.items()):
        if not any(begun.startswith(shorter) and tree[shorter] == b"" for shorter in tree):
            tree[begun] = b"" if b"" in ways else rb"(?:%s)" % b"|".join(sorted(ways))
    parts = [_tree(tree)] if tree else []
    if texts:
        parts.append(_holding(texts))
    return rb"(?:%s)" % b"|".join(parts)


def _behind(beginning: bytes, literal: bytes) -> bytes:
    """Return what follows a beginning in a body that holds the literal, which may begin within it."""
    rests = [
        re.escape(literal[length:])
        for length in range(1, len(literal))
        if beginning.endswith(literal[:length])
    ]
    return rb"(?:%s)" % b"|".join((*rests, _holding([literal]))) if rests else _holding([literal])


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
        return b".*" + _tree(dict.fromkeys(texts, b""))
    parts = [_holding_one(text) for text in texts]
    return parts[0] if len(parts) == 1 else rb"(?:%s)" % b"|".join(parts)


def _rarest(texts: Iterable[str]) -> bytes:
    """Return the text with the rarest byte in it, of several the longest."""
    return min(map(as_bytes, texts), key=lambda text: (min(map(_COMMON.find, text)), -len(text)), default=b"")


def _holding_one(text: bytes) -> bytes:
    at = min(range(len(text)), key=lambda index: (_COMMON.find(text[index]), index))
    head = rb"(?<=%s)" % re.escape(text) if at else b""
    return b".*" + re.escape(text[at:]) + head


def _tree(texts: dict[bytes, bytes]) -> bytes:
    """Return an expression of the texts, each with what follows it, in which common beginnings stand once."""
    if not texts:
        return rb"(?!)"
    branches: list[bytes] = []
    for first in sorted({text[:1] for text in texts if text}):
        rest = {text: behind for text, behind in texts.items() if text[:1] == first}
        shared = _shared(rest)
        branches.append(
            re.escape(shared) + _tree({text[len(shared) :]: behind for text, behind in rest.items()})
        )
    if b"" in texts:
        branches.append(texts[b""])
    return branches[0] if len(branches) == 1 else rb"(?:%s)" % b"|".join(branches)


def _shared(texts: Iterable[bytes]) -> bytes:
    ordered = sorted(texts)
    low, high = ordered[0], ordered[-1]
    length = next(
        (index for index, (a, b) in enumerate(zip(low, high, strict=False)) if a != b),
        min(len(low), len(high)),
    )
    return low[:length]


def as_bytes(text: str) -> bytes:
    """Return text as it stands in a log."""
    return text.encode("utf-8", "surrogateescape")
