"""Messages that reach us by more than one way, the journal and a file, or the alert log and syslog.

The rule: what the same process (identifier and pid) said in the same words, stamped at most one second apart,
is one message if it came from different origins, and two if it came from one. So a message was said as often
as the origin says that has it most often. Whoever writes a log stamps it when it arrives there: that is why
the seconds may differ by one. Lines of no program are never the same: two virtual hosts log what one
scanner asks of both in the same words.

Bounded: the messages that came last are remembered, `most` of them. A log that is read long after another one
that has the same messages is therefore counted again. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from correlator.model import SECOND, Micros

_MOST = 50_000
_NEIGHBOURS = (0, -1, 1)


class Duplicates:
    """How often each of the latest messages came, and from where."""

    def __init__(self, *, most: int = _MOST) -> None:
        self._most = most
        self._messages: OrderedDict[int, dict[str, int]] = OrderedDict()
        """By message and second: how often each origin had it."""

    def __len__(self) -> int:
        return len(self._messages)

    def take(self, origin: str, *, identifier: str, pid: str, body: str, at: Micros, times: int = 1) -> int:
        """Take a message that an origin says was said `times` times; return how many of them are new."""
        if not identifier:
            return times
        left = times
        second = at // SECOND
        for neighbour in _NEIGHBOURS:
            counts = self._messages.get(hash((identifier, pid, body, second + neighbour)))
            if counts is not None:
                known = min(left, max(counts.values()) - counts.get(origin, 0))
                counts[origin] = counts.get(origin, 0) + known
                left -= known
                if not left:
                    return 0
        key = hash((identifier, pid, body, second))
        counts = self._messages.setdefault(key, {})
        counts[origin] = counts.get(origin, 0) + left
        if len(self._messages) > self._most:
            self._messages.popitem(last=False)
        return left
