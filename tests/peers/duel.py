"""A duel: the real PortSentry 1.2 and our probe get the same packets, in labs alike.

Two labs, one victim guarded by PortSentry and one by `portward probe`, both with the same port lists and
services, both scanned by the same nmap and sent the same hand-made packets. Two PortSentrys, one for TCP and
one for UDP, may stand against one probe in both modes. Ours runs from what `portward import portsentry` makes
of the other's portsentry.conf, with `hidden_scans` off but where said.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.drill.lab import VICTIM4, Lab
from correlator.drill.rig import wait_for
from correlator.drill.scanner import Scanner
from tests.peers.portsentry import ROOT, SHIPPED_IGNORES, PortSentry, why_not, write_configuration
from tests.peers.probes import build_probes

NEEDS_PEER = [
    pytest.mark.netns,
    pytest.mark.skipif(why_not() is not None, reason=f"no PortSentry to compare with: {why_not()}"),
]

MODES = ("tcp", "udp", "stcp", "sudp", "atcp", "audp")
PAIRS = (("tcp", "udp"), ("stcp", "sudp"), ("atcp", "audp"))
SEEN_BY = {
    "tcp": {"-sT"},
    "udp": {"-sU"},
    "stcp": {"-sT", "-sS", "-sF", "-sN", "-sX"},
    "sudp": {"-sU"},
    "atcp": {"-sT", "-sS", "-sF", "-sN", "-sX"},
    "audp": {"-sU"},
}
"""The scans that PortSentry reports at all, so that two silent programs are not taken for equal ones."""
SCANS = ("-sT", "-sS", "-sF", "-sN", "-sX", "-sA", "-sM", "-sW", "-sU")
HIDDEN = {"-sA", "-sM", "-sW"}

MARK = 1001
"""A probe of this port only says "all that was sent before is worked off"."""
TCP_PORTS = (1, 11, 79, 111, 143, 540, MARK, 22)
UDP_PORTS = (7, 9, 69, 161, 513, MARK, 53)
SERVICES = ((socket.SOCK_STREAM, 22), (socket.SOCK_STREAM, 80), (socket.SOCK_DGRAM, 53))
"""22 and 53 stand last in the lists, where a port in use does not move another one (`RIGHT_PORTS`)."""
SCANNED_TCP = "1,11,22,79,80,111,113,143,540,2000"
SCANNED_UDP = "7,9,53,67,69,137,161,513,2049"

DIRECTIVES: dict[str, str | None] = {
    "TCP_PORTS": ",".join(map(str, TCP_PORTS)),
    "UDP_PORTS": ",".join(map(str, UDP_PORTS)),
    "ADVANCED_PORTS_TCP": "1024",
    "ADVANCED_PORTS_UDP": "1024",
    "ADVANCED_EXCLUDE_TCP": "113,139",
    "ADVANCED_EXCLUDE_UDP": "520,138,137,67",
    "BLOCK_TCP": "0",
    "BLOCK_UDP": "0",
    "RESOLVE_HOST": "0",
    "SCAN_TRIGGER": "0",
    "PORT_BANNER": None,
}
_PATHS = """\
[paths]
alert_log = "{folder}/alert.log"
state = "{folder}"
run = "{folder}"
syslog = "{folder}/dev-log"
"""
_PROBE = """\
[probe]
hidden_scans = {hidden_scans}
linger = "{linger}"
"""
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'
STARTING_LINE = "adminalert: PortSentry 1.2 is starting.\n"
ACTIVE_LINE = "adminalert: PortSentry is now active and listening.\n"
LAST_LINES = [f"{kind}: PortSentry is shutting down\n" for kind in ("securityalert", "adminalert")]
_DATAGRAM = re.compile(r"<29>\w{3} [ \d]\d \d\d:\d\d:\d\d portsentry\[\d+\]: (.*)", re.DOTALL)
_REPORT = re.compile(r"attackalert: .* from host: .* to (?:TCP|UDP) port: (\d+)(?: has IP options set .*)?")
_RESPONSE = re.compile(r"attackalert: (?:Host: .* is already blocked|Ignoring (?:TCP|UDP) response per ).*")
_ROUNDS_OF_MARKS = 5
"""For modes with a queue a port, from which each turn takes one: more than nmap has payloads for a port."""
SECONDS = 10.0
_QUEUE = "1000"

Reports = Counter[str]
NOTHING: Reports = Counter()


IN_ALL = pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), *PAIRS], ids="+".join)
IN_PAIRS = pytest.mark.parametrize("modes", PAIRS, ids="+".join)
IN_RAW_PAIRS = pytest.mark.parametrize("modes", PAIRS[1:], ids="+".join)


class Log:
    """What one guard sends to syslog; `read` returns all of it, datagram by datagram."""

    def __init__(self, read: Callable[[], list[str]]) -> None:
        self._read = read
        self._taken = 0

    def texts(self) -> list[str]:
        """Return the messages whole, line feeds too, but for priority, time and process id."""
        datagrams = self._read()
        matches = [_DATAGRAM.fullmatch(datagram) for datagram in datagrams]
        assert None not in matches, datagrams
        return [match[1] for match in matches if match is not None]

    def take_reports(self) -> Reports:
        """Return the lines that report probes since this was last asked, without marks."""
        texts = self.texts()
        new, self._taken = texts[self._taken :], len(texts)
        return Counter(
            text for text in new if (match := _REPORT.fullmatch(text)) is not None and int(match[1]) != MARK
        )

    def life(self) -> list[str]:
        """Return all lines that are about neither probes nor responses: those of start and stop."""
        return [text for text in self.texts() if not (_REPORT.fullmatch(text) or _RESPONSE.fullmatch(text))]


class Side:
    """One lab and its guard: on one side one PortSentry a mode, on the other one probe."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        self.folder = folder
        self.lab = stack.enter_context(Lab())
        self.lab.victim.set_kernel("net/unix/max_dgram_qlen", _QUEUE)  # nobody waits for its syslog
        self.scanner = stack.enter_context(Scanner(self.lab))
        self.logs: list[Log] = []

    def serve(self, kind: int, port: int, address: str) -> socket.socket:
        """Open a service in the victim that takes nothing off its queue."""
        with self.lab.victim.entered():
            serving = socket.socket(socket.AF_INET, kind)
        serving.bind((address, port))
        if kind == socket.SOCK_STREAM:
            serving.listen(64)
        return serving

    def send_mark(self, protocol: str) -> None:
        """Probe the mark's port with one that every mode sees, and wait for its line."""
        before = self._count_marks(protocol)
        if protocol == "UDP":
            self.scanner.send_udp(MARK)
        else:
            with self.lab.scanner.entered(), socket.socket() as client:
                client.settimeout(SECONDS)
                client.connect_ex((VICTIM4, MARK))
        assert wait_for(lambda: self._count_marks(protocol) > before, SECONDS), "the mark was not reported"

    def reports(self) -> Reports:
        """Return the lines about probes since this was last asked."""
        return sum((log.take_reports() for log in self.logs), Counter())

    def _count_marks(self, protocol: str) -> int:
        end = f" to {protocol} port: {MARK}"
        return sum(text.endswith(end) for log in self.logs for text in log.texts())


