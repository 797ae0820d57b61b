"""Replacing a file so that every reader, and every crash, finds the old one or the new one.

Never follows a symbolic link at the place it writes, and leaves no temporary file behind on an error.
A process killed in the middle may leave one: its name is fixed, so the next call takes it over.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from correlator.errors import PermissionDeniedError


def replace(path: Path, data: bytes, mode: int = 0o640, *, is_durable: bool = True) -> None:
    """Make `path` hold exactly `data`, on the disk when this returns.

    Without `is_durable` readers and our own death still find a whole file, but a power failure may leave
    any: for what is written anew at every start, and must not wait for a slow disk.

    Raises: PermissionDeniedError where `path` is a symbolic link or anything else but a plain file;
    OSError where the folder cannot be written.
    """
    refuse_other_than_file(path)
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            write_whole(descriptor, data)
            os.fchmod(descriptor, mode)
            if is_durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if is_durable:
        sync_folder(path.parent)


def refuse_other_than_file(path: Path) -> None:
    """Raise PermissionDeniedError where something that is not a plain file stands at `path`."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise PermissionDeniedError(f"{path}: is a symbolic link; it is not followed, remove it")
    if not stat.S_ISREG(found.st_mode):
        raise PermissionDeniedError(f"{path}: is not a plain file; remove it")


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however often the kernel takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` as durable as the files they stand for."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
