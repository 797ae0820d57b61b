"""Says how each mode starts, in PortSentry's words and order.

Pure: which ports are in use and which could not be bound is handed in. One process serves several modes
here, where PortSentry needs one each: the lines of a mode are those of its own process between "is
starting" and "is now active". Source: PortSentry 1.2 as run, in all six modes (Debian 1.2-14).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from correlator.attackalert import (
    NOT_STARTED,
    format_all_in_use,
    format_excluded,
    format_ignored,
    format_in_use,
    format_listening,
    format_monitored,
    format_no_ports,
    format_none_bound,
    format_stealth_listening,
    format_unbound,
)
from correlator.probe.packets import TCP, UDP
from correlator.settings import ProbeSettings

PROTOCOLS = {TCP: "TCP", UDP: "UDP"}


class Announcement(NamedTuple):
    """What a mode writes at its start, and whether it has anything to watch."""

    lines: tuple[str, ...]
    has_started: bool


def announce_mode(
    mode: str, settings: ProbeSettings, in_use: Collection[int], unbound: Collection[int]
) -> Announcement:
    """Return how `mode` starts where these ports of its protocol are in use, or could not be bound by us."""
    protocol = PROTOCOLS[protocol_of(mode)]
    if mode == "atcp":
        return _announce_advanced(protocol, settings.tcp_ports, settings.exclude_tcp, in_use)
    if mode == "audp":
        return _announce_advanced(protocol, settings.udp_ports, settings.exclude_udp, in_use)
    ports = settings.tcp_list if protocol == "TCP" else settings.udp_list
    if not ports:
        return Announcement((format_no_ports(protocol), NOT_STARTED), has_started=False)
    if is_connect(mode):
        return _announce_ports(
            [format_listening(protocol, port) for port in ports],
            [format_unbound(protocol, port) if port in unbound else "" for port in ports],
            format_none_bound(protocol),
        )
    return _announce_ports(
        [format_stealth_listening(protocol, port) for port in ports],
        [format_in_use(port) if port in in_use else "" for port in ports],
        format_all_in_use(protocol),
    )


def names_port(mode: str, settings: ProbeSettings, port: int) -> bool:
    """Whether the settings of `mode` name this port, in use or excluded as it may be."""
    is_tcp = protocol_of(mode) == TCP
    if mode in ("atcp", "audp"):
        ranges = settings.tcp_ports if is_tcp else settings.udp_ports
        return any(lowest <= port <= highest for lowest, highest in ranges)
    return port in (settings.tcp_list if is_tcp else settings.udp_list)


def protocol_of(mode: str) -> int:
    """Return the protocol number that a mode is about."""
    return TCP if mode.endswith("tcp") else UDP


def is_connect(mode: str) -> bool:
    """True for the modes that open ports."""
    return mode in ("tcp", "udp")


def _announce_ports(going: Sequence[str], failures: Sequence[str], end: str) -> Announcement:
    """Return each port's line with its failure behind it; `end` where all of them failed."""
    lines = [line for pair in zip(going, failures, strict=True) for line in pair if line]
    if all(failures):
        return Announcement((*lines, end, NOT_STARTED), has_started=False)
    return Announcement(tuple(lines), has_started=True)


def _announce_advanced(
    protocol: str, ranges: Sequence[tuple[int, int]], excluded: Sequence[int], in_use: Collection[int]
) -> Announcement:
    count = sum(highest - lowest + 1 for lowest, highest in ranges)
    used = [
        port
        for port in sorted(in_use)
        if port not in excluded and any(lowest <= port <= highest for lowest, highest in ranges)
    ]

    lines = (
        format_monitored(count),
        *(format_excluded(port) for port in excluded or (None,)),
        *(format_ignored(protocol, port) for port in (*used, *excluded)),
    )
    return Announcement(lines, has_started=True)
