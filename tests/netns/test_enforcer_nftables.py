"""The enforcer on a real kernel: sets, drops, and what becomes of a block."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from correlator.drill.lab import GATEWAY4, VICTIM4, VICTIM6, Lab
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.protocol import (
    Mend,
    OutcomeEvent,
    ReleasedAnswer,
    ReleaseRequest,
    WatchingAnswer,
    WatchRequest,
)
from correlator.errors import PortwardError
from correlator.model import SECOND, OutcomeKind, parse_prefix
from correlator.store.blocked import read_blocked_file
from correlator.store.history import read_history
from tests.netns.enforcers import HOUR, STRANGER4, STRANGER6, Running, now

pytestmark = pytest.mark.netns


def can_connect(lab: Lab, source: str, destination: str, port: int) -> bool:
    """Return whether a TCP connection from that source is made within a moment."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with lab.scanner.entered(), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((source, 0))
        probe.settimeout(0.3)
        return probe.connect_ex((destination, port)) == 0


@pytest.fixture
def service(lab: Lab) -> Iterator[socket.socket]:
    """A service in the victim, for both versions."""
    with lab.victim.entered():
        listening = socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    with listening:
        yield listening


@pytest.mark.parametrize(
    ("stranger", "blocked", "victim"),
    [
        (STRANGER4, STRANGER4, VICTIM4),
        (STRANGER4, "198.51.100.0/24", VICTIM4),
        (STRANGER6, STRANGER6, VICTIM6),
        (STRANGER6, "2001:db8:7::/64", VICTIM6),
    ],
)
@pytest.mark.usefixtures("service")
def test_a_blocked_source_is_not_answered_until_released(
    running: Running, lab: Lab, stranger: str, blocked: str, victim: str
) -> None:
    """Single addresses and prefixes of both versions, on real packets; nobody else is touched."""
    port = 22
    neighbour = stranger.replace(".100.7", ".200.7").replace(":7::7", ":8::7")
    lab.add_scanner_address(stranger, neighbour)
    client = running.start()
    assert can_connect(lab, stranger, victim, port)
    assert running.block(client, blocked).kind is OutcomeKind.DONE
    assert not can_connect(lab, stranger, victim, port)
    assert can_connect(lab, neighbour, victim, port)
    answer = client.ask(ReleaseRequest(running.next_id(), parse_prefix(blocked)))
    assert answer == ReleasedAnswer(running.ids, 1)
    assert can_connect(lab, stranger, victim, port)


def test_an_established_connection_dies(running: Running, lab: Lab, service: socket.socket) -> None:
    """The drop stands before connection tracking: who is in is thrown out."""
    lab.add_scanner_address(STRANGER4)
    # As on a host with a stateful firewall, which lets established connections through.
    running.nft(
        "table inet other { chain input { type filter hook input priority 0; policy accept;"
        " ct state established accept; }; }"
    )
    client = running.start()
    with lab.scanner.entered():
        stranger = socket.create_connection((VICTIM4, 22), source_address=(STRANGER4, 0), timeout=5)
    accepted, _ = service.accept()
    with stranger, accepted:
        accepted.settimeout(5)
        stranger.sendall(b"before")
        assert accepted.recv(100) == b"before"
        running.block(client, STRANGER4)
        stranger.sendall(b"after")
        accepted.settimeout(0.3)
        with pytest.raises(TimeoutError):
            accepted.recv(100)


def test_elements_carry_the_remaining_time(running: Running) -> None:
    """The kernel ends a block by itself; an extension really moves the end, to for ever and back from it."""
    client = running.start()
    running.block(client, STRANGER4, 100 * SECOND)
    running.block(client, "203.0.113.0/24", 100 * SECOND)
    running.block(client, "203.0.114.9", None)
    found = running.kernel()
    for source in (STRANGER4, "203.0.113.0/24"):
        until = found[source]
        assert until is not None
        assert abs(until - now() - 100 * SECOND) < 2 * SECOND
    assert found["203.0.114.9"] is None
    running.block(client, STRANGER4, 500 * SECOND)
    running.block(client, "203.0.113.0/24", None)
    found = running.kernel()
    until = found[STRANGER4]
    assert until is not None
    assert abs(until - now() - 500 * SECOND) < 2 * SECOND
    assert found["203.0.113.0/24"] is None
    assert len(client.blocks()) == 3


