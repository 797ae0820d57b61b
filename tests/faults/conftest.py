"""What tests of faults share: a host whose processes they start, break and end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from correlator.drill.lab import Lab
from tests.faults.hosts import Host


@pytest.fixture
def make_host(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """A function that makes a host with these settings, nothing started; all ends with the test."""
    made: list[Host] = []

    def make(settings: str = "") -> Host:
        made.append(Host(lab, tmp_path, settings))
        return made[-1]

    yield make
    for host in made:
        host.close()
