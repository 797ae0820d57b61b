"""The tripwire on real packets: the kernel holds a scanner from its second packet, and nobody else."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, Lab
from correlator.drill.packets import AnswerKind, Flag
from correlator.drill.rig import Rig
from correlator.drill.scanner import Scanner
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.tripwire import TABLE, Tripwire, merge_ranges
from correlator.model import SECOND, parse_source
from correlator.settings import EnforcerSettings, Paths, TripwireSettings

pytestmark = pytest.mark.netns

UNANSWERED = 0.3
WATCHED = TripwireSettings(tcp_ports=((1, 112), (114, 1023)), udp_ports=((1, 1023),), hold=60 * SECOND)


class Ground:
    """A victim with a tripwire and nothing else of ours, and a scanner."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.ignore = folder / "ignore"
        self.ignore.write_text("")
        self.complaints: list[str] = []
        self.backend = NftablesBackend()
        self.never_block = NeverBlock(
            EnforcerSettings(paths=Paths(ignore=self.ignore)),
            own=frozenset,
            routers=frozenset,
            name_servers=frozenset,
        )

    def lay(self, settings: TripwireSettings = WATCHED) -> Tripwire:
        """Lay it in the victim."""
        tripwire = Tripwire(settings, self.backend.run, self.never_block, self.complaints.append)
        self.never_block.refresh(0)
        with self.lab.victim.entered():
            tripwire.start(is_enforcing=True)
        assert self.complaints == []
        return tripwire

    def held(self, version: int = 4) -> str:
        """Return the set as nft tells it."""
        return self.lab.victim.run("nft", "list", "set", "inet", TABLE, f"tripped{version}").stdout


@pytest.fixture
def ground(lab: Lab, tmp_path: Path) -> Iterator[Ground]:
    """Ground without a tripwire yet."""
    made = Ground(lab, tmp_path)
    yield made
    made.backend.close()


@pytest.fixture
def scanner(lab: Lab) -> Iterator[Scanner]:
    """A scanner in the lab."""
    with Scanner(lab) as made:
        yield made


@pytest.mark.parametrize(("victim", "source"), [(VICTIM4, SCANNER4), (VICTIM6, SCANNER6)])
@pytest.mark.parametrize("flags", [Flag.SYN, Flag.FIN, Flag.NONE, Flag.XMAS])
def test_the_second_packet_is_unanswered(
    ground: Ground, scanner: Scanner, victim: str, source: str, flags: Flag
) -> None:
    """Each technique trips it; the first packet is answered as ever, and who it was is held."""
    ground.lay()
    first = scanner.wait_for_answer(scanner.send_tcp(79, flags, destination=victim))
    assert first is not None
    assert first.kind is AnswerKind.CLOSED
    assert not scanner.is_answered(80, UNANSWERED, destination=victim)
    assert source in ground.held(6 if ":" in source else 4)


def test_a_datagram_trips_it(ground: Ground, scanner: Scanner) -> None:
    """UDP as well."""
    ground.lay()
    scanner.send_udp(79)
    assert not scanner.is_answered(2000, UNANSWERED)


def test_what_is_not_watched_does_not_trip_it(ground: Ground, scanner: Scanner) -> None:
    """Ports beyond the range or left out of it, and whoever has ACK set: late packets of old connections."""
    ground.lay()
    scanner.send_tcp(113)
    scanner.send_tcp(2000)
    scanner.send_tcp(79, Flag.ACK)
    assert scanner.is_answered(80)


def test_a_service_is_not_watched_from_the_moment_it_listens(ground: Ground, scanner: Scanner) -> None:
    """Nor from the moment on when it has gone; nobody has to be told."""
    ground.lay()
    with ground.lab.victim.entered():
        service = socket.create_server((VICTIM4, 79))
    with service:
        for _ in range(3):
            answer = scanner.wait_for_answer(scanner.send_tcp(79))
            assert answer is not None
            assert answer.kind is AnswerKind.OPEN
    scanner.send_tcp(79)
    assert not scanner.is_answered(79, UNANSWERED)


@pytest.mark.parametrize("way", ["dnat to 198.51.100.80:8080", "redirect to :8443"])
def test_a_port_that_leads_elsewhere_is_not_watched(ground: Ground, scanner: Scanner, way: str) -> None:
    """Into a container, to a host behind us, to a service on another port: whoever comes there is a guest."""
    ground.lab.victim.run(
        *("nft", "-f", "-"),
        text="table ip nat {\n chain forwards {\n type nat hook prerouting priority dstnat\n"
        f" tcp dport 443 {way}\n }}\n}}\n",
    )
    ground.lay()
    with ground.lab.victim.entered():
        service = socket.create_server((VICTIM4, 8443))
    with service:
        scanner.send_tcp(443)
        assert scanner.is_answered(80)
    scanner.send_tcp(79)
    assert not scanner.is_answered(80, UNANSWERED)


