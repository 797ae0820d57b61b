"""The real PortSentry 1.2 and our probe get the same packets, in all six modes, and write the same lines.

Two labs alike, one victim guarded by PortSentry and one by `portward probe`, both with the same port lists
and services, both scanned by the same nmap and sent the same hand-made packets. Two PortSentrys, one for
TCP and one for UDP, are also compared with one probe in both modes.

Compared is what goes to syslog, time and process id aside: the lines that report probes as a multiset, and
the lines of start and stop in their order. Left out are the lines of responses ("Host: ... is already
blocked", "Ignoring TCP response ..."), history and blocked files: no probe writes them here.

Ours runs from what `portward import portsentry` makes of the other's portsentry.conf, with `hidden_scans` off
but where said. What remains different has a name and a reason in tests/peers/differences.py, and a test here.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.drill.lab import GATEWAY4, SCANNER4, VICTIM4, Lab
from correlator.drill.packets import Flag, Route, build_ip, build_tcp, build_udp, checksum
from correlator.drill.rig import wait_for
from correlator.drill.scanner import Scanner
from tests.peers.differences import (
    BAD_CHECKSUMS,
    BEFORE_NETFILTER,
    BROKEN_SEGMENTS,
    CLOSED_CONNECTIONS,
    HIDDEN_SCANS,
    IGNORED_HOSTS,
    LIMIT_WITHOUT_A_LIST,
    LINGER,
    LOOPBACK_SERVICE,
    NO_LOOPS,
    NOT_TO_US,
    OWN_PROBES,
    RESERVED_SOURCE,
    RIGHT_PORTS,
)
from tests.peers.portsentry import ROOT, SHIPPED_IGNORES, PortSentry, why_not, write_configuration

pytestmark = [
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
_STARTING = "adminalert: PortSentry 1.2 is starting.\n"
_ACTIVE = "adminalert: PortSentry is now active and listening.\n"
_SHUTTING_DOWN = [f"{kind}: PortSentry is shutting down\n" for kind in ("securityalert", "adminalert")]
_DATAGRAM = re.compile(r"<29>\w{3} [ \d]\d \d\d:\d\d:\d\d portsentry\[\d+\]: (.*)", re.DOTALL)
_REPORT = re.compile(r"attackalert: .* from host: .* to (?:TCP|UDP) port: (\d+)(?: has IP options set .*)?")
_RESPONSE = re.compile(r"attackalert: (?:Host: .* is already blocked|Ignoring (?:TCP|UDP) response per ).*")
_ROUNDS_OF_MARKS = 5
"""For modes with a queue a port, from which each turn takes one: more than nmap has payloads for a port."""
_SECONDS = 10.0
_QUEUE = "1000"
_IP_OPTIONS = (
    b"\x07\x0b\x04" + bytes(9),  # record route
    b"\x01\x01\x01\x01",
    b"\x94\x04\0\0",  # router alert
    b"\x44\x0c\x05\0" + bytes(8),  # time stamps
)

Reports = Counter[str]
NOTHING: Reports = Counter()


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
                client.settimeout(_SECONDS)
                client.connect_ex((VICTIM4, MARK))
        assert wait_for(lambda: self._count_marks(protocol) > before, _SECONDS), "the mark was not reported"

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

    def start(
        self,
        *modes: str,
        services: tuple[tuple[int, int], ...] = (),
        may_refuse: bool = False,
        hidden_scans: bool = False,
        linger: str = "5s",
        ignored: str = "198.51.100.1",
        **directives: str | None,
    ) -> None:
        """Open the services, then start PortSentry in each of the modes, and one probe in all of them."""
        for kind, port in services:
            self.serve(kind, port)
        self._modes = modes
        options = {**DIRECTIVES, **directives}
        ignores = (*SHIPPED_IGNORES, ignored)
        for mode in modes:
            folder = self.theirs.folder / mode
            folder.mkdir()
            peer = PortSentry(self.theirs.lab, folder, mode, options, ignores=ignores, may_refuse=may_refuse)
            self._stack.callback(peer.kill)
            self.theirs.logs.append(Log(peer.datagrams))
            self._stops.append(peer.stop)
        self._configure_probe(modes, options, ignores, hidden_scans=hidden_scans, linger=linger)
        self._start_probe(modes)
        end = _SHUTTING_DOWN[-1]
        ours = self.ours.logs[0]
        is_up = wait_for(lambda: {_ACTIVE, end} & set(ours.texts()), _SECONDS)
        assert is_up, ours.texts()
        assert may_refuse or end not in ours.texts()

    def serve(self, kind: int, port: int, address: str = "0.0.0.0") -> tuple[socket.socket, ...]:
        """Open the same service in both victims; it ends with the test at the latest."""
        return tuple(self._stack.enter_context(side.serve(kind, port, address)) for side in self.sides)

    def send(self, packet: bytes) -> None:
        """Send one whole IP packet to both victims."""
        for side in self.sides:
            side.scanner.send_packet(packet)

    def run(self, *argv: str, inside: str = "victim") -> None:
        """Run a command on both sides at the same time, to its end."""
        children = [
            getattr(side.lab, inside).popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for side in self.sides
        ]
        for child in children:
            output, _ = child.communicate(timeout=_SECONDS)
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
        *,
        hidden_scans: bool,
        linger: str,
    ) -> None:
        """Import the same portsentry.conf, and add what it cannot say."""
        folder = self.ours.folder
        own = {f"{name}_FILE": str(folder / name.lower()) for name in ("IGNORE", "HISTORY", "BLOCKED")}
        (folder / "ignore").write_text("".join(f"{line}\n" for line in ignores))
        write_configuration(folder / "portsentry.conf", {**options, **own})
        arguments = ("--modes", ",".join(modes), "--out", str(folder))
        assert main(["import", "portsentry", str(folder / "portsentry.conf"), *arguments]) in (0, 1)
        settings = folder / "portward.toml"
        probe = _PROBE.format(hidden_scans=str(hidden_scans).lower(), linger=linger)
        text = settings.read_text().replace("[probe]\n", probe)
        settings.write_text(text.replace("[paths]\n", _PATHS.format(folder=folder)))

    def _start_probe(self, modes: tuple[str, ...]) -> None:
        side = self.ours
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
            *(sys.executable, "-P", "-m", "correlator", "probe", *(f"-{mode}" for mode in modes)),
            *("--config", str(side.folder)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        self._stops += [child.terminate, lambda: child.wait(_SECONDS)]


def _join_lives(lives: list[list[str]]) -> list[str]:
    """Return the start and stop of several processes as one in all their modes would write them.

    A process that gave up at its start keeps its reason and loses only its last words.
    """
    bodies = [text for life in lives for text in life if text not in (_STARTING, _ACTIVE, *_SHUTTING_DOWN)]
    active = [_ACTIVE] if any(_ACTIVE in life for life in lives) else []
    return [_STARTING, *bodies, *active, *_SHUTTING_DOWN]


@pytest.fixture
def duel(tmp_path: Path) -> Iterator[Duel]:
    """Two fresh labs; `start` puts the guards in."""
    with ExitStack() as stack:
        yield Duel(tmp_path, stack)


IN_ALL = pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), *PAIRS], ids="+".join)


@IN_ALL
def test_scans_of_nmap_give_the_same_lines(duel: Duel, modes: tuple[str, ...]) -> None:
    """Every technique, over ports watched, in use, excluded and out of range; then start and stop."""
    duel.start(*modes, services=SERVICES)
    seen = set()
    for scan in SCANS:
        duel.scan(scan)
        if duel.demand_equal(scan):
            seen.add(scan)
    theirs, ours = duel.stop()
    assert theirs == ours
    assert seen == set().union(*(SEEN_BY[mode] for mode in modes))


@IN_ALL
def test_hand_made_packets_give_the_same_lines(duel: Duel, modes: tuple[str, ...]) -> None:
    """What nmap does not send: any flags, IP options, odd ports, odd senders, fragments."""
    duel.start(*modes, services=SERVICES)
    source_ports = itertools.count(30_000)

    def route(port: int, source: str = SCANNER4) -> Route:
        return Route(source, next(source_ports), VICTIM4, port)

    for first in range(0, 256, 32):  # PortSentry's queue holds some 200 packets
        for flags in range(first, first + 32):
            duel.send(build_tcp(route(79), flags))
        duel.demand_equal(f"flags {first} to {first + 31}")
    for port in (0, 1, 1023, 1024, 65_535):
        duel.send(build_tcp(route(port)))
        duel.send(build_udp(route(port), b"x"))
    stray = (_syn(0), _udp(0)) if "stcp" in modes or "sudp" in modes else ()
    duel.demand_equal("edges", but_for=stray)  # NO_STRAY_PORT
    for options in _IP_OPTIONS:
        duel.send(_with_options(build_tcp(route(79)), options))
        duel.send(_with_options(build_tcp(route(79), Flag.FIN), options))
        duel.send(_with_options(build_udp(route(7), b"x"), options))
        duel.send(_with_options(build_tcp(route(22)), options))
    duel.demand_equal("IP options")
    for source in ("203.0.113.9", GATEWAY4, "10.0.0.1", "223.255.255.255", "192.0.2.77"):
        duel.send(build_tcp(route(79, source)))
        duel.send(build_udp(route(7, source), b"x"))
    duel.demand_equal("forged senders")
    duel.send(build_udp(route(7)))
    duel.send(build_udp(route(7), bytes(1400)))
    duel.send(_without_checksum(build_udp(route(7), b"x")))
    duel.send(build_tcp(route(79), payload=bytes(1400)))
    duel.send(build_tcp(route(79), options=b"\x02\x04\x05\xb4\x01\x03\x03\x07\x04\x02"))
    duel.demand_equal("payloads and options of TCP")
    for options in (("-sS", "-f"), ("-sX", "-f")):
        duel.scan(*options)
    duel.demand_equal("fragments")


@IN_ALL
def test_a_bad_checksum_proves_nothing_to_ours(duel: Duel, modes: tuple[str, ...]) -> None:
    """Nor to any service, so the connect modes never get such a packet (`BAD_CHECKSUMS`)."""
    duel.start(*modes, services=SERVICES)
    for options in (("-sS", "--badsum"), ("-sU", "--badsum")):
        duel.scan(*options)
    theirs, ours = duel.reports()
    assert (bool(theirs), ours) == (not {"tcp", "udp"} & set(modes), NOTHING), BAD_CHECKSUMS


@pytest.mark.parametrize("modes", [("stcp", "sudp"), ("atcp", "audp")], ids="+".join)
def test_a_service_that_starts_later_is_let_be(duel: Duel, modes: tuple[str, ...]) -> None:
    """From its first moment; when it is gone, PortSentry reports its port at once (`LINGER`)."""
    duel.start(*modes)
    services = [*duel.serve(socket.SOCK_STREAM, 143), *duel.serve(socket.SOCK_DGRAM, 161)]
    _probe(duel, 143, 161)
    assert duel.demand_equal("while it serves") == NOTHING
    for service in services:
        service.close()
    _probe(duel, 143, 161)
    assert duel.reports() == (Counter([_syn(143), _udp(161)]), NOTHING), LINGER


@pytest.mark.parametrize("mode", ["tcp", "udp", "stcp", "sudp"])
def test_a_mode_whose_ports_are_all_in_use_gives_up_in_the_same_words(duel: Duel, mode: str) -> None:
    """All the lines from its start to its end."""
    duel.start(mode, services=SERVICES, may_refuse=True, TCP_PORTS="22,80", UDP_PORTS="53")
    theirs, ours = duel.stop()
    assert theirs == ours
    assert _ACTIVE not in theirs


@pytest.mark.parametrize("mode", ["tcp", "udp"])
def test_ours_names_the_port_that_was_probed(duel: Duel, mode: str) -> None:
    """A service on the second port of the list moves the names of those behind it (`RIGHT_PORTS`)."""
    named = {79: 22, 111: 79, 69: 53, 161: 69}
    duel.start(mode, services=SERVICES, TCP_PORTS=f"{MARK},22,79,111", UDP_PORTS=f"{MARK},53,69,161")
    duel.scan("-sT" if mode == "tcp" else "-sU")
    theirs, ours = duel.reports()
    moved: Reports = Counter()
    for line, count in ours.items():
        start, port = line.rsplit(" ", 1)
        moved[f"{start} {named[int(port)]}"] += count
    assert ours
    assert theirs == moved, RIGHT_PORTS
    theirs_life, our_life = duel.stop()
    assert theirs_life == our_life


def test_ours_keeps_to_its_range_where_no_port_is_left_out(duel: Duel) -> None:
    """Nothing in use and nothing excluded: PortSentry watches everything (`LIMIT_WITHOUT_A_LIST`)."""
    duel.start("atcp", "audp", ADVANCED_EXCLUDE_TCP=None, ADVANCED_EXCLUDE_UDP=None)
    _probe(duel, 79, 7)
    _probe(duel, 2000, 2049)
    both = Counter([_syn(79), _udp(7)])
    assert duel.reports() == (both + Counter([_syn(2000), _udp(2049)]), both), LIMIT_WITHOUT_A_LIST
    theirs, ours = duel.stop()
    assert theirs == ours


@pytest.mark.parametrize("modes", [("stcp", "sudp"), ("atcp", "audp")], ids="+".join)
def test_ours_is_not_blinded_by_a_service_on_loopback(duel: Duel, modes: tuple[str, ...]) -> None:
    """Whether it was there at the start or came later (`LOOPBACK_SERVICE`)."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    for kind in kinds:
        duel.serve(kind, 111 if kind == socket.SOCK_STREAM else 69, "127.0.0.1")
    duel.start(*modes)
    for kind in kinds:
        duel.serve(kind, 540 if kind == socket.SOCK_STREAM else 513, "127.0.0.1")
    _probe(duel, 111, 69)
    _probe(duel, 540, 513)
    expected = Counter([_syn(111), _syn(540), _udp(69), _udp(513)])
    assert duel.reports() == (NOTHING, expected), LOOPBACK_SERVICE
    theirs, ours = duel.stop()
    assert [line for line in theirs if line not in ours] == (
        [
            "adminalert: ERROR: Socket 111 is in use and will not be monitored. Attempting to continue\n",
            "adminalert: ERROR: Socket 69 is in use and will not be monitored. Attempting to continue\n",
        ]
        if "stcp" in modes
        else [
            "adminalert: Advanced Stealth scan detection mode activated. Ignored TCP port: 111\n",
            "adminalert: Advanced Stealth scan detection mode activated. Ignored UDP port: 69\n",
        ]
    )


