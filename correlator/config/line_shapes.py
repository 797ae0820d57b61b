"""What sample lines have in common: address, name, numbers, what differs between them, all else as it stands.

Lines of one kind become one shape, a shape an expression from `^` to `$`, and beside it what a stranger would
try against that: a name that repeats the rest of the line with somebody else's address, and a line that
quotes ours. What stands in quotes is left open only where it differs: it may be all that tells a failure
from a success, and so may the status of a web server's answer. Pure.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from correlator.errors import SourceError
from correlator.model import parse_source

MOST_SHAPES = 40
_ALIKE = 0.6  # share of equal words above which two lines are of one kind
VICTIMS = {4: "198.51.100.66", 6: "2001:db8:66::66"}
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
    r"|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?:(?:\.\d{1,3}){3})?(?![\w:]|\.\d))"
)
BEFORE_SOURCE = re.compile(
    r"(?:from|client|by|source|src|remote|rhost|rip|host|ip|peer|address)\W{0,3}$", re.IGNORECASE
)
_BEFORE_USER = re.compile(
    r"(?<![\w/.-])(?:(?:user(?:name)?|login|account|acct|logname|ruser)(?: name)?|for)"
    r"(?:=|: ?| )(?P<open>[\"'<\[(]?)$",
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
_WORD = re.compile(
    r"""\s+|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[-+.,:Z\d]*|[A-Za-z0-9_]+|"[^"]{3,}"|'[^']{3,}'(?!\w)|.""",
    re.DOTALL,
)
_CALENDAR = re.compile("Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mon|Tue|Wed|Thu|Fri|Sat|Sun")
"""Words of dates: next month's lines are of the same kind."""
DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?P<between>[T ])\d\d:\d\d:\d\d(?P<fraction>[.,]\d{1,9})?(?P<zone>Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_STATUS = re.compile(r"[1-5]\d\d")
_SPECIAL = re.compile(r"([\\.^$*+?{}\[\]|()])")


class _Kind(enum.Enum):
    TEXT = "text"
    SOURCE = "source"
    ADDRESS = "address"
    USER = "user"
    NUMBER = "number"
    WORD = "word"
    QUOTED = "quoted"
    UNLIKE = "unlike"
    """Quoted text that differs."""
    STATUS = "status"
    CALENDAR = "calendar"
    DATE = "date"
    AGAIN = "again"
    """The user's name once more."""


_OPEN = frozenset({_Kind.NUMBER, _Kind.UNLIKE, _Kind.CALENDAR, _Kind.DATE})
_IN_QUOTES = frozenset({_Kind.QUOTED, _Kind.UNLIKE})
_FIXED = frozenset({_Kind.SOURCE, _Kind.ADDRESS, _Kind.USER, _Kind.AGAIN})


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: _Kind
    text: str


@dataclass(slots=True)
class Shape:
    """Lines of one kind, and what they have in common."""

    pieces: list[_Piece]
    lines: list[str]

    @property
    def words(self) -> int:
        """How much of it stands as it is: the more, the more special."""
        return sum(piece.kind is _Kind.TEXT for piece in self.pieces)

    @property
    def has_other_addresses(self) -> bool:
        """Whether there are addresses beside the one that is taken for the source."""
        return any(piece.kind is _Kind.ADDRESS for piece in self.pieces)


def take_apart(body: str) -> list[_Piece] | None:
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
    for found in re.finditer(r"[^\s\"'<>\[\]()={}|]+", body):
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
    """Return words, blanks and signs; numbers that stand alone are left open."""
    pieces: list[_Piece] = []
    for word in _WORD.findall(text):
        kind = _Kind.TEXT
        if DATE.fullmatch(word):
            kind = _Kind.DATE
        elif len(word) > 1 and word[0] in "\"'":
            if DATE.fullmatch(word[1:-1]):
                pieces += [_Piece(kind, word[0]), _Piece(_Kind.DATE, word[1:-1]), _Piece(kind, word[0])]
                continue
            kind = _Kind.QUOTED
        elif word.isascii() and word.isdigit():
            is_behind_quotes = len(pieces) > 1 and pieces[-2].kind is _Kind.QUOTED and pieces[-1].text == " "
            kind = _Kind.STATUS if is_behind_quotes and _STATUS.fullmatch(word) else _Kind.NUMBER
        elif _CALENDAR.fullmatch(word):
            kind = _Kind.CALENDAR
        pieces.append(_Piece(kind, word))
    return pieces


def sort_in(shapes: list[Shape], pieces: list[_Piece], line: str) -> None:
    """Add a line to the shape that it is alike to, which becomes as wide as both; else it is a new one."""
    for shape in shapes:
        merged = _merge(shape.pieces, pieces)
        if merged is not None:
            shape.pieces = merged
            shape.lines.append(line)
            return
    shapes.append(Shape(pieces, [line]))


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
        if left == right or (left.kind is right.kind and left.kind in _OPEN):
            equal += is_word
            merged.append(left)
        elif _Kind.STATUS in (left.kind, right.kind):
            return None
        elif left.kind in _IN_QUOTES and right.kind in _IN_QUOTES and left.text[0] == right.text[0]:
            merged.append(_Piece(_Kind.UNLIKE, left.text))
        elif is_word:
            merged.append(_Piece(_Kind.WORD, left.text))
        else:
            return None  # another sign or blank: another kind of line
    return merged if words == 0 or equal / words >= _ALIKE else None


def expression_of(pieces: Sequence[_Piece]) -> str:
    """Return the expression of a shape's pieces."""
    is_open_behind = any(
        piece.kind in (_Kind.UNLIKE, _Kind.USER) for piece in pieces[_index_of(pieces, _Kind.SOURCE) :]
    )
    parts: list[str] = []
    for piece in pieces:
        match piece.kind:
            case _Kind.TEXT | _Kind.QUOTED | _Kind.STATUS:
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
            case _Kind.DATE:
                parts.append(r"[-+.,:TZ\d ]{19,40}")
            case _Kind.CALENDAR:
                parts.append("[A-Z][a-z]{2}")
            case _Kind.WORD:
                parts.append(r"[\w.@-]{1,256}")
            case _Kind.UNLIKE:
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


def name_of(shape: Shape, taken: Collection[str]) -> str:
    """Return a name for the shape's pattern that is not taken."""
    words = [
        piece.text.lower() for piece in shape.pieces if piece.kind is _Kind.TEXT and piece.text.isalpha()
    ]
    name = "-".join(words[:3])[:40] or "pattern"
    longer = "-".join((*words[:2], *words[-2:]))[:40]
    spellings = (name, longer, *(f"{name}-{number}" for number in range(2, MOST_SHAPES + 2)))
    return next(spelled for spelled in spellings if spelled and spelled not in taken)


def hostile_bodies(shape: Shape, body: str) -> Iterator[str]:
    """Yield what a stranger would try against the shape of a body that is of this shape."""
    source = next(piece.text for piece in shape.pieces if piece.kind is _Kind.SOURCE)
    victim = VICTIMS[parse_source(source).version]
    user = next((piece for piece in take_apart(body) or [] if piece.kind is _Kind.USER), None)
    if user is not None:
        rest = body[body.index(user.text) + len(user.text) :]
        forged = {user.text + rest.replace(source, victim), body.replace(source, victim)} - {user.text}
        yield from sorted(body.replace(user.text, text, 1) for text in forged)
    yield f"x {body.replace(source, victim)}"
    yield f"another line, about {victim}"
