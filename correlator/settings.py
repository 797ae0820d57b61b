"""What each process is told at its start, as frozen values; `config` makes them from files.

They sit below the processes, so that the probe and the enforcer need not import anything that knows
file formats, and a test can build one in a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from correlator.actions import ActionDefinition
from correlator.model import SECOND, Micros, Source


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie on this host.

    Below `run` each process has a folder of its own, because they are different users: none can stand in for
    another, or take away what another left there.
    """

    alert_log: Path = Path("/var/log/portward/alert.log")
    packet_log: Path = Path("/var/log/portward/packets.log")
    state: Path = Path("/var/lib/portward")
    run: Path = Path("/run/portward")
    history: Path = Path("/var/lib/portward/portward.history")
    blocked: Path = Path("/var/lib/portward/portward.blocked")
    ignore: Path = Path("/etc/portward/portward.ignore")
    syslog: Path = Path("/dev/log")

    @property
    def probe_run(self) -> Path:
        """The probe's own folder below `run`."""
        return self.run / "probe"

    @property
    def correlator_run(self) -> Path:
        """The correlator's own folder below `run`."""
        return self.run / "correlator"

    @property
    def enforcer_run(self) -> Path:
        """The enforcer's own folder below `run`."""
        return self.run / "enforcer"

    @property
    def enforcer_socket(self) -> Path:
        """Where the enforcer takes requests."""
        return self.enforcer_run / "enforcer.sock"

    @property
    def unwritten(self) -> Path:
        """Where the enforcer keeps what a full disk would not take."""
        return self.enforcer_run / "unwritten"

    @property
    def correlator_status(self) -> Path:
        """Where the correlator leaves its counters, as JSON, every two seconds."""
        return self.correlator_run / "correlator.json"

    @property
    def nudge_socket(self) -> Path:
        """Where the correlator is told that the alert log has a new line; a hint that may be lost."""
        return self.correlator_run / "nudge.sock"

    @property
    def probe_status(self) -> Path:
        """Where the probe leaves its counters, as JSON, every two seconds."""
        return self.probe_run / "probe.json"

    @property
    def packet_log_status(self) -> Path:
        """Where the reader of packet groups leaves its counters, as JSON, every two seconds."""
        return self.probe_run / "packet-log.json"

    @property
    def blocks_database(self) -> Path:
        """The enforcer's belief."""
        return self.state / "blocks.sqlite"

    @property
    def correlator_state(self) -> Path:
        """The correlator's own folder below `state`; the rest of `state` is the enforcer's."""
        return self.state / "correlator"

    @property
    def correlator_database(self) -> Path:
        """The correlator's positions, strikes and decisions."""
        return self.correlator_state / "correlator.sqlite"

    @property
    def correlator_proofs(self) -> Path:
        """Which filters have passed their tests."""
        return self.correlator_state / "proved.json"


PROBE_MODES = ("tcp", "udp", "stcp", "sudp", "atcp", "audp")
"""PortSentry's six: connect (bind and accept), stealth (listed ports, unbound), advanced (ranges)."""

ECHOES = ("none", "lines", "json")
"""Nothing, PortSentry's text for people, or one JSON object a line."""

HIGHEST_TRIGGER = 50
"""PortSentry's state engine holds 50 hits: with a higher SCAN_TRIGGER it warns, and alarms at once."""

LONGEST_BANNER = 1024
"""Bytes; it must fit any socket's buffer and one datagram, so that sending it never waits."""