@pytest.mark.parametrize("modes", PAIRS, ids="+".join)
def test_ours_does_not_report_the_host_itself(duel: Duel, modes: tuple[str, ...]) -> None:
    """By the address that others know it by (`OWN_PROBES`); 127.0.0.1 is in PortSentry's ignore file."""
    duel.start(*modes)
    for side in duel.sides:
        with (
            side.lab.victim.entered(),
            socket.socket() as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.settimeout(_SECONDS)
            tcp.connect_ex((VICTIM4, 79))
            udp.sendto(b"x", (VICTIM4, 7))
    names = ("Connect", "Connect") if "tcp" in modes else ("TCP SYN/Normal scan", "UDP scan")
    expected = Counter([_line(names[0], "TCP", 79, VICTIM4), _line(names[1], "UDP", 7, VICTIM4)])
    assert duel.reports() == (expected, NOTHING), OWN_PROBES


@pytest.mark.parametrize("modes", PAIRS, ids="+".join)
def test_ours_reports_only_what_is_sent_to_this_host(duel: Duel, modes: tuple[str, ...]) -> None:
    """A datagram to the network's broadcast address is everyday noise (`NOT_TO_US`)."""
    duel.start(*modes)
    duel.send(build_udp(Route(SCANNER4, 30_000, "192.0.2.255", 7), b"x"))
    duel.send(build_tcp(Route(SCANNER4, 30_000, "192.0.2.255", 79)))
    datagram, segment = _line("Connect", "UDP", 7), None
    if "tcp" not in modes:
        datagram, segment = _udp(7), _syn(79)
    expected = Counter(line for line in (datagram, segment) if line is not None)
    assert duel.reports() == (expected, NOTHING), NOT_TO_US


@pytest.mark.parametrize("modes", PAIRS, ids="+".join)
def test_ours_does_not_report_senders_that_exist_nowhere(duel: Duel, modes: tuple[str, ...]) -> None:
    """The last class of addresses, never given out (`RESERVED_SOURCE`)."""
    duel.start(*modes)
    source = "240.0.0.9"
    for packet in _build_probes(79, 7, source):
        duel.send(packet)
    expected = Counter([_line("UDP scan", "UDP", 7, source), _line("TCP SYN/Normal scan", "TCP", 79, source)])
    if "tcp" in modes:
        expected = Counter([_line("Connect", "UDP", 7, source)])
    assert duel.reports() == (expected, NOTHING), RESERVED_SOURCE


@pytest.mark.parametrize("modes", PAIRS[1:], ids="+".join)
def test_ours_looks_in_front_of_the_firewall(duel: Duel, modes: tuple[str, ...]) -> None:
    """A dropped packet is still a probe (`BEFORE_NETFILTER`); in the connect modes it never arrives."""
    duel.start(*modes)
    duel.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "79", "-j", "DROP")
    duel.run("iptables", "-A", "INPUT", "-p", "udp", "--dport", "7", "-j", "DROP")
    _probe(duel, 79, 7)
    assert duel.reports() == (NOTHING, Counter([_syn(79), _udp(7)])), BEFORE_NETFILTER


