"""What all tests share: a lab of throw-away namespaces, waiting without sleeping blindly, honest skips."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from correlator.drill.lab import Lab, Namespace
from correlator.errors import PortwardError

_POLL_SECONDS = 0.005
# No test asserts a time, and none fails because the machine is busy: a package is built beside others.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_refusal: list[str | None] = []


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A fresh victim and a fresh scanner, joined; they vanish with the test."""
    with Lab() as made:
        yield made


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """The function `wait_until(condition, seconds=10)`; it fails the test when the time is over."""
    return _wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever asks for the lab, so that no namespace test can be missed by its marker."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.netns)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip namespace tests where this user or kernel has no namespaces."""
    if item.get_closest_marker("netns") is not None and (reason := _why_no_namespaces()) is not None:
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many namespace tests were skipped and why: a green run without them proves little."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "netns" in report.keywords]
    reasons: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"namespace tests NOT run: {count} ({reason})", yellow=True)


def _why_no_namespaces() -> str | None:
    """Return why none can be made, or None where they can; tried once."""
    if not _refusal:
        try:
            Namespace("trial").close()
            _refusal.append(None)
        except PortwardError as exc:
            _refusal.append(str(exc))
    return _refusal[0]


def _wait_until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or getattr(condition, '__name__', condition)}")
        time.sleep(_POLL_SECONDS)