class Duel:
    """Both sides; whatever is done to one is done to the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.theirs = Side(folder / "theirs", stack)
        self.ours = Side(folder / "ours", stack)
        self.sides = (self.theirs, self.ours)
        self._modes: tuple[str, ...] = ()
        self._stops: list[Callable[[], object]] = []
        self._ignore_files = [self.ours.folder / "ignore"]

    def start(
        self,
        *modes: str,
        services: tuple[tuple[int, int], ...] = (),
        may_refuse: bool = False,
        hidden_scans: bool = False,
        compat: bool = False,
        linger: str = "5s",
        ignored: tuple[str, ...] = (),
        hosts: str = "",
        **directives: str | None,
    ) -> None:
        """Open the services, then start PortSentry in each of the modes, and one probe in all of them."""
        for kind, port in services:
            self.serve(kind, port)
        self._modes = modes
        options = {**DIRECTIVES, **directives}
        ignores = (*SHIPPED_IGNORES, *ignored)
        for mode in modes:
            folder = self.theirs.folder / mode
            folder.mkdir()
            peer = PortSentry(
                self.theirs.lab, folder, mode, options, ignores=ignores, hosts=hosts, may_refuse=may_refuse
            )
            self._stack.callback(peer.kill)
            self._ignore_files.append(peer.ignore_file)
            self.theirs.logs.append(Log(peer.datagrams))
            self._stops.append(peer.stop)
        probe = _PROBE.format(hidden_scans=str(hidden_scans).lower(), linger=linger)
        self._configure_probe(modes, options, ignores, probe, compat=compat)
        self._start_probe(modes, hosts)
        end = LAST_LINES[-1]
        ours = self.ours.logs[0]
        is_up = wait_for(lambda: {ACTIVE_LINE, end} & set(ours.texts()), SECONDS)
        assert is_up, ours.texts()
        assert may_refuse or end not in ours.texts()

    def serve(self, kind: int, port: int, address: str = "0.0.0.0") -> tuple[socket.socket, ...]:
        """Open the same service in both victims; it ends with the test at the latest."""
        return tuple(self._stack.enter_context(side.serve(kind, port, address)) for side in self.sides)

    def ignore(self, text: str | None) -> None:
        """Write this into the ignore files of both sides; None takes them away."""
        for file in self._ignore_files:
            if text is None:
                file.unlink()
            else:
                file.write_text(text, encoding="ascii")

    def send(self, packet: bytes) -> None:
        """Send one whole IP packet to both victims."""
        for side in self.sides:
            side.scanner.send_packet(packet)

    def probe(self, tcp_port: int, udp_port: int) -> None:
        """Send one SYN and one datagram to both victims."""
        for packet in build_probes(tcp_port, udp_port):
            self.send(packet)

    def run(self, *argv: str, inside: str = "victim") -> None:
        """Run a command on both sides at the same time, to its end."""
        children = [
            getattr(side.lab, inside).popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for side in self.sides
        ]
        for child in children:
            output, _ = child.communicate(timeout=SECONDS)
            assert child.returncode == 0, output

    def scan(self, *options: str) -> None:
        """Scan both victims with nmap, each port once."""
        ports = SCANNED_UDP if "-sU" in options else SCANNED_TCP
        always = ("-n", "-Pn", "-r", "-T4", "--max-retries", "0", "--disable-arp-ping")
        self.run("nmap", *always, "-p", ports, *options, VICTIM4, inside="scanner")

    def reports(self) -> tuple[Reports, Reports]:
        """Return theirs and ours about all that was sent since this was last asked."""
        rounds = _ROUNDS_OF_MARKS if {"tcp", "udp"} & set(self._modes) else 1
        for side in self.sides:
            for protocol in {mode[-3:].upper() for mode in self._modes}:
                for _ in range(rounds):
                    side.send_mark(protocol)
        return self.theirs.reports(), self.ours.reports()

    def demand_equal(self, what: str, *, but_for: Collection[str] = ()) -> Reports:
        """Return the lines about all that was sent since this was last asked: the same on both sides.

        Except for lines that PortSentry may write and we do not.
        """
        theirs, ours = self.reports()
        for line in but_for:
            del theirs[line]
        assert (what, theirs - ours, ours - theirs) == (what, NOTHING, NOTHING)
        return ours

    def stop(self) -> tuple[list[str], list[str]]:
        """End both in order; return the lines of their starts and stops (`ONE_PROCESS`)."""
        for stop in self._stops:
            stop()
        return _join_lives([log.life() for log in self.theirs.logs]), self.ours.logs[0].life()

    def _configure_probe(
        self,
        modes: tuple[str, ...],
        options: Mapping[str, str | None],
        ignores: tuple[str, ...],
        probe: str,
        *,
        compat: bool,
    ) -> None:
        """Import the same portsentry.conf, and add what it cannot say."""
        folder = self.ours.folder
        own = {f"{name}_FILE": str(folder / name.lower()) for name in ("IGNORE", "HISTORY", "BLOCKED")}
        self.ignore("".join(f"{line}\n" for line in ignores))
        write_configuration(folder / "portsentry.conf", {**options, **own})
        arguments = ["--modes", ",".join(modes), "--out", str(folder), *(["--compat"] if compat else [])]
        assert main(["import", "portsentry", str(folder / "portsentry.conf"), *arguments]) in (0, 1)
        settings = folder / "portward.toml"
        text = settings.read_text().replace("[probe]\n", probe)
        settings.write_text(text.replace("[paths]\n", _PATHS.format(folder=folder)))

    def _start_probe(self, modes: tuple[str, ...], hosts: str) -> None:
        side = self.ours
        (side.folder / "hosts").write_text(hosts)
        with side.lab.victim.entered():  # the length of its queue is that of the network namespace
            syslog = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        syslog.bind(str(side.folder / "dev-log"))
        syslog.setblocking(False)
        datagrams: list[str] = []

        def read() -> list[str]:
            with suppress(BlockingIOError):
                while True:
                    datagrams.append(syslog.recv(65_536).decode("ascii", "backslashreplace"))
            return datagrams

        side.logs.append(Log(read))
        child = side.lab.victim.popen(
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", _WITH_HOSTS),
            str(side.folder / "hosts"),
            *(sys.executable, "-P", "-m", "correlator", "probe", *(f"-{mode}" for mode in modes)),
            *("--config", str(side.folder)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        self._stops += [child.terminate, lambda: child.wait(SECONDS)]


def _join_lives(lives: list[list[str]]) -> list[str]:
    """Return the start and stop of several processes as one in all their modes would write them.

    A process that gave up at its start keeps its reason and loses only its last words.
    """
    bodies = [
        text for life in lives for text in life if text not in (STARTING_LINE, ACTIVE_LINE, *LAST_LINES)
    ]
    active = [ACTIVE_LINE] if any(ACTIVE_LINE in life for life in lives) else []
    return [STARTING_LINE, *bodies, *active, *LAST_LINES]
