"""Counts hits as PortSentry's SCAN_TRIGGER does: in one ring of 50 for all hosts, without limit of time.

For who depends on it (`compat`). Fifty forged hits make it forget any scan; a jail's threshold does not
forget. Pure, and of fixed size. Source: PortSentry 1.2 as run, with 47 to 50 hits of others between.
"""

from __future__ import annotations

from collections import deque

RING = 50
"""Hits remembered: PortSentry's state engine holds as many."""


class ScanTrigger:
    """The hits of one PortSentry process; below `trigger` they are not written. 0 and 1: the first is."""

    def __init__(self, trigger: int) -> None:
        self._trigger = trigger
        self._hits: deque[bytes] = deque(maxlen=RING)

    def is_reached(self, source: bytes) -> bool:
        """Remember a hit of `source`; true where it is the trigger's, or a later one, of those remembered."""
        if self._trigger <= 1:
            return True
        is_reached = self._hits.count(source) + 1 >= self._trigger
        self._hits.append(source)
        return is_reached
