"""What PortSentry's log says after a probe: that a source is blocked already, or what was done about it.

The probe writes the lines of probes; these come from the correlator, which knows what follows from them.
Only probes of PortSentry's kind have such lines. Pure: events in, lines out.

Source: PortSentry 1.2 as run, in all six modes (Debian 1.2-14).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from correlator.attackalert import (
    Probe,
    format_already_blocked,
    format_hosts_deny_failed,
    format_no_response,
    format_not_blocked,
    format_response,
    mode_of,
    parse_probe,
)
from correlator.enforcer.protocol import DeedEvent
from correlator.model import Block, Event

_REMEMBERED = 1000
_KERNEL_SAYS = "nft add element inet portward source{version} {{ {source} }}"


class Responses:
    """The lines of one site: `modes` are its probe's, `routes` its actions that tell of a dropped route."""

    def __init__(self, modes: Collection[str], routes: Iterable[str] = ()) -> None:
        self._modes = tuple(modes)
        self._routes = frozenset(routes)
        self._told: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    def already_blocked(self, event: Event) -> Iterator[str]:
        """Yield the line for a probe of a source that is denied, or counted as such."""
        probe = parse_probe(event.evidence.line)
        if probe is not None:
            yield format_already_blocked(probe.name, probe.address, mode_of(probe, self._modes))

    def decided(self, block: Block) -> Iterator[str]:
        """Yield the line for a decision that is only reported."""
        probe = last_probe(block)
        if probe is not None and block.is_observed:
            yield format_no_response(probe.protocol)

    def done(self, block: Block) -> Iterator[str]:
        """Yield the line for a block by the kernel's own set, where no other action tells of a route."""
        if (
            last_probe(block) is not None
            and "nftables" in block.actions
            and not self._routes & {*block.actions}
        ):
            command = _KERNEL_SAYS.format(version=block.source.version, source=block.source)
            yield format_response("route", str(block.source), command)

    def acted(self, deed: DeedEvent) -> Iterator[str]:
        """Yield the lines about one action of a block; nothing when it is tried again."""
        if not deed.mode or (deed.request, deed.action) in self._told:
            return
        self._told.append((deed.request, deed.action))
        address = str(deed.source)
        if deed.ending in ("done", "exists"):
            if deed.says == "nothing":
                yield format_no_response(deed.protocol)
            elif deed.says:
                yield format_response(deed.says, address, deed.detail)
            return
        if (
            deed.ending == "unknown"
        ):  # not for such a source, or cut off by our own death: no failure to block
            return
        if deed.says == "wrappers":
            yield from format_hosts_deny_failed(deed.detail.partition(":")[0], address)
        yield format_not_blocked(deed.name or address, address, deed.mode)


def last_probe(block: Block) -> Probe | None:
    """Return the probe that decided a block; None where it was no probe of PortSentry's kind."""
    return parse_probe(block.evidence[-1].line) if block.evidence else None