# Debian's portsentry.conf, in its order
_TCP_LIST = (
    *(1, 11, 15, 79, 111, 119, 143, 540, 635, 1080, 1524, 2000, 5742, 6667, 12345, 12346, 20034, 27665),
    *(31337, 32771, 32772, 32773, 32774, 40421, 49724, 54320),
)
_UDP_LIST = (
    *(1, 7, 9, 69, 161, 162, 513, 635, 640, 641, 700, 37444, 34555, 31335, 32770, 32771, 32772, 32773),
    *(32774, 31337, 54321),
)


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What the probe watches, in which ways, and how much it may write."""

    paths: Paths = Paths()
    modes: tuple[str, ...] = ("atcp", "audp")
    """Some of `PROBE_MODES`, in the order of their start lines."""
    tcp_ports: tuple[tuple[int, int], ...] = ((1, 1024),)
    """Inclusive ranges of TCP ports that `atcp` watches; PortSentry's ADVANCED_PORTS_TCP."""
    udp_ports: tuple[tuple[int, int], ...] = ((1, 1024),)
    exclude_tcp: tuple[int, ...] = (113, 139)
    """Ports that the advanced modes leave out, in the order of their start lines."""
    exclude_udp: tuple[int, ...] = (520, 138, 137, 67)
    tcp_list: tuple[int, ...] = _TCP_LIST
    """What `tcp` binds and `stcp` watches, in the order of their start lines; PortSentry's TCP_PORTS."""
    udp_list: tuple[int, ...] = _UDP_LIST
    interfaces: tuple[str, ...] = ()
    """Names of the devices whose packets count; empty: all of them."""
    banner: str = ""
    """What `tcp` and `udp` send to who connects, no line feed added; empty: nothing."""
    hidden_scans: bool = True
    """See ACK, window and Maimon scans by our own kernel's answers; never under `compat`."""
    compat: bool = False
    """Do what PortSentry does also where we would do better."""
    scan_trigger: int = 0
    """PortSentry's SCAN_TRIGGER as it counts: from which hit of a source on lines are written, 0 to 50."""
    resolve_names: bool = False
    """Look up the names of senders: in the background, as text for the log only."""
    nflog: tuple[int, ...] = ()
    """Groups of NFLOG and `log group` whose packets another process writes to the packet log."""
    lines_a_second: int = 1000
    """Alert lines written in one second at most; the rest is counted and said in one line."""
    linger: Micros = 5 * SECOND
    """How long a port stays unreported after its service was last seen on it."""
    to_syslog: bool = True
    echo: str = "none"
    """How lines are shown on standard output: one of `ECHOES`."""


@dataclass(frozen=True, slots=True)
class TripwireSettings:
    """What makes the kernel itself hold a source for some seconds; see `enforcer.tripwire`."""

    tcp_ports: tuple[tuple[int, int], ...] = ()
    """Inclusive ranges of the watched ports, those left out already taken away."""
    udp_ports: tuple[tuple[int, int], ...] = ()
    interfaces: tuple[str, ...] = ()
    """Names of the devices whose packets count; empty: all of them."""
    threshold: int = 1
    """The packet of one source that trips: 1 is the first."""
    hold: Micros = 5 * SECOND
    size: int = 65_536
    """Sources held at once at most, of each version of IP."""


@dataclass(frozen=True, slots=True)
class EnforcerSettings:
    """What the enforcer may do, whom it believes, and whom it never blocks."""

    paths: Paths = Paths()
    allowed_users: frozenset[str] = frozenset({"root", "portward"})
    """Who may send requests, by the peer credentials of the socket."""
    never_block: tuple[Source, ...] = ()
    """From the configuration, in addition to loopback, own addresses, gateways and resolvers."""
    sync_every: Micros = 30 * SECOND
    """How often belief and kernel are compared."""
    widest_prefix4: int = 16
    widest_prefix6: int = 32
    is_enforcing: bool = False
    """True: the firewall table is made at the start; false: with the first block."""
    actions: tuple[ActionDefinition, ...] = ()
    """What the jails of this site use, besides the kernel's own set."""
    tripwire: TripwireSettings | None = None
    """None: not wanted."""
    blocked_modes: tuple[str, ...] = ()
    """Write one blocked file for each of these modes, as PortSentry does; empty: one in all."""


@dataclass(frozen=True, slots=True)
class CorrelatorSettings:
    """Bounds and habits of the correlator; jails and filters come beside it."""

    paths: Paths = Paths()
    is_blocking: bool = False
    """False is mode observe: decide, say so, and block nothing."""
    response_lines: bool = False
    """Write PortSentry's lines about responses too: blocked via, already blocked, ignoring."""
    follows_journal: bool = True
    """Whether the systemd journal is read, where there is one."""
    journal_folder: Path | None = None
    """Where the journal's files are; None: where journald of this host keeps them."""
    max_sources: int = 100_000
    """Sources in one jail's table; the idlest leaves first, and is counted."""
    max_line: int = 8192
    """Bytes of one line; longer ones are cut and counted."""
    pattern_timeout: Micros = 50_000
    """Longest a pattern may work on one line before it is put in quarantine."""
