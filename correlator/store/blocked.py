"""The blocked file: one line in PortSentry's form for each block in force, nothing else.

Unlike PortSentry's it is not the memory of who is blocked, only a view of it for people and scripts:
it is written whole, at every start and after changes, and whatever a hand changed in it is gone then. So
it need not survive a power failure, and blocking need not wait for the disk.

Source: PortSentry 1.2 as run; portsentry.blocked.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from correlator.store.atomic import replace
from correlator.store.history import HistoryLine, read_history


def write_blocked_file(path: Path, lines: Iterable[str]) -> None:
    """Make the file hold exactly these lines, each with its line feed."""
    replace(path, "".join(lines).encode(), is_durable=False)


def read_blocked_file(path: Path) -> tuple[HistoryLine, ...]:
    """Return what the file's lines say; foreign lines are passed over, no file is nobody blocked."""
    return tuple(read_history(path))
