"""PortSentry's log lines: the one place that knows how they are spelled.

The probe writes them; `filters/portsentry.toml` reads them, and a property test holds the two
together. Pure text: no time, no process id, no host name (those belong to the syslog header).

Source: PortSentry 1.2 as run (Debian 1.2-14); `port` 0..65535, `address` in canonical text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

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

CONNECT_MODES = ("tcp", "udp")
"""The modes that open ports, and spell some of their lines in their own way."""

_MAX_PORT = 65535
# attackalert:  TCP NULL scan from host: scanner.example.net/192.0.2.2 to TCP port: 200
_PROBE = re.compile(
    r"\battackalert: (?P<technique>[ \w/:]{1,120}?) from host: (?P<name>.{0,1024})/"
    r"(?P<address>[0-9a-fA-F.:]+) to (?P<protocol>TCP|UDP) port: (?P<port>\d{1,5})$",
    re.ASCII,
)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
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


def format_already_blocked(name: str, address: str, mode: str) -> str:
    """Return the line that follows a probe of a source which is denied; each kind of mode spells its own."""
    if mode in CONNECT_MODES:
        return f"attackalert: Host: {address} is already blocked. Ignoring"
    return f"attackalert: Host: {name}/{address} is already blocked Ignoring"


def format_no_response(protocol: str) -> str:
    """Return the line that follows a probe which is only reported."""
    return f"attackalert: Ignoring {protocol} response per configuration file setting."


def format_response(says: str, address: str, detail: str) -> str:
    """Return the line about one response that was carried out.

    `says` is `wrappers`, `route` or `command`; `detail` is the line that was written, or the command.
    """
    if says == "command":
        return f'attackalert: External command run for host: {address} using command: "{detail}"'
    if says == "wrappers":
        return f'attackalert: Host {address} has been blocked via wrappers with string: "{detail}"'
    return f'attackalert: Host {address} has been blocked via dropped route using command: "{detail}"'


def format_hosts_deny_failed(file: str, address: str) -> tuple[str, str]:
    """Return the two lines about a hosts.deny that could not be written."""
    return (
        f"adminalert: cannot open hosts.deny file: {file} for blocking.",
        f"securityalert: ERROR: There was an error trying to block host {address}",
    )


def format_not_blocked(name: str, address: str, mode: str) -> str:
    """Return the line that says that a response failed; three kinds of mode spell it in three ways."""
    if mode in CONNECT_MODES:
        return f"attackalert: ERROR: Could not block host {address} !!"
    return f"attackalert: ERROR: Could not block host {name}/{address}{' ' * (mode == 'stcp')}!!"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a line that reports one probe says."""

    technique: str
    name: str
    """The sender's name, or its address again; text of the sender's name server."""
    address: str
    protocol: str
    port: int


def parse_probe(line: str) -> Probe | None:
    """Return what the line of a probe says, with or without its syslog header; None for any other line."""
    found = _PROBE.search(line)
    if found is None or int(found["port"]) > _MAX_PORT:
        return None
    name = found["name"]
    is_clean = _NAME.fullmatch(name) is not None or name == found["address"]
    return Probe(
        found["technique"],
        name if is_clean else found["address"],
        found["address"],
        found["protocol"],
        int(found["port"]),
    )


def mode_of(probe: Probe, modes: Collection[str]) -> str:
    """Return which of the modes that run has seen a probe: `tcp udp stcp sudp atcp audp`."""
    protocol = probe.protocol.lower()
    if probe.technique == CONNECT:
        return protocol
    return f"s{protocol}" if f"s{protocol}" in modes and f"a{protocol}" not in modes else f"a{protocol}"