@pytest.mark.parametrize("modes", [("stcp",), ("atcp",)], ids="+".join)
def test_ours_sees_scans_that_portsentry_does_not(duel: Duel, modes: tuple[str, ...]) -> None:
    """And not one line is added by any other scan (`HIDDEN_SCANS`)."""
    duel.start(*modes, services=SERVICES, hidden_scans=True)
    for scan in SCANS:
        duel.scan(scan)
        theirs, ours = duel.reports()
        assert (scan, theirs - ours) == (scan, NOTHING)
        assert (scan, bool(ours - theirs)) == (scan, scan in HIDDEN), HIDDEN_SCANS


@pytest.mark.parametrize("modes", PAIRS[1:], ids="+".join)
def test_ours_reports_no_broken_segments(duel: Duel, modes: tuple[str, ...]) -> None:
    """Cut anywhere, or with lengths that cannot be (`BROKEN_SEGMENTS`)."""
    duel.start(*modes)
    tcp, udp = _build_probes(79, 7)
    for size in range(20):
        duel.send(build_ip(SCANNER4, VICTIM4, socket.IPPROTO_TCP, tcp[20 : 20 + size]))
    for size in range(8):
        duel.send(build_ip(SCANNER4, VICTIM4, socket.IPPROTO_UDP, udp[20 : 20 + size]))
    for words in (4, 6):
        duel.send(tcp[:32] + bytes([words << 4]) + tcp[33:])
    for length in (7, len(udp) - 19):
        duel.send(udp[:24] + length.to_bytes(2, "big") + udp[26:])
    theirs, ours = duel.reports()
    assert (bool(theirs), ours) == (True, NOTHING), BROKEN_SEGMENTS


