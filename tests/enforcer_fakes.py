"""A firewall in memory, an enforcement that works on it, and times, for tests of the enforcer."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from correlator.enforcer.backend import Listing
from correlator.enforcer.enforcement import Enforcement
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.plans import Until
from correlator.errors import KernelError, MissingToolError
from correlator.model import SECOND, Micros, Source, parse_prefix
from correlator.settings import EnforcerSettings, Paths

NOW = 1_795_356_540 * SECOND
SOON = NOW + 60 * SECOND
LATER = NOW + 600 * SECOND
OWN = parse_prefix("192.0.2.1")
"""The host's own address, which is never blocked."""


class FakeBackend:
    """A firewall in memory, as exact as the kernel: intervals may not overlap, no table is an error."""

    name = "nftables"

    def __init__(self) -> None:
        self.elements: dict[Source, Until] = {}
        self.table = "missing"
        self.refusal: KernelError | MissingToolError | None = None
        self.is_touched = True
        self.calls: list[str] = []

    def check(self) -> None:
        """Answer as the kernel does."""
        if self.refusal is not None:
            raise self.refusal

    def block(self, add: Sequence[tuple[Source, Until]], remove: Sequence[Source], *, now: Micros) -> None:
        """Answer as the kernel does."""
        self.calls.append("block")
        self.check()
        if self.table == "missing":
            raise KernelError("ENOENT")
        self._change(add, remove, now)

    def release(self, sources: Sequence[Source]) -> None:
        """Answer as the kernel does."""
        self.block((), sources, now=0)

    def list(self, *, now: Micros) -> Listing:
        """Answer as the kernel does."""
        self.calls.append("list")
        self.check()
        self.is_touched = False
        alive = {source: until for source, until in self.elements.items() if until is None or until > now}
        return Listing(self.table, alive)

    def restore(self, denied: Iterable[tuple[Source, Until]], *, now: Micros) -> None:
        """Answer as the kernel does."""
        del now
        self.calls.append("restore")
        self.check()
        self.elements = {}
        self.table = "intact"
        self._change(denied, (), 0)

    def is_untouched(self) -> bool:
        """Answer as the kernel does."""
        return not self.is_touched

    def _change(self, add: Iterable[tuple[Source, Until]], remove: Sequence[Source], now: Micros) -> None:
        """Change all or nothing."""
        elements = dict(self.elements)
        for source in remove:
            if not source.is_single and source not in elements:
                raise KernelError("ENOENT")
            elements.pop(source, None)
        for source, until in add:
            assert until is None or until > now
            if not source.is_single and any(
                source.network.overlaps(other.network) for other in elements if not other.is_single
            ):
                raise KernelError("EEXIST")
            elements[source] = until
        self.elements = elements


def settings_in(folder: Path) -> EnforcerSettings:
    """Return settings of an enforcer whose files all stand in `folder`."""
    paths = replace(
        Paths(),
        state=folder,
        run=folder / "run",
        history=folder / "history",
        blocked=folder / "blocked",
        ignore=folder / "ignore",
    )
    return EnforcerSettings(paths=paths)


def make_enforcement(settings: EnforcerSettings, **parts: Any) -> Enforcement:
    """Return an enforcement on a host that has one address, no gateway and no name server."""
    never_block = NeverBlock(
        settings, own=lambda: frozenset({OWN.packed}), routers=frozenset, name_servers=frozenset
    )
    return Enforcement(settings, never_block=never_block, **parts)
