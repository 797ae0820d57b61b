"""Reads portsentry.conf, of PortSentry 1.2 and 2.x, into one frozen value, with all its faults at once.

A value is what PortSentry takes it for, or the default where it takes nothing sensible; whatever it would
bend or drop in silence is a fault as well. 2.x has the same names for what it kept, without ADVANCED_*, and
ranges in the port lists. Never decides what follows from a setting (`portsentry_settings`), never opens a
file that a directive names. Any bytes give a value and faults, never an exception.

Source: PortSentry 1.2 of Debian, as run; portsentry.conf(5); PortSentry 2.0.7, as run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from correlator.config.portsentry_lines import Directive, Faults, find_directives
from correlator.config.reader import LARGEST_FILE, read_bounded
from correlator.errors import Fault
from correlator.settings import HIGHEST_TRIGGER

CONF_FILE = "portsentry.conf"
TARGET = "$TARGET$"

_PORTS = 1 << 16
_HIGHEST_PORT = _PORTS - 1
_INT_MAX = (1 << 31) - 1
_ITEM = re.compile(r"(\d{1,1023})(?:-(\d{1,1023}))?", re.ASCII)
_MODE = re.compile(r'^(?:TCP|UDP)_MODE="?(\w+)"?\s*(?:#.*)?$', re.ASCII | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PortSentryConf:
    """What a portsentry.conf says; the defaults are PortSentry's."""

    path: Path
    tcp_ports: tuple[int, ...] = ()
    """In the file's order, ranges spelled out."""
    udp_ports: tuple[int, ...] = ()
    advanced_ports_tcp: int = 1024
    """The advanced modes watch every port below this number."""
    advanced_ports_udp: int = 1024
    advanced_exclude_tcp: tuple[int, ...] = ()
    advanced_exclude_udp: tuple[int, ...] = ()
    ignore_file: Path | None = None
    history_file: Path | None = None
    blocked_file: Path | None = None
    """PortSentry appends a dot and the mode."""
    resolve_host: bool = False
    block_tcp: int = 0
    """0: no response; 1: all responses; 2: the external command alone."""
    block_udp: int = 0
    kill_route: str = ""
    """Commands as written, with their tokens; empty: none."""
    kill_hosts_deny: str = ""
    kill_run_cmd: str = ""
    kill_run_cmd_first: bool = False
    scan_trigger: int = 0
    port_banner: str = ""
    given: dict[str, Directive] = field(default_factory=dict)
    """The directives that the file gives, by name, with their line and text."""

    def where(self, name: str) -> str:
        """Return the file and the line where a directive stands, the file alone where it is not given."""
        return f"{self.path}:{self.given[name].line}" if name in self.given else str(self.path)


