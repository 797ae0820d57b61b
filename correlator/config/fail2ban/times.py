"""Reads lengths of time as Fail2ban writes them: seconds, or sums such as `1d 12h`, `1year-6mo`."""

from __future__ import annotations

import re

from correlator.model import SECOND, Micros

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_629_800, "y": 31_557_600}
"""A year is 365.25 days, a month a twelfth of it."""
_UNIT = (
    ("mo", re.compile(r"mon?(?:ths?)?")),
    ("s", re.compile(r"s(?:ec(?:ond)?s?)?s?")),
    ("m", re.compile(r"m(?:m|in(?:ute)?s?)?")),
    ("h", re.compile(r"h(?:ou(?:r)?s?)?|hrs?")),
    ("d", re.compile(r"d(?:a(?:y)?s?)?|dd")),
    ("w", re.compile(r"w(?:ee(?:k)?s?)?|ww")),
    ("y", re.compile(r"y(?:ea(?:r)?s?)?|yy+")),
)
_PART = re.compile(r"\s*([+-]?)\s*(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)


def parse_time(text: str) -> Micros | None:
    """Return microseconds, -1 second for `-1` (for ever); None for text that is no length of time."""
    total = 0.0
    position = 0
    text = text.strip()
    while position < len(text):
        found = _PART.match(text, position)
        if found is None:
            return None
        unit = _unit(found[3].lower())
        if unit is None:
            return None
        amount = float(found[2]) * unit
        total += -amount if found[1] == "-" else amount
        position = found.end()
    return round(total * SECOND) if text else None


def _unit(text: str) -> int | None:
    if not text:
        return 1
    return next((_SECONDS[name] for name, form in _UNIT if form.fullmatch(text)), None)
