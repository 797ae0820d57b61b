"""Reads `[tripwire]`, and fits it to what the probe watches and to the jail that decides about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from correlator.config.reader import Table
from correlator.counting.jail_definition import Count, JailDefinition, Key
from correlator.model import SECOND
from correlator.settings import ProbeSettings, TripwireSettings

_PROBE_FILTERS = {"portsentry", "portsentry-tcp", "portsentry-udp"}
_LONGEST_HOLD = 600 * SECOND
_MOST = 1_000_000


def read_tripwire(table: Table) -> TripwireSettings | None:
    """Return what the table says, None where it is not enabled; ports and threshold come from elsewhere."""
    default = TripwireSettings()
    is_enabled = table.truth("enabled", default=False)
    hold = table.duration("hold", default.hold, least=SECOND)
    size = table.number("size", default.size, least=1, most=_MOST)
    if hold > _LONGEST_HOLD:
        table.fault("hold", hold // SECOND, "at most 10m: the correlator confirms within milliseconds")
    table.finish()
    return TripwireSettings(hold=min(hold, _LONGEST_HOLD), size=size) if is_enabled else None


def fit_tripwire(
    tripwire: TripwireSettings | None, probe: ProbeSettings, jails: Mapping[str, JailDefinition]
) -> TripwireSettings | None:
    """Return the tripwire on the ports that the probe watches unopened, from its jail's threshold on.

    None where no jail would deny anybody over a probe: nobody would confirm what it holds.
    """
    deciding = [jail for jail in jails.values() if _decides(jail)]
    if tripwire is None or not deciding:
        return None
    return replace(
        tripwire,
        tcp_ports=_watched(probe, "tcp"),
        udp_ports=_watched(probe, "udp"),
        interfaces=probe.interfaces,
        threshold=min(jail.threshold for jail in deciding),
    )


def _decides(jail: JailDefinition) -> bool:
    """True where a number of probes alone makes this jail deny their source."""
    counts = jail.count in (Count.STRIKES, Count.WEIGHT) and jail.key in (Key.SOURCE, Key.PREFIX)
    is_alone = not jail.all_of and bool(_PROBE_FILTERS & {*jail.filters})
    return jail.is_blocking and "nftables" in jail.actions and counts and is_alone


def _watched(probe: ProbeSettings, protocol: str) -> tuple[tuple[int, int], ...]:
    """Return the ports of the stealth and advanced modes that run, without those left out."""
    ranges = probe.tcp_ports if protocol == "tcp" else probe.udp_ports
    left_out = probe.exclude_tcp if protocol == "tcp" else probe.exclude_udp
    listed = probe.tcp_list if protocol == "tcp" else probe.udp_list
    found = list(_without(ranges, left_out)) if f"a{protocol}" in probe.modes else []
    if f"s{protocol}" in probe.modes:
        found += [(port, port) for port in listed]
    return tuple(found)


def _without(ranges: Iterable[tuple[int, int]], left_out: Iterable[int]) -> Iterable[tuple[int, int]]:
    for low, high in ranges:
        first = low
        for port in sorted({port for port in left_out if low <= port <= high}):
            if first < port:
                yield first, port - 1
            first = port + 1
        if first <= high:
            yield first, high
