"""Drafts a filter file from sample lines: a beginning that is sound, for its author to look through.

The address becomes the source, what stands where a name is told the user, numbers and what differs between
lines of one kind are left open, all else is taken as it stands, from `^` to `$`. Each draft holds the samples
as tests, and beside them what a stranger would try: a name that repeats the rest of the line with somebody
else's address, and a line that quotes ours. Says what it does not know instead of guessing. Pure.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from correlator.config.substitution import BUILT_IN, Substitution
from correlator.errors import SourceError
from correlator.lines.syslog import parse_header
from correlator.matching.filter_definition import FilterDefinition, PatternDefinition
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.model import SECOND, Event, parse_source

ARRIVED = 1_767_225_600 * SECOND
MOST_SAMPLES = 3  # tests a pattern: more of the same prove no more
_LIKE_A_DATE = re.compile(r"\W{0,2}(?!\d{1,3}(?:\.\d{1,3}){3}\b)(?:\d{1,4}[-./:]\d\d(?!\d)|[A-Z]\d{4} )")
_ABOUT_DATES = (
    "# These lines begin with what may be a date, of a form that is not known: their arrival is their time,",
    "# and the date stands in the expressions. Say how it is written and take it out, for instance",
    '# dates = ["%d.%m.%Y %H:%M:%S"]',
)
_SYSLOG_FILES = ("/var/log/syslog", "/var/log/messages")
_MOST_PATTERNS = 40
_ALIKE = 0.6  # share of equal words above which two lines are of one kind
VICTIMS = {4: "198.51.100.66", 6: "2001:db8:66::66"}
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:]))"
)
BEFORE_SOURCE = re.compile(
    r"(?:from|client|by|source|src|remote|rhost|rip|host|ip|peer|address)\W{0,3}$", re.IGNORECASE
)
_BEFORE_USER = re.compile(
    r"\b(?:(?:user(?:name)?|login|account|acct|logname|ruser)(?: name)?|for)(?:=|: ?| )(?P<open>[\"'<\[(]?)$",
    re.IGNORECASE,
)
_CLOSING = {'"': '"', "'": "'", "<": ">", "[": "]", "(": ")"}
_NO_NAMES = frozenset(
    (
        "invalid",
        "illegal",
        "unknown",
        "user",
        "the",
        "a",
        "from",
        "for",
        "name",
        "not",
        "is",
        "client",
        "failed",
    )
)
_WORD = re.compile(r"""\s+|[A-Za-z0-9_]+|"[^"]{3,}"|'[^']{3,}'(?!\w)|.""", re.DOTALL)
_SPECIAL = re.compile(r"([\\.^$*+?{}\[\]|()])")


class DraftError(ValueError):
    """No filter can be drafted from these lines; says why."""


class _Kind(enum.Enum):
    TEXT = "text"
    SOURCE = "source"
    ADDRESS = "address"
    USER = "user"
    NUMBER = "number"
    WORD = "word"
    QUOTED = "quoted"
    AGAIN = "again"
    """The user's name once more."""


_FIXED = frozenset({_Kind.SOURCE, _Kind.ADDRESS, _Kind.USER, _Kind.AGAIN})


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: _Kind
    text: str


@dataclass(slots=True)
class _Shape:
    """Lines of one kind, and what they have in common."""

    pieces: list[_Piece]
    lines: list[str]


def draft_text_filter(name: str, lines: Iterable[str], *, files: Sequence[str]) -> str:
    """Return the text of a filter file for these lines. Raises: DraftError."""
    shapes: list[_Shape] = []
    identifiers: set[str] = set()
    missed = 0
    has_own_date = False
    for line in lines:
        header = parse_header(line)
        has_own_date |= not header.stamp and _LIKE_A_DATE.match(header.body) is not None
        pieces = _take_apart(header.body)
        if pieces is None or not _is_text(line):
            missed += 1
            continue
        identifiers.add(header.identifier)
        _sort_in(shapes, pieces, line)
    if not shapes:
        raise DraftError("no line with an address in it: a filter must say whom a line is about")
    if len(shapes) > _MOST_PATTERNS:
        raise DraftError(
            f"lines of {len(shapes)} kinds, expected at most {_MOST_PATTERNS}: give those that matter"
        )
    count = sum(len(shape.lines) for shape in shapes)
    head = [
        f"# Drafted from {count} sample line{'s' * (count > 1)}: look it through before it may block.",
        *([f"# {missed} without an address, or not of UTF-8, were left out."] if missed else []),
        *(_ABOUT_DATES if has_own_date else ()),
        *draft_head(name, identifiers, files),
    ]
    return "\n".join((*head, *_patterns(shapes, identifiers))) + "\n"


def draft_head(name: str, identifiers: Iterable[str], files: Sequence[str]) -> tuple[str, ...]:
    """Return what stands before the patterns of any draft."""
    return (
        f'description = "{name}: ..."',
        f"identifiers = {json.dumps(sorted(identifiers))}",
        f"files       = {json.dumps(list(files) or _usual_files(name, identifiers))}",
        "",
        "[jail]",
        "threshold = 5",
        'span      = "10m"',
        'block_for = "1h"',
    )