def test_an_established_connection_goes_on(ground: Ground, scanner: Scanner) -> None:
    """A packet forged in the name of a client cuts nobody off; it begins nothing new meanwhile."""
    ground.lay()
    with ground.lab.victim.entered():
        service = socket.create_server((VICTIM4, 22))
    with ground.lab.scanner.entered():
        client = socket.create_connection((VICTIM4, 22), timeout=5)
    with service, client:
        served, _ = service.accept()
        with served:
            scanner.send_tcp(79)  # the forged one: the same address
            assert not scanner.is_answered(80, UNANSWERED)
            client.sendall(b"still here")
            served.settimeout(5)
            assert served.recv(100) == b"still here"


def test_whom_we_never_block_is_never_held(ground: Ground, scanner: Scanner) -> None:
    """The ignore file stands in the rules, and follows every change of it."""
    ground.ignore.write_text(f"{SCANNER4}/31\n2001:db8::/64\n")
    tripwire = ground.lay()
    for victim in (VICTIM4, VICTIM6):
        scanner.send_tcp(79, destination=victim)
        assert scanner.is_answered(80, destination=victim)
    ground.ignore.write_text("")
    ground.never_block.refresh(1)
    with ground.lab.victim.entered():
        tripwire.look()
    scanner.send_tcp(79)
    assert not scanner.is_answered(80, UNANSWERED)


@pytest.mark.parametrize("threshold", [2, 4])
def test_scan_trigger_is_honoured(ground: Ground, scanner: Scanner, threshold: int) -> None:
    """Fewer packets than the jail wants do not trip it; counted for each source by itself."""
    ground.lay(TripwireSettings(tcp_ports=((1, 1023),), threshold=threshold, hold=60 * SECOND))
    ground.lab.add_scanner_address("192.0.2.77")
    scanner.send_tcp(79, source="192.0.2.77")
    for port in range(100, 100 + threshold - 1):
        assert scanner.is_answered(port)
    assert scanner.is_answered(200)  # the one that trips it is answered itself
    assert not scanner.is_answered(201, UNANSWERED)


def test_the_set_is_bounded_and_full_it_holds_nobody_new(ground: Ground, scanner: Scanner) -> None:
    """A flood of forged sources fills it; the victim goes on answering others."""
    ground.lay(TripwireSettings(tcp_ports=((1, 1023),), size=4, hold=60 * SECOND))
    for index in range(20):
        scanner.send_tcp(79, source=f"198.51.100.{index + 1}")
    assert scanner.is_answered(79)
    assert ground.held().count("198.51.100.") <= 4


def test_who_is_let_go_is_answered_again(ground: Ground, scanner: Scanner) -> None:
    """And letting go of who was never held is nothing."""
    tripwire = ground.lay()
    scanner.send_tcp(79)
    with ground.lab.victim.entered():
        tripwire.let_go(parse_source(SCANNER4))
        tripwire.let_go(parse_source("198.51.100.1"))
    assert scanner.is_answered(2000)


@pytest.mark.parametrize(
    "tampering",
    [f"delete table inet {TABLE}", "flush ruleset", f"flush chain inet {TABLE} prerouting"],
)
def test_it_is_laid_again_when_somebody_took_it_away(
    ground: Ground, scanner: Scanner, tampering: str
) -> None:
    """By hand, or by another firewall's reload."""
    tripwire = ground.lay()
    ground.lab.victim.run("nft", "-f", "-", text=tampering + "\n")
    with ground.lab.victim.entered():
        tripwire.look(is_thorough=True)
    scanner.send_tcp(79)
    assert not scanner.is_answered(80, UNANSWERED)


def test_the_whole_chain_with_a_tripwire(
    lab: Lab, tmp_path: Path, scanner: Scanner, wait_until: Callable[..., None]
) -> None:
    """Held by the kernel, confirmed with a block, evidence and history; taken away at the end."""
    with Rig(lab, tmp_path, settings="[tripwire]\nenabled = true\n") as rig:
        scanner.send_tcp(79)
        assert not scanner.is_answered(80, UNANSWERED)
        wait_until(lambda: SCANNER4 in rig.denied())
        why: dict[str, Any] = rig.ask("why", SCANNER4)
        assert why["decisions"][0]["state"] == "done"
    assert TABLE not in lab.victim.run("nft", "list", "tables").stdout


def test_what_no_jail_confirms_is_let_go(
    lab: Lab, tmp_path: Path, scanner: Scanner, wait_until: Callable[..., None]
) -> None:
    """The breaker keeps a block back: the source is not held for longer than it takes to decide so."""
    jail = '[jail.portscan]\nfilters = ["portsentry"]\nspoofable_a_minute = 0\n'
    with Rig(lab, tmp_path, settings=f'[tripwire]\nenabled = true\nhold = "10m"\n{jail}') as rig:
        scanner.send_tcp(79)
        wait_until(rig.alerts)
        wait_until(lambda: scanner.is_answered(2000, 0.05))
        assert rig.denied() == {}


def test_ranges_that_touch_are_one() -> None:
    """Nft takes no overlapping elements."""
    assert merge_ranges([(5, 9), (1, 4), (8, 12), (20, 20)]) == [(1, 12), (20, 20)]
