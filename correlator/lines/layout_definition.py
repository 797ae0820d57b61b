"""What a filter says of how its lines are laid out; `layouts` reads lines by it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """What a filter knows of its lines before any pattern reads them."""

    is_json: bool = False
    time: str = ""
    """Where a record says when it was: a dotted path; empty: only the header says."""
    dates: tuple[str, ...] = ()
    """Forms of dates that we do not know by ourselves, see `layouts.spell_date`."""


TEXT = Layout()
"""Lines of text, as most filters read them."""
