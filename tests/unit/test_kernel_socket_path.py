"""Sockets in folders whose names are too long for a socket's address."""

import select
from pathlib import Path

import pytest

from correlator.alerts.writer import Nudge
from correlator.kernel.socket_path import reachable
from correlator.tailers.nudge import NudgeReceiver


@pytest.mark.parametrize("length", [1, 60])
def test_a_socket_is_reached_whatever_its_folder_is_called(tmp_path: Path, length: int) -> None:
    """Bound and sent to, by the same long name."""
    folder = tmp_path / ("long" * length)
    folder.mkdir()
    receiver, nudge = NudgeReceiver(folder / "nudge.sock"), Nudge(folder / "nudge.sock")
    nudge.give()
    assert select.select([receiver], [], [], 5)[0] == [receiver]
    nudge.close()
    receiver.close()


def test_a_folder_that_is_not_there_is_an_error_of_the_world(tmp_path: Path) -> None:
    """And no descriptor is left open by it."""
    path = tmp_path / ("long" * 60) / "socket"
    with pytest.raises(FileNotFoundError), reachable(path):
        pass
