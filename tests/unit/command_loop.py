"""A loop with nothing but commands in it, for tests of what actions run."""

import selectors
import time

from correlator.enforcer.runner import Ran, Runner

SECONDS = 20.0
"""How long a command may take before a test fails."""


class Loop:
    """A loop with nothing but commands in it."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.runner = Runner(self)

    def watch(self, descriptor, ready):
        """Call `ready` when readable."""
        self.selector.register(descriptor, selectors.EVENT_READ, ready)

    def unwatch(self, descriptor):
        """No longer."""
        self.selector.unregister(descriptor)

    def turn_until(self, condition):
        """Turn until it is true; fail when it takes too long."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end
            pause = self.runner.pause()
            for key, _ in self.selector.select(0.1 if pause is None else min(pause, 0.1)):
                key.data()
            self.runner.tend()

    def run(self, *argv, seconds=SECONDS, stdin=b""):
        """Run one command to its end."""
        ran: list[Ran] = []
        self.runner.run(argv, ran.append, seconds=seconds, stdin=stdin)
        self.turn_until(lambda: ran)
        return ran[0]
