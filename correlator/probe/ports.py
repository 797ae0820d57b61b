"""Remembers which ports are in use, so that a service of this host is never reported.

Pure: what the kernel said is handed in with its time. A port stays in use for `linger` after a service
was last seen on it (services restart). A port is in use for both IP versions and every address as soon
as one listener can be reached from outside: a client that tries the name's other address first is no
attacker. A loopback-only listener counts for nobody: it must not blind the port for probes from outside.
"""

from __future__ import annotations

from collections.abc import Iterable

from correlator.model import SECOND, Micros

PORTS = 1 << 16
_PASSED_ON: Micros = 86_400 * SECOND
_LOOPBACK6 = bytes(15) + b"\x01"
_MAPPED = bytes(10) + b"\xff\xff"


class PortsInUse:
    """The ports of one protocol that services were seen on, bounded by the number of ports there are."""

    def __init__(self, linger: Micros) -> None:
        self.flags = bytearray(PORTS)
        """1 for a port in use; the hot path reads it by port number."""
        self.ever = bytearray(PORTS)
        """1 for a port that a service or a client was ever seen on."""
        self._linger = linger
        self._last_seen: dict[int, Micros] = {}

    def note(self, ports: Iterable[int], now: Micros) -> None:
        """Remember that services were seen on these ports."""
        for port in ports:
            self._last_seen[port] = max(now, self._last_seen.get(port, now))
            self.flags[port] = self.ever[port] = 1

    def note_passed_on(self, port: int, now: Micros) -> None:
        """Remember for a day that the firewall passes this port on: no listener will show when it ends."""
        self.note((port,), now + _PASSED_ON - self._linger)

    def mark_used(self, ports: Iterable[int]) -> None:
        """Remember for good that somebody of this host used these ports, in use now or not."""
        for port in ports:
            self.ever[port] = 1

    def forget(self, now: Micros) -> None:
        """Let go of ports whose service was last seen `linger` ago or longer."""
        gone = [port for port, seen in self._last_seen.items() if now - seen >= self._linger]
        for port in gone:
            del self._last_seen[port]
            self.flags[port] = 0

    def numbers(self) -> list[int]:
        """Return the ports in use, ascending."""
        return sorted(self._last_seen)


def is_reachable(address: bytes) -> bool:
    """True for a listener's packed address that packets from outside can reach: anything but loopback."""
    if len(address) == 4:
        return address[0] != 127
    return address != _LOOPBACK6 and not (address.startswith(_MAPPED) and address[12] == 127)


def mark_ranges(ranges: Iterable[tuple[int, int]], excluded: Iterable[int]) -> bytearray:
    """Return 1 for every watched port: those in the inclusive ranges, without the excluded ones."""
    watched = bytearray(PORTS)
    for lowest, highest in ranges:
        watched[lowest : highest + 1] = b"\x01" * (highest + 1 - lowest)
    for port in excluded:
        watched[port] = 0
    return watched


def list_ranges(watched: bytes | bytearray, most: int) -> tuple[tuple[int, int], ...]:
    """Return the inclusive ranges of the ports that are marked 1, ascending, at most so many.

    Where there are more, the nearest ones are joined: what is returned covers too much, never too little.
    """
    found: list[tuple[int, int]] = []
    lowest = watched.find(1)
    while lowest >= 0:
        end = watched.find(0, lowest)
        highest = (end if end >= 0 else len(watched)) - 1
        found.append((lowest, highest))
        lowest = watched.find(1, highest + 1)
    if len(found) <= most:
        return tuple(found)
    gaps = sorted(range(1, len(found)), key=lambda index: found[index][0] - found[index - 1][1])
    kept = sorted(gaps[len(found) - most :])  # the widest most-1 gaps divide the ranges that stay
    starts, ends = [0, *kept], [*kept, len(found)]
    return tuple((found[start][0], found[end - 1][1]) for start, end in zip(starts, ends, strict=True))
