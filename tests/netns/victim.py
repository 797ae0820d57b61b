"""What tests do to a victim from both sides: services, connections, scans; and the lines that report them."""

import socket
from collections.abc import Callable

import pytest

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, VICTIM_DEVICE, Lab

WaitUntil = Callable[..., None]
CONNECT = "attackalert: Connect from host: {0}/{0} to {1} port: {2}"
ACK = "attackalert: TCP ACK scan from host: {0}/{0} to TCP port: {1}"
SYN = "attackalert: TCP SYN/Normal scan from host: {0}/{0} to TCP port: {1}"
BOTH = pytest.mark.parametrize(("victim", "source"), [(VICTIM4, SCANNER4), (VICTIM6, SCANNER6)])


def serve(lab: Lab, port: int, *, kind: int = socket.SOCK_STREAM, address: str = "::") -> socket.socket:
    """A service in the victim; on `::` it serves both IP versions."""
    with lab.victim.entered():
        serving = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    if kind == socket.SOCK_STREAM:
        serving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    serving.bind((address, port))
    if kind == socket.SOCK_STREAM:
        serving.listen(64)
    return serving


def nmap(lab: Lab, option: str, ports: str, victim: str = VICTIM4) -> str:
    """Scan these ports once each and return what nmap says."""
    version = ["-6"] if ":" in victim else []
    argv = ["nmap", "-n", "-Pn", "-r", "--max-retries", "0", option, "-p", ports, *version, victim]
    return lab.scanner.run(*argv).stdout


def connect(lab: Lab, port: int, victim: str = VICTIM4, source: str = "") -> socket.socket:
    """A finished handshake from the scanner, from one of its addresses where one is named."""
    with lab.scanner.entered():
        return socket.create_connection((victim, port), timeout=5, source_address=(source, 0))


def hardware_address(lab: Lab) -> str:
    """The address of the victim's device, as the scanner's frames carry it."""
    shown = lab.victim.run("ip", "-o", "link", "show", "dev", VICTIM_DEVICE).stdout
    return shown.split("link/ether ")[1].split()[0]
