"""Files in PortSentry's formats: whole or not at all, each line once, foreign lines passed over."""

import os
import time
from pathlib import Path

import pytest

from correlator.errors import PermissionDeniedError
from correlator.model import SECOND, parse_prefix
from correlator.store.atomic import replace
from correlator.store.blocked import read_blocked_file, write_blocked_file
from correlator.store.history import (
    HistoryLine,
    append,
    append_once,
    format_history_line,
    parse_history_line,
    read_history,
)

# Captured from PortSentry 1.2.
CAPTURED = "1795356540 - 11/22/2026 14:09:00 Host: 192.0.2.2/192.0.2.2 Port: 1 TCP Blocked\n"
RESOLVED = "1795357118 - 11/22/2026 14:18:38 Host: scanner.example.net/192.0.2.2 Port: 200 TCP Blocked\n"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The captured lines were written in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_replace_writes_content_and_mode(tmp_path: Path) -> None:
    """The file holds exactly the bytes, with exactly the mode, and nothing lies beside it."""
    path = tmp_path / "file"
    replace(path, b"old", mode=0o600)
    replace(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_replace_refuses_a_symbolic_link(tmp_path: Path) -> None:
    """A link planted where root writes must not choose what root overwrites."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(PermissionDeniedError, match="symbolic link"):
        replace(link, b"new")
    assert target.read_bytes() == b"precious"


def test_replace_is_not_led_astray_by_its_temporary_name(tmp_path: Path) -> None:
    """Neither a left-over temporary file nor a link in its place is written through."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / ".file.new").symlink_to(target)
    replace(tmp_path / "file", b"new")
    assert target.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["file", "target"]


def test_replace_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    """A folder where the file should be is an error, and the temporary file is gone."""
    (tmp_path / "file").mkdir()
    with pytest.raises(PermissionDeniedError, match="not a plain file"):
        replace(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_history_line_is_portsentrys() -> None:
    """The line is PortSentry's to the byte."""
    assert format_history_line(1795356540 * SECOND, parse_prefix("192.0.2.2"), 1, "TCP") == CAPTURED
    assert (
        format_history_line(1795357118 * SECOND, parse_prefix("192.0.2.2"), 200, "tcp", "scanner.example.net")
        == RESOLVED
    )


def test_history_line_without_protocol_says_any() -> None:
    """A block by hand has no protocol, and the line does not invent one."""
    line = format_history_line(0, parse_prefix("2001:db8::/64"), 0, "")
    assert line == "0 - 01/01/1970 00:00:00 Host: 2001:db8::/64/2001:db8::/64 Port: 0 ANY Blocked\n"
    assert parse_history_line(line) == HistoryLine(
        0, "2001:db8::/64", parse_prefix("2001:db8::/64"), 0, "ANY"
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# comment\n",
        "1795356540 - 11/22/2026 14:09:00 Host: 192.0.2.2 Port: 1 TCP Blocked\n",
        "1795356540 - 11/22/2026 14:09:00 Host: 192.0.2.2/not.an.address Port: 1 TCP Blocked\n",
        "1795356540 - 11/22/2026 14:09:00 Host: 192.0.2.2/192.0.2.2 Port: 65536 TCP Blocked\n",
        "x" * 5000,
        CAPTURED.strip() + " again\n",
    ],
)
def test_foreign_lines_are_none(line: str) -> None:
    """What is not a history line is None, never an error."""
    assert parse_history_line(line) is None


def test_the_address_counts_and_not_the_name() -> None:
    """The name is text of a stranger's name server: a slash in it moves nothing."""
    found = parse_history_line(RESOLVED)
    assert found is not None
    assert (found.name, str(found.source)) == ("scanner.example.net", "192.0.2.2")
    forged = "1 - 01/01/1970 00:00:01 Host: a/198.51.100.1/192.0.2.2 Port: 1 TCP Blocked\n"
    assert parse_history_line(forged) is None


def test_append_completes_an_unfinished_line(tmp_path: Path) -> None:
    """What a crash left unfinished stays a line of its own, and ours is whole."""
    path = tmp_path / "history"
    path.write_text("179535")
    append(path, CAPTURED)
    assert path.read_text() == "179535\n" + CAPTURED


def test_append_once_writes_a_line_once(tmp_path: Path) -> None:
    """After a crash nobody knows whether the line was written: it stands there once all the same."""
    path = tmp_path / "history"
    assert append_once(path, CAPTURED + RESOLVED) == 2
    assert append_once(path, CAPTURED + RESOLVED) == 0
    assert append_once(path, CAPTURED.replace("Port: 1 ", "Port: 2 ")) == 1
    assert [line.port for line in read_history(path)] == [1, 200, 2]


def test_append_once_looks_back_over_many_lines(tmp_path: Path) -> None:
    """Some hundred lines later the line is still found."""
    path = tmp_path / "history"
    append(path, CAPTURED + RESOLVED * 700)
    assert append_once(path, CAPTURED) == 0


def test_append_refuses_a_symbolic_link(tmp_path: Path) -> None:
    """The history is never written through a link."""
    link = tmp_path / "history"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionDeniedError):
        append(link, CAPTURED)
    assert not (tmp_path / "elsewhere").exists()


def test_blocked_file_tolerates_foreign_lines(tmp_path: Path) -> None:
    """What a hand wrote into it is passed over; what is written is exactly what was told."""
    path = tmp_path / "blocked"
    assert read_blocked_file(path) == ()
    path.write_bytes(b"# mine\n\xff\xfe\n" + CAPTURED.encode())
    assert [str(line.source) for line in read_blocked_file(path)] == ["192.0.2.2"]
    write_blocked_file(path, [RESOLVED])
    assert path.read_text() == RESOLVED
