"""What became of a log that was rotated: the names that logrotate gives, and which file is which.

A name alone proves nothing (somebody's copy, another log's rotation): a file is taken for the one that was
read by its inode, or because it begins with the same bytes and is at least as long as what was read of it.
Source: logrotate(8), the directives olddir, dateext, dateformat, extension, compress.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from correlator.model import Micros
from correlator.tailers.birth import born_at
from correlator.tailers.opened import OpenFile, Position, open_file
from correlator.tailers.unpack import SUFFIXES

_PACKED = "(?:" + "|".join(map(re.escape, SUFFIXES)) + ")?"
_DATE = r"[.-]\d{4}-?\d\d-?\d\d(?:[-_.T]?\d{2,10}){0,2}"
_NUMBER = r"\.\d{1,5}"
_OLDDIR = re.compile(rb'^\s*olddir\s+"?([^\s"]+)', re.MULTILINE)
_MOST_CONFIGURATIONS = 500
_CONFIGURATION_BYTES = 1 << 16

Found = dict[OpenFile, Position]


@dataclass(frozen=True, slots=True)
class Sibling:
    """A file that bears a name of a rotation; `opened` is None where it cannot be read, and why is said."""

    path: Path
    opened: OpenFile | None
    is_own: bool
    """Whether it lies in the log's own folder or below; other folders may hold other logs' rotations too."""
    refusal: str = ""


def rotated_names(name: str) -> re.Pattern[str]:
    """Return an expression for the names that logrotate makes of a log's name."""
    stem, dot, extension = name.rpartition(".")
    forms = [re.escape(name) + f"(?:{_NUMBER}|{_DATE})"]
    if dot and stem:  # `extension`; a number there may as well be another log (worker.1.log)
        forms.append(re.escape(stem) + _DATE + re.escape(dot + extension))
    return re.compile(f"(?:{'|'.join(forms)}){_PACKED}")


def is_rotation(name: str, others: Collection[str]) -> bool:
    """Whether a file is compressed, or bears a name that logrotate would have made of another one."""
    if name.endswith(SUFFIXES):
        return True
    return any(base != name and base in others for base in first_names(name))


def first_names(name: str) -> set[str]:
    """Return what a file may have been called before logrotate renamed it; its own name where it was not."""
    return {re.sub(f"(?:{_NUMBER}|{_DATE})$", "", name), re.sub(rf"{_DATE}(?=\.[^.]+$)", "", name)}


def find_old_folders(path: Path, configuration: Path) -> list[Path]:
    """Return where logrotate puts old logs of this one's folder, as its files under `configuration` say."""
    folders: list[Path] = []
    for file in (configuration / "logrotate.conf", *_files(configuration / "logrotate.d")):
        with contextlib.suppress(OSError), open(file, "rb") as opened:
            for found in _OLDDIR.findall(opened.read(_CONFIGURATION_BYTES)):
                folder = path.parent / os.fsdecode(found)  # an absolute one replaces what stands before it
                if folder not in folders and folder != path.parent:
                    folders.append(folder)
    return folders


def find_siblings(
    path: Path, configuration: Path, *, written_since: int = 0, changed_since: int = 0
) -> list[Sibling]:
    """Return what logrotate made of the path, oldest first, each opened at its start.

    Times are nanoseconds; a file that is not younger is left out.
    """
    names = rotated_names(path.name)
    paths = [
        found
        for folder in (path.parent, *find_old_folders(path, configuration))
        for found in _files(folder)
        if names.fullmatch(found.name)
    ]
    siblings: list[tuple[tuple[int, int], Sibling]] = []
    for found in paths:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            status = os.stat(found)
            is_new = status.st_mtime_ns >= written_since and status.st_ctime_ns >= changed_since
            if not status.st_size or not is_new or found.with_suffix("") in paths:
                continue  # what it is being compressed from is still there
            opened, refusal = None, ""
            try:
                opened = open_file(found, found.suffix)
            except OSError as exc:
                refusal = exc.strerror or str(exc)
            if opened is not None or status.st_mtime_ns > written_since:
                is_own = found.is_relative_to(path.parent)
                age = (status.st_mtime_ns, _rank(path.name, found.name))
                siblings.append((age, Sibling(found, opened, is_own, refusal)))
    return [sibling for _age, sibling in sorted(siblings, key=lambda item: item[0])]


def find_made_since(path: Path, configuration: Path, since: Micros) -> Iterator[OpenFile]:
    """Yield what was made since then, rotated, and is not compressed, oldest first, each opened at its start.

    By the file's own time: neither names nor when a file was written or renamed say when its lines came.
    """
    times = {"written_since": since * 1000, "changed_since": since * 1000}
    for sibling in find_siblings(path, configuration, **times):
        opened = sibling.opened
        if opened is None:
            continue
        birth = None if opened.is_packed or not sibling.is_own else born_at(opened.descriptor)
        if birth is not None and birth >= since:
            yield opened
        else:
            opened.close()


def _rank(name: str, rotated: str) -> int:
    """Return what orders rotations that were written at the same time: the higher number is the older one."""
    digits = "".join(filter(str.isdigit, rotated.removeprefix(name).removesuffix(".bz2")))
    return -int(digits or 0) if re.search(_NUMBER + _PACKED + "$", rotated) else int(digits or 0)


def match_positions(
    positions: Sequence[Position], siblings: Sequence[OpenFile], current: OpenFile | None
) -> Found:
    """Return the file of each position: by its inode, else one that begins as it did and is long enough.

    The rest is sought in what is not compressed first, then in the newest, last in what the path names.
    """
    files = list(siblings[::-1])
    files.sort(key=lambda file: file.is_packed)
    files += [current] if current is not None else []
    found: Found = {}
    for is_by_inode in (True, False):
        for position in positions:
            for file in files:
                is_same = (file.device, file.inode) == (position.device, position.inode)
                is_eligible = is_same if is_by_inode else bool(position.head)
                is_free = file not in found and position not in found.values()
                if is_eligible and is_free and file.holds(position.head, position.offset):
                    found[file] = position
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder; nothing where it cannot be read: opening the log itself says why."""
    with contextlib.suppress(OSError):
        yield from (
            sorted(folder.iterdir())[:_MOST_CONFIGURATIONS]
            if folder.name == "logrotate.d"
            else (folder.iterdir())
        )


def close_unused(siblings: Sequence[Sibling], used: Mapping[OpenFile, object]) -> list[Sibling]:
    """Close the siblings that are not in `used`, and return the others."""
    kept = []
    for sibling in siblings:
        if sibling.opened is not None and sibling.opened not in used:
            sibling.opened.close()
        else:
            kept.append(sibling)
    return kept
