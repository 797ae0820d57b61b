"""Spells times for log lines: local time, whatever the language of the system.

Pure but for the time zone's rules, which the C library holds. Formats one second once: a flood asks for
the same second thousands of times. Source: RFC 3339, RFC 3164 section 4.1.2.
"""

from __future__ import annotations

import time

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Stamps:
    """Turns nanoseconds since 1970 into the stamps of the alert log and of syslog."""

    def __init__(self) -> None:
        self._second = -1
        self._front = self._offset = self._syslog = ""

    def alert_log(self, at: int) -> str:
        """Return `2026-11-22T14:29:22.311584+00:00`."""
        second, rest = divmod(at, 1_000_000_000)
        if second != self._second:
            self._spell(second)
        return f"{self._front}.{rest // 1000:06d}{self._offset}"

    def syslog(self, at: int) -> str:
        """Return `Nov 22 14:09:00`, the day padded with a space."""
        second = at // 1_000_000_000
        if second != self._second:
            self._spell(second)
        return self._syslog

    def _spell(self, second: int) -> None:
        local = time.localtime(second)
        clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
        minutes = abs(local.tm_gmtoff) // 60
        sign = "-" if local.tm_gmtoff < 0 else "+"
        self._second = second
        self._front = f"{local.tm_year:04d}-{local.tm_mon:02d}-{local.tm_mday:02d}T{clock}"
        self._offset = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
        self._syslog = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {clock}"
