"""Following a file: no line lost, none read twice, whatever is done to the file."""

import bz2
import dataclasses
import gzip
import lzma
import os
import shutil
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.model import SECOND
from correlator.tailers.file import FileTailer
from correlator.tailers.opened import Position

NOW = time.time_ns() // 1_000
"""The kernel stamps files by its own clock, so the tests follow it."""
FIRST = "x" * 80 + "\n"
"""A first line that is longer than the first bytes that are remembered."""
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
try:
    import zstandard
except ImportError:
    pass
else:
    PACK[".zst"] = zstandard.ZstdCompressor().compress


@pytest.fixture
def log(tmp_path):
    """A log file that is not there yet."""
    return tmp_path / "alert.log"


def _append(path, text):
    with path.open("a") as file:
        file.write(text)


def _read(tailer, now=NOW):
    return b"".join(chunk.data for chunk in tailer.read(now)).decode()


def test_it_starts_at_the_end_and_reads_what_comes(log):
    """Old lines are not news; the line that is being written is waited for."""
    log.write_text("old\nhalf")
    tailer = FileTailer(log)
    assert _read(tailer) == ""
    _append(log, " line\nnew\n")
    assert _read(tailer) == "half line\nnew\n"


def test_a_file_that_appears_later_is_read_from_its_start(log):
    """Whoever starts before the writer misses nothing; and it says that the file is not there."""
    tailer = FileTailer(log)
    assert _read(tailer) == ""
    assert tailer.trouble == "not there"
    log.write_text("first\n")
    assert _read(tailer) == "first\n"
    assert tailer.trouble == ""


def test_offsets_name_the_lines(log):
    """A chunk's offset is where its first byte stands."""
    log.write_text("one\n")
    tailer = FileTailer(log, from_start=True)
    assert [(chunk.offset, chunk.is_live) for chunk in tailer.read(NOW)] == [(0, False)]
    _append(log, "two\n")
    assert [(chunk.offset, chunk.is_live) for chunk in tailer.read(NOW)] == [(4, True)]


