"""Following a file that is renamed: the rest is read first, what is not ours never, and nothing twice."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.model import SECOND
from correlator.tailers.file import FileTailer
from tests.unit.log_files import NOW, append, compress, configure_olddir, copytruncate, have_read, read


def test_rotation_by_rename_reads_the_rest_first(log):
    """What was written before and just after the rename comes before the new file's lines."""
    log.write_text("")
    tailer = FileTailer(log)
    append(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    append(log.with_name("alert.log.1"), "b\n")
    log.write_text("c\n")
    assert read(tailer) == "a\nb\nc\n"
    append(log.with_name("alert.log.1"), "late\n")
    assert read(tailer, NOW + SECOND) == "late\n"
    assert tailer.rotations == 1


def test_a_rotated_file_is_left_after_a_while(log):
    """Descriptors of old files do not pile up."""
    log.write_text("")
    tailer = FileTailer(log)
    for number in range(5):
        os.rename(log, log.with_name(f"alert.log.{number}"))
        log.write_text(f"{number}\n")
        read(tailer, NOW + number * SECOND)
    read(tailer, NOW + 60 * SECOND)
    assert len(tailer.positions) == 1


def test_a_restart_after_rotations_finds_the_rest(log):
    """Two rotations while we were away: the rest of the old file, the one between, and the new one."""
    log.write_text("a\nb\n")
    tailer = FileTailer(log, from_start=True)
    read(tailer)
    append(log, "c\n")
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.2"))
    log.write_text("d\n")
    os.utime(log, (2, 2))
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("e\n")
    log.with_name("alert.log.3").write_text("ancient\n")
    os.utime(log.with_name("alert.log.3"), (0, 0))
    assert read(FileTailer(log, tailer.positions)) == "c\nd\ne\n"


def test_a_restart_while_an_old_file_is_still_read_doubles_nothing(log):
    """The positions of the old file and of the new one are both kept."""
    log.write_text("a\n")
    tailer = FileTailer(log, from_start=True)
    read(tailer)
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert read(tailer) == "b\n"
    append(log.with_name("alert.log.1"), "late\n")
    append(log, "c\n")
    assert read(FileTailer(log, tailer.positions)) == "late\nc\n"


def test_somebodys_copy_is_not_read(log):
    """An administrator who copies the log aside must not have every line counted again."""
    log.write_text("a\nb\n")
    tailer = FileTailer(log, from_start=True)
    read(tailer)
    log.with_name("alert.log.bak").write_text("a\nb\n")
    assert read(FileTailer(log, tailer.positions)) == ""
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("c\n")
    assert read(tailer) == "c\n"


@pytest.mark.parametrize("name", ["alert.log.extract", "alert.log.1.txt", "alert.log-old", "alert.log.bak"])
def test_only_names_of_logrotate_are_rotations(log, name):
    """Somebody's extract beside the log holds lines that were counted already."""
    tailer = have_read(log, "a\nb\n")
    positions = tailer.positions
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.1"))
    log.with_name(name).write_text("b\n")
    log.write_text("c\n")
    assert read(tailer) == "c\n"
    assert read(FileTailer(log, positions)) == "c\n"


def test_an_archive_unpacked_before_we_last_looked_is_not_a_rotation(log):
    """It lay there already, so it did not come in between."""
    tailer = have_read(log, "a\n")
    os.utime(log, (1, 1))
    log.with_name("alert.log.3").write_text("ancient\n")
    read(tailer, NOW + 3600 * SECOND)
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("c\n")
    assert read(tailer, NOW + 3600 * SECOND) == "c\n"
    assert tailer.rotations == 1


def test_files_that_were_old_when_we_came_are_not_rotations(log):
    """All are renamed by logrotate, so only the time of their last line tells."""
    log.with_name("alert.log.1").write_text("ancient\n")
    os.utime(log.with_name("alert.log.1"), (1, 1))
    tailer = have_read(log, "a\n")
    os.rename(log.with_name("alert.log.1"), log.with_name("alert.log.2"))
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert read(tailer) == "b\n"
    assert tailer.rotations == 1


def test_an_empty_file_that_is_gone_is_no_loss_beside_one_that_was_found(log):
    """Nothing had been read of it, and whatever came after the older one is read from its start."""
    tailer = have_read(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("")
    read(tailer)
    log.with_name("kept").write_text("b\n")
    os.rename(log.with_name("kept"), log)
    again = FileTailer(log, tailer.positions)
    assert read(again) == "b\n"
    assert again.losses == 0


def test_a_file_that_was_let_go_is_not_read_again(log):
    """A late line makes an old file younger than its successor; its first bytes are remembered."""
    tailer = have_read(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    os.utime(log, (1, 1))
    read(tailer)
    read(tailer, NOW + 11 * SECOND)
    assert len(tailer.positions) == 1
    read(tailer, NOW)  # so that the time of its rename is younger than our last look
    os.rename(log.with_name("alert.log.1"), log.with_name("alert.log.2"))
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("c\n")
    assert read(tailer) == "c\n"


def test_a_rotated_file_without_a_last_line_feed_is_let_go(log):
    """Its writer is gone: the last line is a line, handed out once."""
    tailer = have_read(log, "a\nunfinished")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert read(tailer) == "b\n"
    assert read(tailer, NOW + 10 * SECOND) == ""
    assert len(tailer.positions) == 2
    assert [(chunk.offset, chunk.data) for chunk in tailer.read(NOW + 10 * SECOND + 1)] == [
        (2, b"unfinished\n")
    ]
    assert len(tailer.positions) == 1
    assert read(tailer, NOW + 20 * SECOND) == ""
    assert tailer.unfinished_lines == 1


def test_the_unfinished_end_of_a_line_too_long_is_not_handed_out(log):
    """Skipping does not end with the file."""
    tailer = have_read(log, "x" * 300_000)
    append(log, "y")
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert read(tailer) == "b\n"
    assert read(tailer, NOW + 11 * SECOND) == ""
    assert (len(tailer.positions), tailer.unfinished_lines) == (1, 0)


def test_a_rotated_file_is_watched_after_a_restart_too(log):
    """Its writer may still hold it open."""
    positions = have_read(log, "a\n").positions
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert read(tailer) == "b\n"
    append(log.with_name("alert.log.1"), "late\n")
    assert read(tailer, NOW + 10 * SECOND) == "late\n"


def test_a_file_that_nothing_followed_is_never_let_go(log):
    """The file that the path names is read on, however long it is quiet, or away."""
    tailer = have_read(log, "a\n")
    read(tailer, NOW + 3600 * SECOND)
    os.rename(log, log.with_name("alert.log.1"))
    read(tailer, NOW + 7200 * SECOND)
    append(log.with_name("alert.log.1"), "b\n")
    assert read(tailer, NOW + 9000 * SECOND) == "b\n"


def test_a_file_that_is_named_again_is_not_retired(log):
    """Renamed and renamed back: it is the current one again, with its own time when it goes."""
    tailer = have_read(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    read(tailer)
    os.rename(log.with_name("alert.log.1"), log)
    read(tailer, NOW + SECOND)
    os.rename(log, log.with_name("alert.log.1"))
    log.write_text("b\n")
    assert read(tailer, NOW + 20 * SECOND) == "b\n"
    assert len(tailer.positions) == 2


@pytest.mark.parametrize("is_absolute", [False, True])
@pytest.mark.parametrize("is_copied", [False, True])
def test_the_rest_is_found_in_the_folder_that_logrotate_was_given(log, tmp_path, is_absolute, is_copied):
    """With `olddir`, a rotated log leaves its folder; where to, logrotate's own files say."""
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    old = elsewhere if is_absolute else tmp_path / "old"
    old.mkdir()
    etc = configure_olddir(tmp_path, old if is_absolute else "old")
    log.write_text("a\n")
    first = FileTailer(log, from_start=True, configuration=etc)
    read(first)
    positions = first.positions
    append(log, "b\n")
    if is_copied:
        copytruncate(log, old / "alert.log-20260102")
    else:
        os.rename(log, old / "alert.log-20260102")
    compress(old / "alert.log-20260102", ".gz")
    append(log, "c\n")
    assert read(first) == "b\nc\n"
    again = FileTailer(log, positions, configuration=etc)
    assert read(again) == "b\nc\n"
    assert again.losses == 0


def test_another_logs_rotation_in_a_common_folder_is_not_ours(log, tmp_path):
    """Two hosts' access.log in one `olddir`: only what begins as ours did is ours."""
    old = tmp_path.parent / f"{tmp_path.name}-old"
    old.mkdir()
    etc = configure_olddir(tmp_path, old)
    log.write_text("a\n")
    tailer = FileTailer(log, from_start=True, configuration=etc)
    read(tailer)
    os.rename(log, old / "alert.log.1")
    (old / "alert.log.2").write_text("another's\n")
    log.write_text("b\n")
    assert read(tailer) == "b\n"


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
    positions = have_read(log, "a\n").positions
    append(log, "b\n")
    os.rename(log, log.with_name(name))
    log.write_text("c\n")
    assert read(FileTailer(log, positions)) == "b\nc\n"


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
            append(log, text)
            written += text
        elif kind == "rotate":
            if not written.endswith("\n"):
                append(log, "\n")
                written += "\n"
            number += 1
            os.utime(log, (number, number))
            os.rename(log, log.with_name(f"alert.log.{number}"))
            log.write_text(f"# {number}\n")
            written += f"# {number}\n"
        elif kind == "read":
            got += read(tailer)
        else:
            positions = tailer.positions
            tailer.close()
            tailer = FileTailer(log, positions, from_start=True)
    got += read(tailer)
    tailer.close()
    assert got == written[: written.rfind("\n") + 1]
