"""What follows a probe, from PortSentry's own configuration, beside the real one: log, files, commands.

Both get the same portsentry.conf and the same probes, one after the other. Everything they leave behind must
be the same to the byte, times aside, but for what docs/portsentry.md names.
"""

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from correlator.drill.lab import VICTIM4, Lab
from correlator.drill.rig import wait_for
from correlator.drill.scanner import Scanner
from tests.peers import portsentry
from tests.peers.portsentry import PortSentry
from tests.peers.portward import Portward

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(portsentry.why_not() is not None, reason=str(portsentry.why_not())),
]

OUT = "/var/lib/portsentry/out"
ECHO = "/bin/echo {} $TARGET$ $PORT$ $MODE$ >> " + OUT
RESPONSES = {
    "KILL_ROUTE": ECHO.format("route"),
    "KILL_HOSTS_DENY": "ALL: $TARGET$ : DENY",
    "KILL_RUN_CMD": ECHO.format("run"),
}
STAMP = re.compile(r"^\d+ - \d\d/\d\d/\d{4} \d\d:\d\d:\d\d ")
SECONDS = 10.0


@dataclass(frozen=True)
class Left:
    """What one of the two left behind."""

    lines: list[str]
    commands: list[str]
    hosts_deny: list[str]
    history: list[str]
    blocked: list[str]


@pytest.fixture
def left_by(tmp_path: Path) -> Iterator[Callable[..., Left]]:
    """The function that starts one of the two, sends two probes in turn, and looks."""
    peers: list[PortSentry | Portward] = []

    def look(kind: type, mode: str, options: dict[str, str | None], count: int, **more: bool) -> Left:
        folder = tmp_path / f"{kind.__name__}-{len(peers)}"
        folder.mkdir()
        with Lab() as lab, Scanner(lab) as scanner:
            peer = kind(lab, folder, mode, options, **more)
            peers.append(peer)

            def attacks() -> list[str]:
                if isinstance(peer, Portward):
                    lines = peer.lines()
                else:
                    lines = [datagram.split("]: ", 1)[1].rstrip("\n") for datagram in peer.datagrams()]
                return [line for line in lines if line.startswith(("attackalert", "securityalert: ERROR"))]

            for number, port in enumerate((1, 7 if mode.endswith("udp") else 11)):
                probe(lab, scanner, mode, port)
                expected = count + 2 * number
                assert wait_for(lambda expected=expected: len(attacks()) >= expected, SECONDS), attacks()
            blocked = f"portsentry.blocked.{mode}"
            peer.stop()
            return Left(
                attacks(),
                peer.state("out"),
                peer.hosts_deny(),
                [STAMP.sub("", line) for line in peer.state("portsentry.history")],
                [STAMP.sub("", line) for line in peer.state(blocked)],
            )

    yield look
    for peer in peers:
        peer.kill()


def probe(lab: Lab, scanner: Scanner, mode: str, port: int) -> None:
    """Send what the mode sees: a datagram, a connection, a SYN."""
    if mode.endswith("udp"):
        scanner.send_udp(port)
    elif mode == "tcp":
        with lab.scanner.entered(), socket.socket() as client:
            client.settimeout(0.3)
            client.connect_ex((VICTIM4, port))
    else:
        scanner.send_tcp(port)


@pytest.mark.parametrize("mode", ["tcp", "udp", "stcp", "sudp", "atcp", "audp"])
def test_all_responses_are_as_portsentrys(left_by: Callable[..., Left], mode: str) -> None:
    """BLOCK 1: wrappers, route, command; then the source is blocked already."""
    options = {"BLOCK_TCP": "1", "BLOCK_UDP": "1", **RESPONSES}
    theirs = left_by(PortSentry, mode, options, 4)
    # with nftables in front a blocked source cannot connect any more: nothing is left to be reported
    ours = left_by(Portward, mode, options, 4, compat=mode in ("tcp", "udp"))
    assert ours == theirs
    assert len(theirs.lines) == 6
    assert theirs.commands == [f"route 192.0.2.2 1 {mode}", f"run 192.0.2.2 1 {mode}"]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"BLOCK_TCP": "1", "KILL_RUN_CMD_FIRST": "1", **RESPONSES}, 4),
        ({"BLOCK_TCP": "2", **RESPONSES}, 2),
        ({"BLOCK_TCP": "1", "KILL_ROUTE": ECHO.format("route"), "KILL_HOSTS_DENY": None}, 2),
        ({"BLOCK_TCP": "1", "KILL_ROUTE": None}, 2),
    ],
    ids=["command first", "2", "route alone", "wrappers alone"],
)
def test_each_choice_of_responses_is_as_portsentrys(
    left_by: Callable[..., Left], options: dict[str, str | None], count: int
) -> None:
    """Which run, and in which order."""
    theirs = left_by(PortSentry, "atcp", options, count)
    ours = left_by(Portward, "atcp", options, count)
    if "KILL_ROUTE" in options and options["KILL_ROUTE"] is None:
        # nobody else tells of a route there: ours says that the kernel drops the source
        extra = [line for line in ours.lines if "nft add element" in line]
        assert len(extra) == 1
        ours.lines.remove(extra[0])
    assert ours == theirs


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"BLOCK_TCP": "0", **RESPONSES}, 2),
        ({"BLOCK_TCP": "1", "KILL_ROUTE": None, "KILL_HOSTS_DENY": None}, 1),
        ({"BLOCK_TCP": "2"}, 1),
    ],
    ids=["0", "1 without a response", "2 without a command"],
)
def test_compat_writes_down_whom_portsentry_writes_down(
    left_by: Callable[..., Left], options: dict[str, str | None], count: int
) -> None:
    """Though nobody is denied: in the history, in the blocked file, and as blocked already."""
    theirs = left_by(PortSentry, "stcp", options, count)
    ours = left_by(Portward, "stcp", options, count, compat=True)
    assert ours == theirs
    assert len(theirs.history) == 1


def test_ours_writes_down_only_whom_it_blocks(left_by: Callable[..., Left]) -> None:
    """With BLOCK 0 the log is PortSentry's, but nobody is in history or blocked file who was not blocked."""
    options = {"BLOCK_TCP": "0", **RESPONSES}
    theirs = left_by(PortSentry, "atcp", options, 2)
    ours = left_by(Portward, "atcp", options, 2)
    assert ours.lines == theirs.lines
    assert (len(theirs.history), ours.history, ours.blocked) == (1, [], [])
