"""Finds, in a whole chunk at once, the lines that any filter can want.

It may pass too much, never too little: a property test holds it to that. Each pattern is asked what every
line that it matches must have: the programs that may write it, how its body may begin, texts in it. All of
that becomes one expression over bytes, in which the programs' names stand as a tree, so that a line of
a program that nobody reads costs the same however many filters there are, and never becomes a Python object.
Lines of no program are few in a syslog file and all there are in an application's; they are searched for the
text that the patterns require, each by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from correlator.pattern_tree import REPEATS, begins_with, parse_expression
from correlator.syslog import HEADER, REPEATS_LAST

_SHORTEST = 3  # shorter text is found in nearly every line: not worth looking for
_FEW = 16
_COMMON = b";<>QZXJKVYW'GHUBFLMPDTRNOSICAE|_,=)([]/.\"-:zqxjkvywbpgmhfdcu9876543210lnrtsaioe "
"""Bytes from the rarest to the most common in logs; what is not here is rarer still."""
ANY_PROGRAM = "*"
_NAME = rb"[^ \t\n\r\f\v:\[]"
# What may stand before the program: a priority perhaps, a stamp, a host. Looser than `parse_header`. `(?:x|)`
# is several times as fast as `(?:x)?`, and a branch that begins with a class is ruled out by one byte.
_STAMP = rb"(?:[A-Z].{14}|[0-9](?:\S{18,39}|\d{3}-\d\d-\d\d \S{8,29}))"
_STAMP = rb"(?:%s|<\d{1,3}>%s)" % (_STAMP[3:-1], _STAMP)
_HOST = rb" (?:%s++ |)" % _NAME
_PID = rb"(?:\[[^\] \t\n\r\f\v]++\]|): ?"
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
_PLAIN = rb"(?!%s)(?P<plain>.*)" % re.sub(rb"\?P<[a-z]+>", b"?:", HEADER.encode())


@dataclass(frozen=True, slots=True)
class Need:
    """What every line has that one pattern can match."""

    identifiers: frozenset[str] | None
    """Programs that may write it, `*` standing for any text, empty for no program; None: whoever it is."""
    beginnings: tuple[str, ...] = ()
    """One of these its body begins with; empty: with anything."""
    texts: tuple[str, ...] = ()
    """All of these it contains, the longest first: that is probably the rarest."""

    @property
    def literal(self) -> str:
        """The text by which it is looked for; empty where none is known."""
        return self.texts[0] if self.texts else ""

    def fits(self, body: str) -> bool:
        """Whether a body of one of its programs may be matched."""
        return self.literal in body and (not self.beginnings or body.startswith(self.beginnings))


def required_text(pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (how every match begins, texts that every match contains, the longest first).

    Reads the expression as Python's `re` parses it; of one that only `regex` understands nothing is known.
    """
    parsed = parse_expression(pattern)
    if parsed is None or parsed.state.flags & re.IGNORECASE:
        return (), ()
    runs = {run for run in _runs(parsed) if len(run) >= _SHORTEST}
    return begins_with(parsed), tuple(sorted(runs, key=lambda run: (-len(run), run)))


def required_literal(pattern: str) -> str:
    """Return the longest text that every match of `pattern` contains; empty where none is known."""
    return next(iter(required_text(pattern)[1]), "")


def _runs(parsed: Any) -> Iterator[str]:
    """Yield the literal runs that a sequence of the parse tree cannot do without."""
    run: list[str] = []
    for operation, argument in parsed:
        name = str(operation)
        if name == "LITERAL":
            run.append(chr(argument))
            continue
        if name == "AT":
            continue  # an anchor takes no text: the run goes on
        yield "".join(run)
        run = []
        if name == "SUBPATTERN":
            _group, adds, _removes, inner = argument
            if not adds & re.IGNORECASE:
                yield from _runs(inner)
        elif name == "ATOMIC_GROUP":
            yield from _runs(argument)
        elif name in REPEATS and argument[0] >= 1:
            yield from _runs(argument[2])
    yield "".join(run)


_REPEATED = Need(None, texts=(REPEATS_LAST,))


