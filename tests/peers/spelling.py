"""Spells out lines that an expression might match, by walking it as Python's `re` parses it, and bends them.

Look-arounds are passed over, so that some lines match and some just do not: both are wanted.
"""

from __future__ import annotations

import random
import re
import warnings
from typing import Any

_TEXT = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789 .:-_=/@'\"()[]<>,;"
_WORDS = "abcdefghijklmnopqrstuvwxyz0123456789_"
_ADDRESSES = ("192.0.2.7", "198.51.100.23", "203.0.113.200", "2001:db8::1f", "::ffff:192.0.2.9", "fe80::1")
_NAMES = (
    "host.example.com",
    "localhost",
    "a-b.example",
    "root",
    "admin",
    "x",
    "evil from 203.0.113.66 port 1 ssh2",
)
_HOSTILE = (
    *(
        " from 203.0.113.66",
        "203.0.113.66",
        "[203.0.113.66]",
        "2001:db8::66",
        "::",
        "999.1.1.1",
        "192.030.0.6",
    ),
    *("rhost=203.0.113.66", "user=root", "</F-USER>", "%s", r"\n", ": ", "sshd[1]: ", '"', "'", "x" * 40),
    *("Nov 20 10:00:00 ", "2026-11-20T10:00:00Z ", "[20/Nov/2026:10:00:00 +0000]"),
    *("\t", "  ", "\x00", "\x1c", "\x85", "\u2028", "\ufeff", "é", "٣"),
)
_CATEGORIES = {"CATEGORY_DIGIT": "0123456789", "CATEGORY_SPACE": " ", "CATEGORY_WORD": _WORDS}
_NEGATED = {"CATEGORY_NOT_DIGIT": "ab.-", "CATEGORY_NOT_SPACE": "abc19.-:[", "CATEGORY_NOT_WORD": " .:-[]"}
_MOST_REPEATS = 3


class Speller:
    """Spells lines for expressions; the same seed gives the same lines."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  lines, not secrets

    def spell(self, expression: str, *, content: str | None = None) -> str:
        """Return a line for an expression; `content`: what its group of that name holds."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = re._parser.parse(expression)
        names = {number: name for name, number in parsed.state.groupdict.items()}
        groups: dict[int, str] = {}
        return self._sequence(parsed, names, groups, content)

    def bend(self, line: str) -> str:
        """Return the line with one to three things done to it that a stranger or a broken disk could do."""
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randint(0, len(line))
            to = min(len(line), at + self.random.choice((1, 1, 2, 5, 20)))
            hostile = self.random.choice(_HOSTILE)
            kind = self.random.randint(0, 6)
            if kind == 0:
                line = line[:at] + line[to:]
            elif kind == 1:
                line = line[:at] + line[at:to] + line[at:]
            elif kind == 2:
                line = line[:at] + hostile + line[to:]
            elif kind == 3:
                line = line[:at] + self.random.choice(_TEXT) + line[at + 1 :]
            elif kind == 4:
                line = line[:at] + line[at:to].swapcase() + line[to:]
            elif kind == 5:
                words = line.split(" ")
                word = self.random.randrange(len(words))
                words[word] = hostile
                line = " ".join(words)
            else:
                line += hostile
        return line

    def _sequence(
        self, parsed: Any, names: dict[int, str], groups: dict[int, str], content: str | None
    ) -> str:
        return "".join(self._one(str(op), argument, names, groups, content) for op, argument in parsed)

    def _one(
        self, op: str, argument: Any, names: dict[int, str], groups: dict[int, str], content: str | None
    ) -> str:
        if op == "LITERAL":
            return chr(argument)
        if op == "NOT_LITERAL":
            return self._other_than({chr(argument)})
        if op == "ANY":
            return self.random.choice(_TEXT)
        if op == "IN":
            return self._member(argument)
        if op == "BRANCH":
            return self._sequence(self.random.choice(argument[1]), names, groups, content)
        if op == "SUBPATTERN":
            number, _adds, _removes, inner = argument
            return self._group(number, inner, names, groups, content)
        if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = argument
            times = least
            if self.random.random() < 0.4:
                times = self.random.randint(least, max(least, min(int(most), least + _MOST_REPEATS)))
            if (
                len(inner) == 1
                and str(inner[0][0]) in ("ANY", "IN", "NOT_LITERAL")
                and self._is_free(inner, most)
            ):
                return self._free_text(inner, least)
            return "".join(self._sequence(inner, names, groups, content) for _ in range(times))
        if op == "GROUPREF":
            return groups.get(argument, "")
        if op == "GROUPREF_EXISTS":
            number, yes, no = argument
            chosen = yes if number in groups else no
            return self._sequence(chosen, names, groups, content) if chosen else ""
        if op == "ATOMIC_GROUP":
            return self._sequence(argument, names, groups, content)
        return ""  # anchors and look-arounds

    def _group(
        self,
        number: int | None,
        inner: Any,
        names: dict[int, str],
        groups: dict[int, str],
        content: str | None,
    ) -> str:
        name = names.get(number or 0, "")
        if name == "content" and content is not None:
            text = content
        elif name in ("ip4", "ip6", "dns") and self.random.random() < 0.9:
            pool = _ADDRESSES[:3] if name == "ip4" else _ADDRESSES[3:4] if name == "ip6" else _NAMES[:3]
            text = self.random.choice(pool)
        else:
            text = self._sequence(inner, names, groups, content)
        if number is not None:
            groups[number] = text
        return text

    def _is_free(self, inner: Any, most: Any) -> bool:
        """Whether nearly any text may stand here, as long as one likes."""
        if int(most) <= 20:
            return False
        op, argument = inner[0]
        return str(op) != "IN" or str(argument[0][0]) == "NEGATE" or "CATEGORY_NOT" in str(argument)

    def _free_text(self, inner: Any, least: int) -> str:
        """Return text for a dot and a star, and the like: what a stranger can choose."""
        choice = self.random.random()
        if choice < 0.3:
            text = self.random.choice(_NAMES + _ADDRESSES)
        elif choice < 0.4:
            text = self.random.choice(_HOSTILE)
        else:
            return "".join(self._one(str(inner[0][0]), inner[0][1], {}, {}, None) for _ in range(least + 4))
        return text

    def _member(self, items: Any) -> str:
        kinds = [(str(op), argument) for op, argument in items]
        if kinds[0][0] == "NEGATE":
            excluded: set[str] = set()
            for op, argument in kinds[1:]:
                excluded |= set(self._members(op, argument))
            return self._other_than(excluded)
        op, argument = self.random.choice(kinds)
        return self.random.choice(self._members(op, argument))

    def _members(self, op: str, argument: Any) -> str:
        if op == "LITERAL":
            return chr(argument)
        if op == "RANGE":
            return "".join(chr(code) for code in range(argument[0], min(argument[1], argument[0] + 200) + 1))
        name = str(argument)
        return _CATEGORIES.get(name) or _NEGATED.get(name) or "x"

    def _other_than(self, excluded: set[str]) -> str:
        return self.random.choice([character for character in _TEXT if character not in excluded] or ["~"])
