"""Counters that are left for `status`: whole, and nowhere but in their own file."""

import json
import os
from pathlib import Path

import pytest

from correlator.errors import BusyError
from correlator.kernel.process import hold_lock
from correlator.status_file import StatusFile


def test_readers_find_the_last_whole_object(tmp_path: Path) -> None:
    """In place of the one before; nothing is written where nothing changed."""
    path = tmp_path / "probe.json"
    status = StatusFile(path)
    status.write({"packets": 1})
    status.write({"packets": 2})
    assert json.loads(path.read_text()) == {"packets": 2}
    path.unlink()
    status.write({"packets": 2})
    assert not path.exists()


def test_a_link_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    """The folder may be another user's, and we root: neither the name itself nor the one beside it."""
    target = tmp_path / "target"
    target.write_text("theirs")
    path = tmp_path / "probe.json"
    (tmp_path / f"probe.json.{os.getpid()}").symlink_to(target)
    status = StatusFile(path)
    status.write({"packets": 1})
    assert status.failures == 1
    path.symlink_to(target)
    status.write({"packets": 1})
    assert json.loads(path.read_text()) == {"packets": 1}
    assert not path.is_symlink()
    assert target.read_text() == "theirs"


def test_a_lock_is_held_once_and_never_through_a_link(tmp_path: Path) -> None:
    """The process id that is written into it would destroy what the link leads to."""
    path = tmp_path / "lock"
    with (
        hold_lock(path, "probe"),
        pytest.raises(BusyError, match=f"process {os.getpid()} "),
        hold_lock(path, "probe"),
    ):
        pass
    target = tmp_path / "target"
    target.write_text("theirs")
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"), hold_lock(path, "probe"):
        pass
    assert target.read_text() == "theirs"