@pytest.mark.parametrize("modes", PAIRS, ids="+".join)
@pytest.mark.parametrize("what", ["source route", "wrong checksum", "cut short"])
def test_what_the_kernel_throws_away_is_no_probe(duel: Duel, modes: tuple[str, ...], what: str) -> None:
    """No host answers it, so nobody scans with it: PortSentry never gets it."""
    duel.start(*modes)
    for packet in _build_probes(79, 7):
        if what == "source route":
            duel.send(_with_options(packet, bytes([131, 7, 4, 192, 0, 2, 1, 0])))
        elif what == "wrong checksum":
            duel.send(packet[:10] + bytes([packet[10] ^ 0xFF]) + packet[11:])
        else:
            duel.send(_with_length(packet, len(packet) + 1))
    assert duel.demand_equal(what) == NOTHING


@pytest.mark.parametrize("modes", PAIRS, ids="+".join)
def test_ours_reports_ignored_hosts(duel: Duel, modes: tuple[str, ...]) -> None:
    """The probe knows no ignore file (`IGNORED_HOSTS`)."""
    source = "203.0.113.9"
    duel.start(*modes, ignored=source)
    for packet in _build_probes(79, 7, source):
        duel.send(packet)
    theirs, ours = duel.reports()
    assert (theirs, ours.total()) == (NOTHING, 1 if "tcp" in modes else 2), IGNORED_HOSTS


