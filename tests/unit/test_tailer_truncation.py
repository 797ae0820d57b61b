"""Following a file that is emptied in place: what stood there, what stands there now, and holes."""

import os

from correlator.model import SECOND
from correlator.tailers.file import FileTailer
from tests.unit.log_files import FIRST, NOW, append, copytruncate, have_read, read


def test_truncation_starts_anew(log):
    """copytruncate: the file is the same, its content is not, even where it grew past the old size."""
    log.write_text("")
    tailer = FileTailer(log)
    append(log, "long line before\n")
    assert read(tailer) == "long line before\n"
    log.write_text("short\n")
    assert read(tailer) == "short\n"
    log.write_text("other and much longer than what was there before\n")
    assert read(tailer) == "other and much longer than what was there before\n"
    assert tailer.truncations == 2


def test_a_position_of_another_file_of_the_same_inode_is_not_believed(log):
    """Inodes are used again; the first bytes tell."""
    log.write_text("a\nb\n")
    tailer = FileTailer(log, from_start=True)
    read(tailer)
    log.write_text("x\ny\nz\n")
    again = FileTailer(log, tailer.positions)
    assert read(again) == "x\ny\nz\n"
    assert again.lost_position


def test_copytruncate_while_stopped_loses_nothing(log):
    """The rest is in the copy, which has another inode and the same first bytes."""
    positions = have_read(log, "a\n").positions
    append(log, "b\n")
    copytruncate(log, log.with_name("alert.log.1"))
    append(log, "c\n")
    tailer = FileTailer(log, positions)
    assert read(tailer) == "b\nc\n"
    assert tailer.losses == 0


def test_copytruncate_while_running_loses_nothing(log):
    """What came between our last look and the copy is read from the copy, and only that."""
    tailer = have_read(log, "a\n")
    append(log, "b\n")
    copytruncate(log, log.with_name("alert.log-20260102"))
    append(log, "c\n")
    assert read(tailer) == "b\nc\n"
    assert tailer.truncations == 1
    append(log, "d\n")
    os.rename(log, log.with_name("alert.log-20260103"))
    log.write_text("e\n")
    assert read(tailer, NOW + SECOND) == "d\ne\n"


def test_a_file_that_shrank_starts_anew_though_its_first_bytes_are_the_same(log):
    """Shorter than what was read of it: that was truncated."""
    tailer = have_read(log, FIRST + "b\nc\n")
    log.write_text(FIRST)
    assert read(tailer) == FIRST
    assert tailer.truncations == 1


def test_unread_bytes_of_an_unfinished_line_count_for_shrinking(log):
    """The half line that we hold is no longer there."""
    tailer = have_read(log, FIRST + "half")
    log.write_text(FIRST + "h")
    assert read(tailer) == FIRST


def test_a_position_beyond_the_end_is_not_believed(log):
    """Same inode, same first bytes, but shorter than what was read."""
    positions = have_read(log, FIRST + "b\nc\n").positions
    log.write_text(FIRST)
    tailer = FileTailer(log, positions)
    assert read(tailer) == FIRST
    assert tailer.losses == 1


def test_a_hole_before_a_line_is_no_part_of_it(log):
    """A truncation under a writer that keeps its offset: a hole as wide as the log was, then a line."""
    tailer = have_read(log, "a\n")
    with log.open("r+b") as writer:
        writer.truncate(0)
        writer.seek(5_000_000_000)
        writer.write(b"b\n")
    (chunk,) = tailer.read(NOW)
    assert (chunk.offset, chunk.data) == (5_000_000_000, b"b\n")
    assert (tailer.truncations, tailer.holes, tailer.long_lines) == (1, 1, 0)


def test_nuls_between_lines_are_no_part_of_them(log):
    """A crash of the host leaves them; each line keeps its place in the file."""
    log.write_bytes(b"a\n\0\0\0b\n\0c\nd\0d\n")
    chunks = list(FileTailer(log, from_start=True).read(NOW))
    assert [(chunk.offset, chunk.data) for chunk in chunks] == [(0, b"a\n"), (5, b"b\n"), (8, b"c\nd\0d\n")]


def test_room_that_a_writer_took_beforehand_is_not_passed_over(log):
    """Its next line comes where the NULs begin."""
    log.write_bytes(b"a\n" + bytes(100_000))
    tailer = FileTailer(log, from_start=True)
    assert read(tailer) == "a\n"
    with log.open("r+b") as writer:
        writer.seek(2)
        writer.write(b"b\n")
        os.utime(log)
    assert read(tailer) == "b\n"
    assert tailer.holes == 0
