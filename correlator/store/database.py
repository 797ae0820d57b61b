"""Opening one of our SQLite files: durable against our own death, never half-understood.

A file of a newer schema is an error (an older program must not write into it). A file that is
damaged is moved aside under a name that says when, said once, and begun anew: a watchman who refuses
to work because his notebook is torn protects nobody.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from correlator.errors import PortwardError
from correlator.store.atomic import refuse_other_than_file

_MODE = 0o600
_LOCK_SECONDS = 5.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


class DatabaseError(PortwardError):
    """A database cannot be used as it is; says which, why, and what to do."""

    exit_status = 74  # EX_IOERR


def say_on_stderr(text: str) -> None:
    """Write one line for whoever runs us."""
    print(text, file=sys.stderr, flush=True)


def open_database(
    path: Path, *, schema: str, version: int, say: Callable[[str], None] = say_on_stderr
) -> sqlite3.Connection:
    """Return a connection (autocommit, WAL, synchronous NORMAL) to a file that has `schema`.

    `version` is kept in `user_version`. `say` is told when a damaged file was moved aside. NORMAL means:
    nothing is lost when we are killed; the last moments may be when the power fails, and then the
    kernel's tables are lost as well. On a full disk that has no room for sharing a file, it is opened for
    us alone: see `is_alone`.

    Raises: DatabaseError for another version, PermissionDeniedError for a symbolic link.
    """
    try:
        return _open_somehow(path, schema, version)
    except sqlite3.DatabaseError as exc:
        if not is_damage(exc):
            raise DatabaseError(f"{path}: cannot be used: {exc}") from exc
        aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        os.rename(path, aside)
        for suffix in ("-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                os.rename(beside, aside.with_name(aside.name + suffix))
        say(f"{path}: is damaged ({exc}); moved aside as {aside.name} and begun anew")
        try:
            return _open_somehow(path, schema, version)
        except sqlite3.DatabaseError as again:
            raise DatabaseError(f"{path}: cannot be used: {again}") from again


def open_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot change the file; a writer may be at work meanwhile.

    Raises: DatabaseError where there is no such file, or it is not ours to read.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOCK_SECONDS)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as exc:
        raise DatabaseError(f"{path}: cannot be read: {exc}") from exc
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make what happens inside one transaction: all of it, or after any exception nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_damage(error: sqlite3.Error) -> bool:
    """True where the file itself is broken, not the disk full or the file locked."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def is_alone(connection: sqlite3.Connection) -> bool:
    """True where nobody else can read the file as long as we have it open."""
    return bool(connection.execute("PRAGMA locking_mode").fetchone()[0] == "exclusive")


def _open_somehow(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the file to share it, else alone: an index of the journal for others takes room on its disk."""
    try:
        return _open(path, schema, version)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF not in _NO_ROOM:
            raise
        return _open(path, schema, version, is_alone=True)


def _open(path: Path, schema: str, version: int, *, is_alone: bool = False) -> sqlite3.Connection:
    refuse_other_than_file(path)
    try:  # made by us and not by SQLite, so that it never exists with a wider mode
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE))
    except OSError as exc:
        raise DatabaseError(f"{path}: cannot be opened: {exc.strerror}") from exc
    connection = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)
    try:
        if is_alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _prepare(connection, path, schema, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: str, version: int) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise _damage(damage)
    if found == 0:
        # One transaction: a kill in the middle leaves version 0, and the next start begins again.
        connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version:d}; COMMIT;")
    elif found != version:
        raise _foreign(path, found, version)


def _damage(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _foreign(path: Path, found: int, version: int) -> DatabaseError:
    age = "newer" if found > version else "older"
    return DatabaseError(
        f"{path}: got schema version {found}, expected {version}: written by a {age} portward; "
        "use that one, or move the file away to begin anew"
    )
