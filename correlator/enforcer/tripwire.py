"""The tripwire: the kernel itself drops who touches a watched port, from its second packet, for seconds.

A scanner sends faster than any process can answer; this is carried out in the packet path. It only holds: the
correlator confirms with a block of its own or lets go, and after some seconds the kernel forgets by itself.

- A port on which anybody listens now is not watched: the kernel is asked for each packet, as it is behind
  destination NAT.
- Established connections go on: a packet forged in the name of a client cuts nobody off.
- Whom we never block the kernel never holds: the list stands in the same rules, and follows every change.
- The sets are bounded; when they are full nobody new is held, and nothing else happens.

Source: nft(8); decision 31.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence

from correlator.enforcer.keeping import BackendError
from correlator.enforcer.never_block import NeverBlock
from correlator.model import SECOND, Source
from correlator.settings import TripwireSettings

TABLE = "portward_tripwire"
PRIORITY = -90
"""Behind connection tracking (-200), which tells whose connections are established, and behind destination
NAT (-100): before it a port that leads into a container, to another host or another port looks closed."""

Nft = Callable[..., str]
"""Runs nft with a text on its standard input and arguments; returns what it printed."""


class Tripwire:
    """The table of rules, laid and looked after; `complain` hears of what keeps it from being laid."""

    def __init__(
        self,
        settings: TripwireSettings | None,
        nft: Nft,
        never_block: NeverBlock,
        complain: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._nft = nft
        self._never_block = never_block
        self._complain = complain
        self._laid = ""
        self._laid_for = -1
        """The never-block list's generation that the rules were made for."""
        self.trouble = ""
        """Why the rules do not stand; empty where they do, or are not wanted."""

    def start(self, *, is_enforcing: bool) -> None:
        """Lay the rules; where they are not wanted take away what was left of them."""
        if self._settings is not None:
            self._lay()
        elif is_enforcing:
            with contextlib.suppress(*BackendError):
                if TABLE in self._nft("", "list", "tables"):
                    self._remove()

    def look(self, *, is_thorough: bool = False) -> None:
        """Lay the rules anew where the never-block list has changed, or (thoroughly) anybody touched them."""
        if self._settings is None:
            return
        is_stale = self._never_block.generation != self._laid_for
        if is_stale or (is_thorough and (self.trouble or not self._is_intact())):
            self._lay()

    def close(self) -> None:
        """Take the rules away: nobody would confirm what they hold."""
        if self._settings is not None:
            with contextlib.suppress(*BackendError):  # they hold nobody for longer than seconds
                self._remove()

    def let_go(self, source: Source) -> None:
        """Hold a source no longer, where it was held. Raises: KernelError and its like."""
        if self._settings is not None and source.is_single and not self.trouble:
            family = source.version
            lines = [
                f"{verb} element inet {TABLE} tripped{family} {{ {source} }}" for verb in ("add", "delete")
            ]
            self._nft("\n".join(lines) + "\n")

    def _lay(self) -> None:
        assert self._settings is not None  # noqa: S101 -- asked before; told to mypy
        self._laid_for = self._never_block.generation
        try:
            self._nft(format_table(self._settings, self._never_block.sources()))
            self._laid = self._describe()
        except BackendError as exc:
            if self.trouble != str(exc):
                self._complain(f"the tripwire cannot be laid: {exc}")
            self.trouble = str(exc)
        else:
            self.trouble = ""

    def _remove(self) -> None:
        self._nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")

    def _is_intact(self) -> bool:
        try:
            return self._describe() == self._laid
        except BackendError:
            return False

    def _describe(self) -> str:
        """Return the rules as nft tells them, without the elements that come and go."""
        found = json.loads(self._nft("", "-j", "-t", "list", "table", "inet", TABLE))["nftables"]
        return json.dumps([item for item in found if "metainfo" not in item], sort_keys=True)


def format_table(settings: TripwireSettings, exempt: Sequence[Source]) -> str:
    """Return the whole table as nft reads it, in the place of the one before."""
    seconds = max(1, settings.hold // SECOND)
    sets = []
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        entries = sorted({str(source) for source in exempt if source.version == version})
        elements = f" elements = {{ {', '.join(entries)} }};" if entries else ""
        sets += [
            f"  set exempt{version} {{ type {kind}; flags interval; auto-merge;{elements} }}",
            _format_set(f"tripped{version}", kind, settings.size, f"{seconds}s"),
        ]
        if settings.threshold > 1:
            sets.append(_format_set(f"meter{version}", kind, settings.size, "1h"))
    probes = []
    if settings.tcp_ports:
        # who has ACK or RST set begins nothing; ACK scans are the probe's business
        ports = _format_ports(settings.tcp_ports)
        probes.append(f"tcp dport {ports} tcp flags & (ack | rst) == 0")
    if settings.udp_ports:
        probes.append(f"udp dport {_format_ports(settings.udp_ports)}")
    lines = [
        f"add table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *sets,
        "  chain prerouting {",
        f"    type filter hook prerouting priority {PRIORITY}; policy accept;",
        '    iifname "lo" accept',
        *([f"    iifname != {_format_names(settings.interfaces)} accept"] if settings.interfaces else []),
        "    ct state established,related accept",
        # a neighbour's address must be found before it can be answered at all
        "    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        "    ip saddr @exempt4 accept",
        "    ip6 saddr @exempt6 accept",
        "    ip saddr @tripped4 drop",
        "    ip6 saddr @tripped6 drop",
        "    meta pkttype != host accept",
        "    fib daddr type != local accept",
        "    socket wildcard { 0, 1 } accept",
        *(f"    {probe} {_format_hold(4, settings)}" for probe in probes),
        *(f"    {probe} {_format_hold(6, settings)}" for probe in probes),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _format_set(name: str, kind: str, size: int, timeout: str) -> str:
    return f"  set {name} {{ type {kind}; flags dynamic,timeout; size {size}; timeout {timeout}; }}"


def _format_hold(version: int, settings: TripwireSettings) -> str:
    address = "ip saddr" if version == 4 else "ip6 saddr"
    hold = f"add @tripped{version} {{ {address} }}"
    family = "ipv4" if version == 4 else "ipv6"
    if settings.threshold == 1:
        return f"meta nfproto {family} {hold}"
    allowed = settings.threshold - 1
    meter = f"update @meter{version} {{ {address} limit rate over 1/hour burst {allowed} packets }}"
    return f"meta nfproto {family} {meter} {hold}"


def _format_ports(ranges: Iterable[tuple[int, int]]) -> str:
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in merge_ranges(ranges)]
    return "{ " + ", ".join(texts) + " }"


def _format_names(names: Sequence[str]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return inclusive ranges in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
