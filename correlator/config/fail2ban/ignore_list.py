"""Reads `ignoreip`: addresses and prefixes that a jail never bans; names are told, and never resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from correlator.errors import SourceError
from correlator.model import Source, parse_prefix

_FILE = "file:"
_MOST_LINES = 100_000
_MASK = re.compile(r"(?P<address>[^/]+)/(?P<mask>\d+\.\d+\.\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class IgnoreList:
    """Whom a jail never bans."""

    sources: tuple[Source, ...]
    others: tuple[str, ...]
    """Names, and whatever else is no address."""
    files: tuple[Path, ...]
    """Files that were read for it."""


def read_ignore_list(text: str) -> IgnoreList:
    """Return what the words of an `ignoreip` mean, those of its files included."""
    sources: dict[Source, None] = {}
    others: list[str] = []
    files: list[Path] = []
    for word in _words(text, files):
        try:
            sources[parse_prefix(word)] = None
        except SourceError:
            others.append(word)
    return IgnoreList(tuple(sources), tuple(others), tuple(files))


def _words(text: str, files: list[Path]) -> Iterator[str]:
    for word in re.split(r"[\s,]+", text):
        if word.startswith(_FILE):
            path = Path(word.removeprefix(_FILE))
            files.append(path)
            yield from _lines(path)
        elif word:
            yield word


def _lines(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[:_MOST_LINES]
    except OSError as exc:
        yield f"{_FILE}{path} ({exc.strerror})"
        return
    for line in lines:
        yield from filter(None, re.split(r"[\s,]+", re.split(r"[#;]", line)[0]))