def test_a_block_expires_in_kernel_belief_and_file(running: Running) -> None:
    """When its time is over it is gone everywhere, a watcher hears of it, and the history keeps it."""
    client = running.start()
    watcher = running.connect()
    assert watcher.ask(WatchRequest(1)) == WatchingAnswer(1)
    outcome = running.block(client, STRANGER4, SECOND // 2, request="a")
    heard: list[OutcomeKind] = []

    def has_expired() -> bool:
        heard.extend(event.outcome.kind for event in watcher.receive() if isinstance(event, OutcomeEvent))
        return OutcomeKind.EXPIRED in heard

    running.wait_until(has_expired)
    assert heard == [OutcomeKind.DONE, OutcomeKind.EXPIRED]
    assert outcome.until is not None
    assert now() >= outcome.until
    running.wait_until(lambda: running.kernel() == {})
    running.wait_until(lambda: read_blocked_file(running.paths.blocked) == ())
    assert [str(line.source) for line in read_history(running.paths.history)] == [STRANGER4]


def test_a_longer_prefix_inside_a_shorter_one(running: Running) -> None:
    """Real intervals do not overlap; pieces and their restoring must be right on the kernel, too."""
    client = running.start()
    running.block(client, "203.0.113.0/24", HOUR)
    running.block(client, "203.0.113.64/26", 2 * HOUR)
    running.block(client, "203.0.113.80", None)
    assert sorted(running.kernel()) == [
        "203.0.113.0/26",
        "203.0.113.128/25",
        "203.0.113.64/26",
        "203.0.113.80",
    ]
    client.ask(ReleaseRequest(running.next_id(), parse_prefix("203.0.113.64/26")))
    assert sorted(running.kernel()) == ["203.0.113.0/24", "203.0.113.80"]
    running.block(client, "203.0.112.0/23", None)
    assert sorted(running.kernel()) == ["203.0.112.0/23"]
    assert running.sync(client) == Mend("intact")
    assert "mended" not in running.output.read_text()


def test_the_table_waits_for_the_first_block_unless_enforcing(running: Running) -> None:
    """An installation that only observes leaves the host's rules alone."""
    running.start()
    assert "portward" not in running.lab.victim.run("nft", "list", "tables").stdout
    running.kill(signal.SIGTERM)
    running.start(is_enforcing=True)
    assert running.kernel() == {}


def test_own_address_and_gateway_are_never_blocked(running: Running) -> None:
    """Asked of the real kernel of that namespace."""
    client = running.start()
    for source, why in (
        (VICTIM4, "this host's own address"),
        (VICTIM6, "this host's own address"),
        (GATEWAY4, "a gateway of this host"),
    ):
        outcome = running.block(client, source)
        assert (outcome.kind, outcome.detail) == (OutcomeKind.REFUSED, f"{source} is {why}")
    assert running.block(client, "192.0.2.0/24").kind is OutcomeKind.REFUSED


def test_capabilities_are_only_what_nftables_needs(running: Running) -> None:
    """Root's other powers are given up for good, for nft as well."""
    running.start()
    assert running.process is not None
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    sets = {
        line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")
    }
    assert set(sets.values()) == {1 << 12}


def test_what_nft_says_stands_in_the_error(running: Running) -> None:
    """Standard error of a tool is never discarded."""
    with running.lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
        backend.check()
        backend._nft = "/nonexistent/nft"
        with pytest.raises(PortwardError, match=r"^nft -f -: cannot be started: No such file"):
            backend.restore([], now=now())
        backend._nft = None
        with pytest.raises(PortwardError, match=r"exit status 1: .*syntax error"):
            backend.run("nonsense")
