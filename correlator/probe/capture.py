"""Opens the packet sockets: for IPv4, for IPv6, for our answers, each with its locked filter in the kernel.

The first two ask for one protocol each instead of for everything. The kernel then hands packets over
behind its bridge, bond and VLAN handling: each packet once, with its VLAN tag gone, at the device that
the IP stack sees it on, and never our own outgoing ones. They stand in front of netfilter: a blocked
source is still seen. Decides nothing about packets.
Source: packet(7), socket(7), linux/if_packet.h, linux/filter.h.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct
from dataclasses import dataclass

from correlator.errors import KernelError, PermissionDeniedError

_ETHERTYPES = {4: 0x0800, 6: 0x86DD, 0: 0x0003}  # ETH_P_ALL: the only one that shows our own packets
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SO_LOCK_FILTER = 44
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_AUXDATA = 8
_PACKET_FANOUT = 18
_PACKET_IGNORE_OUTGOING = 23
_FANOUT_DEFRAGMENT = 0x8000
_FANOUT_UNIQUE_ID = 0x2000
_ADDRESS = struct.Struct("=HHi12x")  # sockaddr_ll: family, protocol, device index, and what bind ignores
_STATISTICS = struct.Struct("=II")
_AUXILIARY = struct.Struct("=I16x")  # tpacket_auxdata: status, and what is of no use here
AUXILIARY_BYTES = socket.CMSG_SPACE(_AUXILIARY.size)
"""Room for what the kernel says about a packet, in `recvmsg`."""
_CHECKSUM_NOT_READY, _CHECKSUM_VALID = 0x08, 0x80
_BUFFER_BYTES = 32 << 20
"""Holds 40,000 small packets: a scan at full speed while this process waits for the processor."""


@dataclass(slots=True)
class Capture:
    """One packet socket, non-blocking; `socket` is for `poll` and `recvfrom_into`."""

    version: int
    """4 or 6; 0 for both, our own packets included."""
    socket: socket.socket
    is_reassembling: bool
    """True where the kernel puts IPv4 fragments together before the filter sees them."""
    dropped: int = 0

    def count_dropped(self) -> int:
        """Return how many packets found the buffer full since the start."""
        statistics = self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self.dropped += _STATISTICS.unpack(statistics)[1]  # the kernel starts at 0 again when read
        return self.dropped

    def close(self) -> None:
        """Give the descriptor back."""
        self.socket.close()


def open_capture(version: int, program: bytes) -> Capture:
    """Return a socket that delivers what `program` passes, of all devices of this network namespace.

    `version` 4 or 6 is one protocol without our own packets, 0 is all protocols with them.

    Raises: PermissionDeniedError without CAP_NET_RAW, KernelError where the kernel has no packet sockets.
    """
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        # Protocol 0 receives nothing until it is bound: no packet can slip in before the filter is there.
        opened = socket.socket(socket.AF_PACKET, kind, 0)
    except PermissionError as exc:
        raise PermissionDeniedError(
            "packet socket: permission denied, expected CAP_NET_RAW: start the probe as root, or as a "
            "service with AmbientCapabilities=CAP_NET_RAW"
        ) from exc
    except OSError as exc:
        raise KernelError(f"packet socket: the kernel refused: {exc}") from exc
    try:
        _attach_filter(opened, program)
        _enlarge_buffer(opened)
        if version:
            opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        _bind_to_all_devices(opened, _ETHERTYPES[version])
        is_reassembling = version == 4 and _reassemble(opened)
    except OSError as exc:
        opened.close()
        purpose = f"IPv{version}" if version else "our answers"
        raise KernelError(f"packet socket for {purpose}: the kernel refused: {exc}") from exc
    return Capture(version, opened, is_reassembling)


def is_verified(ancillary: list[tuple[int, int, bytes]]) -> bool:
    """Whether the kernel vouches for a packet's transport checksum.

    The network card has verified it, or it was never filled in, because the packet did not leave this
    machine: then its receiver takes it as it is.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(data) >= _AUXILIARY.size:
            return bool(_AUXILIARY.unpack_from(data)[0] & (_CHECKSUM_NOT_READY | _CHECKSUM_VALID))
    return False


def _attach_filter(opened: socket.socket, program: bytes) -> None:
    code = array.array("B", program)
    address, length = code.buffer_info()
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", length // 8, address))
    opened.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def _bind_to_all_devices(opened: socket.socket, ethertype: int) -> None:
    """Start receiving; Python's own `bind` insists on the name of one device (index 0 is all of them)."""
    address = _ADDRESS.pack(socket.AF_PACKET, socket.htons(ethertype), 0)
    if ctypes.CDLL(None, use_errno=True).bind(opened.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enlarge_buffer(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    except PermissionError:  # needs CAP_NET_ADMIN; without it net.core.rmem_max is the bound
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)


def _reassemble(opened: socket.socket) -> bool:
    """Join a fan-out group of one, for its side effect: fragments are put together before the filter.

    Eight-byte fragments (nmap -f) hide the TCP flags from a filter that sees one fragment at a time; the
    host itself answers the whole packet. Returns whether the kernel does it; without it such probes are
    not seen, and everything else is.
    """
    group = struct.pack("=HH", 0, _FANOUT_DEFRAGMENT | _FANOUT_UNIQUE_ID)
    try:
        opened.setsockopt(_SOL_PACKET, _PACKET_FANOUT, group)
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.ENOPROTOOPT, errno.ENOSPC, errno.ENOMEM, errno.EPERM):
            return False
        raise
    return True
