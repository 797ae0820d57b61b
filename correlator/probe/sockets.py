"""Asks the kernel which sockets would take a packet, by sock_diag netlink; binds and opens nothing.

Two questions: all listeners (for the table of ports in use), and one packet's exact taker. The second
is the kernel's own lookup for that packet, bound addresses and devices included, so a service that
opened a microsecond before the packet came is found. PortSentry asks by binding the port itself, which
shows it open to the scanner for that moment. Source: sock_diag(7), linux/inet_diag.h.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct

from correlator.errors import KernelError
from correlator.kernel.netlink import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    NetlinkSocket,
    error_number,
    pack_message,
    raise_for_error,
    read_messages,
)
from correlator.probe.packets import TCP, Packet

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
"""inet_diag_req_v2: family, protocol, extensions, states, then ports, addresses, device, cookie."""
_ANSWER = struct.Struct("=BB2x2s2s16s16s")
"""inet_diag_msg, the front of it: family, state, ports, addresses."""
_ANY_COOKIE = b"\xff" * 8
_ANSWER_BYTES = 8192
_STATE_CLOSE = 7  # an unconnected UDP socket: takes datagrams from anybody
_STATE_LISTEN = 10
_ALL_STATES = 0xFFFFFFFF


class Taker(enum.Enum):
    """Who on this host would take a packet."""

    NOBODY = enum.auto()
    SERVICE = enum.auto()
    """A socket that is there for everybody."""
    PEER = enum.auto()
    """A socket that talks with just this sender: a connection, or what is left of one."""


class SocketTable:
    """The sockets of our network namespace. Not for two threads at once; close it when done."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(_NETLINK_SOCK_DIAG)

    def close(self) -> None:
        """Give the descriptor back."""
        self._netlink.close()

    def listening(self, protocol: int) -> set[tuple[bytes, int]]:
        """Return bound address and port of every TCP listener or every UDP socket, of both IP versions.

        Raises: KernelError where the kernel has no sock_diag for the protocol.
        """
        states = 1 << _STATE_LISTEN if protocol == TCP else _ALL_STATES
        found = set()
        for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            request = _REQUEST.pack(family, protocol, 0, states, b"", b"", b"", b"", 0, _ANY_COOKIE)
            for message in self._netlink.ask(
                _SOCK_DIAG_BY_FAMILY, request, flags=NLM_F_DUMP, what="list of sockets in use"
            ):
                _, _, port, _, address, _ = _ANSWER.unpack_from(message.payload)
                found.add((address[:length], int.from_bytes(port, "big")))
        return found

    def local_ports(self) -> set[int]:
        """Return every local port of any TCP socket, connections and what is left of them included.

        Raises: KernelError where the kernel has no sock_diag for TCP.
        """
        found = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, TCP, 0, _ALL_STATES, b"", b"", b"", b"", 0, _ANY_COOKIE)
            for message in self._netlink.ask(
                _SOCK_DIAG_BY_FAMILY, request, flags=NLM_F_DUMP, what="list of connections"
            ):
                found.add(int.from_bytes(message.payload[4:6], "big"))
        return found

    def find_taker(self, packet: Packet, device: str) -> Taker:
        """Return who would take `packet` if it came in by the device of this name; 4 us.

        A listener on `::` that also serves IPv4 is found by the IPv4 lookup; one bound to a device only
        with that device. Raises: KernelError for a refusal other than "no such socket".
        """
        family = socket.AF_INET if len(packet.source) == 4 else socket.AF_INET6
        ours = packet.destination_port.to_bytes(2, "big"), packet.destination
        theirs = packet.source_port.to_bytes(2, "big"), packet.source
        # TCP wants our side in the source fields. UDP wants it in the destination fields: the kernel
        # swaps them "for historical reasons" (net/ipv4/udp_diag.c); tried on 6.18.
        (port, address), (other_port, other) = (ours, theirs) if packet.protocol == TCP else (theirs, ours)
        request = _REQUEST.pack(
            family,
            packet.protocol,
            0,
            _ALL_STATES,
            port,
            other_port,
            address,
            other,
            _find_index(device),
            _ANY_COOKIE,
        )
        sequence = self._netlink.next_sequence()
        channel = self._netlink.socket
        channel.send(pack_message(_SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, sequence, request))
        while True:
            for message in read_messages(channel.recv(_ANSWER_BYTES)):
                if message.sequence != sequence:
                    continue
                if message.kind != NLMSG_ERROR:
                    is_service = message.payload[1] in (_STATE_LISTEN, _STATE_CLOSE)
                    return Taker.SERVICE if is_service else Taker.PEER
                if error_number(message) == errno.ENOENT:
                    return Taker.NOBODY
                raise_for_error(message, "lookup of a packet's socket")
                raise KernelError("lookup of a packet's socket: an acknowledgement, expected an answer")


def _find_index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:  # gone since: a socket that is bound to no device may still take the packet
        return 0
