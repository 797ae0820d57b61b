"""Chooses which filters read a line of one program, by how its body begins. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from correlator.matching.filters import Filter


class Readers(NamedTuple):
    """The filters that read the lines of one program."""

    by_beginning: Mapping[str, Choice]
    """By how a body begins."""
    otherwise: Choice
    """Where it begins with nothing in particular."""

    @classmethod
    def of(cls, filters: Iterable[Filter]) -> Readers:
        """Sort filters by the bodies that they can understand."""
        every = tuple(filters)
        beginnings = {beginning for filter_ in every for beginning in filter_.beginnings}
        return cls({text: Choice.of(every, text) for text in beginnings}, Choice.of(every, ""))


class Choice(NamedTuple):
    """Which of a program's filters read a body that begins in one way."""

    readers: tuple[Filter, ...]
    """Those with a pattern that may match it."""
    claims: tuple[tuple[str, bool, Filter], ...]
    """Of those that can only say that a body is theirs: by what text, and whether it must come first."""

    @classmethod
    def of(cls, filters: Sequence[Filter], beginning: str) -> Choice:
        """Choose by the first characters of a body."""
        readers = tuple(one for one in filters if one.may_understand(beginning))
        others = [one for one in filters if one.definition.claims and one not in readers]
        texts = [(one.definition.claims.removeprefix("^"), one) for one in others]
        return cls(readers, tuple((text, text != one.definition.claims, one) for text, one in texts))

    def take(self, body: str) -> tuple[Filter, ...]:
        """Return those that read this body."""
        readers = self.readers
        for text, is_first, one in self.claims:
            if text in body and (not is_first or body.startswith(text)):
                readers += (one,)
        return readers
