"""Makes ready for the lines of logs before they come, one log at a time, in quiet moments.

What finds the candidates of a log is built in up to a fifth of a second: the first line of auth.log after a
start must not keep a port scan waiting so long.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from correlator.engine import Engine


class Warming:
    """The logs that are there and that nothing is ready for yet."""

    def __init__(self) -> None:
        self._waiting: list[str] = []

    def begin(self, origins: Iterable[str]) -> None:
        """Take the logs that may be read from now on; those that are not there come when they come."""
        self._waiting = [origin for origin in origins if os.path.isabs(origin) and os.path.exists(origin)]

    def go_on(self, engine: Engine) -> None:
        """Make ready for one of them."""
        if self._waiting:
            engine.warm(self._waiting.pop())
