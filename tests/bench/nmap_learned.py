"""How many ports nmap learns before it is shut out: those that it calls open or closed."""

import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from correlator.drill.lab import SCANNER_DEVICE, VICTIM4, Lab
from tests.bench.guard import Guard

SERVICES = (22, 80, 139, 443, 515)
PORTS = "21,22,80,139,443,515,516-1023"
_LONGEST_SCAN_SECONDS = 120.0
_BACKLOG = 512


@dataclass(frozen=True)
class Learned:
    """What one scan found out."""

    opened: int
    closed: int
    filtered: int


@contextmanager
def services(lab: Lab) -> Iterator[None]:
    """Let services listen in the victim; open them before a guard looks which ports are in use."""
    with ExitStack() as stack:
        for port in SERVICES:
            with lab.victim.entered():
                stack.enter_context(socket.create_server(("", port), backlog=_BACKLOG))
        yield


def scan(guard: Guard, source: str) -> Learned:
    """Scan with nmap -sS -T5 from one of the scanner's addresses."""
    guard.demand_running()
    argv = ("nmap", "-sS", "-T5", "-n", "-Pn", "-r", "-p", PORTS, "-oX", "-")
    origin = ("-S", source, "-e", SCANNER_DEVICE)
    ended = guard.lab.scanner.run(*argv, *origin, VICTIM4, seconds=_LONGEST_SCAN_SECONDS)
    guard.release(source)
    return _read_result(ended.stdout)


def _read_result(xml: str) -> Learned:
    """Count the ports by state; nmap lists the commonest states by number only."""
    count = {"open": 0, "closed": 0, "filtered": 0}
    root = ET.fromstring(xml)  # noqa: S314 - written by the nmap that we started
    for extra in root.iter("extraports"):
        count[extra.attrib["state"]] += int(extra.attrib["count"])
    for state in root.iterfind(".//port/state"):
        count[state.attrib["state"]] += 1
    return Learned(count["open"], count["closed"], count["filtered"])
