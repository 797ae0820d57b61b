"""PortSentry's log lines: the one place that knows how they are spelled.

The probe writes them; `filters/portsentry.toml` reads them, and a property test holds the two
together. Pure text: no time, no process id, no host name (those belong to the syslog header).

Source: PortSentry 1.2 as run (Debian 1.2-14); `port` 0..65535, `address` in canonical text.
"""

from __future__ import annotations

SYSLOG_IDENTIFIER = "portsentry"
SYSLOG_PRIORITY = 29  # facility daemon (3), severity notice (5), for every message alike

STARTING = "adminalert: PortSentry 1.2 is starting."
ACTIVE = "adminalert: PortSentry is now active and listening."
SHUTTING_DOWN = (
    "securityalert: PortSentry is shutting down",
    "adminalert: PortSentry is shutting down",
)


def format_probe(technique: str, name: str, address: str, protocol: str, port: int) -> str:
    """Return the line that reports one probe.

    `name` is what the address resolved to, cleaned of slashes, spaces and controls, or the address
    again. `protocol` is `TCP` or `UDP`. The NULL technique starts with a space, as PortSentry's does.
    """
    return f"attackalert: {technique} from host: {name}/{address} to {protocol} port: {port}"


def format_ip_options(name: str, address: str, protocol: str, port: int) -> str:
    """Return the line that follows a probe whose IP header carried options."""
    return (
        f"attackalert: Packet from host: {name}/{address} to {protocol} port: {port}"
        " has IP options set (detection avoidance technique)."
    )


def format_monitored(count: int) -> str:
    """Return the start-up line of an advanced mode that watches the first `count` ports."""
    return f"adminalert: Advanced mode will monitor first {count} ports"


def format_excluded(port: int | None) -> str:
    """Return the start-up line for one excluded port, or for none; the space at its end is PortSentry's."""
    if port is None:
        return "adminalert: Advanced mode will manually exclude no ports"
    return f"adminalert: Advanced mode will manually exclude port: {port} "


def format_ignored(protocol: str, port: int) -> str:
    """Return the start-up line for a port that is in use or excluded."""
    return f"adminalert: Advanced Stealth scan detection mode activated. Ignored {protocol} port: {port}"


def format_left_out(count: int, limit: int) -> str:
    """Return the line (ours, not PortSentry's) that says how many probes a flood kept out of the log."""
    return f"adminalert: {count} probes left out of the log, limit is {limit} lines a second"
