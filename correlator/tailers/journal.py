"""Follows the systemd journal: every entry once, across rotation, vacuum and restarts, within milliseconds.

journald tells its readers of new entries up to half a second late, though they stand in its files at once:
whoever waits asks `has_news` every few milliseconds, which costs a fraction of a microsecond. A position is
the cursor of the last entry that was handed out, and its time: where the cursor is known no more, the time
is gone to. One entry is one message, however many line feeds are in it, and who wrote it stands in fields
that only journald sets. Nothing here knows what a message means.

What can still go wrong: entries that were vacuumed before we read them are not counted; that there may have
been some is said where the last one that we read is gone. Without python-systemd, and without the right to
read, nothing is read, and `trouble` says so: to the library an unreadable journal is an empty one.
Source: sd-journal(3), systemd.journal-fields(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from correlator.model import JOURNAL, NO_FIELDS, SECOND, Entries, Entry, Micros
from correlator.tailers.piece import Piece
from correlator.tailers.trouble import NOT_THERE, Troubled

_ROOTS = (Path("/run/log/journal"), Path("/var/log/journal"))
_LEAST, _FIRST, _PIECE = 1, 32, 512
_SCANNED = 8192
_PIECE_BYTES = 1 << 20
_LONGEST_BODY = 1 << 18
_LONGEST_NAME = 256
_STALE_AFTER: Micros = 30 * SECOND
_LOOK_EVERY: Micros = 5 * SECOND
_MOST_FILES = 4096
_CONTROLS = {number: f"#{number:03o}" for number in (*range(9), *range(10, 32), 127)}


@dataclass(frozen=True, slots=True)
class JournalPosition:
    """The last entry that was handed out: how journald names it, and when it received it."""

    cursor: str
    """Empty: none yet."""
    at: Micros

    def as_row(self) -> dict[str, Any]:
        """Return what can be written as JSON."""
        return asdict(self)


def read_journal_position(row: Mapping[str, Any]) -> JournalPosition:
    """Return the position that `as_row` wrote."""
    return JournalPosition(row["cursor"], row["at"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are worth a look, and which of their fields anybody asks for."""

    identifiers: frozenset[str] | None
    """None: any."""
    fields: frozenset[str]


NOTHING_WANTED = Wanted(frozenset(), frozenset())


