"""100,000 forged senders knock at once: all stays bounded, honest people get through, attackers do not."""

import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from correlator.drill.lab import GATEWAY4, SCANNER4, VICTIM4, Lab
from correlator.drill.packets import Route, build_tcp
from correlator.drill.rig import Rig
from correlator.drill.scanner import Scanner
from tests.faults.hosts import Host

pytestmark = pytest.mark.netns

FORGED = 100_000
HONEST = "192.0.2.77"
ATTACKER = "192.0.2.66"
SETTINGS = """
[probe]
modes = ["tcp", "atcp"]
tcp_list = "11,15"
tcp_ports = "70-1023"
"""
LONGEST_LINE = 200


def kilobytes(process: int) -> int:
    """Return what a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def connects(lab: Lab, source: str, port: int) -> bool:
    """Return whether a connection from that address is made."""
    with lab.scanner.entered(), socket.socket() as client:
        client.bind((source, 0))
        client.settimeout(2)
        return client.connect_ex((VICTIM4, port)) == 0


def test_a_flood_of_forged_senders(lab: Lab, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """Memory, log and rules stay bounded; gateway and client stay reachable; a proven attacker is blocked.

    The forged ones carry the gateway's address too. The attacker finishes a handshake, which nobody can do in
    another's name, so the breaker that keeps forged evidence back does not protect them.
    """
    chance = random.Random(1)  # noqa: S311 -- the same senders every time
    lab.add_scanner_address(HONEST, ATTACKER)
    with lab.victim.entered():
        service = socket.create_server((VICTIM4, 22), backlog=64)
    with service, Rig(lab, tmp_path, settings=SETTINGS) as rig, Scanner(lab) as scanner:
        before = {name: kilobytes(process) for name, process in rig.process_ids().items()}
        senders = [
            GATEWAY4,
            *(f"10.{chance.randrange(1 << 24) >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(999)),
        ]
        frames = [
            scanner.frame(build_tcp(Route(sender, 1024 + n, VICTIM4, 70 + n % 900)))
            for n, sender in enumerate(senders)
        ]
        for round_ in range(FORGED // len(frames)):
            for frame in frames:
                # the third and fourth byte of the sender: a new one each time; the checksums do not matter
                # to a veth, which takes them for right
                scanner.send_frame(_renumbered(frame, round_) if round_ else frame)
            if round_ == 50:
                assert connects(lab, HONEST, 22)
        wait_until(lambda: _backlog(rig) == 0, 60)
        denied = rig.denied()
        assert 1 <= len(denied) <= 130  # 60 a minute, and the flood lasts less than two
        assert GATEWAY4 not in denied
        assert HONEST not in denied
        assert connects(lab, HONEST, 22)
        assert connects(lab, GATEWAY4, 22)
        assert connects(lab, ATTACKER, 11)
        wait_until(lambda: ATTACKER in rig.denied())
        assert not connects(lab, ATTACKER, 22)
        after = {name: kilobytes(process) for name, process in rig.process_ids().items()}
        assert {name: after[name] - before[name] < 40 * 1024 for name in after} == dict.fromkeys(after, True)
        lines = rig.alert_log.read_text().splitlines()
        assert len(lines) < FORGED // 2
        assert max(map(len, lines)) < LONGEST_LINE
        assert any("probes left out of the log" in line for line in lines)
        assert rig.printed().count("breaker open") <= 3
        assert SCANNER4 not in denied


def test_a_blocked_host_that_floods_hides_no_other(
    make_host: Callable[..., Host], lab: Lab, wait_until: Callable[..., None]
) -> None:
    """Its packets are seen before the firewall drops them and would fill the log for hours."""
    host = make_host("[probe]\nlines_a_second = 40\n").start_all()
    lab.add_scanner_address(ATTACKER)
    with Scanner(lab) as scanner:
        scanner.send_tcp(79)
        wait_until(lambda: set(host.rig.denied()) == {SCANNER4})
        flood = [scanner.frame(build_tcp(Route(SCANNER4, 4000, VICTIM4, port))) for port in range(200, 400)]
        for frame in flood:
            scanner.send_frame(frame)
        scanner.send_tcp(79, source=ATTACKER)
        wait_until(lambda: set(host.rig.denied()) == {SCANNER4, ATTACKER})
        wait_until(lambda: "probes left out of the log" in host.rig.alert_log.read_text())


def _renumbered(frame: bytes, round_: int) -> bytes:
    """Return the frame with another sender, its checksums corrected."""
    sender = f"10.{100 + round_ % 100}.{frame[28]}.{frame[29]}"
    port = int.from_bytes(frame[36:38], "big")
    return frame[:14] + build_tcp(Route(sender, int.from_bytes(frame[34:36], "big"), VICTIM4, port))


def _backlog(rig: Rig) -> int:
    """Return how many bytes of the alert log are not read yet."""
    sources = rig.ask("status")["correlator"]["sources"]
    return sum(source["backlog"] for source in sources)
