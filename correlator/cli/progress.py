"""How far a long reading is, on standard error: one line that moves on a terminal, else one now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

_QUIET_SECONDS = 1.0
_TERMINAL_EVERY = 0.2
_LOG_EVERY = 10.0


class Progress:
    """Tells how far it is; nothing in the first second, and nothing where nobody looks and nobody asked."""

    def __init__(self, *, is_wanted: bool, clock: Callable[[], float] = time.monotonic) -> None:
        is_terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_told = sys.stderr is not None and (is_wanted or is_terminal)
        self._is_line_moving = is_terminal
        self._clock = clock
        self._begun = clock()
        self._tell_at = self._begun + _QUIET_SECONDS
        self._is_shown = False

    def tell(self, *, share: float | None, lines: int) -> None:
        """Take how far it is: a share from 0 to 1 (None: nobody knows), and lines read so far."""
        now = self._clock()
        if not self._is_told or now < self._tell_at:
            return
        self._tell_at = now + (_TERMINAL_EVERY if self._is_line_moving else _LOG_EVERY)
        self._write(format_progress(now - self._begun, share=share, lines=lines))

    def clear(self) -> None:
        """Take the moving line away, so that something else can be printed."""
        if self._is_shown:
            self._is_shown = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        try:
            if self._is_line_moving:
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
                self._is_shown = True
            else:
                print(text, file=sys.stderr, flush=True)
        except OSError:
            self._is_told = False


def format_progress(seconds: float, *, share: float | None, lines: int) -> str:
    """Return `43 %, 1,234,567 lines, 512,000 a second, 12 s left`."""
    rate = int(lines / seconds) if seconds > 0 else 0
    text = f"{lines:,} lines, {rate:,} a second"
    if share is None:
        return text
    if share <= 0:
        return f"0 %, {text}"
    left = seconds / share - seconds
    return f"{min(share, 1):.0%}, {text}, {format_seconds(left)} left".replace("%", " %")


def format_seconds(seconds: float) -> str:
    """Return `12 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