def test_ours_is_not_blinded_by_closed_connections(duel: Duel) -> None:
    """The service closed a connection first, and is gone (`CLOSED_CONNECTIONS`)."""
    duel.start("atcp", linger="0s")
    for side, serving in zip(duel.sides, duel.serve(socket.SOCK_STREAM, 143), strict=True):
        with side.lab.scanner.entered():
            client = socket.create_connection((VICTIM4, 143), _SECONDS)
        with serving, client:
            serving.accept()[0].close()
            assert client.recv(1) == b""

    def is_reported() -> bool:
        duel.send(_build_probes(143, 7)[0])
        return _syn(143) in duel.ours.logs[0].texts()

    assert wait_for(is_reported, _SECONDS), "not watched again"
    theirs, ours = duel.reports()
    assert (theirs, set(ours)) == (NOTHING, {_syn(143)}), CLOSED_CONNECTIONS


@pytest.mark.parametrize("banner", [None, "** UNAUTHORIZED ACCESS PROHIBITED. **"], ids=["none", "some"])
def test_who_connects_reads_the_same_banner(duel: Duel, banner: str | None) -> None:
    """To its end, and so does who comes again."""
    duel.start("tcp", PORT_BANNER=banner)
    for side in duel.sides:
        for _ in range(2):
            with side.lab.scanner.entered():
                client = socket.create_connection((VICTIM4, 79), _SECONDS)
            with client:
                assert client.makefile("rb").read() == (banner or "").encode()
    assert duel.demand_equal("connections") == Counter({_line("Connect", "TCP", 79): 2})