def _usual_files(name: str, identifiers: Iterable[str]) -> list[str]:
    """Return where such lines usually are: lines of no program count in no file of syslog's."""
    own = [f"/var/log/{name}.log"] if "" in identifiers else []
    return [*own, *(_SYSLOG_FILES if any(identifiers) else ())]


def _patterns(shapes: list[_Shape], identifiers: set[str]) -> Iterator[str]:
    shapes.sort(
        key=lambda shape: -sum(piece.kind is _Kind.TEXT for piece in shape.pieces)
    )  # special ones first
    named: dict[str, tuple[_Shape, str]] = {}
    for shape in shapes:
        named[_name(shape, named)] = (shape, _expression(shape.pieces))
    filter_ = _filter({name: expression for name, (_shape, expression) in named.items()}, identifiers)
    for name, (shape, expression) in named.items():
        yield from ("", f"# {shape.lines[0]}")
        yield from ("[[pattern]]", f"name  = {json.dumps(name)}", f"regex = {quoted(expression)}")
        for line in shape.lines[:MOST_SAMPLES]:
            yield from draft_test(filter_, line)
        yield "# What a stranger would try: to repeat our words about somebody else, as a name or in a line."
        for line in _hostile(shape):
            yield from draft_test(filter_, line)


def _is_text(line: str) -> bool:
    """Whether a line can stand in a TOML file: no bytes that are none, no control characters."""
    return all(character.isprintable() or character == "\t" for character in line)


def _take_apart(body: str) -> list[_Piece] | None:
    """Return the pieces of a body; None where no address stands in it."""
    spans = [found.span() for found in _ADDRESS.finditer(body) if is_address(found.group())]
    if not spans:
        return None
    source = next((span for span in spans if BEFORE_SOURCE.search(body[: span[0]])), spans[0])
    marked = dict.fromkeys(spans, _Kind.ADDRESS) | {source: _Kind.SOURCE}
    user = _user_span(body, source)
    if user is not None and not any(low < user[1] and user[0] < high for low, high in marked):
        marked[user] = _Kind.USER
    pieces: list[_Piece] = []
    at = 0
    for low, high in sorted(marked):
        pieces += _words(body[at:low])
        pieces.append(_Piece(marked[low, high], body[low:high]))
        at = high
    return _name_again([*pieces, *_words(body[at:])])


def _name_again(pieces: list[_Piece]) -> list[_Piece]:
    """Return the same with the user's name known where it stands a second time."""
    name = next((piece.text for piece in pieces if piece.kind is _Kind.USER), None)
    found: list[_Piece] = []
    for piece in pieces:
        is_again = piece == _Piece(_Kind.TEXT, name or "") and any(one.kind is _Kind.USER for one in found)
        found.append(_Piece(_Kind.AGAIN, piece.text) if is_again else piece)
    return found


def is_address(text: str) -> bool:
    """Whether text is one address, whole."""
    try:
        parse_source(text)
    except SourceError:
        return False
    return True


def _user_span(body: str, source: tuple[int, int]) -> tuple[int, int] | None:
    """Return where a name stands: behind a word that announces one, to its quote, or to the next blank."""
    best = None
    for found in re.finditer(r"[^\s\"'<>\[\]()=]+", body):
        start = found.start()
        announced = _BEFORE_USER.search(body[:start])
        if announced is None or found.group().lower().rstrip(",:;") in _NO_NAMES or start == source[0]:
            continue
        closing = _CLOSING.get(announced.group("open"))
        end = body.find(closing, start) if closing else start + len(found.group().rstrip(",;:"))
        if end > start and (best is None or start < source[0]):
            best = (start, end)
    return best


def _words(text: str) -> list[_Piece]:
    """Return words, blanks and signs; numbers that stand alone and what stands in quotes are left open."""
    pieces = []
    for word in _WORD.findall(text):
        kind = _Kind.NUMBER if word.isascii() and word.isdigit() else _Kind.TEXT
        pieces.append(_Piece(_Kind.QUOTED if len(word) > 1 and word[0] in "\"'" else kind, word))
    return pieces


def _sort_in(shapes: list[_Shape], pieces: list[_Piece], line: str) -> None:
    """Add a line to the shape that it is alike to, which becomes as wide as both; else it is a new one."""
    for shape in shapes:
        merged = _merge(shape.pieces, pieces)
        if merged is not None:
            shape.pieces = merged
            shape.lines.append(line)
            return
    shapes.append(_Shape(pieces, [line]))


def _merge(one: list[_Piece], other: list[_Piece]) -> list[_Piece] | None:
    if [piece.kind for piece in one if piece.kind in _FIXED] != [
        piece.kind for piece in other if piece.kind in _FIXED
    ]:
        return None
    if len(one) != len(other):
        return None
    merged, equal, words = [], 0, 0
    for left, right in zip(one, other, strict=True):
        if left.kind in _FIXED or right.kind in _FIXED:
            if left.kind != right.kind:
                return None
            merged.append(left)
            continue
        is_word = left.text.isalnum() or right.text.isalnum()
        words += is_word
        if left == right or (left.kind is right.kind and left.kind in (_Kind.NUMBER, _Kind.QUOTED)):
            equal += is_word
            merged.append(left)
        elif is_word:
            merged.append(_Piece(_Kind.WORD, left.text))
        else:
            return None  # another sign or blank: another kind of line
    return merged if words == 0 or equal / words >= _ALIKE else None


