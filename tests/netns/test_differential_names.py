"""The real PortSentry 1.2 and our probe know the same names of senders; ours never waits for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.peers.differences import NAMES_CLEANED, NAMES_LATER
from tests.peers.duel import IN_PAIRS, IN_RAW_PAIRS, NEEDS_PEER, NOTHING, Duel
from tests.peers.probes import build_probes, with_options

pytestmark = NEEDS_PEER

SENDER, NAME = "203.0.113.9", "scanner.example.net"
HOSTS = f"{SENDER} {NAME}\n192.0.2.2 marks\n"


def _send(duel: Duel, port: int) -> None:
    duel.send(build_probes(79, port, SENDER)[1])


@IN_PAIRS
def test_the_name_stands_in_every_line_but_the_first(
    duel: Duel, modes: tuple[str, ...], wait_until: Callable[..., None]
) -> None:
    """Where PortSentry waited for it, ours has the address, once (`NAMES_LATER`)."""
    duel.start(*modes, hosts=HOSTS, RESOLVE_HOST="1")
    _send(duel, 7)
    theirs, ours = duel.reports()
    assert [line.replace(f"{NAME}/", f"{SENDER}/") for line in theirs] == list(ours), NAMES_LATER
    assert all(f" {NAME}/{SENDER} " in line for line in theirs), NAMES_LATER

    def is_known() -> bool:
        _send(duel, 9)
        return any(f" {NAME}/{SENDER} to UDP port: 9" in text for text in duel.ours.logs[0].texts())

    wait_until(is_known)
    duel.reports()
    for port in (7, 69, 161, 513):
        _send(duel, port)
    lines = duel.demand_equal("known names")
    assert lines.total() == 4
    assert all(f" {NAME}/{SENDER} " in line for line in lines)


@IN_RAW_PAIRS
def test_the_line_about_ip_options_has_it_too(
    duel: Duel, modes: tuple[str, ...], wait_until: Callable[..., None]
) -> None:
    """Both lines about one packet name its sender alike."""
    duel.start(*modes, hosts=HOSTS, RESOLVE_HOST="1")

    def is_known() -> bool:
        _send(duel, 9)
        return any(f" {NAME}/{SENDER} to UDP port: 9" in text for text in duel.ours.logs[0].texts())

    wait_until(is_known)
    duel.reports()
    duel.send(with_options(build_probes(79, 7, SENDER)[0], b"\x94\x04\0\0"))
    lines = duel.demand_equal("IP options")
    assert lines.total() == 2
    assert all(f" {NAME}/{SENDER} " in line for line in lines)


@pytest.mark.parametrize("name", ["evil/10.0.0.1;$(id)", "10.0.0.1"])
def test_ours_uses_no_name_that_is_none(duel: Duel, name: str, wait_until: Callable[..., None]) -> None:
    """PortSentry's line then names another address first (`NAMES_CLEANED`)."""
    duel.start("audp", hosts=f"{SENDER} {name}\n198.51.100.1 honest\n192.0.2.2 marks\n", RESOLVE_HOST="1")
    _send(duel, 7)
    duel.reports()

    def is_known() -> bool:
        duel.send(build_probes(79, 9, "198.51.100.1")[1])
        return any(" honest/198.51.100.1 " in text for text in duel.ours.logs[0].texts())

    wait_until(is_known)  # and was asked for later
    duel.reports()
    _send(duel, 7)
    end = f"/{SENDER} to UDP port: 7"
    theirs, ours = duel.reports()
    expected = [f"attackalert: UDP scan from host: {told}{end}" for told in (name, SENDER)]
    assert [*theirs, *ours] == expected, NAMES_CLEANED
    assert ours != NOTHING
