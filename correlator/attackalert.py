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
NOT_STARTED = "adminalert: ERROR: could not go into PortSentry mode. Shutting down."
NO_IGNORE_FILE = "attackalert: ERROR: cannot open ignore file. Blocking host anyway."
CONNECT = "Connect"
"""Stands in the place of a technique where somebody connected, or sent a datagram to a port we opened."""

_ENDED = (
    "adminalert: PortSentry ",
    "securityalert: PortSentry is",
    "adminalert: Going into ",
    "adminalert: Advanced Stealth scan",
    "adminalert: ERROR: could not ",
    "adminalert: ERROR: Socket ",
    "adminalert: ERROR: All supplied ",
    NO_IGNORE_FILE,
)


def end_for_syslog(text: str) -> str:
    """Return the text with a line feed behind it where PortSentry sends one to syslog; never for a probe."""
    return text + "\n" if text.startswith(_ENDED) else text


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


def format_listening(protocol: str, port: int) -> str:
    """Return the start-up line for a port that is about to be opened."""
    return f"adminalert: Going into listen mode on {protocol} port: {port}"


def format_unbound(protocol: str, port: int) -> str:
    """Return the line that follows it where the port could not be opened."""
    return f"adminalert: ERROR: could not bind {protocol} socket: {port}. Attempting to continue"


def format_none_bound(protocol: str) -> str:
    """Return the line that ends a connect mode which could open no port."""
    return f"adminalert: ERROR: could not bind ANY {protocol} sockets. Shutting down."


def format_stealth_listening(protocol: str, port: int) -> str:
    """Return the start-up line for a port that is watched without being opened."""
    return f"adminalert: Going into stealth listen mode on {protocol} port: {port}"


def format_in_use(port: int) -> str:
    """Return the line that follows it where a service has the port."""
    return f"adminalert: ERROR: Socket {port} is in use and will not be monitored. Attempting to continue"


def format_all_in_use(protocol: str) -> str:
    """Return the line that ends a stealth mode whose ports are all in use."""
    return (
        f"adminalert: ERROR: All supplied {protocol} sockets are in use and will not be listened to."
        " Shutting down."
    )


def format_no_ports(protocol: str) -> str:
    """Return the line that ends a connect or stealth mode with an empty list of ports."""
    return f"adminalert: ERROR: No {protocol} ports supplied in config file. Aborting"


def format_accept_failed(port: int) -> str:
    """Return the line for a connection that was gone before it could be taken."""
    return f"attackalert: Possible stealth scan from unknown host to TCP port: {port} (accept failed)"


def format_left_out(count: int, limit: int) -> str:
    """Return the line (ours, not PortSentry's) that says how many probes a flood kept out of the log."""
    return f"adminalert: {count} probes left out of the log, limit is {limit} lines a second"