class Prefilter:
    """Which lines of a chunk are candidates, for one set of needs."""

    def __init__(self, needs: Iterable[Need], *, has_plain: bool = True) -> None:
        """Take the need of every pattern; `has_plain`: whether lines of no program are read at all."""
        every = set(needs)
        anywhere = {need for need in every if need.identifiers is None or _is_for_all(need)}
        named = [need for need in every if need.identifiers is not None and need not in anywhere]
        if anywhere and not named:
            anywhere.add(_REPEATED)
        self._anywhere = _fewest(anywhere)
        programs = _expression_of_programs(named)
        plain = [need for need in named if "" in (need.identifiers or ())]
        self._plain = _fewest([*plain, _REPEATED])
        line = rb"(?:%s%s%s|%s%s)" % (_STAMP, _HOST, programs[0], _RFC5424, programs[1])
        if plain and has_plain:
            line = rb"(?:%s|%s)" % (line, _PLAIN)
        self._named = tuple(named)
        self._lines = _Lines(line)
        self._bodies: dict[str, _Lines] = {}

    def candidates(self, data: bytes, *, identifier: str = "") -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each candidate line of whole lines, in order, without line feeds.

        `identifier`: the program that wrote all of them, where the lines are bodies without headers.
        """
        if b"" in self._anywhere:
            return _all_lines(data)
        found = self._of_programs(data, identifier)
        if not self._anywhere:
            return found
        every = dict(found)
        for text in self._anywhere:
            every.update(_lines_with(data, text))
        return iter(sorted(every.items()))

    def _of_programs(self, data: bytes, identifier: str) -> Iterator[tuple[int, int]]:
        """Yield the candidates that the expression finds; text of lines of no program is looked at here."""
        if not self._named:
            return
        lines = self._of_program(identifier) if identifier else self._lines
        texts, find = self._plain, data.find
        for match in lines.find(data):
            if lines.has_plain and match.lastgroup is not None:
                line = match.group("plain")
                if not any(text in line for text in texts):
                    continue
            start = match.start() + (match.re is not lines.first)
            end = find(b"\n", start)
            if end < 0:
                return
            yield start, end

    def _of_program(self, identifier: str) -> _Lines:
        lines = self._bodies.get(identifier)
        if lines is None:
            needs = [need for need in self._named if _is_named(identifier, need.identifiers or ())]
            lines = self._bodies[identifier] = _Lines(_FOLDED + _body(needs) if needs else rb"(?!)")
        return lines


class _Lines:
    """An expression, tried where lines begin."""

    def __init__(self, expression: bytes) -> None:
        self.first = re.compile(expression)
        self._others = re.compile(rb"\n" + expression)
        self.has_plain = "plain" in self.first.groupindex

    def find(self, data: bytes) -> Iterator[re.Match[bytes]]:
        """Return a match for each line: of `first` the first one, of the others from their line feeds on."""
        first = self.first.match(data) if data else None
        others = self._others.finditer(data, 0, max(len(data) - 1, 0))  # the last line feed begins no line
        return others if first is None else itertools.chain((first,), others)


def _is_named(identifier: str, names: Iterable[str]) -> bool:
    return any(
        name == identifier
        or (
            ANY_PROGRAM in name
            and re.fullmatch(".*".join(map(re.escape, name.split(ANY_PROGRAM))), identifier)
        )
        for name in names
    )


def _is_for_all(need: Need) -> bool:
    """Whether its text is best looked for in the whole chunk: there may be no program that it is not for."""
    return ANY_PROGRAM in (need.identifiers or ()) and need.literal != ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _fewest(needs: Iterable[Need]) -> tuple[bytes, ...]:
    """Return texts of which each need has one, without those that come with another one always."""
    ordered = sorted(set(needs), key=lambda need: (len(need.literal), need.literal, need.texts))
    found: list[str] = []
    for need in ordered:
        if not any(text in own for text in found for own in (need.texts or ("",))):
            found.append(need.literal)
    return tuple(map(_bytes, found))


def _all_lines(data: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield start, end
        start = end + 1


def _lines_with(data: bytes, text: bytes) -> Iterator[tuple[int, int]]:
    found = data.find(text)
    while found >= 0:
        start = data.rfind(b"\n", 0, found) + 1
        end = data.find(b"\n", found)
        if end < 0:
            return
        yield start, end
        found = data.find(text, end + 1)


def _expression_of_programs(needs: Sequence[Need]) -> tuple[bytes, bytes]:
    """Return expressions of what follows the host: in a traditional line, and in one of RFC 5424."""
    by_name: dict[str, set[Need]] = {}
    for need in needs:
        for name in need.identifiers or ():
            if name:
                by_name.setdefault(name, set()).add(need)
    plain = {name: wanted for name, wanted in by_name.items() if ANY_PROGRAM not in name}
    globs = {name: wanted for name, wanted in by_name.items() if ANY_PROGRAM in name}
    lines = {_bytes(name): _PID + _FOLDED + _body(wanted) for name, wanted in plain.items()}
    for name, behind in _FOLDED_LAST.items():
        lines[name] = rb"(?:%s|%s)" % (lines[name], behind) if name in lines else behind
    modern = {_bytes(name): rb" " + _anywhere_behind(wanted) for name, wanted in plain.items()}
    traditional, rfc5424 = [_tree(lines)], [_tree(modern)]
    for name, wanted in sorted(globs.items()):
        spelled = (_NAME + b"*").join(map(re.escape, map(_bytes, name.split(ANY_PROGRAM))))
        if name.endswith(ANY_PROGRAM):
            spelled += b"+"  # nothing of a name can follow: what was taken need not be given back
        traditional.append(spelled + _PID + _FOLDED + _body(wanted))
        rfc5424.append(spelled.replace(_NAME, rb"\S") + rb" " + _anywhere_behind(wanted))
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
            behind.setdefault(_bytes(text), set()).add(_behind(_bytes(text), more))
    texts = _fewest(free)
    if b"" in texts:
        return b""
    tree: dict[bytes, bytes] = {}
    for begun, wanted in sorted(behind.items()):
        if not any(begun.startswith(shorter) and tree[shorter] == b"" for shorter in tree):
            tree[begun] = b"" if b"" in wanted else rb"(?:%s)" % b"|".join(sorted(wanted))
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
    return _holding(_fewest(needs))


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
    return min(map(_bytes, texts), key=lambda text: (min(map(_COMMON.find, text)), -len(text)), default=b"")


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
