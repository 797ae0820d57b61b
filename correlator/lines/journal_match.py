"""Conditions on the fields of a journal entry: which entries a filter reads.

Only journald sets fields whose name begins with `_`: who wrote an entry (`_UID`, `_SYSTEMD_UNIT`, `_EXE`)
and how (`_TRANSPORT=kernel`) stand there whatever the writer claims in its text or its identifier.
Source: systemd.journal-fields(7); the words are those of journalctl(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from correlator.errors import JournalMatchError

_PLAIN = re.compile(r"[A-Za-z0-9_=./@: -]*")
"""Text in which nothing is quoted."""
_TERM = re.compile(r"(?P<field>[A-Z_][A-Z0-9_]{0,63})=(?P<value>.+)", re.DOTALL)
EXPECTED = "FIELD=value, such as _TRANSPORT=kernel; several in one text must all hold"


@dataclass(frozen=True, slots=True)
class JournalMatch:
    """One alternative: each field named must have one of the values named for it."""

    terms: tuple[tuple[str, frozenset[str]], ...]

    def accepts(self, fields: Mapping[str, str]) -> bool:
        """Whether an entry with these fields is meant; a field that is not there has no value."""
        return all(fields.get(field) in values for field, values in self.terms)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names that have to be known to decide."""
        return tuple(field for field, _values in self.terms)


def parse_journal_match(text: str) -> JournalMatch:
    """Return the alternative that a text such as `_SYSTEMD_UNIT=ssh.service _UID=0` spells.

    A value with spaces stands in quotes; a field named twice may have either value.
    Raises: JournalMatchError for anything else.
    """
    terms: dict[str, set[str]] = {}
    for word in _words(text):
        found = _TERM.fullmatch(word)
        if found is None:
            raise JournalMatchError(repr(word))
        terms.setdefault(found["field"], set()).add(found["value"])
    if not terms:
        raise JournalMatchError(repr(text))
    return JournalMatch(tuple((field, frozenset(values)) for field, values in terms.items()))


def _words(text: str) -> list[str]:
    """Return the words of a text, as the shell would part them. Raises: JournalMatchError."""
    if _PLAIN.fullmatch(text):
        return text.split()
    import shlex

    try:
        return shlex.split(text)
    except ValueError as exc:
        raise JournalMatchError(f"{text!r} ({exc})") from exc


def fields_of(matches: Iterable[JournalMatch]) -> frozenset[str]:
    """Return the names of all fields that some of the conditions ask for."""
    return frozenset(field for match in matches for field in match.fields)