class JournalTailer(Troubled):
    """The journal of this host, a folder or `files`. Call `read` when there may be news; it never blocks.

    Without `positions` (never seen) it starts behind the last entry; with empty ones (seen, and nothing was
    there) at the first.
    """

    origin = kind = JOURNAL

    def __init__(
        self,
        folder: Path | None,
        wanted: Wanted,
        positions: Sequence[JournalPosition] | None = None,
        *,
        files: Sequence[Path] = (),
    ) -> None:
        self.wanted = wanted
        self.piece = Piece(_LEAST, _FIRST, _PIECE)
        self.scanned = 0
        """Entries looked at, of whomever."""
        self.losses = 0
        """Times that we came back to a journal that begins after our position, or met a damaged entry."""
        self._roots = _ROOTS if folder is None else (folder,)
        self._folder = folder
        self._files = [str(file) for file in files]
        self._position = positions[-1] if positions else None
        self._is_new = positions is None
        self._reader: Any = None
        self._is_at_news = False
        """The reader stands on an entry that was not handed out yet."""
        self._caught_up = False
        self._looked_at: Micros | None = None
        self._look_at: Micros = 0
        self._seen: object = None
        try:
            from systemd import journal
        except ImportError:
            self._library: Any = None
            self._trouble = "python3-systemd is not installed (systemd-python on PyPI)"
        else:
            self._library = journal
        self._look(0)

    @property
    def positions(self) -> tuple[JournalPosition, ...]:
        """How far entries have been handed out; empty where there was none."""
        return () if self._position is None else (self._position,)

    @property
    def behind(self) -> Micros:
        """How much journal lies there unread, by the time between its last entry and ours."""
        if self._position is None or not self._reach():
            return 0
        try:
            return max(0, int(self._reader._get_end()) - self._position.at)  # noqa: SLF001  python-systemd's reader
        except OSError:
            return 0

    def has_news(self) -> bool:
        """Whether an entry waits; cheap enough to be asked every few milliseconds."""
        if self._reader is not None and not self._is_at_news:
            try:
                self._reader.process()  # without it we stay in a file that was rotated away
            except OSError as exc:
                self._give_up(exc)
        return self._reach()

    def read(self, now: Micros) -> Iterator[Entries]:
        """Yield what has come, oldest first; the position moves with each piece.

        What comes first after a start or a long pause is not live.
        """
        self._look(now)
        if self._reader is None:
            return
        is_fresh = self._looked_at is None or now - self._looked_at <= _STALE_AFTER
        is_live = self._caught_up and is_fresh
        self._looked_at = now
        while self.has_news():
            entries = self._gather()
            if entries:
                yield Entries(JOURNAL, entries, now, is_live)
        self._caught_up = True

    def describe(self) -> dict[str, Any]:
        """Return what `portward sources` shows of the journal besides what it shows of any source."""
        return {
            "cursor": "" if self._position is None else self._position.cursor,
            "at": None if self._position is None else self._position.at,
            "behind": self.behind,
            "scanned": self.scanned,
        }

    def close(self) -> None:
        """Give the journal's files back."""
        self._is_at_news = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _gather(self) -> tuple[Entry, ...]:
        """Return the wanted ones of the next entries, few enough to be worked off soon."""
        entries: list[Entry] = []
        size = scanned = 0
        while len(entries) < self.piece.size and size < _PIECE_BYTES and scanned < _SCANNED and self._reach():
            self._is_at_news = False
            scanned += 1
            identifier = self._text("SYSLOG_IDENTIFIER") or self._text("_COMM")
            if self.wanted.identifiers is None or identifier in self.wanted.identifiers:
                entry = self._entry(identifier)
                entries.append(entry)
                size += len(entry.body)
        self.scanned += scanned
        self._remember()
        return tuple(entries)

    def _entry(self, identifier: str) -> Entry:
        fields = {name: text for name in self.wanted.fields if (text := self._text(name))}
        body = self._bytes("MESSAGE")[:_LONGEST_BODY].decode("utf-8", "surrogateescape")
        return Entry(
            at=int(self._reader._get_realtime()),  # noqa: SLF001  python-systemd's reader
            host=self._text("_HOSTNAME"),
            identifier=identifier,
            pid=self._text("SYSLOG_PID") or self._text("_PID"),
            body=body.rstrip("\r\n").translate(_CONTROLS),
            fields=fields or NO_FIELDS,
        )

    def _text(self, field: str) -> str:
        return self._bytes(field)[:_LONGEST_NAME].decode("utf-8", "surrogateescape")

    def _bytes(self, field: str) -> bytes:
        """Return a field's value as it was written; empty where the entry has none that can be read."""
        try:
            return bytes(self._reader._get(field))  # noqa: SLF001  one field costs a tenth of all
        except (KeyError, OSError):
            return b""

    def _reach(self) -> bool:
        """Stand on the first entry that was not handed out, if there is one."""
        if self._reader is not None and not self._is_at_news:
            self._is_at_news = self._step()
        return self._is_at_news

    def _step(self) -> bool:
        """Go to the next entry, if there is one."""
        try:
            return bool(self._reader._next())  # noqa: SLF001  `get_next` would fetch every field
        except OSError as exc:
            self._lose(f"an entry cannot be read: {exc.strerror or exc}")
            return False

    def _remember(self) -> None:
        """Take the entry under the reader as the last that was handed out."""
        try:
            cursor, at = self._reader._get_cursor(), self._reader._get_realtime()  # noqa: SLF001  see above
        except OSError:
            return
        self._position = JournalPosition(str(cursor), int(at))

    def _lose(self, what: str) -> None:
        self.losses += 1
        self._loss = f"entries may be lost: {what}"

    # Opening

    def _look(self, now: Micros) -> None:
        """Open the journal where that became possible; anew where its folders or our rights changed."""
        if self._library is None or self._look_at - _LOOK_EVERY <= now < self._look_at:
            return  # the clock may be set back
        self._look_at = now + _LOOK_EVERY
        seen = _Survey(tuple((file, 0, 0) for file in self._files)) if self._files else _survey(self._roots)
        if seen == self._seen:
            return
        self._seen = seen
        self.close()
        if not seen.folders:
            self._trouble = seen.refusal or NOT_THERE
            self._is_new = self._is_new and bool(seen.refusal)
            return
        self._trouble = seen.refusal
        try:
            path = None if self._folder is None else str(self._folder)
            self._reader = self._library.Reader(path=path, files=self._files or None)
            self._reader.fileno()  # only who asked for it once is told of files that come and go
            self._seek()
        except OSError as exc:
            self._give_up(exc)

    def _give_up(self, problem: OSError) -> None:
        """Open the journal anew with the next look."""
        self.close()
        self._seen, self._trouble = None, problem.strerror or str(problem)

    def _seek(self) -> None:
        """Go behind the last entry that was handed out; see `__init__` for where there is none."""
        reader = self._reader
        self._is_at_news = self._caught_up = False
        if self._is_new:
            self._is_new = False
            reader.seek_tail()
            if reader._previous():  # noqa: SLF001  without it the tail is before the last entries
                self._remember()
            self._caught_up = True
            return
        if self._position is None:
            reader.seek_head()
            return
        if self._is_known(self._position.cursor):
            return
        # an unknown cursor raises nothing and leads to the first entry of all: all would be read again
        reader.seek_realtime(self._position.at + 1)
        if not reader._previous():  # noqa: SLF001  see above
            if reader._next():  # noqa: SLF001
                self._lose("the journal begins after what we read last")
            reader.seek_head()
        elif int(reader._get_realtime()) != self._position.at:  # noqa: SLF001
            self._lose("the entry that we read last is there no more, nor perhaps what came after it")

    def _is_known(self, cursor: str) -> bool:
        """Whether the journal still has the entry; then the reader stands on it."""
        if not cursor:
            return False
        try:
            self._reader.seek_cursor(cursor)
            return self._step() and bool(self._reader.test_cursor(cursor))
        except ValueError:  # not of a form that this library knows
            return False