def test_who_sends_a_datagram_gets_the_same_banner(duel: Duel) -> None:
    """But a port that a service may stand behind gets none (`NO_LOOPS`)."""
    duel.start("udp", PORT_BANNER="closed")
    answered = []
    for side in duel.sides:
        with side.lab.scanner.entered():
            service, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with service, client:
            service.bind((SCANNER4, 7))
            client.settimeout(_SECONDS)
            for sending in (service, client):
                sending.sendto(b"x", (VICTIM4, 9))
            assert client.recv(99) == b"closed"  # the one sent first was taken first
            service.setblocking(False)
            with suppress(BlockingIOError):
                answered.append((side, service.recv(99)))
    assert answered == [(duel.theirs, b"closed")], NO_LOOPS
    duel.demand_equal("datagrams")


def _build_probes(tcp_port: int, udp_port: int, source: str = SCANNER4) -> tuple[bytes, bytes]:
    """Return one SYN and one datagram."""
    tcp, udp = (Route(source, 30_000, VICTIM4, port) for port in (tcp_port, udp_port))
    return build_tcp(tcp), build_udp(udp, b"x")


def _probe(duel: Duel, tcp_port: int, udp_port: int) -> None:
    for packet in _build_probes(tcp_port, udp_port):
        duel.send(packet)


def _syn(port: int) -> str:
    return _line("TCP SYN/Normal scan", "TCP", port)


def _udp(port: int) -> str:
    return _line("UDP scan", "UDP", port)


def _line(technique: str, protocol: str, port: int, source: str = SCANNER4) -> str:
    return f"attackalert: {technique} from host: {source}/{source} to {protocol} port: {port}"


def _with_options(packet: bytes, options: bytes) -> bytes:
    """Return an IPv4 packet with options (whole words of them) in its header."""
    first = 0x40 | (20 + len(options)) // 4
    longer = bytes([first]) + packet[1:20] + options + packet[20:]
    return _with_length(longer, len(longer))


def _with_length(packet: bytes, total: int) -> bytes:
    """Return an IPv4 packet whose header states that length, with a right checksum."""
    header = bytearray(packet[: (packet[0] & 15) * 4])
    header[2:4] = total.to_bytes(2, "big")
    header[10:12] = bytes(2)
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header) + packet[len(header) :]


def _without_checksum(packet: bytes) -> bytes:
    """Return a UDP datagram whose checksum is "none given"."""
    return packet[:26] + bytes(2) + packet[28:]
