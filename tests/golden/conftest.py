"""What tests of recorded logs share: all shipped filters, loaded once."""

import pytest

from correlator.matching.filters import Filter
from correlator.model import SECOND
from tests.golden.recorded_logs import load_filters


@pytest.fixture(scope="session")
def shipped() -> dict[str, Filter]:
    """All shipped filters, by name."""
    return load_filters(timeout=SECOND)
