"""What another tool's configuration asks for and ours does not do, or does otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a foreign configuration asks for and we do not do, or do otherwise."""

    where: str
    """File, and line where it is known."""
    directive: str
    note: str
    is_lost: bool
    """True: not done at all. False: done otherwise, for the reason given."""

    def __str__(self) -> str:
        """One line that a person can act on."""
        return f"{self.where}: {self.directive}: {self.note}"
