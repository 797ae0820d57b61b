"""What each process is told at its start, as frozen values; `config` makes them from files.

They sit below the processes, so that the probe and the enforcer need not import anything that knows
file formats, and a test can build one in a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from correlator.model import SECOND, Micros, Source


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie on this host."""

    alert_log: Path = Path("/var/log/portward/alert.log")
    state: Path = Path("/var/lib/portward")
    run: Path = Path("/run/portward")
    history: Path = Path("/var/lib/portward/portward.history")
    blocked: Path = Path("/var/lib/portward/portward.blocked")
    ignore: Path = Path("/etc/portward/portward.ignore")
    syslog: Path = Path("/dev/log")

    @property
    def enforcer_socket(self) -> Path:
        """Where the enforcer takes requests."""
        return self.run / "enforcer.sock"

    @property
    def correlator_status(self) -> Path:
        """Where the correlator leaves its counters, as JSON, every two seconds."""
        return self.run / "correlator.json"

    @property
    def nudge_socket(self) -> Path:
        """Where the correlator is told that the alert log has a new line; a hint that may be lost."""
        return self.run / "nudge.sock"

    @property
    def probe_status(self) -> Path:
        """Where the probe leaves its counters, as JSON, every two seconds."""
        return self.run / "probe.json"

    @property
    def blocks_database(self) -> Path:
        """The enforcer's belief."""
        return self.state / "blocks.sqlite"

    @property
    def correlator_database(self) -> Path:
        """The correlator's positions, strikes and decisions."""
        return self.state / "correlator.sqlite"


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What the probe watches and how much it may write."""

    paths: Paths = Paths()
    tcp_ports: tuple[tuple[int, int], ...] = ((1, 1024),)
    """Inclusive ranges of watched TCP ports; empty: TCP is not watched."""
    udp_ports: tuple[tuple[int, int], ...] = ((1, 1024),)
    exclude_tcp: frozenset[int] = frozenset({113, 139})
    exclude_udp: frozenset[int] = frozenset({67, 137, 138, 520})
    lines_a_second: int = 1000
    """Alert lines written in one second at most; the rest is counted and said in one line."""
    linger: Micros = 5 * SECOND
    """How long a port stays unreported after its service was last seen on it."""
    to_syslog: bool = True


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


@dataclass(frozen=True, slots=True)
class CorrelatorSettings:
    """Bounds and habits of the correlator; jails and filters come beside it."""

    paths: Paths = Paths()
    is_blocking: bool = False
    """False is mode observe: decide, say so, and block nothing."""
    max_sources: int = 100_000
    """Sources in one jail's table; the idlest leaves first, and is counted."""
    max_line: int = 8192
    """Bytes of one line; longer ones are cut and counted."""
    pattern_timeout: Micros = 50_000
    """Longest a pattern may work on one line before it is put in quarantine."""
    never_block: tuple[Source, ...] = field(default=())
