"""Follows one file that others append to: no line lost, none read twice, and where one is, it is counted.

watchdog only wakes whoever polls; what is read is decided by `fstat` alone (device, inode, size). A file
that was renamed away is read to its end and then watched a little longer, because its writer may still
hold it open; its successor is read from its start. What was made and rotated away since nothing was there
is read too, where the file system says when it was made. A file that shrank, or whose first bytes are others,
was truncated: the rest is sought in a copy that begins as it did, then it starts anew. A position is
(device, inode, offset, first bytes), one for each file that is still read, so after a restart the rest is
found under the name that logrotate gave it and in the folder where it put it, be it renamed, copied, or
compressed with gzip, bzip2, xz or zstd.

A last line without its line feed waits for it, in a rotated file until that is let go. A line longer than
the bound is skipped to its end and counted. NULs before a line, which a truncation under a writer's feet or
a crash leaves, are no part of it. Nothing here knows what a line means.

What can still go wrong: a file unpacked by hand without its old times, under a name that logrotate would
give, is taken for a rotation we missed if that happens while we are stopped, or between our last look and
a rotation (or if logrotate renames it and the log had no line since). Two logs with the same first 64
bytes are one to us. An unusual `dateformat` is not sought, nor a number before an `extension`, nor, in a
folder of many logs' rotations, one that came and went while we were stopped. Lines of a file that was empty
when we last looked are not found again once it was copied or compressed, nor is what was packed before
anybody looked. A clock that is set back hides what was rotated twice in between. A truncation while we run,
without a copy, is only counted.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from correlator.model import SECOND, Chunk, Micros
from correlator.tailers.opened import Claim, OpenFile, Position, look_at_end, open_file
from correlator.tailers.piece import Piece
from correlator.tailers.rotation import (
    Found,
    Sibling,
    close_unused,
    find_made_since,
    find_siblings,
    match_positions,
)
from correlator.tailers.trouble import NOT_THERE, Troubled

_LEAST_BYTES, _FIRST_BYTES, _READ_BYTES = 1 << 8, 1 << 13, 1 << 18
_RETIRE_AFTER: Micros = 10 * SECOND
_STALE_AFTER: Micros = 30 * SECOND
_CTIME_SLACK: Micros = SECOND  # file times come from a coarser clock than ours
_MAX_LINE_BYTES = 1 << 18
_SEEN_HEADS = 64
_AT_FIRST_READ: Micros = 0
_ETC = Path("/etc")


class FileTailer(Troubled):
    """One followed path. Call `read` whenever something may have changed; it never blocks.

    Without `positions` (never seen) it starts at the end of what is there now, and at the start of a file
    that appears later; with `from_start`, or with empty positions (seen, and nothing was there), at the
    start of what is there.
    """

    def __init__(
        self,
        path: Path,
        positions: Sequence[Position] | None = None,
        *,
        from_start: bool = False,
        lay_there: tuple[int, int] | None = None,
        absent_at: Micros | None = None,
        claim: Claim = lambda _file, *, is_named: True,  # noqa: ARG005  nobody else follows anything
        configuration: Path = _ETC,
    ) -> None:
        """Take the path; logrotate's own files are sought below `configuration`.

        `lay_there` are inode and size of a file that lay there unread: nothing that it held then is read.
        `absent_at`: when it was looked for last, and nothing was there; None: it never was looked for.
        """
        self.path = path
        self.origin = str(path)
        self.kind = "file"
        self.real = self.origin
        """Where it lies, links followed, when it was opened last: under that name events tell of it."""
        self.piece = Piece(_LEAST_BYTES, _FIRST_BYTES, _READ_BYTES)
        self._configuration = configuration
        self._claim = claim
        self.let_go: list[Position] = []
        """How far rotated files were read that are followed no longer; whoever takes them empties it."""
        self.rotations = 0
        self.truncations = 0
        self.long_lines = 0
        self.unfinished_lines = 0
        """Last lines of rotated files that never got their line feed; they were handed out with one."""
        self.holes = 0
        """Times that NULs stood before a line."""
        self.losses = 0
        """Files of which lines may have been lost: the rest is nowhere to be found, or cannot be read."""
        self.lost_position = False
        self._files: list[OpenFile] = []
        self._awaited: tuple[Position, ...] = ()
        """Positions of a file that could not be opened yet, for want of a mount or a permission."""
        self.is_unseen = False
        """Whether there may be a file of which we may not even know how long it is."""
        self._seen: deque[bytes] = deque(maxlen=_SEEN_HEADS)
        """How the files began that were read and let go."""
        self._caught_up = False
        self._looked_at: Micros | None = None
        self._unchanged: tuple[int, ...] | None = None
        """What `stat` said when all had been read; while it says the same, nothing else has to be asked."""
        if positions:
            self._resume(positions)
        else:
            self._open_first(lay_there, absent_at, at_end=positions is None and not from_start)

    @property
    def positions(self) -> tuple[Position, ...]:
        """How far whole lines have been handed out, in each file that is still read, oldest first."""
        return tuple(file.position for file in self._files) or self._awaited

    @property
    def backlog(self) -> int:
        """Bytes that lie there unread; what is compressed is not counted."""
        plain = [file for file in self._files if not file.is_packed]
        try:
            return sum(max(0, os.fstat(file.descriptor).st_size - file.offset) for file in plain)
        except OSError:  # the next look says why
            return 0

    def read(self, now: Micros) -> Iterator[Chunk]:
        """Yield what has come, oldest first, as chunks of whole lines; the position moves with each.

        What comes first after a long pause (we were stopped, the host slept) is not live.
        """
        is_fresh = self._looked_at is None or now - self._looked_at <= _STALE_AFTER
        is_live = self._caught_up and is_fresh
        looked_at, self._looked_at = self._looked_at, now
        stamp = self._stamp()
        if stamp is not None and stamp == self._unchanged:
            return
        self._unchanged = None
        try:
            self._notice_truncation()
            self._notice_rotation(now, looked_at)
            for file in self._files:
                if file.retired_at == _AT_FIRST_READ:
                    file.retired_at = now
                yield from self._drain(file, now, is_live=is_live)
            self._caught_up = True
            while len(self._files) > 1 and self._is_done(self._files[0], now):
                yield from self._finish(self._files[0], now, is_live=is_live)
                done = self._files.pop(0)
                self.let_go += () if done.is_packed else (done.position,)
                done.close()
        except OSError as exc:
            self._give_up(exc)
        else:
            is_whole = len(self._files) == 1 and not self._trouble
            self._unchanged = stamp if is_whole and stamp and self._holds(*stamp[:2]) else None

    def _give_up(self, problem: OSError) -> None:
        """Open all anew with the next look: a disk that fails, a handle that its file server forgot."""
        self._awaited = self.positions
        self._trouble = problem.strerror or str(problem)
        self.close()

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def describe(self) -> dict[str, Any]:
        """Return what `portward sources` shows of a file besides what it shows of any source."""
        return {
            "offset": self.positions[-1].offset if self.positions else 0,
            "backlog": self.backlog,
            "rotations": self.rotations,
            "truncations": self.truncations,
            "long_lines": self.long_lines,
            "unfinished_lines": self.unfinished_lines,
            "holes": self.holes,
        }

    def close(self) -> None:
        """Give the descriptors back."""
        files, self._files = self._files, []
        for file in files:
            file.close()

    def _drain(self, file: OpenFile, now: Micros, *, is_live: bool) -> Iterator[Chunk]:
        while data := file.read_at(file.offset + len(file.pending), self.piece.size):
            if data[0] == 0 and not file.pending and not file.is_skipping:
                if not file.skip_nuls():
                    return
                self.holes += 1
                continue
            hole = data.find(b"\n\0") + 1
            file.pending += data[:hole] if hole else data
            file.remember_head()
            end = file.pending.rfind(b"\n") + 1
            if not end:
                self._bound(file)
                continue
            whole, file.pending = file.pending[:end], file.pending[end:]
            start, file.offset = file.offset, file.offset + end
            if file.is_skipping:
                file.is_skipping = False
                cut = whole.find(b"\n") + 1
                whole, start = whole[cut:], start + cut
            if whole:
                yield Chunk(str(self.path), start, whole, now, is_live=is_live)

    def _bound(self, file: OpenFile) -> None:
        """Skip a line that has no end within the bound."""
        if len(file.pending) > _MAX_LINE_BYTES:
            if not file.is_skipping:
                self.long_lines += 1
            file.is_skipping = True
            file.offset += len(file.pending)
            file.pending = b""

    def _finish(self, file: OpenFile, now: Micros, *, is_live: bool) -> Iterator[Chunk]:
        """Hand out the last line of a rotated file, for which no line feed will come any more."""
        start, rest = file.offset, file.pending
        file.offset, file.pending = start + len(rest), b""
        self._seen.append(file.first())
        if file.fault:
            self._lose(f"a compressed file is damaged after byte {file.offset}: {file.fault}")
        if rest and not file.is_skipping and not file.fault:  # what a damage cut off may name somebody else
            self.unfinished_lines += 1
            yield Chunk(str(self.path), start, rest + b"\n", now, is_live=is_live)

    def _is_done(self, file: OpenFile, now: Micros) -> bool:
        is_old = file.retired_at is not None and now - file.retired_at > _RETIRE_AFTER
        return is_old or file.is_packed

    def _lose(self, what: str) -> None:
        self.losses, self.lost_position = self.losses + 1, True
        self._loss = f"lines may be lost: {what}"

    def _notice_truncation(self) -> None:
        """Start files anew whose content is another, after the rest of what they held."""
        for file in tuple(self._files):
            if file.is_packed or file.holds(file.head, file.offset + len(file.pending)):
                continue
            self.truncations += 1
            siblings = find_siblings(self.path, self._configuration)
            copies = [sibling.opened for sibling in siblings if sibling.opened is not None]
            found = match_positions([file.position], copies, None)
            close_unused(siblings, found)
            for copy in found:
                copy.go_to(file.position)
                copy.retired_at = _AT_FIRST_READ
                self._files.insert(self._files.index(file), copy)
            file.go_to(Position(file.device, file.inode, 0, b""))

    def _notice_rotation(self, now: Micros, looked_at: Micros | None) -> None:
        """Open what the path names now, where that is another file than the one we hold."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._trouble, self.is_unseen = "" if self._files else NOT_THERE, False
            if self._files and self._files[-1].retired_at is None:
                self._files[-1].retired_at = now
            return
        except OSError as exc:
            self._trouble = exc.strerror or str(exc)
            return
        if self._awaited:
            self._resume(self._awaited)
            return
        if self.is_unseen:
            self.is_unseen = False
            self._open_first(None, None, at_end=True)
            return
        newest = self._files[-1] if self._files else None
        absent_at = looked_at if self._trouble == NOT_THERE else None
        if newest is not None and self._holds(status.st_dev, status.st_ino):
            newest.retired_at, self._trouble = None, ""
            return
        opened = self._open()
        if opened is None:
            return
        if not self._claim(opened, is_named=True):  # whoever reads it lets it go some seconds from now
            opened.close()
            return
        if newest is not None:
            newest.retired_at = newest.retired_at or now
            self.rotations += 1
            known, written = len(self._files), os.fstat(newest.descriptor).st_mtime_ns
            looked = ((looked_at or 0) - _CTIME_SLACK) * 1000
            siblings = find_siblings(
                self.path, self._configuration, written_since=written, changed_since=looked
            )
            self._take(siblings, opened, {})
            self.rotations += len(self._files) - known
        elif absent_at is not None:
            self._take_earlier(opened, absent_at)
        self._files.append(opened)

    def _holds(self, device: int, inode: int) -> bool:
        """Whether a file is the newest that we follow."""
        newest = self._files[-1] if self._files else None
        return newest is not None and (newest.device, newest.inode) == (device, inode)

    def _take(self, siblings: Sequence[Sibling], current: OpenFile | None, found: Found) -> None:
        """Follow the siblings that were found, and those younger than what we follow and not read yet."""
        for sibling in siblings:
            opened = sibling.opened
            others = self._files if current is None else [*self._files, current]
            inodes = [(other.device, other.inode) for other in others]
            heads = [*self._seen, *(other.first() for other in others)]
            if opened is None:
                if self._files and sibling.is_own:
                    self._lose(f"{sibling.path.name} cannot be read: {sibling.refusal}")
            elif opened not in found and (
                not self._files
                or not sibling.is_own
                or (opened.device, opened.inode) in inodes
                or opened.first() in heads
                or not self._claim(opened, is_named=False)
            ):
                opened.close()
            else:
                opened.retired_at = _AT_FIRST_READ
                self._files.append(opened)

    def _open(self) -> OpenFile | None:
        try:
            opened = open_file(self.path)
        except OSError as exc:
            self._trouble = NOT_THERE if isinstance(exc, FileNotFoundError) else exc.strerror or str(exc)
            return None
        self._trouble, self.real = "", os.path.realpath(self.path)
        return opened

    def _open_first(
        self, lay_there: tuple[int, int] | None, absent_at: Micros | None, *, at_end: bool
    ) -> None:
        opened = self._open()
        if opened is None:
            if at_end and self._trouble != NOT_THERE:  # what lies there is no news when it may be read
                self._awaited, self.is_unseen = look_at_end(self.path)
            return
        if not at_end:
            self._claim(opened, is_named=True)
            if absent_at is not None:
                self._take_earlier(opened, absent_at)
        size = os.fstat(opened.descriptor).st_size
        if lay_there is not None and lay_there[0] == opened.inode and lay_there[1] <= size:
            at_end, size = True, lay_there[1]
        if at_end:
            start = max(0, size - _READ_BYTES)
            tail = opened.read_at(start, size - start)
            opened.is_skipping = len(tail) < size and b"\n" not in tail
            opened.offset = size - len(tail) + tail.rfind(b"\n") + 1 if not opened.is_skipping else size
            opened.remember_head()
            self._caught_up = True
        self._files.append(opened)

    def _take_earlier(self, current: OpenFile, since: Micros) -> None:
        """Follow what was made and rotated away before it could be looked at, oldest first."""
        for opened in find_made_since(self.path, self._configuration, since):
            others = [other.first() for other in (*self._files, current)]
            if opened.first() in others or not self._claim(opened, is_named=False):
                opened.close()
                continue
            opened.retired_at = _AT_FIRST_READ
            self._files.append(opened)
            self.rotations += 1

    def _resume(self, positions: Sequence[Position]) -> None:
        """Open the files that `positions` speak of, wherever they were moved, and what came after them."""
        self._caught_up, self._awaited = False, ()
        current = self._open()
        siblings = find_siblings(self.path, self._configuration)
        copies = [sibling.opened for sibling in siblings if sibling.opened is not None]
        found = match_positions(positions, copies, current)
        if current is None and not found:
            self._awaited = tuple(positions)
        self._take(siblings, current, found)
        if current is not None:
            self._files.append(current)
            self._claim(current, is_named=True)
        for opened, position in found.items():
            opened.go_to(position)
            if not self._claim(opened, is_named=opened is current) and opened is not current:
                self._files.remove(opened)
                opened.close()
        for position in positions:
            if not self._awaited and position not in found.values() and (position.offset or not found):
                self._lose(f"what came after byte {position.offset} of a file that is gone")
