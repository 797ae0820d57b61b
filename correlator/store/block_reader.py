"""The table of blocks for who only reads it, while the enforcer writes."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

from correlator.model import Source
from correlator.store.blocks import COLUMNS, ENDED_KEPT, BlockRow, read_row
from correlator.store.database import DatabaseError, open_to_read


class BlockReader:
    """Reads the table while the enforcer writes it, and changes nothing; for the command line.

    Raises: DatabaseError, here and in `history`, where the file is not there, not ours to read, or holds
    something else than an enforcer writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_to_read(path)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def history(self, source: Source | None = None, limit: int = ENDED_KEPT) -> tuple[BlockRow, ...]:
        """Return the newest `limit` rows, oldest first; where given, of `source` and what lies in it."""
        only = str(source) if source is not None and source.is_single else None
        which = "" if only is None else "WHERE source = ?"
        query = f"SELECT {COLUMNS} FROM blocks {which} ORDER BY number DESC"  # noqa: S608 -- all literals
        try:
            found = self._connection.execute(query, () if only is None else (only,))
            rows = (row for row in map(read_row, found) if source is None or source.covers(row.source))
            return tuple(itertools.islice(rows, limit))[::-1]
        except (sqlite3.Error, ValueError) as exc:
            raise DatabaseError(f"{self._path}: cannot be read: {exc}") from exc
