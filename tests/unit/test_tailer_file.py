"""Following a file: no line lost, none read twice, whatever is done to the file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.model import SECOND
from correlator.tailers.file import FileTailer

NOW = 1_795_357_762 * SECOND


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
