"""Leaves a process's counters in a file for `portward status`, replaced whole, and only when they changed.

A failure is no reason to stop working: it is counted and nothing else happens.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


class StatusFile:
    """One JSON object in a file that readers never see half written."""

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        self._mode = mode
        self.failures = 0
        self._path = str(path)
        self._last: dict[str, Any] = {}

    def write(self, values: dict[str, Any]) -> None:
        """Replace the file where `values` differ from what was written last."""
        if values == self._last:
            return
        temporary = f"{self._path}.{os.getpid()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(temporary, flags, self._mode)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump(values, file)
                file.write("\n")
            os.replace(temporary, self._path)  # /run is memory: nothing to sync
        except OSError:
            self.failures += 1
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return
        self._last = values
