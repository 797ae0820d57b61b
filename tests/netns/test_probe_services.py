"""Services of the host, its own clients and itself are never reported, whenever they come and go."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from correlator.attackalert import format_ignored
from correlator.drill.lab import SCANNER4, VICTIM4, VICTIM6, VICTIM_DEVICE, Lab
from correlator.drill.packets import Flag
from correlator.drill.scanner import Scanner
from correlator.model import SECOND
from tests.netns.victim import SYN, WaitUntil, serve

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("victim", [VICTIM4, VICTIM6])
def test_clients_of_a_service_are_never_reported(
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    victim: str,
) -> None:
    """Nor is any other packet to its port; one that was there before us, TCP and UDP."""
    with serve(lab, 22), serve(lab, 53, kind=socket.SOCK_DGRAM), serve(lab, 80, address=victim):
        probe = start_probe()
        for port in (22, 80):
            with lab.scanner.entered(), socket.create_connection((victim, port), timeout=5):
                pass
            scanner.send_tcp(port, Flag.FIN, destination=victim)
        scanner.send_udp(53, destination=victim)
        settle(probe)
    assert probe.alerts() == []
    assert [format_ignored("TCP", port) for port in (22, 80, 113, 139)] == [
        text for text in probe.texts() if "Ignored TCP" in text
    ]


@pytest.mark.parametrize("victim", [VICTIM4, VICTIM6])
@pytest.mark.parametrize("bound", ["wildcard", "address", "device"])
def test_a_service_that_opened_in_the_same_millisecond_is_never_reported(
    *,
    lab: Lab,
    probe: Any,
    scanner: Scanner,
    settle: Callable[[Any], None],
    victim: str,
    bound: str,
) -> None:
    """A hundred services, each probed right after its `listen`: faster than any table could follow."""
    address = victim if bound == "address" else "::"
    with contextlib.ExitStack() as stack:
        for port in range(200, 250):
            with lab.victim.entered():
                service = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                other = socket.socket(service.family, socket.SOCK_DGRAM)
            stack.enter_context(service)
            stack.enter_context(other)
            for opened in (service, other):
                if bound == "device":
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, VICTIM_DEVICE.encode())
                opened.bind((address, port))
            service.listen()
            scanner.send_tcp(port, destination=victim)
            scanner.send_udp(port, destination=victim)
        settle(probe)
    assert probe.alerts() == []


def test_a_service_that_is_gone_is_let_be_within_the_linger(
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    wait_until: WaitUntil,
) -> None:
    """It may only be restarting, and its clients try again."""
    probe = start_probe(repr({"linger": 3600 * SECOND}))
    with serve(lab, 25):
        wait_until(lambda: probe.status().get("ports_in_use") == {"tcp": [25], "udp": []})
    scanner.send_tcp(25)
    settle(probe)
    assert probe.alerts() == []


def test_a_service_that_is_gone_is_watched_again_after_the_linger(
    lab: Lab, probe: Any, scanner: Scanner, wait_until: WaitUntil
) -> None:
    """Of a second, here."""
    line = f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    with serve(lab, 25):
        wait_until(lambda: probe.status().get("ports_in_use") == {"tcp": [25], "udp": []})

    def is_reported() -> bool:
        scanner.send_tcp(25)
        return line in probe.alerts()

    wait_until(is_reported)


@pytest.mark.parametrize("is_compat", [False, True])
def test_services_come_and_go_in_a_stealth_mode(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    wait_until: WaitUntil,
    is_compat: bool,
) -> None:
    """One from before is watched once it is gone, with compat never; one that comes later is let be."""
    options = {"modes": ("stcp",), "tcp_list": (22, 79, 2000), "compat": is_compat}
    with serve(lab, 22):
        probe = start_probe(repr(options))
        with serve(lab, 79):
            scanner.send_tcp(22)
            scanner.send_tcp(79)
            scanner.send_tcp(80)
            scanner.send_tcp(2000)
            wait_until(lambda: probe.reports() == [SYN.format(SCANNER4, 2000)])

    def is_reported(port: int) -> bool:
        scanner.send_tcp(port)
        return SYN.format(SCANNER4, port) in probe.reports()

    wait_until(lambda: is_reported(79))
    if is_compat:
        assert not is_reported(22)
    else:
        wait_until(lambda: is_reported(22))


def test_a_service_on_loopback_does_not_blind_its_port(
    lab: Lab, start_probe: Callable[..., Any], scanner: Scanner, settle: Callable[[Any], None]
) -> None:
    """From outside the port is closed; PortSentry misses these probes."""
    with serve(lab, 25, address="127.0.0.1"), serve(lab, 25, address="::1"):
        probe = start_probe()
        with lab.victim.entered(), socket.create_connection(("127.0.0.1", 25), timeout=5):
            scanner.send_tcp(25)
        settle(probe)
    expected = f"attackalert: TCP SYN/Normal scan from host: {SCANNER4}/{SCANNER4} to TCP port: 25"
    assert probe.alerts() == [expected]


def test_a_host_that_scans_itself_is_not_reported(
    lab: Lab, probe: Any, settle: Callable[[Any], None]
) -> None:
    """Over loopback and by its own address, TCP and UDP; PortSentry would block 127.0.0.1."""
    for address in ("127.0.0.1", VICTIM4, "::1", VICTIM6):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with (
            lab.victim.entered(),
            socket.socket(family) as tcp,
            socket.socket(family, socket.SOCK_DGRAM) as udp,
        ):
            assert tcp.connect_ex((address, 25)) != 0
            udp.sendto(b"x", (address, 25))
    settle(probe)
    assert probe.alerts() == []


def test_our_own_clients_are_not_reported(
    lab: Lab, start_probe: Callable[..., Any], settle: Callable[[Any], None]
) -> None:
    """Answers to what we asked, with every port watched: they find our socket."""
    probe = start_probe('{"tcp_ports": ((0, 65535),), "udp_ports": ((0, 65535),)}')
    with lab.scanner.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening = socket.create_server((SCANNER4, 80))
    with server, listening, lab.victim.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.bind((SCANNER4, 53))
        client.sendto(b"question", (SCANNER4, 53))
        _, asker = server.recvfrom(99)
        server.sendto(b"answer", asker)
        assert client.recv(99) == b"answer"
        socket.create_connection((SCANNER4, 80), timeout=5).close()
        settle(probe)
    assert probe.alerts() == []
