"""What every tool under measurement is to the benches: a guard of one lab's victim."""

from pathlib import Path
from typing import Protocol

from correlator.drill.lab import Lab

ROOT = Path(__file__).resolve().parents[2]


class Guard(Protocol):
    """One running tool, blocking; it was ready when it was made."""

    name: str
    lab: Lab
    scans_at_most: int
    """Whole scans by nmap that are worth their time."""

    def demand_running(self) -> None:
        """Raise LabError where it ended: what is measured then is nothing."""

    def release(self, source: str) -> None:
        """Take back the block of one source, outside the timing, so that each run meets the same rules."""

    def stop(self) -> None:
        """End it and whatever it started."""
