"""What is kept of each source that is followed, and under which names a file is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from correlator.model import Micros
from correlator.tailers.file import FileTailer
from correlator.tailers.journal import JournalTailer
from correlator.tailers.meter import Meter
from correlator.tailers.stream import StreamTailer

Tailer = FileTailer | JournalTailer | StreamTailer


@dataclass(slots=True)
class Followed:
    """A source."""

    tailer: Tailer
    readers: tuple[str, ...] = ()
    """The filters that read it."""
    meter: Meter = field(default_factory=Meter)
    last_at: Micros | None = None
    saved: tuple[Any, ...] | None = None
    """The positions that were written down last."""
    gone_at: Micros | None = None

    @property
    def is_unseen(self) -> bool:
        """Whether nothing is known of it yet, so that there is nothing to keep either."""
        return isinstance(self.tailer, FileTailer) and self.tailer.is_unseen

    def describe(self, now: Micros) -> dict[str, Any]:
        """Return what `portward sources` shows of it."""
        tailer = self.tailer
        return {
            "origin": tailer.origin,
            "kind": tailer.kind,
            "state": tailer.state,
            "filters": list(self.readers),
            "rate": self.meter.a_minute(now),
            "last_at": self.last_at,
            "losses": tailer.losses,
            "trouble": tailer.trouble,
            **tailer.describe(),
        }


def followers_of(sources: Mapping[str, Followed], device: int, inode: int) -> Iterator[FileTailer]:
    """Yield the tailers that hand out the lines of a file, under whatever name."""
    for followed in sources.values():
        if isinstance(followed.tailer, FileTailer) and any(
            (position.device, position.inode) == (device, inode) for position in followed.tailer.positions
        ):
            yield followed.tailer


def is_named_by(tailer: FileTailer, device: int, inode: int) -> bool:
    """Whether a file lies under the tailer's name now, and was not renamed to another."""
    try:
        status = os.stat(tailer.path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (device, inode)
