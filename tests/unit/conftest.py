"""What several unit tests share: started things on fakes and files, and files that are not there yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.enforcer_bench import Bench, CarrierBench
from tests.unit.tailed_site import TailedSite


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A started enforcement with nothing denied."""
    return Bench(tmp_path)


@pytest.fixture
def carrier(tmp_path: Path) -> CarrierBench:
    """The same with actions of several kinds."""
    return CarrierBench(tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log file that is not there yet."""
    return tmp_path / "alert.log"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TailedSite]:
    """A site without sources yet."""
    made = TailedSite(tmp_path)
    yield made
    made.close()
