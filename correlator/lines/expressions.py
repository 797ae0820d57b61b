"""Compiles and searches regular expressions of Python's own `re`, with a limit on the time a search may take.

Fail2ban's filters are written and tested with `re`. `regex`, which can be told to give up, is not the same:
Debian 12's fills other groups where an expression has conditionals (tried: sshd's own failregex). `re` looks
for signals while it searches, so a timer of this process's own CPU time ends what runs over. Only the main
thread gets signals: expressions are searched there and nowhere else.
"""

from __future__ import annotations

import re
import signal
import warnings
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from correlator.model import SECOND, Micros

Answer = TypeVar("Answer")


class ExpressionError(ValueError):
    """Text that is no regular expression of Python's `re`."""


def compile_expression(expression: str, *, is_multiline: bool = False) -> re.Pattern[str]:
    """Return a compiled expression. Raises: ExpressionError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(expression, re.MULTILINE if is_multiline else 0)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ExpressionError(f"{exc}, in {expression[:120]!r}") from exc


class TimeLimit:
    """Ends what takes longer than `limit` of CPU time, which load from other processes does not shorten.

    Raises ValueError when made outside the main thread.
    """

    def __init__(self, limit: Micros) -> None:
        self.seconds = limit / SECOND
        signal.signal(signal.SIGVTALRM, _ring)

    def run(self, work: Callable[[str], Answer], text: str) -> Answer:
        """Return what `work` makes of the text. Raises: TimeoutError where it took too long."""
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
            try:
                return work(text)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except _RanOverError:
            raise TimeoutError(f"ran over {self.seconds:g} s on {len(text)} characters") from None


class _RanOverError(Exception):
    """The timer rang."""


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise _RanOverError