def read_portsentry_conf(path: Path) -> tuple[PortSentryConf, tuple[Fault, ...]]:
    """Return what the file says, and all that is wrong with it; one that cannot be read says nothing."""
    try:
        data = read_bounded(path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        return PortSentryConf(path), (Fault(str(path), "file", reason, "a portsentry.conf we may read"),)
    return parse_portsentry_conf(data, path)


def parse_portsentry_conf(data: bytes, path: Path) -> tuple[PortSentryConf, tuple[Fault, ...]]:
    """Return what these bytes of the file at `path` say, and all that is wrong with them."""
    faults = Faults(str(path))
    if len(data) > LARGEST_FILE:
        faults.add(None, "file", f"more than {LARGEST_FILE} bytes", f"at most {LARGEST_FILE}")
        data = data[:LARGEST_FILE]
    values = _Values(find_directives(data, faults), faults)
    conf = PortSentryConf(
        path=path,
        tcp_ports=values.ports("TCP_PORTS", lowest=1),
        udp_ports=values.ports("UDP_PORTS", lowest=1),
        advanced_ports_tcp=values.number("ADVANCED_PORTS_TCP", 1024, 1, _PORTS),
        advanced_ports_udp=values.number("ADVANCED_PORTS_UDP", 1024, 1, _PORTS),
        advanced_exclude_tcp=values.ports("ADVANCED_EXCLUDE_TCP", lowest=0),
        advanced_exclude_udp=values.ports("ADVANCED_EXCLUDE_UDP", lowest=0),
        ignore_file=values.file("IGNORE_FILE", is_needed=True),
        history_file=values.file("HISTORY_FILE", is_needed=not values.is_version_2),
        blocked_file=values.file("BLOCKED_FILE", is_needed=not values.is_version_2),
        resolve_host=values.number("RESOLVE_HOST", 0, 0, _INT_MAX) != 0,
        block_tcp=values.number("BLOCK_TCP", 0, 0, 2),
        block_udp=values.number("BLOCK_UDP", 0, 0, 2),
        kill_route=values.response("KILL_ROUTE"),
        kill_hosts_deny=values.response("KILL_HOSTS_DENY"),
        kill_run_cmd=values.text("KILL_RUN_CMD"),
        kill_run_cmd_first=values.number("KILL_RUN_CMD_FIRST", 0, 0, 1) != 0,
        scan_trigger=values.number("SCAN_TRIGGER", 0, 0, HIGHEST_TRIGGER),
        port_banner=values.text("PORT_BANNER"),
        given=values.given,
    )
    return conf, faults.all()


def take_as_version_1(text: str) -> tuple[int, ...]:
    """Return the ports that PortSentry 1.2 takes from a list: the first of each range, 64 in all.

    Items that are no ports are left out; `parse_portsentry_conf` says them.
    """
    items = [_ITEM.fullmatch(item) for item in _items(text)]
    return tuple(dict.fromkeys(int(found.group(1)) for found in items if found))[:64]


def read_debian_modes(conf: Path) -> tuple[str, ...]:
    """Return the modes in which Debian's init script starts PortSentry, from `default/portsentry`.

    The file stands beside the folder of `conf`. Nothing where it is not there or cannot be read.
    """
    try:
        text = read_bounded(conf.parent.parent / "default" / "portsentry").decode("latin-1")
    except (OSError, ValueError):
        return ()
    return tuple(dict.fromkeys(_MODE.findall(text)))


def find_static_ignore_file(conf: PortSentryConf) -> Path | None:
    """Return Debian's `portsentry.ignore.static` where it stands beside the ignore file, else None.

    Debian's init script builds the ignore file from it, and people and portsentry-add-ip edit only it.
    """
    if conf.ignore_file is None:
        return None
    static = Path(f"{conf.ignore_file}.static")
    try:
        return static if static.is_file() else None
    except OSError:
        return None


class _Values:
    """Takes typed values from the directives and notes what is wrong with each."""

    def __init__(self, given: dict[str, Directive], faults: Faults) -> None:
        self.given = given
        self._faults = faults

    @property
    def is_version_2(self) -> bool:
        """True for a file that can only be 2.x's: ranges among the ports and no advanced mode."""
        if any(name.startswith("ADVANCED_") for name in self.given):
            return False
        return any("-" in self.text(name) for name in ("TCP_PORTS", "UDP_PORTS"))

    def text(self, name: str) -> str:
        """Return a value, empty where none is given."""
        directive = self.given.get(name)
        return (directive.text or "") if directive else ""

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number."""
        directive = self.given.get(name)
        if directive is None or directive.text is None:
            return default
        text = directive.text.strip(" ")
        if text.isdigit() and least <= (number := int(text)) <= most:
            return number
        limits = "0 or 1" if most == _INT_MAX else f"a whole number from {least} to {most}"
        self._fault(name, directive.text, f"{limits}{_outcome(name)}")
        return default

    def ports(self, name: str, *, lowest: int) -> tuple[int, ...]:
        """Return ports in the order in which they stand, each once."""
        found: dict[int, None] = {}
        room = _PORTS
        for item in _items(self.text(name)):
            parts = _ITEM.fullmatch(item)
            first = int(parts.group(1)) if parts else -1
            last = int(parts.group(2)) if parts and parts.group(2) else first
            if not lowest <= first <= last <= _HIGHEST_PORT:
                expected = f"ports from {lowest} to {_HIGHEST_PORT}{_outcome_of_port(name, first, item)}"
                self._fault(name, item, expected)
                continue
            if (room := room - (last - first + 1)) < 0:
                self._fault(name, self.text(name), f"{_PORTS} ports at most")
                break
            found |= dict.fromkeys(range(first, last + 1))
        return tuple(found)

    def file(self, name: str, *, is_needed: bool) -> Path | None:
        """Return an absolute path; a fault where a needed one is not given."""
        directive = self.given.get(name)
        if directive is None:
            if is_needed:
                self._faults.add(None, name, "no value", "a path; PortSentry 1.2 does not start without it")
            return None
        if directive.text is None:
            return None
        if not directive.text.startswith("/"):
            self._fault(name, directive.text, "an absolute path")
            return None
        return Path(directive.text)

    def response(self, name: str) -> str:
        """Return a response, which must name its target; one that does not is none."""
        text = self.text(name)
        if text and TARGET not in text:
            self._fault(name, text, f"{TARGET} in it; PortSentry skips it and blocks nobody")
            return ""
        return text

    def _fault(self, name: str, got: str, expected: str) -> None:
        shown = got if len(got) <= 80 else got[:77] + "..."
        self._faults.add(self.given[name].line, name, repr(shown), expected)


def _items(text: str) -> Iterator[str]:
    return (item.strip(" ") for item in text.split(",") if item.strip(" "))


def _outcome(name: str) -> str:
    """Return what PortSentry does with a number out of range."""
    if name.startswith("ADVANCED_PORTS_"):
        return "; PortSentry watches no port for 0 or text, and all for more"
    if name.startswith("BLOCK_"):
        return "; PortSentry takes anything else for 0"
    if name == "SCAN_TRIGGER":
        return "; PortSentry takes text and less for 0, and with more warns at each packet and alarms at once"
    return "; PortSentry takes text for 0"


def _outcome_of_port(name: str, number: int, item: str) -> str:
    """Return what PortSentry 1.2 does with something that is no port."""
    if "-" in item or not name.endswith("_PORTS"):
        return ""
    if number <= 0:
        return "; PortSentry takes text for 0, and opens any free port for that"
    if number > _INT_MAX:
        return ""
    return f"; PortSentry opens {number % _PORTS} and reports {number}"
