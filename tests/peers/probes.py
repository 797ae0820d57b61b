"""Packets that both guards get, and the lines that they should write about them."""

from __future__ import annotations

from correlator.drill.lab import SCANNER4, VICTIM4
from correlator.drill.packets import Route, build_tcp, build_udp, checksum


def build_probes(tcp_port: int, udp_port: int, source: str = SCANNER4) -> tuple[bytes, bytes]:
    """Return one SYN and one datagram."""
    tcp, udp = (Route(source, 30_000, VICTIM4, port) for port in (tcp_port, udp_port))
    return build_tcp(tcp), build_udp(udp, b"x")


def syn_line(port: int) -> str:
    """The line about a SYN of the scanner to a port that is watched and not opened."""
    return probe_line("TCP SYN/Normal scan", "TCP", port)


def udp_line(port: int) -> str:
    """The line about a datagram of the scanner to such a port."""
    return probe_line("UDP scan", "UDP", port)


def probe_line(technique: str, protocol: str, port: int, source: str = SCANNER4) -> str:
    """The line about one probe, without a name."""
    return f"attackalert: {technique} from host: {source}/{source} to {protocol} port: {port}"


def with_options(packet: bytes, options: bytes) -> bytes:
    """Return an IPv4 packet with options (whole words of them) in its header."""
    first = 0x40 | (20 + len(options)) // 4
    longer = bytes([first]) + packet[1:20] + options + packet[20:]
    return with_length(longer, len(longer))


def with_length(packet: bytes, total: int) -> bytes:
    """Return an IPv4 packet whose header states that length, with a right checksum."""
    header = bytearray(packet[: (packet[0] & 15) * 4])
    header[2:4] = total.to_bytes(2, "big")
    header[10:12] = bytes(2)
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header) + packet[len(header) :]


def without_checksum(packet: bytes) -> bytes:
    """Return a UDP datagram whose checksum is "none given"."""
    return packet[:26] + bytes(2) + packet[28:]
