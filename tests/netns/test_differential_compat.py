"""With `compat` our probe counts and watches as the real PortSentry 1.2 does, to the byte, in its order."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from correlator.drill.lab import SCANNER4, VICTIM4
from correlator.drill.rig import wait_for
from tests.peers.differences import LIMIT_WITHOUT_A_LIST
from tests.peers.duel import IN_RAW_PAIRS, MODES, NEEDS_PEER, SECONDS, SERVICES, Duel, Side
from tests.peers.probes import build_probes, syn_line, udp_line

pytestmark = NEEDS_PEER

A, B, C, D = (f"198.18.0.{number}" for number in range(1, 5))
LAST = "198.18.0.5"
"""Whose hits say that all before were worked off."""


def _others(count: int, kind: int) -> list[str]:
    return [f"198.18.{kind}.{number}" for number in range(1, count + 1)]


HITS = {
    0: [A, A, B],
    1: [A, A, B],
    2: [A, B, A, *_others(48, 1), B, *_others(49, 2), B, *_others(50, 3), A],
    3: [A, A, A, A, B, B, *_others(48, 1), B, C, C, *_others(49, 2), C, D, A, D, A, D, A],
    50: [*[A] * 20, B, *[A] * 35],
}
"""Alone, in turns, with so many others between that it is just remembered, and one more."""


def _hit(side: Side, mode: str, source: str) -> None:
    """Hit one port; order holds for one port only where each has a queue of its own."""
    if mode == "tcp":
        with side.lab.scanner.entered():
            client = socket.create_connection((VICTIM4, 79), SECONDS, source_address=(source, 0))
        with client:
            client.recv(99)  # it was taken
        return
    tcp, udp = build_probes(79, 7, source)
    side.scanner.send_packet(tcp if mode.endswith("tcp") else udp)


def _play(side: Side, mode: str, hits: Sequence[str], trigger: int) -> list[str]:
    """Return the lines that the hits gave, in their order."""
    if mode == "tcp":
        side.lab.add_scanner_address(*sorted({*hits, LAST}))
    for source in hits:
        _hit(side, mode, source)
    (log,) = side.logs

    def lines(source: str = "198.18.") -> list[str]:
        return [text for text in log.texts() if f" from host: {source}" in text]

    for _ in range(max(trigger, 1)):
        _hit(side, mode, LAST)
    assert wait_for(lambda: lines(LAST), SECONDS), log.texts()
    return lines()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trigger", HITS)
def test_the_same_hits_are_written(duel: Duel, mode: str, trigger: int) -> None:
    """SCAN_TRIGGER's ring: what others do between counts, and fifty of their hits make it forget."""
    duel.start(mode, compat=True, SCAN_TRIGGER=str(trigger))
    theirs, ours = (_play(side, mode, HITS[trigger], trigger) for side in duel.sides)
    assert (trigger, theirs) == (trigger, ours)
    assert 1 < len(ours) <= len(HITS[trigger]) + 1


def test_below_the_trigger_there_is_no_banner(duel: Duel) -> None:
    """A connection is taken and closed without a word."""
    duel.start("tcp", compat=True, SCAN_TRIGGER="3", PORT_BANNER="GO AWAY")
    shown = []
    for side in duel.sides:
        for _ in range(4):
            with side.lab.scanner.entered():
                client = socket.create_connection((VICTIM4, 79), SECONDS, source_address=(SCANNER4, 0))
            with client:
                shown.append(client.makefile("rb").read())
    assert shown == [b"", b"", b"GO AWAY", b"GO AWAY"] * 2


@IN_RAW_PAIRS
def test_scans_give_the_same_lines_with_compat(duel: Duel, modes: tuple[str, ...]) -> None:
    """From start to stop, a service's port never watched again."""
    duel.start(*modes, services=SERVICES, compat=True, hidden_scans=True)
    for scan in ("-sS", "-sX", "-sA", "-sU"):
        duel.scan(scan)
        duel.demand_equal(scan)
    theirs, ours = duel.stop()
    assert theirs == ours


def test_where_no_port_is_left_out_all_are_watched(duel: Duel) -> None:
    """Nothing in use and nothing excluded; not so without `compat` (`LIMIT_WITHOUT_A_LIST`)."""
    duel.start("atcp", "audp", compat=True, ADVANCED_EXCLUDE_TCP=None, ADVANCED_EXCLUDE_UDP=None)
    for tcp_port, udp_port in ((79, 7), (2000, 2049), (65_535, 65_535)):
        duel.probe(tcp_port, udp_port)
    lines = duel.demand_equal("all ports")
    assert set(lines) == {
        *(syn_line(port) for port in (79, 2000, 65_535)),
        *(udp_line(port) for port in (7, 2049, 65_535)),
    }, LIMIT_WITHOUT_A_LIST
    theirs, ours = duel.stop()
    assert theirs == ours


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_one_port_in_use_is_a_list(duel: Duel, address: str) -> None:
    """On loopback as well: PortSentry cannot bind it, so its limit holds."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        duel.serve(kind, 143, address)
    duel.start("atcp", "audp", compat=True, ADVANCED_EXCLUDE_TCP=None, ADVANCED_EXCLUDE_UDP=None)
    duel.probe(79, 7)
    duel.probe(2000, 2049)
    assert set(duel.demand_equal("one port in use")) == {syn_line(79), udp_line(7)}
