"""Reads packets from a capture file in libpcap's format, byte by byte, with their own times.

Both byte orders, micro- and nanoseconds; Ethernet with VLAN tags, raw IP, Linux cooked v1 and v2. A file
is a stranger's text: what it says about lengths is checked, what is no IP is passed over, and a file cut
short in its last packet is read up to there. Source: draft-ietf-opsawg-pcap; tcpdump.org's link types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from correlator.errors import CaptureFileError

_HEADER_BYTES = 24
_LONGEST_PACKET = 262_144  # libpcap's own bound: more is a damaged file
_MAGICS = {  # byte order, nanoseconds in one unit of the fraction
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_OTHERS = {
    b"\x0a\x0d\x0d\x0a": "a pcapng file: convert it with  editcap -F pcap FILE NEW",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it first",
    b"\xfd7zX": "an xz file: unpack it first",
}
_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8)
_MOST_TAGS = 4
_ETHERNET, _COOKED1, _COOKED2 = 1, 113, 276
_RAW = (12, 14, 101, 228, 229)  # the kinds of "IP from the first byte on"


class Captured(NamedTuple):
    """One IP packet of a capture."""

    at: int
    """Nanoseconds since 1970."""
    version: int
    data: bytes
    """As much of it as the file holds."""
    size: int
    """Bytes that it had on the wire, padding behind it included."""


def read_capture(path: Path) -> Iterator[Captured]:
    """Yield the IP packets of a file in its order.

    Raises: CaptureFileError where it cannot be opened, is no capture, or holds what we cannot read.
    """
    try:
        with path.open("rb") as file:
            yield from _read_packets(file, str(path))
    except OSError as exc:
        raise CaptureFileError(f"{path}: {exc.strerror}") from exc


def _read_packets(file: BinaryIO, name: str) -> Iterator[Captured]:
    header = file.read(_HEADER_BYTES)
    for magic, meaning in _OTHERS.items():
        if header.startswith(magic):
            raise CaptureFileError(f"{name}: {meaning}")
    if header[:4] not in _MAGICS or len(header) < _HEADER_BYTES:
        raise CaptureFileError(f"{name}: got {header[:4].hex() or 'nothing'}, expected a libpcap file")
    order, unit = _MAGICS[header[:4]]
    link = struct.unpack_from(f"{order}I", header, 20)[0] & 0x0FFFFFFF  # above: the checksum's length
    if link not in (_ETHERNET, _COOKED1, _COOKED2, *_RAW):
        raise CaptureFileError(
            f"{name}: got link type {link}, expected Ethernet (1), raw IP (101) or Linux cooked (113, 276)"
        )
    record = struct.Struct(f"{order}IIII")
    while len(start := file.read(record.size)) == record.size:
        seconds, fraction, kept, size = record.unpack(start)
        if kept > _LONGEST_PACKET:
            raise CaptureFileError(
                f"{name}: got a packet of {kept} bytes, expected {_LONGEST_PACKET} at most"
            )
        data = file.read(kept)
        if len(data) < kept:
            return
        packet = _strip_link(link, data)
        if packet and packet[0] >> 4 in (4, 6):
            at = seconds * 1_000_000_000 + fraction * unit
            yield Captured(at, packet[0] >> 4, packet, max(size, kept) - (kept - len(packet)))


def _strip_link(link: int, data: bytes) -> bytes:
    """Return the IP packet behind the link's header; nothing where there is none."""
    if link in _RAW:
        return data
    if link == _COOKED2:
        return data[20:] if int.from_bytes(data[:2], "big") in (_IPV4, _IPV6) else b""
    at = 12 if link == _ETHERNET else 14
    for _ in range(_MOST_TAGS):
        kind = int.from_bytes(data[at : at + 2], "big")
        if kind in (_IPV4, _IPV6):
            return data[at + 2 :]
        if kind not in _VLAN_TAGS:
            break
        at += 4
    return b""
