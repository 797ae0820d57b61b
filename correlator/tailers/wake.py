"""Wakes a loop when something changes in a folder: watchdog's threads write to one event descriptor.

What changed is never taken from the event (a move out of the folder arrives half a second late, a
truncation looks like any write): whoever is woken asks `fstat`, of the files that are named.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

_READERS = ("opened", "closed_no_write")
"""What newer watchdogs tell of whoever reads a log, us too."""
_MOST_CHANGED = 4096
"""Names that are kept until somebody asks; of more, only their folders."""
_MOST_FOLDERS = 32
"""Each costs two threads; the files of the others are looked at by the slow poll."""


class Wake(FileSystemEventHandler):
    """A descriptor that becomes readable when a watched folder changes."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._observer = Observer()
        self._folders: set[Path] = set()
        self._changed: set[str] = set()

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.descriptor

    def watch(self, folder: Path) -> bool:
        """Watch a folder (not what lies in folders below it); false where it cannot be watched now."""
        if folder in self._folders:
            return True
        if len(self._folders) >= _MOST_FOLDERS:
            return False
        try:
            self._observer.schedule(self, str(folder), recursive=False)
        except OSError:
            return False
        self._folders.add(folder)
        return True

    def start(self) -> None:
        """Start watchdog's threads."""
        self._observer.start()

    def clear(self) -> None:
        """Take the wake-up, before looking at what changed."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return

    def take_changed(self) -> set[str]:
        """Return the paths that something happened to since this was asked last, each with its folder."""
        changed = set()
        with contextlib.suppress(KeyError):
            while True:  # one by one: watchdog's thread may be adding
                changed.add(self._changed.pop())
        return changed

    def close(self) -> None:
        """Stop the threads and give the descriptor back."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        os.close(self.descriptor)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Note where something happened; called on watchdog's thread."""
        if event.event_type in _READERS:
            return
        for path in (event.src_path, getattr(event, "dest_path", "")):
            if path:
                name = os.fsdecode(path)
                self._changed.add(os.path.dirname(name))
                if len(self._changed) < _MOST_CHANGED:
                    self._changed.add(name)
        os.eventfd_write(self.descriptor, 1)