def _expression(pieces: Sequence[_Piece]) -> str:
    is_open_behind = any(
        piece.kind in (_Kind.QUOTED, _Kind.USER) for piece in pieces[_index_of(pieces, _Kind.SOURCE) :]
    )
    parts: list[str] = []
    for piece in pieces:
        match piece.kind:
            case _Kind.TEXT:
                parts.append(_SPECIAL.sub(r"\\\1", piece.text))
            case _Kind.SOURCE:
                parts.append("${source}")
            case _Kind.ADDRESS:
                parts.append("${address}")
            case _Kind.USER:
                parts.append(f"(?P<user>{_user_class(parts, is_open_behind=is_open_behind)}{{0,256}})")
            case _Kind.AGAIN:
                parts.append("(?P=user)")
            case _Kind.NUMBER:
                parts.append(r"\d{1,10}")
            case _Kind.WORD:
                parts.append(r"[\w.@-]{1,256}")
            case _Kind.QUOTED:
                parts.append(f"{piece.text[0]}[^{piece.text[0]}]{{0,1000}}{piece.text[0]}")
    return f"^{''.join(parts)}$"


def _user_class(before: Sequence[str], *, is_open_behind: bool) -> str:
    """Return what a name may hold: all, where the last address is ours; else nothing that ends a name."""
    if not is_open_behind or "${source}" in before:
        return "."
    opening = before[-1][-1] if before else ""
    return f"[^{_CLOSING[opening]}]" if opening in ("'", '"', "<") else "[^ ]"


def _index_of(pieces: Sequence[_Piece], kind: _Kind) -> int:
    return next(index for index, piece in enumerate(pieces) if piece.kind is kind)


def _name(shape: _Shape, taken: Collection[str]) -> str:
    words = [
        piece.text.lower() for piece in shape.pieces if piece.kind is _Kind.TEXT and piece.text.isalpha()
    ]
    name = "-".join(words[:3])[:40] or "pattern"
    longer = "-".join((*words[:2], *words[-2:]))[:40]
    spellings = (name, longer, *(f"{name}-{number}" for number in range(2, _MOST_PATTERNS + 2)))
    return next(spelled for spelled in spellings if spelled and spelled not in taken)


def _filter(expressions: Mapping[str, str], identifiers: set[str]) -> Filter:
    words = Substitution(BUILT_IN)
    patterns = tuple(
        PatternDefinition(name, words.expression(expression)) for name, expression in expressions.items()
    )
    return Filter(FilterDefinition("draft", "", "", frozenset(identifiers), (), patterns))


def _hostile(shape: _Shape) -> Iterator[str]:
    line = shape.lines[0]
    header = parse_header(line)
    head = line[: len(line) - len(header.body)]
    source = next(piece.text for piece in shape.pieces if piece.kind is _Kind.SOURCE)
    victim = VICTIMS[parse_source(source).version]
    own = _take_apart(header.body) or []
    user = next((piece for piece in own if piece.kind is _Kind.USER), None)
    if user is not None:
        rest = header.body[header.body.index(user.text) + len(user.text) :]
        forged = {user.text + rest.replace(source, victim), header.body.replace(source, victim)} - {user.text}
        yield from sorted(head + header.body.replace(user.text, text, 1) for text in forged)
    yield f"{head}x {header.body.replace(source, victim)}"
    yield f"{head}another line, about {victim}"


def draft_test(filter_: Filter, text: str) -> Iterator[str]:
    """Yield a test that expects what the filter makes of the line.

    Raises: DraftError where that is what a stranger would want.
    """
    answer = filter_.read(make_line(text, arrived=ARRIVED, layout=filter_.layout))
    expect = '"nothing"'
    if isinstance(answer, Event):
        if str(answer.source) in VICTIMS.values():
            raise DraftError(
                f"text of a stranger could name the source here, expected fixed text: {text[:200]!r}"
            )
        fields = {"pattern": answer.pattern, "source": str(answer.source), **_user(answer)}
        expect = "{ " + ", ".join(f"{name} = {quoted(value)}" for name, value in fields.items()) + " }"
    yield from ("[[test]]", f"line   = {quoted(text)}", f"expect = {expect}")


def _user(event: Event) -> dict[str, str]:
    return {"user": event.fields["user"]} if "user" in event.fields else {}


def quoted(text: str) -> str:
    """Return a TOML string: as it stands where that can be, so that expressions stay readable."""
    if "'" not in text and "\t" not in text:
        return f"'{text}'"
    if "'''" not in text and not text.endswith("'") and "\t" not in text:
        return f"'''{text}'''"
    return json.dumps(text)