def test_rotation_by_rename_reads_the_rest_first(log):
    """What was written before and just after the rename comes before the new file's lines."""
    log.write_text("")
    tailer = FileTailer(log)
    _append(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    _append(log.with_name("alert.log.1"), "b\n")
    log.write_text("c\n")
    assert _read(tailer) == "a\nb\nc\n"
    _append(log.with_name("alert.log.1"), "late\n")
    assert _read(tailer, NOW + SECOND) == "late\n"
    assert tailer.rotations == 1


def test_a_rotated_file_is_left_after_a_while(log):
    """Descriptors of old files do not pile up."""
    log.write_text("")
    tailer = FileTailer(log)
    for number in range(5):
        os.rename(log, log.with_name(f"alert.log.{number}"))
        log.write_text(f"{number}\n")
        _read(tailer, NOW + number * SECOND)
    _read(tailer, NOW + 60 * SECOND)
    assert len(tailer.positions) == 1


def test_truncation_starts_anew(log):
    """copytruncate: the file is the same, its content is not, even where it grew past the old size."""
    log.write_text("")
    tailer = FileTailer(log)
    _append(log, "long line before\n")
    assert _read(tailer) == "long line before\n"
    log.write_text("short\n")
    assert _read(tailer) == "short\n"
    log.write_text("other and much longer than what was there before\n")
    assert _read(tailer) == "other and much longer than what was there before\n"
    assert tailer.truncations == 2


def test_a_restart_goes_on_where_it_was(log):
    """Positions taken at any moment bring back exactly the rest."""
    log.write_text("a\nb\n")
    first = FileTailer(log, from_start=True)
    assert _read(first) == "a\nb\n"
    _append(log, "c\n")
    second = FileTailer(log, first.positions)
    assert _read(second) == "c\n"


def test_a_restart_after_rotations_finds_the_rest(log):
    """Two rotations while we were away: the rest of the old file, the one between, and the new one."""
    log.write_text("a\nb\n")
    tailer = FileTailer(log, from_start=True)
    _read(tailer)
    _append(log, "c\n")
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.2"))
    log.write_text("d\n")
    os.utime(log, (2, 2))
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("e\n")
    log.with_name("alert.log.3").write_text("ancient\n")
    os.utime(log.with_name("alert.log.3"), (0, 0))
    assert _read(FileTailer(log, tailer.positions)) == "c\nd\ne\n"


def test_a_restart_while_an_old_file_is_still_read_doubles_nothing(log):
    """The positions of the old file and of the new one are both kept."""
    log.write_text("a\n")
    tailer = FileTailer(log, from_start=True)
    _read(tailer)
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert _read(tailer) == "b\n"
    _append(log.with_name("alert.log.1"), "late\n")
    _append(log, "c\n")
    assert _read(FileTailer(log, tailer.positions)) == "late\nc\n"


def test_a_position_of_another_file_of_the_same_inode_is_not_believed(log):
    """Inodes are used again; the first bytes tell."""
    log.write_text("a\nb\n")
    tailer = FileTailer(log, from_start=True)
    _read(tailer)
    log.write_text("x\ny\nz\n")
    again = FileTailer(log, tailer.positions)
    assert _read(again) == "x\ny\nz\n"
    assert again.lost_position


def test_somebodys_copy_is_not_read(log):
    """An administrator who copies the log aside must not have every line counted again."""
    log.write_text("a\nb\n")
    tailer = FileTailer(log, from_start=True)
    _read(tailer)
    log.with_name("alert.log.bak").write_text("a\nb\n")
    assert _read(FileTailer(log, tailer.positions)) == ""
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("c\n")
    assert _read(tailer) == "c\n"


def test_a_line_without_end_is_skipped_and_counted(log):
    """A liar who never writes a line feed cannot fill our memory."""
    log.write_text("")
    tailer = FileTailer(log)
    for _ in range(3):
        _append(log, "x" * 200_000)
        assert _read(tailer) == ""
    _append(log, "end\nnext\n")
    assert _read(tailer) == "next\n"
    assert tailer.long_lines == 1


def test_a_file_we_may_not_read_is_trouble_not_an_error(log):
    """A folder in the file's place stands for anything that cannot be read."""
    log.mkdir()
    tailer = FileTailer(log)
    assert list(tailer.read(NOW)) == []
    assert tailer.trouble != ""


def _pack(path, suffix):
    """Compress a rotated file as logrotate does: the old one goes, its times stay."""
    status = path.stat()
    packed = path.with_name(path.name + suffix)
    packed.write_bytes(PACK[suffix](path.read_bytes()))
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()
    return packed


def _copytruncate(path, rotated):
    shutil.copyfile(path, rotated)
    os.truncate(path, 0)


def _seen(log, text):
    """Return a tailer that has read `text`."""
    log.write_text(text)
    tailer = FileTailer(log, from_start=True)
    _read(tailer)
    return tailer


def test_nothing_was_there_is_not_never_seen(log):
    """What appeared while we were stopped is read, once we knew that there was nothing."""
    first = FileTailer(log)
    assert first.positions == ()
    log.write_text("a\n")
    assert _read(FileTailer(log, first.positions)) == "a\n"
    assert _read(FileTailer(log, None)) == ""


def test_positions_outlast_a_file_that_cannot_be_opened_yet(log):
    """A mount that comes late is neither a loss nor a reason to read everything again."""
    positions = _seen(log, "a\n").positions
    away = os.rename(log, log.with_name("elsewhere")) or log.with_name("elsewhere")
    tailer = FileTailer(log, positions)
    assert _read(tailer) == ""
    assert tailer.positions == positions
    os.rename(away, log)
    _append(log, "b\n")
    assert _read(tailer) == "b\n"
    assert tailer.losses == 0


def test_copytruncate_while_stopped_loses_nothing(log):
    """The rest is in the copy, which has another inode and the same first bytes."""
    positions = _seen(log, "a\n").positions
    _append(log, "b\n")
    _copytruncate(log, log.with_name("alert.log.1"))
    _append(log, "c\n")
    tailer = FileTailer(log, positions)
    assert _read(tailer) == "b\nc\n"
    assert tailer.losses == 0


def test_copytruncate_while_running_loses_nothing(log):
    """What came between our last look and the copy is read from the copy, and only that."""
    tailer = _seen(log, "a\n")
    _append(log, "b\n")
    _copytruncate(log, log.with_name("alert.log-20260102"))
    _append(log, "c\n")
    assert _read(tailer) == "b\nc\n"
    assert tailer.truncations == 1
    _append(log, "d\n")
    os.rename(log, log.with_name("alert.log-20260103"))
    log.write_text("e\n")
    assert _read(tailer, NOW + SECOND) == "d\ne\n"


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("is_copied", [False, True])
def test_the_rest_is_read_out_of_a_compressed_file(log, suffix, is_copied):
    """Rotated and compressed while we were stopped, one of them whole."""
    positions = _seen(log, "a\n").positions
    _append(log, "b\n" * 100_000)
    for rotated, text in (("alert.log.2", "c\n"), ("alert.log.1", "d\n")):
        if is_copied:
            _copytruncate(log, log.with_name(rotated))
        else:
            os.rename(log, log.with_name(rotated))
        _pack(log.with_name(rotated), suffix)
        _append(log, text)
    tailer = FileTailer(log, positions)
    chunks = tailer.read(NOW)
    got = next(chunks).data
    again = FileTailer(log, tailer.positions)
    assert got.decode() + _read(again) == "b\n" * 100_000 + "c\nd\n"
    assert (again.losses, again.trouble) == (0, "")


@pytest.mark.parametrize("is_zstd", [False, True])
def test_a_rest_that_cannot_be_read_is_counted_and_said(log, is_zstd):
    """Gone, or compressed with what we cannot read: never in silence."""
    positions = _seen(log, "a\n").positions
    log.unlink()
    if is_zstd:
        log.with_name("alert.log.1.zst").write_bytes(b"(\xb5/\xfd")
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert _read(tailer) == "b\n"
    assert (tailer.losses, tailer.lost_position) == (1, True)
    assert tailer.trouble == "lines may be lost: what came after byte 2 of a file that is gone"


def test_a_missed_file_that_cannot_be_read_is_counted_and_said(log):
    """The one that came and went while we were stopped was compressed with zstd."""
    positions = _seen(log, "a\n").positions
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.2"))
    log.with_name("alert.log.1.zst").write_bytes(b"(\xb5/\xfd")
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert _read(tailer) == "b\n"
    assert tailer.trouble.startswith("lines may be lost: alert.log.1.zst cannot be read: ")


def test_zstd_without_its_library_is_said_with_what_to_do(log, monkeypatch):
    """The rest lies there, and a package would read it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    positions = _seen(log, "a\n").positions
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.2"))
    log.with_name("alert.log.1.zst").write_bytes(b"(\xb5/\xfd")
    log.write_text("b\n")
    assert FileTailer(log, positions).trouble == (
        "lines may be lost: alert.log.1.zst cannot be read:"
        " compressed with zstd, and python3-zstandard is not installed"
    )


def test_a_damaged_compressed_file_is_counted_and_said(log):
    """What can be read of it is read."""
    positions = _seen(log, "a\n").positions
    _append(log, "".join(f"{number * 7919 % 100_003}\n" for number in range(400_000)))
    os.rename(log, log.with_name("alert.log.1"))
    packed = _pack(log.with_name("alert.log.1"), ".gz")
    os.truncate(packed, packed.stat().st_size * 9 // 10)
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert _read(tailer).startswith("0\n7919\n")
    assert tailer.losses == 1
    assert "damaged" in tailer.trouble


@pytest.mark.parametrize("name", ["alert.log.extract", "alert.log.1.txt", "alert.log-old", "alert.log.bak"])
def test_only_names_of_logrotate_are_rotations(log, name):
    """Somebody's extract beside the log holds lines that were counted already."""
    tailer = _seen(log, "a\nb\n")
    positions = tailer.positions
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.1"))
    log.with_name(name).write_text("b\n")
    log.write_text("c\n")
    assert _read(tailer) == "c\n"
    assert _read(FileTailer(log, positions)) == "c\n"


def test_an_archive_unpacked_before_we_last_looked_is_not_a_rotation(log):
    """It lay there already, so it did not come in between."""
    tailer = _seen(log, "a\n")
    os.utime(log, (1, 1))
    log.with_name("alert.log.3").write_text("ancient\n")
    _read(tailer, NOW + 3600 * SECOND)
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("c\n")
    assert _read(tailer, NOW + 3600 * SECOND) == "c\n"
    assert tailer.rotations == 1


def test_files_that_were_old_when_we_came_are_not_rotations(log):
    """All are renamed by logrotate, so only the time of their last line tells."""
    log.with_name("alert.log.1").write_text("ancient\n")
    os.utime(log.with_name("alert.log.1"), (1, 1))
    tailer = _seen(log, "a\n")
    os.rename(log.with_name("alert.log.1"), log.with_name("alert.log.2"))
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert _read(tailer) == "b\n"
    assert tailer.rotations == 1


def test_a_file_that_is_just_being_compressed_is_no_loss(log):
    """What it is compressed from is there until that is done; we hold it anyway."""
    tailer = _seen(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    log.with_name("alert.log.1.gz").write_bytes(gzip.compress(b"a\n")[:10])
    log.write_text("b\n")
    assert _read(tailer) == "b\n"
    assert (tailer.losses, tailer.trouble) == (0, "")


def test_a_file_we_hold_is_no_loss_when_it_is_compressed_with_zstd(log):
    """It bears the time of what we hold, so it is that."""
    tailer = _seen(log, "a\n")
    status = log.stat()
    os.rename(log, log.with_name("alert.log.1"))
    packed = log.with_name("alert.log.1.zst")
    packed.write_bytes(b"(\xb5/\xfd")
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    log.with_name("alert.log.1").unlink()
    log.write_text("b\n")
    assert _read(tailer) == "b\n"
    assert (tailer.losses, tailer.trouble) == (0, "")


def test_an_empty_file_that_is_gone_is_no_loss_beside_one_that_was_found(log):
    """Nothing had been read of it, and whatever came after the older one is read from its start."""
    tailer = _seen(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("")
    _read(tailer)
    log.with_name("kept").write_text("b\n")
    os.rename(log.with_name("kept"), log)
    again = FileTailer(log, tailer.positions)
    assert _read(again) == "b\n"
    assert again.losses == 0


def test_a_file_that_was_let_go_is_not_read_again(log):
    """A late line makes an old file younger than its successor; its first bytes are remembered."""
    tailer = _seen(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    os.utime(log, (1, 1))
    _read(tailer)
    _read(tailer, NOW + 11 * SECOND)
    assert len(tailer.positions) == 1
    _read(tailer, NOW)  # so that the time of its rename is younger than our last look
    os.rename(log.with_name("alert.log.1"), log.with_name("alert.log.2"))
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("c\n")
    assert _read(tailer) == "c\n"


def test_what_came_during_a_long_pause_is_not_live(log):
    """A host that slept must not see an hour of strikes in one instant."""
    tailer = _seen(log, "a\n")

    def is_live(now):
        _append(log, "b\n")
        return [chunk.is_live for chunk in tailer.read(now)]

    assert is_live(NOW + 30 * SECOND) == [True]
    assert is_live(NOW + 60 * SECOND + 1) == [False]
    assert is_live(NOW + 61 * SECOND) == [True]


def test_a_restart_inside_a_line_too_long_does_not_promote_its_tail(log):
    """The end of a line whose start was skipped is no line."""
    log.write_text("")
    tailer = FileTailer(log)
    _append(log, "x" * 300_000)
    assert _read(tailer) == ""
    _append(log, "tail\nnext\n")
    assert [position.is_skipping for position in tailer.positions] == [True]
    rows = [dataclasses.asdict(position) for position in tailer.positions]
    assert _read(FileTailer(log, [Position(**row) for row in rows])) == "next\n"


def test_a_start_inside_a_line_too_long_waits_for_its_end(log):
    """What lay there is not read, even where no line feed is near."""
    log.write_text("old\n" + "x" * 1_100_000)
    tailer = FileTailer(log)
    _append(log, "tail\nnext\n")
    assert _read(tailer) == "next\n"


def test_a_rotated_file_without_a_last_line_feed_is_let_go(log):
    """Its writer is gone: the last line is a line, handed out once."""
    tailer = _seen(log, "a\nunfinished")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert _read(tailer) == "b\n"
    assert _read(tailer, NOW + 10 * SECOND) == ""
    assert len(tailer.positions) == 2
    assert [(chunk.offset, chunk.data) for chunk in tailer.read(NOW + 10 * SECOND + 1)] == [
        (2, b"unfinished\n")
    ]
    assert len(tailer.positions) == 1
    assert _read(tailer, NOW + 20 * SECOND) == ""
    assert tailer.unfinished_lines == 1


def test_the_unfinished_end_of_a_line_too_long_is_not_handed_out(log):
    """Skipping does not end with the file."""
    tailer = _seen(log, "x" * 300_000)
    _append(log, "y")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert _read(tailer) == "b\n"
    assert _read(tailer, NOW + 11 * SECOND) == ""
    assert (len(tailer.positions), tailer.unfinished_lines) == (1, 0)


def test_a_rotated_file_is_watched_after_a_restart_too(log):
    """Its writer may still hold it open."""
    positions = _seen(log, "a\n").positions
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert _read(tailer) == "b\n"
    _append(log.with_name("alert.log.1"), "late\n")
    assert _read(tailer, NOW + 10 * SECOND) == "late\n"


def test_a_file_that_nothing_followed_is_never_let_go(log):
    """The file that the path names is read on, however long it is quiet, or away."""
    tailer = _seen(log, "a\n")
    _read(tailer, NOW + 3600 * SECOND)
    os.rename(log, log.with_name("alert.log.1"))
    _read(tailer, NOW + 7200 * SECOND)
    _append(log.with_name("alert.log.1"), "b\n")
    assert _read(tailer, NOW + 9000 * SECOND) == "b\n"


def test_a_file_that_is_named_again_is_not_retired(log):
    """Renamed and renamed back: it is the current one again, with its own time when it goes."""
    tailer = _seen(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    _read(tailer)
    os.rename(log.with_name("alert.log.1"), log)
    _read(tailer, NOW + SECOND)
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert _read(tailer, NOW + 20 * SECOND) == "b\n"
    assert len(tailer.positions) == 2


def test_a_file_that_shrank_starts_anew_though_its_first_bytes_are_the_same(log):
    """Shorter than what was read of it: that was truncated."""
    tailer = _seen(log, FIRST + "b\nc\n")
    log.write_text(FIRST)
    assert _read(tailer) == FIRST
    assert tailer.truncations == 1


def test_unread_bytes_of_an_unfinished_line_count_for_shrinking(log):
    """The half line that we hold is no longer there."""
    tailer = _seen(log, FIRST + "half")
    log.write_text(FIRST + "h")
    assert _read(tailer) == FIRST


def test_a_position_beyond_the_end_is_not_believed(log):
    """Same inode, same first bytes, but shorter than what was read."""
    positions = _seen(log, FIRST + "b\nc\n").positions
    log.write_text(FIRST)
    tailer = FileTailer(log, positions)
    assert _read(tailer) == FIRST
    assert tailer.losses == 1


def test_a_hole_before_a_line_is_no_part_of_it(log):
    """A truncation under a writer that keeps its offset: a hole as wide as the log was, then a line."""
    tailer = _seen(log, "a\n")
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
    assert _read(tailer) == "a\n"
    with log.open("r+b") as writer:
        writer.seek(2)
        writer.write(b"b\n")
        os.utime(log)
    assert _read(tailer) == "b\n"
    assert tailer.holes == 0


def test_bytes_that_are_no_text_are_handed_out_as_they_are(log):
    """What they mean is decided by who reads the line."""
    log.write_bytes(b"caf\xe9 \xff\n")
    assert [chunk.data for chunk in FileTailer(log, from_start=True).read(NOW)] == [b"caf\xe9 \xff\n"]


def _configure_olddir(tmp_path, olddir):
    folder = tmp_path / "etc/logrotate.d"
    folder.mkdir(parents=True)
    (folder / "app").write_text(f"{tmp_path}/*.log {{\n  daily\n  olddir {olddir}\n  # olddir /nowhere\n}}\n")
    return tmp_path / "etc"


@pytest.mark.parametrize("is_absolute", [False, True])
@pytest.mark.parametrize("is_copied", [False, True])
def test_the_rest_is_found_in_the_folder_that_logrotate_was_given(log, tmp_path, is_absolute, is_copied):
    """With `olddir`, a rotated log leaves its folder; where to, logrotate's own files say."""
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    old = elsewhere if is_absolute else tmp_path / "old"
    old.mkdir()
    etc = _configure_olddir(tmp_path, old if is_absolute else "old")
    log.write_text("a\n")
    first = FileTailer(log, from_start=True, configuration=etc)
    _read(first)
    positions = first.positions
    _append(log, "b\n")
    if is_copied:
        _copytruncate(log, old / "alert.log-20260102")
    else:
        os.rename(log, old / "alert.log-20260102")
    _pack(old / "alert.log-20260102", ".gz")
    _append(log, "c\n")
    assert _read(first) == "b\nc\n"
    again = FileTailer(log, positions, configuration=etc)
    assert _read(again) == "b\nc\n"
    assert again.losses == 0


def test_another_logs_rotation_in_a_common_folder_is_not_ours(log, tmp_path):
    """Two hosts' access.log in one `olddir`: only what begins as ours did is ours."""
    old = tmp_path.parent / f"{tmp_path.name}-old"
    old.mkdir()
    etc = _configure_olddir(tmp_path, old)
    log.write_text("a\n")
    tailer = FileTailer(log, from_start=True, configuration=etc)
    _read(tailer)
    os.rename(log, old / "alert.log.1")
    (old / "alert.log.2").write_text("another's\n")
    log.write_text("b\n")
    assert _read(tailer) == "b\n"


@pytest.mark.parametrize(
    "name",
    [
        "alert-20260102.log",
        "alert.log-2026-01-02",
        "alert.log.20260102",
        "alert.log-20260102-1767312000",
        "alert-2026010205-1767312000.log",
    ],
)
def test_dated_names_are_rotations(log, name):
    """Logrotate's `dateext`, with `extension` and with usual forms of `dateformat`."""
    positions = _seen(log, "a\n").positions
    _append(log, "b\n")
    os.rename(log, log.with_name(name))
    log.write_text("c\n")
    assert _read(FileTailer(log, positions)) == "b\nc\n"


def test_a_file_that_did_not_change_is_not_opened_again(log):
    """A quiet log costs one look at its name: hundreds may be followed."""
    tailer = _seen(log, "a\n")
    tailer._notice_truncation = lambda: pytest.fail("it was looked into")
    assert _read(tailer, NOW + SECOND) == ""


def test_a_file_that_fails_while_it_is_read_is_gone_on_with(log, tmp_path):
    """A disk or a file server that comes back: no line is lost and none is read twice."""
    tailer = _seen(log, "a\n")
    _append(log, "b\n")
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, tailer._files[0].descriptor)  # whose bytes nobody can read
    os.close(folder)
    assert _read(tailer) == ""
    assert (tailer.state, tailer.trouble, tailer.backlog) == ("refused", "Is a directory", 0)
    assert _read(tailer) == "b\n"
    assert (tailer.state, tailer.losses, tailer.truncations) == ("following", 0, 0)


PIECES = st.lists(
    st.one_of(
        st.text("ab\n", max_size=8).map(lambda text: ("append", text)),
        st.sampled_from([("rotate", ""), ("read", ""), ("restart", "")]),
    ),
    max_size=30,
)


@given(PIECES)
def test_any_order_of_writes_rotations_and_restarts_loses_and_doubles_nothing(tmp_path_factory, pieces):
    """The lines that come out are the lines that went in, in their order."""
    log = tmp_path_factory.mktemp("log") / "alert.log"
    log.write_text("# first\n")
    tailer = FileTailer(log, from_start=True)
    written, got, number = "# first\n", "", 0
    for kind, text in pieces:
        if kind == "append":
            _append(log, text)
            written += text
        elif kind == "rotate":
            if not written.endswith("\n"):
                _append(log, "\n")
                written += "\n"
            number += 1
            os.utime(log, (number, number))
            os.rename(log, log.with_name(f"alert.log.{number}"))
            log.write_text(f"# {number}\n")
            written += f"# {number}\n"
        elif kind == "read":
            got += _read(tailer)
        else:
            positions = tailer.positions
            tailer.close()
            tailer = FileTailer(log, positions, from_start=True)
    got += _read(tailer)
    tailer.close()
    assert got == written[: written.rfind("\n") + 1]
