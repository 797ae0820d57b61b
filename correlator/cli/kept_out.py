"""What keeps a process out of a file: the first part of the path that says no to its user and groups."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: a user and its groups, without any capability."""

    user: int
    groups: frozenset[int]

    def __str__(self) -> str:
        """Return names: `user portward, groups adm, systemd-journal`."""
        groups = ", ".join(sorted(map(_group, self.groups)))
        return f"user {_user(self.user)}, groups {groups}"

    def may(self, found: os.stat_result, want: int) -> bool:
        """Whether the mode grants `want` (4 reading, 1 passing); access lists are not asked."""
        shift = 6 if found.st_uid == self.user else 3 if found.st_gid in self.groups else 0
        return bool(found.st_mode >> shift & want)


def reader_of(pid: int) -> Reader | None:
    """Return who a process is; None where it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            rows = dict(line.split(":", 1) for line in file if ":" in line)
        user, group = (int(rows[name].split()[3]) for name in ("Uid", "Gid"))  # those for files
        return Reader(user, frozenset({group, *map(int, rows["Groups"].split())}))
    except (OSError, KeyError, ValueError, IndexError):
        return None


def what_keeps_out(path: str, reader: Reader) -> str:
    """Return what of a path keeps the reader out, `/srv/log is root:root 0700`; empty: we cannot tell."""
    real = os.path.realpath(path)
    parts = [part for part in real.split("/") if part]
    for count in range(len(parts) + 1):
        at = "/" + "/".join(parts[:count])
        try:
            found = os.stat(at)
        except OSError:
            return ""
        is_folder = stat.S_ISDIR(found.st_mode)
        if not reader.may(found, 1 if is_folder else 4):
            owner = f"{_user(found.st_uid)}:{_group(found.st_gid)}"
            return f"{at} is {owner} {stat.S_IMODE(found.st_mode):04o}"
    return ""


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