@dataclass(frozen=True, slots=True)
class _Survey:
    """What a look at the journal's folders shows without opening any file."""

    folders: tuple[tuple[str, int, int], ...] = ()
    refusal: str = ""


def _survey(roots: Sequence[Path]) -> _Survey:
    """Return which folders there are, each by device and inode, and why their files cannot be read."""
    folders: list[tuple[str, int, int]] = []
    unreadable = total = 0
    for root in roots:
        try:
            children = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
        except FileNotFoundError:
            continue
        except OSError as exc:
            return _Survey((), f"{root}: {exc.strerror or exc}")
        for folder in (str(root), *children):
            try:
                status = os.stat(folder)
                folders.append((folder, status.st_dev, status.st_ino))
                names = [name for name in os.listdir(folder) if name.endswith(".journal")][:_MOST_FILES]
            except FileNotFoundError:
                continue
            except OSError:
                unreadable, total = unreadable + 1, total + 1
                continue
            total += len(names)
            unreadable += sum(
                not os.access(os.path.join(folder, name), os.R_OK, effective_ids=True) for name in names
            )
    refusal = ""
    if unreadable:
        refusal = (
            f"permission denied for {unreadable} of {total} journal files: "
            "expected a member of the group systemd-journal"
        )
    return _Survey(tuple(folders), refusal)
