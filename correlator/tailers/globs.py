"""Which files a pattern such as `/var/log/*/access.log` means now, and what kept us from looking.

Unlike a shell, it says which folders it was not let into, stops at a bound, and leaves out what logrotate
made of the files beside it: their lines were read under their first name. `**` means the same as `*`.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import resource
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from correlator.model import Micros
from correlator.tailers.rotation import is_rotation

_MAGIC = "*?["
MOST_FILES = 200
"""Files of one pattern that are followed at once."""
_MOST_SEEN = 20_000
_REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a pattern means now."""

    paths: tuple[str, ...]
    """Sorted; of too many, those written to last."""
    matched: int
    refused: tuple[str, ...]
    """Folders that we may not look into."""
    others: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Of too many, those that are not followed, each with its inode and its size now."""

    @property
    def state(self) -> str:
        """`following`, `waiting` for something to match, or `refused`."""
        return "refused" if self.refused else "following" if self.paths else "waiting"

    @property
    def trouble(self) -> str:
        """What is wrong, in words; empty where all is well."""
        if self.refused:
            return f"permission denied: {', '.join(self.refused[:3])}"
        if self.matched > len(self.paths):
            return f"{self.matched} files match: the {len(self.paths)} that were written to last are followed"
        return "" if self.paths else "nothing matches"


NOTHING = Expansion((), 0, ())


@dataclass(slots=True)
class Pattern:
    """What is kept of a pattern that is followed."""

    readers: tuple[str, ...]
    expansion: Expansion = NOTHING
    expanded_at: Micros = 0
    expand_at: Micros = 0
    is_new: bool = False
    """Never looked up before, by us or by whoever ran before us."""
    names_changed: int = 0
    """When a name in its folder changed last, as the folder said when it was looked up."""

    @classmethod
    def recall(cls, readers: tuple[str, ...], rows: Sequence[Mapping[str, Any]] | None) -> Pattern:
        """Return one of which these rows were kept, see `rows`; None: it never was looked up."""
        refused = tuple(row[_REFUSED] for row in rows or () if _REFUSED in row)
        return cls(readers, Expansion((), 0, refused), is_new=rows is None)

    def rows(self) -> list[dict[str, Any]]:
        """Return which folders kept us out, as what can be written as JSON."""
        return [{_REFUSED: folder} for folder in self.expansion.refused]

    def may_have_been_there(self, path: str) -> bool:
        """Whether a path may have been there when it was looked up last, in a folder that kept us out."""
        return any(path.startswith(f"{folder}/") for folder in self.expansion.refused)

    def describe(self, text: str) -> dict[str, Any]:
        """Return what `portward sources` shows of it."""
        return {
            "origin": text,
            "kind": "pattern",
            "state": self.expansion.state,
            "filters": list(self.readers),
            "matches": self.expansion.matched,
            "trouble": self.expansion.trouble,
        }

    def absent_at(self, path: str) -> Micros | None:
        """Return when it was looked up last, and a path was not there; None where that is not sure."""
        known = self.expansion
        is_complete = not known.refused and known.matched < _MOST_SEEN
        was_there = path in known.paths or path in known.others
        return self.expanded_at if self.expanded_at and is_complete and not was_there else None


def is_pattern(file: str) -> bool:
    """Whether this is a pattern and no path."""
    return any(character in file for character in _MAGIC)


def may_mean(pattern: str, path: str) -> bool:
    """Whether a pattern means a path, be it there or not: what is rotated just now is not."""
    if not path.startswith(_fixed_beginning(pattern)):
        return False  # of thousands of paths most
    parts, names = Path(pattern).parts, Path(path).parts
    return len(parts) == len(names) and all(map(fnmatch.fnmatchcase, names, parts))


@functools.lru_cache(maxsize=1024)
def _fixed_beginning(pattern: str) -> str:
    return pattern[: min(map(pattern.index, filter(pattern.__contains__, _MAGIC)), default=len(pattern))]


def expand_pattern(pattern: str, *, most: int = MOST_FILES) -> Expansion:
    """Look which files there are; `most`: how many may be followed."""
    most = max(0, min(most, MOST_FILES))
    refused: list[str] = []
    root, *parts = Path(pattern).parts
    found = list(_walk(root, parts, refused))
    names: dict[str, set[str]] = {}
    for path, _status in found:
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, set()).add(name)
    files = [
        (path, status)
        for path, status in found
        if not is_rotation(path.rpartition("/")[2], names[path.rpartition("/")[0]])
    ]
    if len(files) > most:
        files.sort(key=lambda file: file[1].st_mtime_ns, reverse=True)
    chosen = tuple(sorted(path for path, _status in files[:most]))
    others = {path: (status.st_ino, status.st_size) for path, status in files[most:]}
    return Expansion(chosen, len(files), tuple(refused), others)


def _walk(folder: str, parts: Sequence[str], refused: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below `folder` that the rest of the pattern means, up to the bound."""
    part, *rest = parts
    seen = 0
    for name in _names(folder, part, refused):
        path = os.path.join(folder, name)
        try:
            status = os.stat(path)
        except PermissionError:
            if folder not in refused:
                refused.append(folder)
            continue
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) != bool(rest):
            continue
        for file in _walk(path, rest, refused) if rest else ((path, status),):
            yield file
            seen += 1
            if seen >= _MOST_SEEN:
                return


def _names(folder: str, part: str, refused: list[str]) -> list[str]:
    if not is_pattern(part):
        return [part]
    try:
        names = os.listdir(folder)
    except PermissionError:
        refused.append(folder)
        return []
    except OSError:  # gone, or no folder
        return []
    hidden = part.startswith(".")
    return sorted(name for name in fnmatch.filter(names, part) if hidden or not name.startswith("."))


def most_open() -> int:
    """Return how many files may be followed at once: each is open, and others need descriptors too."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4


def names_changed(folder: str) -> int:
    """Return when a file appeared in a folder or left it; a line more in a file changes nothing here."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
