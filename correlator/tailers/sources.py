"""All sources of a site, followed at once: files, patterns of files, the journal, standard input.

The alert log is looked at between any two pieces of the others, so a scanner never waits for somebody's
backlog; each other source gives a bounded piece in turn. Who is woken looks at the files that are named, and
twice a second at all: that finds what no event tells (network file systems, folders without a watch).

A pattern that was seen before is remembered as such: what it means today and did not then is new, and is
read from its start. A file that is gone is forgotten after a minute; a file with two names is read once, and
so is one that turns up under another name (`let_go`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from correlator.model import SECOND, Chunk, Entries, Micros
from correlator.tailers.file import FileTailer
from correlator.tailers.followed import Followed, followers_of, is_named_by
from correlator.tailers.globs import Pattern, expand_pattern, is_pattern, may_mean, most_open, names_changed
from correlator.tailers.journal import JournalTailer, read_journal_position
from correlator.tailers.let_go import LetGo
from correlator.tailers.opened import OpenFile, Position, read_position
from correlator.tailers.plan import Plan
from correlator.tailers.rotation import first_names
from correlator.tailers.stream import StreamTailer
from correlator.tailers.wake import Wake

_PIECES = 4
_POLL_EVERY: Micros = SECOND // 2
_EXPAND_EVERY: Micros = 2 * SECOND
_EXPAND_AT_LEAST: Micros = 20 * SECOND
_EXPAND_SHARE = 100
"""A pattern that takes long to look up is looked up less often: for a hundredth of our time."""
_GONE_AFTER: Micros = 60 * SECOND
GLANCE_SECONDS = 0.01
"""How often a journal is asked for news: what is written reaches us within that time."""

Arrived = Chunk | Entries
Rows = list[dict[str, Any]]


class Sources:
    """What a plan names, each source with its tailer.

    `recall` gives the rows that were kept of an origin's position, None where it was never seen; `known` the
    origins of which any are kept. `follow` is told of each origin and the filters that read it, before
    anything comes from it; `drop` of each that is followed no longer, and whether its position is of no use.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        clock: Callable[[], Micros],
        recall: Callable[[str], Rows | None],
        known: Callable[[], Iterable[str]],
        follow: Callable[[str, tuple[str, ...]], None],
        drop: Callable[[str, bool], None],
        stream: StreamTailer | None = None,
    ) -> None:
        self.wake = Wake()
        self._clock = clock
        self._recall = recall
        self._known = known
        self._follow = follow
        self._drop = drop
        self._plan = Plan({}, "")
        self._patterns: dict[str, Pattern] = {}
        self._followed: dict[str, Followed] = {}
        self._same: dict[str, str] = {}
        """Other names of files that are followed under their first one."""
        self._let_go = LetGo()
        self._dirty: set[str] = set()
        self._unfinished: set[str] = set()
        self._poll_at: Micros = 0
        self._is_nudged = False
        self.stream = stream
        if stream is not None:
            self._followed[stream.origin] = Followed(stream)
        self.update(plan)

    def update(self, plan: Plan) -> None:
        """Follow what this plan names and no longer what only the one before did; the rest goes on."""
        before, self._plan = self._plan, plan
        now = self._clock()
        for file, readers in plan.files.items():
            if is_pattern(file):
                self._patterns[file] = self._patterns.get(file) or self._know_again(file, readers)
                self._patterns[file].readers = readers
            elif file not in self._followed:
                self._follow_file(file)
        for text in set(self._patterns) - set(plan.files):
            del self._patterns[text]
            self._dirty.discard(text)
            self._drop(text, True)
        self._update_journal(before)
        for pattern in self._patterns.values():
            pattern.expand_at = pattern.expanded_at
        self._expand(now)
        for origin in set(self._followed) - self._named():
            if not any(may_mean(text, origin) for text in self._patterns):  # else it may be rotated just now
                self._forget(origin, is_useless=True)
        self._tell_readers()
        self._poll_at = now

    def read(self, *, is_nudged: bool = False) -> Iterator[Arrived]:
        """Yield what has come, a bounded piece of each source; call again at once while `is_busy`."""
        self._is_nudged = is_nudged
        now = self._clock()
        changed = self.wake.take_changed()
        self._expand(now, changed)
        due, self._unfinished = self._due(now, changed), set()
        yield from self._read_alert_log()
        for origin in due:
            followed = self._followed.get(origin)
            if followed is None:
                continue
            pieces: Iterator[Arrived] = followed.tailer.read(self._clock())
            for number, arrived in enumerate(pieces, start=1):
                yield from self._handed_out(arrived, followed)
                yield from self._read_alert_log()
                if number >= _PIECES:
                    self._unfinished.add(origin)
                    break
            self._look_at_position(origin, followed)

    @property
    def is_busy(self) -> bool:
        """Whether more lies there than was read."""
        return bool(self._unfinished) or self.has_news()

    @property
    def glance_seconds(self) -> float | None:
        """How often `has_news` has to be asked while nothing else happens; None: it need not."""
        return GLANCE_SECONDS if self._journal is not None or self.stream is not None else None

    def has_news(self) -> bool:
        """Whether something came of which no descriptor and no event tells."""
        journal = self._journal
        is_streaming = self.stream is not None and self.stream.is_ready
        return is_streaming or (journal is not None and journal.has_news())

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """For each origin, the filters that read it."""
        return {origin: followed.readers for origin, followed in self._followed.items()}

    @property
    def has_unsaved(self) -> bool:
        """Whether a position moved since all were marked as saved."""
        return bool(self._dirty)

    def unsaved(self) -> dict[str, Rows]:
        """Return the positions that moved since they were marked as saved, as what can be written as JSON."""
        rows: dict[str, Rows] = {}
        for origin in self._dirty:
            followed = self._followed.get(origin)
            if origin in self._patterns:
                rows[origin] = self._patterns[origin].rows() + self._let_go.rows(origin)
            elif followed is None or not followed.is_unseen:
                positions = () if followed is None else followed.tailer.positions
                rows[origin] = [position.as_row() for position in positions]
        return rows

    def mark_saved(self) -> None:
        """Take note that what `unsaved` returned has been written."""
        for origin in self._dirty & set(self._followed):
            followed = self._followed[origin]
            followed.saved = followed.tailer.positions
        self._dirty.clear()

    @property
    def is_over(self) -> bool:
        """Whether standard input was to be read and has ended."""
        return self.stream is not None and self.stream.is_over

    def is_of_use(self, origin: str) -> bool:
        """Whether the position of an origin may be asked for again."""
        return origin in self._followed or origin in self._patterns or os.path.lexists(origin)

    def describe(self, now: Micros) -> Iterator[dict[str, Any]]:
        """Yield what `portward sources` shows of each source."""
        yield from (followed.describe(now) for followed in self._followed.values())
        yield from (pattern.describe(text) for text, pattern in self._patterns.items())

    def close(self) -> None:
        """Give everything back."""
        self.wake.close()
        for followed in self._followed.values():
            if not isinstance(followed.tailer, StreamTailer):
                followed.tailer.close()

    # Reading

    def _due(self, now: Micros, changed: set[str]) -> list[str]:
        """Return which sources are to be looked at now, besides the alert log."""
        others = [origin for origin in self._followed if origin != self._plan.alert_log]
        if now >= self._poll_at or now < self._poll_at - _POLL_EVERY:  # the clock may be set back
            self._poll_at = now + _POLL_EVERY
            return others
        meant = {name for path in changed for name in (path, self._same.get(path), *first_names(path))}
        return [
            origin
            for origin in others
            if origin in meant
            or origin in self._unfinished
            or not isinstance(tailer := self._followed[origin].tailer, FileTailer)
            or tailer.real in meant
            or (self._is_nudged and str(tailer.path.parent) == self._our_folder)
        ]

    def _read_alert_log(self) -> Iterator[Arrived]:
        followed = self._followed.get(self._plan.alert_log)
        if followed is not None:
            for arrived in followed.tailer.read(self._clock()):
                yield from self._handed_out(arrived, followed)
            self._look_at_position(self._plan.alert_log, followed)

    def _handed_out(self, arrived: Arrived, followed: Followed) -> Iterator[Arrived]:
        """Yield it, and take note of how long whoever got it was busy."""
        began = self._clock()
        yield self._noted(arrived, followed)
        followed.tailer.piece.note(self._clock() - began)

    def _noted(self, arrived: Arrived, followed: Followed) -> Arrived:
        self._dirty.add(arrived.origin)
        followed.last_at = arrived.arrived
        count = len(arrived.entries) if isinstance(arrived, Entries) else arrived.data.count(b"\n")
        followed.meter.note(arrived.arrived, count)
        if isinstance(followed.tailer, FileTailer):
            for folder in {os.path.dirname(path) for path in (arrived.origin, followed.tailer.real)}:
                if not self._is_nudged or folder != self._our_folder:
                    self.wake.watch(Path(folder))
        return arrived

    def _look_at_position(self, origin: str, followed: Followed) -> None:
        if followed.saved != followed.tailer.positions:
            self._dirty.add(origin)
        if isinstance(followed.tailer, FileTailer) and followed.tailer.let_go:
            self._note_let_go(origin, followed.tailer.let_go)
            followed.tailer.let_go.clear()

    # Which

    @property
    def _our_folder(self) -> str:
        """Where probe and packet log write, who nudge us: it needs no watch, and each of its files a look."""
        return os.path.dirname(self._plan.alert_log)

    @property
    def _journal(self) -> JournalTailer | None:
        followed = self._followed.get(JournalTailer.origin)
        return followed.tailer if followed and isinstance(followed.tailer, JournalTailer) else None

    def _update_journal(self, before: Plan) -> None:
        journal = self._journal
        if journal is not None and self._plan.journal_folder == before.journal_folder and self._plan.journal:
            journal.wanted = self._plan.wanted
            return
        if journal is not None:
            self._forget(journal.origin, is_useless=True)
        if self._plan.journal:
            rows = self._recall(JournalTailer.origin)
            positions = None if rows is None else [read_journal_position(row) for row in rows]
            self._add(JournalTailer(self._plan.journal_folder, self._plan.wanted, positions))

    def _positions(self, origin: str) -> list[Any] | None:
        rows = self._recall(origin)
        return None if rows is None else [read_position(row) for row in rows]

    def _know_again(self, text: str, readers: tuple[str, ...]) -> Pattern:
        """Return a pattern as it was when it was looked up last, and take what is kept of its files."""
        rows = self._recall(text)
        self._let_go.load(rows or ())
        for origin in self._known() if rows is not None else ():
            if may_mean(text, origin) and not is_pattern(origin):
                self._let_go.note(origin, self._positions(origin) or ())
        return Pattern.recall(readers, rows)

    def _follow_file(self, path: str, **how: Any) -> None:
        self._add(FileTailer(Path(path), self._positions(path), claim=self._claim, **how))

    def _add(self, tailer: FileTailer | JournalTailer) -> None:
        self._followed[tailer.origin] = Followed(tailer)
        self._dirty.add(tailer.origin)

    def _named(self) -> set[str]:
        """Return the origins that the plan or a pattern names now, whether they are there or not."""
        named = {path for pattern in self._patterns.values() for path in pattern.expansion.paths}
        named |= {file for file in self._plan.files if not is_pattern(file)}
        if self._plan.journal:
            named.add(JournalTailer.origin)
        if self.stream is not None:
            named.add(self.stream.origin)
        return named

    def _expand(self, now: Micros, changed: Collection[str] = ()) -> None:
        """Look up the patterns for which that is due; follow what is new, forget what is long gone."""
        looked_up = False
        for text, pattern in self._patterns.items():
            is_early = pattern.expanded_at <= now < pattern.expand_at  # the clock may be set back
            folder = os.path.dirname(text)
            if is_early and (folder not in changed or names_changed(folder) == pattern.names_changed):
                continue
            looked_up = True
            pattern.names_changed = names_changed(folder)
            before, room = replace(pattern), most_open() - len(self._followed)
            pattern.expansion = expand_pattern(text, most=room + len(before.expansion.paths))
            pause = max(_EXPAND_EVERY, (self._clock() - now) * _EXPAND_SHARE)
            pattern.expanded_at, pattern.expand_at = now, now + min(_EXPAND_AT_LEAST, pause)
            for path in pattern.expansion.paths:
                if path not in self._followed and not self._is_another_name(path):
                    there, is_sure = before.expansion.others.get(path), not before.may_have_been_there(path)
                    is_news, absent_at = is_sure and not pattern.is_new, before.absent_at(path)
                    self._follow_file(path, from_start=is_news, lay_there=there, absent_at=absent_at)
            if pattern.is_new or pattern.expansion.refused != before.expansion.refused:
                pattern.is_new = False
                self._dirty.add(text)
        if looked_up:
            self._forget_gone(now)
            self._tell_readers()

    def _forget_gone(self, now: Micros) -> None:
        named = self._named()
        for origin, followed in tuple(self._followed.items()):
            if origin in named:
                followed.gone_at = None
            elif followed.gone_at is None:
                followed.gone_at = now
            elif now - followed.gone_at > _GONE_AFTER:
                self._forget(origin, is_useless=not os.path.lexists(origin))

    def _is_another_name(self, path: str) -> bool:
        """Whether the file is followed already, as a link may have it."""
        self._same.pop(path, None)
        try:
            status = os.stat(path)
        except OSError:
            return False
        first = next(followers_of(self._followed, status.st_dev, status.st_ino), None)
        if first is not None:
            self._same[path] = first.origin
        return first is not None

    def _claim(self, file: OpenFile, *, is_named: bool) -> bool:
        """Go over what was read of a file under another name; return false where it still is read there.

        `is_named`: it lies under the claimer's own name; then it counts only who holds it as a rotated one.
        """
        device, inode = file.device, file.inode
        followers = followers_of(self._followed, device, inode)
        if any(not is_named or not is_named_by(one, device, inode) for one in followers):
            return False
        position = self._let_go.find(file)
        if position is not None and position.offset > file.offset:
            file.go_to(position)
        return True

    def _note_let_go(self, origin: str, positions: Sequence[Position]) -> None:
        """Keep how far files were read, in case they turn up under another name."""
        if positions:
            self._let_go.note(origin, positions)
            self._dirty.update(text for text in self._patterns if may_mean(text, origin))

    def _forget(self, origin: str, *, is_useless: bool) -> None:
        followed = self._followed.pop(origin)
        if isinstance(followed.tailer, FileTailer):
            self._note_let_go(origin, followed.tailer.positions)
        if not isinstance(followed.tailer, StreamTailer):
            followed.tailer.close()
        self._dirty.discard(origin)
        self._same = {path: first for path, first in self._same.items() if first != origin}
        self._drop(origin, is_useless)

    def _tell_readers(self) -> None:
        """Tell of the filters that read each origin, where they are others than before."""
        for origin, followed in self._followed.items():
            readers = self._readers_of(origin)
            if not readers and followed.gone_at is not None:
                continue  # it is being rotated: whoever reads it reads its rest, and what takes its place
            if readers != followed.readers:
                followed.readers = readers
                self._follow(origin, readers)

    def _readers_of(self, origin: str) -> tuple[str, ...]:
        if origin == JournalTailer.origin:
            return self._plan.journal
        if self.stream is not None and origin == self.stream.origin:
            return self._plan.filters
        names = {origin, *(path for path, first in self._same.items() if first == origin)}
        found = list(self._plan.files.get(origin, ()))
        for pattern in self._patterns.values():
            if not names.isdisjoint(pattern.expansion.paths):
                found += pattern.readers
        return tuple(dict.fromkeys(found))
