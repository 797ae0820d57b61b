"""Following a file: where it begins, where it goes on, and what of it is no line."""

import dataclasses
import os

import pytest

from correlator.model import SECOND
from correlator.tailers.file import FileTailer
from correlator.tailers.opened import Position
from tests.unit.log_files import NOW, append, have_read, read


def test_it_starts_at_the_end_and_reads_what_comes(log):
    """Old lines are not news; the line that is being written is waited for."""
    log.write_text("old\nhalf")
    tailer = FileTailer(log)
    assert read(tailer) == ""
    append(log, " line\nnew\n")
    assert read(tailer) == "half line\nnew\n"


def test_a_file_that_appears_later_is_read_from_its_start(log):
    """Whoever starts before the writer misses nothing; and it says that the file is not there."""
    tailer = FileTailer(log)
    assert read(tailer) == ""
    assert tailer.trouble == "not there"
    log.write_text("first\n")
    assert read(tailer) == "first\n"
    assert tailer.trouble == ""


def test_offsets_name_the_lines(log):
    """A chunk's offset is where its first byte stands."""
    log.write_text("one\n")
    tailer = FileTailer(log, from_start=True)
    assert [(chunk.offset, chunk.is_live) for chunk in tailer.read(NOW)] == [(0, False)]
    append(log, "two\n")
    assert [(chunk.offset, chunk.is_live) for chunk in tailer.read(NOW)] == [(4, True)]


def test_a_restart_goes_on_where_it_was(log):
    """Positions taken at any moment bring back exactly the rest."""
    log.write_text("a\nb\n")
    first = FileTailer(log, from_start=True)
    assert read(first) == "a\nb\n"
    append(log, "c\n")
    second = FileTailer(log, first.positions)
    assert read(second) == "c\n"


def test_a_line_without_end_is_skipped_and_counted(log):
    """A liar who never writes a line feed cannot fill our memory."""
    log.write_text("")
    tailer = FileTailer(log)
    for _ in range(3):
        append(log, "x" * 200_000)
        assert read(tailer) == ""
    append(log, "end\nnext\n")
    assert read(tailer) == "next\n"
    assert tailer.long_lines == 1


def test_a_file_we_may_not_read_is_trouble_not_an_error(log):
    """A folder in the file's place stands for anything that cannot be read."""
    log.mkdir()
    tailer = FileTailer(log)
    assert list(tailer.read(NOW)) == []
    assert tailer.trouble != ""


def test_nothing_was_there_is_not_never_seen(log):
    """What appeared while we were stopped is read, once we knew that there was nothing."""
    first = FileTailer(log)
    assert first.positions == ()
    log.write_text("a\n")
    assert read(FileTailer(log, first.positions)) == "a\n"
    assert read(FileTailer(log, None)) == ""


def test_positions_outlast_a_file_that_cannot_be_opened_yet(log):
    """A mount that comes late is neither a loss nor a reason to read everything again."""
    positions = have_read(log, "a\n").positions
    away = os.rename(log, log.with_name("elsewhere")) or log.with_name("elsewhere")
    tailer = FileTailer(log, positions)
    assert read(tailer) == ""
    assert tailer.positions == positions
    os.rename(away, log)
    append(log, "b\n")
    assert read(tailer) == "b\n"
    assert tailer.losses == 0


def test_what_came_during_a_long_pause_is_not_live(log):
    """A host that slept must not see an hour of strikes in one instant."""
    tailer = have_read(log, "a\n")

    def is_live(now):
        append(log, "b\n")
        return [chunk.is_live for chunk in tailer.read(now)]

    assert is_live(NOW + 30 * SECOND) == [True]
    assert is_live(NOW + 60 * SECOND + 1) == [False]
    assert is_live(NOW + 61 * SECOND) == [True]


def test_a_restart_inside_a_line_too_long_does_not_promote_its_tail(log):
    """The end of a line whose start was skipped is no line."""
    log.write_text("")
    tailer = FileTailer(log)
    append(log, "x" * 300_000)
    assert read(tailer) == ""
    append(log, "tail\nnext\n")
    assert [position.is_skipping for position in tailer.positions] == [True]
    rows = [dataclasses.asdict(position) for position in tailer.positions]
    assert read(FileTailer(log, [Position(**row) for row in rows])) == "next\n"


def test_a_start_inside_a_line_too_long_waits_for_its_end(log):
    """What lay there is not read, even where no line feed is near."""
    log.write_text("old\n" + "x" * 1_100_000)
    tailer = FileTailer(log)
    append(log, "tail\nnext\n")
    assert read(tailer) == "next\n"


def test_bytes_that_are_no_text_are_handed_out_as_they_are(log):
    """What they mean is decided by who reads the line."""
    log.write_bytes(b"caf\xe9 \xff\n")
    assert [chunk.data for chunk in FileTailer(log, from_start=True).read(NOW)] == [b"caf\xe9 \xff\n"]


def test_a_file_that_did_not_change_is_not_opened_again(log):
    """A quiet log costs one look at its name: hundreds may be followed."""
    tailer = have_read(log, "a\n")
    tailer._notice_truncation = lambda: pytest.fail("it was looked into")
    assert read(tailer, NOW + SECOND) == ""


def test_a_file_that_fails_while_it_is_read_is_gone_on_with(log, tmp_path):
    """A disk or a file server that comes back: no line is lost and none is read twice."""
    tailer = have_read(log, "a\n")
    append(log, "b\n")
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, tailer._files[0].descriptor)  # whose bytes nobody can read
    os.close(folder)
    assert read(tailer) == ""
    assert (tailer.state, tailer.trouble, tailer.backlog) == ("refused", "Is a directory", 0)
    assert read(tailer) == "b\n"
    assert (tailer.state, tailer.losses, tailer.truncations) == ("following", 0, 0)
