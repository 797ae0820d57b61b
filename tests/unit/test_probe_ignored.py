"""The ignore file as the probe follows it: edits count at once, trouble is said once, nothing raises."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from correlator.attackalert import NO_IGNORE_FILE, end_for_syslog
from correlator.probe.ignored import LARGEST_FILE, IgnoreFile

EXPECTED = "an IPv4 or IPv6 address or prefix"


class Ignoring:
    """An ignore file in a folder, and what was said about it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ignore"
        self.said: list[str] = []

    def open(self, **options: Any) -> IgnoreFile:
        """The reader."""
        return IgnoreFile(self.path, self.said.append, **options)


@pytest.fixture
def ignoring(tmp_path: Path) -> Ignoring:
    """No file as yet."""
    return Ignoring(tmp_path)


def pack(text: str) -> bytes:
    """The packed address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def test_both_versions_hosts_and_networks(ignoring: Ignoring) -> None:
    """As the correlator and the enforcer understand the same file."""
    ignoring.path.write_text("127.0.0.1/32\n192.0.2.77/24 # ours\n2001:db8::/32\n")
    file = ignoring.open()
    asked = ("192.0.2.9", "192.0.3.9", "2001:db8:7::1", "2001:db9::1", "127.0.0.1", "127.0.0.2")
    assert [file.covers(pack(text)) for text in asked * 2] == [True, False, True, False, True, False] * 2
    assert ignoring.said == []


def test_every_edit_counts_at_once(ignoring: Ignoring) -> None:
    """Also many within one tick of the file system's clock, of the same length, in place or by a rename."""
    file = ignoring.open()
    for number in range(200):
        mine = number % 2
        text = f"192.0.2.{mine}\n"
        if number % 3:
            ignoring.path.write_text(text)
        else:
            other = ignoring.path.with_suffix(".new")
            other.write_text(text)
            other.rename(ignoring.path)
        assert [file.covers(pack(f"192.0.2.{host}")) for host in (0, 1)] == [not mine, bool(mine)]


def test_a_file_that_did_not_change_is_read_once(ignoring: Ignoring) -> None:
    """Once it is old enough for its stamp to be trusted; a report then costs one look at the stamp."""
    ignoring.path.write_text("192.0.2.2\n")
    file = ignoring.open(read_clock=lambda: 1 << 62)
    assert file.covers(pack("192.0.2.2"))
    entries = file._entries
    assert not file.covers(pack("192.0.2.3"))
    assert entries is file._entries


def test_a_file_that_vanishes_ignores_nobody_and_is_missed_once(ignoring: Ignoring) -> None:
    """PortSentry says it before every probe; and again when a later one vanishes."""
    ignoring.path.write_text("192.0.2.2\n")
    file = ignoring.open()
    assert file.covers(pack("192.0.2.2"))
    for _ in range(2):
        ignoring.path.unlink()
        assert [file.covers(pack("192.0.2.2")) for _ in range(3)] == [False] * 3
        ignoring.path.write_text("192.0.2.2\n")
        assert file.covers(pack("192.0.2.2"))
    assert ignoring.said == [NO_IGNORE_FILE] * 2
    assert end_for_syslog(NO_IGNORE_FILE) == NO_IGNORE_FILE + "\n"


@pytest.mark.parametrize("must_exist", [False, True])
def test_a_file_that_was_never_there_is_missed_where_there_must_be_one(
    ignoring: Ignoring, *, must_exist: bool
) -> None:
    """PortSentry must have one; who has none of ours has nobody to ignore."""
    file = ignoring.open(must_exist=must_exist)
    assert [file.covers(pack("192.0.2.2")) for _ in range(2)] == [False] * 2
    assert ignoring.said == [NO_IGNORE_FILE] * must_exist


@pytest.mark.parametrize("kind", ["folder", "huge", "loop"])
def test_a_file_that_cannot_be_read_keeps_what_it_said(ignoring: Ignoring, kind: str) -> None:
    """Said once, with the reason; a mistake of ours must not have a friend reported."""
    ignoring.path.write_text("192.0.2.2\n")
    file = ignoring.open()
    assert file.covers(pack("192.0.2.2"))
    ignoring.path.unlink()
    if kind == "folder":
        ignoring.path.mkdir()
    elif kind == "huge":
        ignoring.path.write_bytes(b"#" * (LARGEST_FILE + 1))
    else:
        ignoring.path.symlink_to(ignoring.path)
    assert [file.covers(pack("192.0.2.2")) for _ in range(3)] == [True] * 3
    reason = {"folder": "Is a directory", "huge": f"more than {LARGEST_FILE} bytes"}.get(
        kind, "Too many levels of symbolic links"
    )
    told = f"adminalert: ERROR: ignore file {ignoring.path}: {reason}"
    assert ignoring.said == [f"{told}, expected one we may read; its old lines stay"]


def test_a_pipe_in_its_place_holds_nobody_up(ignoring: Ignoring) -> None:
    """Nobody writes into it."""
    os.mkfifo(ignoring.path)
    assert not ignoring.open().covers(pack("192.0.2.2"))


def test_bad_lines_are_said_once_and_harm_no_other(ignoring: Ignoring) -> None:
    """At most ten, on one line each, whatever is in them; PortSentry says one at every packet, or nothing."""
    ignoring.path.write_bytes(
        b"192.0.2.0/33\nhost.example.net\n\xff\x1b[31m\n" + b"x\n" * 20 + b"192.0.2.2\n"
    )
    file = ignoring.open()
    assert [file.covers(pack(text)) for text in ("192.0.2.2", "192.0.2.3") * 3] == [True, False] * 3
    assert len(ignoring.said) == 11
    assert (
        ignoring.said[0] == f"adminalert: {ignoring.path}:1: entry: got '192.0.2.0/33', expected {EXPECTED}"
    )
    assert ignoring.said[-1] == f"adminalert: {ignoring.path}: 13 more faults"
    assert all(line.isprintable() for line in ignoring.said)


def test_it_remembers_only_so_many_hosts(ignoring: Ignoring) -> None:
    """Forged senders must not fill our memory."""
    file = ignoring.open()
    for number in range(10_000):
        file.covers(number.to_bytes(4, "big"))
    assert len(file._known) <= 4096
