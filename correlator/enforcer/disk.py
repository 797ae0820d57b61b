"""Whether what must be remembered can be written down at all; what waits for that is tried again by this.

A disk that is full is said once, and once that it takes something again, however many writes fail meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from correlator.model import SECOND, Micros

RETRY: Micros = 5 * SECOND


class Disk:
    """What is wrong with the database's disk, as far as we know; `say` hears of each change."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._retry_at: Micros = 0
        self.trouble = ""
        """What the last failure said; empty where everything was written since."""

    def fails(self, error: sqlite3.Error, now: Micros) -> None:
        """Take note that something could not be written."""
        if not self.trouble:
            self._say(f"trouble file={self._path} detail={json.dumps(str(error))}")
        self.trouble = str(error)
        self._retry_at = now + RETRY

    def works(self) -> None:
        """Take note that nothing waits to be written any more."""
        if self.trouble:
            self._say(f"recovered file={self._path}")
        self.trouble = ""

    def pause(self, now: Micros) -> Micros | None:
        """Return how long nothing is to be tried; 0: now; None where all is well."""
        return max(0, min(self._retry_at - now, RETRY)) if self.trouble else None
