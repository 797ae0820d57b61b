"""What the enforcer asks of whatever carries out blocks; `nftables` is the first that answers.

Times are absolute (`Micros`); `now` says what they are counted from. A backend believes nothing and
remembers nothing: what should be denied is told to it every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from correlator.enforcer.plans import Until
from correlator.model import Micros, Source


@dataclass(frozen=True, slots=True)
class Listing:
    """What a backend really holds; `table` is `intact`, `missing` or `altered`, and `detail` says how."""

    table: str
    elements: Mapping[Source, Until]
    detail: str = ""


class Backend(Protocol):
    """One way to deny sources.

    Raises (all methods): KernelError with the tool's or the kernel's own words; MissingToolError;
    PermissionDeniedError.
    """

    name: str

    def check(self) -> None:
        """Raise where this backend cannot work on this host; change nothing."""

    def block(self, add: Sequence[tuple[Source, Until]], remove: Sequence[Source], *, now: Micros) -> None:
        """Deny `remove` no longer and `add` until their ends, both or neither.

        A single address may be denied already and is denied until its new end; so may what is removed not
        be denied. A prefix to add must overlap no other that stays, and one to remove must be denied.
        """

    def release(self, sources: Sequence[Source]) -> None:
        """Deny these no longer."""

    def list(self, *, now: Micros) -> Listing:
        """Return what is really denied, and whether the rules around it stand."""

    def restore(self, denied: Iterable[tuple[Source, Until]], *, now: Micros) -> None:
        """Deny exactly these, rules and all, as one step without a gap."""

    def is_untouched(self) -> bool:
        """Return whether surely nobody but us changed anything since the last `list` or `restore`."""
