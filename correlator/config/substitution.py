r"""Puts variables and lists in the place of `${name}` in the texts of a filter file.

A variable is text, taken as it stands: part of an expression. A list is literal words: in an expression it is
any one of them, escaped; in a test's line, each of them in turn. In an expression `$` is the end of the text,
and what follows the end can never match, so `${name}` is no expression that anybody could mean; `\${name}` is
left alone. Pure and bounded: neither text that grows nor variables that name each other get far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from correlator.config.reader import Table, near_miss

_TOKEN = re.compile(r"(?<!\\)\$\{([A-Za-z][A-Za-z0-9_-]{0,63})\}")
_BEGINS = "${"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MOST_CHARACTERS = 100_000
_MOST_DEPTH = 10
_MOST_WORDS = 10_000
BUILT_IN = {"address": "[0-9A-Fa-f:.]{2,45}", "source": "(?P<source>${address})"}


class SubstitutionError(ValueError):
    """A name that there is not, or text without end; says what was expected."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """The variables and lists of one filter file."""

    variables: Mapping[str, str] = field(default_factory=lambda: dict(BUILT_IN))
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def expression(self, text: str) -> str:
        """Return an expression with every name replaced. Raises: SubstitutionError."""
        return self._expand(text, lambda words: f"(?:{'|'.join(map(re.escape, words))})", 0)

    def literal(self, text: str) -> str:
        """Return plain text with every variable replaced. Raises: SubstitutionError, also for a list."""

        def refuse(_words: tuple[str, ...]) -> str:
            raise SubstitutionError("text, and no list in its place")

        return self._expand(text, refuse, 0)

    def words(self, text: str) -> tuple[str, ...]:
        """Return the words of a list where the text names one and nothing else, else the text itself."""
        found = _TOKEN.fullmatch(text)
        if found is not None and found.group(1) in self.lists:
            return self.lists[found.group(1)]
        return (self.literal(text),)

    def lines(self, line: str) -> Iterator[str]:
        """Yield a test's line once, or once for each word of the lists that it names.

        A name that there is not stays as it is: text of strangers may hold `${...}` too.
        """
        if _BEGINS not in line:
            yield line
            return
        for found in _TOKEN.finditer(line):
            if (name := found.group(1)) in self.lists:
                head, tail = line[: found.start()], line[found.end() :]
                for word in self.lists[name]:
                    yield from (self._with_variables(head) + word + rest for rest in self.lines(tail))
                return
        yield self._with_variables(line)

    def _with_variables(self, line: str) -> str:
        return _TOKEN.sub(lambda found: self.variables.get(found.group(1), found.group()), line)

    def _expand(self, text: str, spell: Callable[[tuple[str, ...]], str], depth: int) -> str:
        if depth > _MOST_DEPTH:
            raise SubstitutionError(
                f"variables that do not name each other, or not more than {_MOST_DEPTH} deep"
            )
        if _BEGINS not in text and len(text) <= _MOST_CHARACTERS:
            return text  # most have none; what looks for it takes several times as long

        def replaced(found: re.Match[str]) -> str:
            name = found.group(1)
            if name in self.lists:
                return spell(self.lists[name])
            if name not in self.variables:
                raise SubstitutionError(
                    f"a variable or list that there is: not {name!r}{near_miss(name, self._names())}"
                )
            return self._expand(self.variables[name], spell, depth + 1)

        expanded = _TOKEN.sub(replaced, text)
        if len(expanded) > _MOST_CHARACTERS:
            raise SubstitutionError(f"at most {_MOST_CHARACTERS} characters, with the text of all variables")
        return expanded

    def _names(self) -> tuple[str, ...]:
        return (*self.variables, *self.lists)


def read_substitution(table: Table, options: Mapping[str, str]) -> Substitution:
    """Return what `[variables]` and `[lists]` of a filter file say; `options` overrule the variables."""
    variables, lists = table.table("variables"), table.table("lists")
    texts = {name: variables.text(name, "") for name in _names(variables)}
    for name, value in options.items():
        if name not in texts:
            variables.fault(name, value, f"an option that the filter has{near_miss(name, texts)}")
    words = {name: _words(lists, name) for name in _names(lists)}
    for name in sorted(set(texts) & set(words)):
        lists.fault(name, name, "a name that no variable has")
    return Substitution({**BUILT_IN, **texts, **options}, words)


def _names(table: Table) -> Iterator[str]:
    for name in table.any_values():
        if _NAME.fullmatch(name):
            yield name
        else:
            table.fault(name, name, "a name of letters, digits, `_` and `-`, at most 64, a letter first")


def _words(table: Table, name: str) -> tuple[str, ...]:
    words = table.texts(name)
    if not 1 <= len(words) <= _MOST_WORDS or "" in words:
        table.fault(name, f"{len(words)} words", f"1 to {_MOST_WORDS} words, none of them empty")
        return ("",)
    return tuple(sorted(words, key=lambda word: (-len(word), word)))  # the longest first: it wins
