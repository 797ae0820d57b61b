"""`portward sources` as somebody reads it who wants to know why nothing comes from a log."""

import json
import os
import time

import pytest

from correlator.cli import main
from correlator.cli.kept_out import Reader, reader_of, what_keeps_out

STRANGER = Reader(4_000_000, frozenset({4_000_001}))


def _row(origin, state="following", trouble="", **more):
    return {
        "origin": origin,
        "kind": "file",
        "state": state,
        "filters": ["app"],
        "trouble": trouble,
        "offset": 0,
        "backlog": 0,
        **more,
    }


@pytest.fixture
def show(tmp_path, capsys):
    """Return a function that shows rows that the correlator, this process, left behind."""
    (tmp_path / "portward.toml").write_text(f'[paths]\nrun = "{tmp_path}"\n')
    (tmp_path / "correlator").mkdir()

    def shown(rows, *arguments, pid=None):
        left = {"pid": pid or os.getpid(), "updated": time.time_ns() // 1000, "filters": [], "sources": rows}
        (tmp_path / "correlator/correlator.json").write_text(json.dumps(left))
        status = main(["sources", "--config", str(tmp_path), *arguments])
        return status, capsys.readouterr().out.splitlines()

    return shown


def test_many_absent_files_are_counted_and_not_listed(show):
    """With all filters enabled two hundred logs of other distributions would hide the few that are there."""
    absent = [_row(f"/log/{number}", "waiting", "not there") for number in range(9)]
    status, lines = show([_row("/log/here"), *absent])
    assert status == 0
    assert [line.split()[0] for line in lines[1:]] == ["/log/here", "9"]
    assert lines[-1] == "9 files and patterns are not there: `portward sources --all` lists them too"
    assert len(show([_row("/log/here"), *absent], "--all")[1]) == 11


def test_a_few_absent_ones_are_listed(show):
    """The newcomer whose only log is not there sees it at once."""
    lines = show([_row("/log/mine", "waiting", "not there")])[1]
    assert lines[1].split() == ["/log/mine", "waiting", "-", "0", "-", "-", "-", "app", "not", "there"]


def test_what_keeps_us_out_is_named(show, tmp_path):
    """The file or the first folder that says no, whose it is, and who reads."""
    (tmp_path / "secret").mkdir()
    log = tmp_path / "secret/x.log"
    log.write_text("")
    log.chmod(0)
    status, lines = show([_row(str(log), "refused", "Permission denied")])
    assert status == 1
    assert f"Permission denied: {log} is " in lines[1]
    assert lines[1].endswith(" 0000")
    assert lines[2].startswith("the correlator reads as user ")


def test_positions_and_numbers_read_well(show):
    """A refused file has no place in it; one file is no files."""
    pattern = _row("/log/*", matches=1) | {"kind": "pattern"}
    lines = show([_row("/log/a", "refused", "a pipe, expected a file"), pattern])[1]
    assert lines[1].split()[:3] == ["/log/a", "refused", "-"]
    assert "1 file  " in lines[2]


@pytest.mark.parametrize(("closed", "mode"), [("a", 0o700), ("a/b", 0o711), ("a/b/x.log", 0o640)])
def test_the_first_part_of_a_path_that_says_no_is_found(tmp_path, closed, mode):
    """Folders have to be passed, the file has to be read; links are followed."""
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if not STRANGER.may(folder.stat(), 1):
            folder.chmod(folder.stat().st_mode | 0o001)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.log").write_text("")
    for name, open_mode in (("a", 0o755), ("a/b", 0o755), ("a/b/x.log", 0o644)):
        (tmp_path / name).chmod(open_mode)
    (tmp_path / "link").symlink_to("a/b/x.log")
    assert what_keeps_out(str(tmp_path / "link"), STRANGER) == ""
    (tmp_path / closed).chmod(mode)
    kept_out = what_keeps_out(str(tmp_path / "link"), STRANGER)
    expected = "" if closed == "a/b" else f"{tmp_path / closed} is "
    assert kept_out.startswith(expected)
    assert (kept_out == "") == (expected == "")


def test_the_owners_bits_count_for_the_owner_and_no_others(tmp_path):
    """As the kernel has it: an owner without the right is not saved by his group's."""
    (tmp_path / "x").write_text("")
    (tmp_path / "x").chmod(0o077)
    found = (tmp_path / "x").stat()
    assert not Reader(found.st_uid, frozenset({found.st_gid})).may(found, 4)
    assert Reader(found.st_uid + 1, frozenset({found.st_gid})).may(found, 4)


def test_who_a_process_is_stands_in_proc():
    """User and groups for files; nothing for a process that is gone."""
    reader = reader_of(os.getpid())
    assert reader.user == os.geteuid()
    assert reader.groups >= {os.getegid(), *os.getgroups()}
    assert reader_of(0) is None
