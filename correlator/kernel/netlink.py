"""Netlink: packs and reads messages and attributes, and talks to one netlink family.

Decides nothing; a refusal of the kernel becomes a `KernelError` that names the request and the errno.
Source: netlink(7), linux/netlink.h. All integers of the header are in host byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from correlator.errors import KernelError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message as it came: its type, flags, sequence number and payload."""

    kind: int
    flags: int
    sequence: int
    payload: bytes


def pack_attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    size = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + b"\0" * (-size % 4)


def pack_nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return pack_attribute(kind | NLA_F_NESTED, b"".join(attributes))


def pack_message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Return one message with its header."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def read_attributes(payload: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes that start at `offset`; of several of one kind the last."""
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(payload):
        size, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = payload[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
    return found


def read_messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size:
            return
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + size])
        offset += (size + 3) & ~3


class NetlinkSocket:
    """One netlink family of this network namespace, asked synchronously.

    Use as a context manager, or close it. Not for two threads at once.
    """

    def __init__(self, family: int, *, groups: int = 0) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self.socket.bind((0, groups))
        self._sequence = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        self.socket.close()

    def next_sequence(self) -> int:
        """Return a sequence number not used before on this socket."""
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF or 1
        return self._sequence

    def skip_to(self, sequence: int) -> None:
        """Count every number up to `sequence` as used: a batch was sent with them."""
        self._sequence = sequence & 0x7FFFFFFF

    def ask(self, kind: int, payload: bytes, *, flags: int = 0, what: str) -> list[Message]:
        """Send one request and return its answers: all parts of a dump, or what came before the ack.

        Raises: KernelError that names `what` and the errno.
        """
        sequence = self.next_sequence()
        self.socket.send(pack_message(kind, NLM_F_REQUEST | flags, sequence, payload))
        answers: list[Message] = []
        while True:
            for message in read_messages(self.socket.recv(_RECEIVE_BYTES)):
                if message.sequence != sequence:
                    continue
                if message.kind == NLMSG_DONE:
                    return answers
                if message.kind == NLMSG_ERROR:
                    raise_for_error(message, what)
                    return answers
                answers.append(message)
                if not flags & (NLM_F_DUMP | NLM_F_ACK):
                    return answers


def error_number(message: Message) -> int:
    """Return the errno of an error message as a positive number; 0 is an acknowledgement."""
    return -int(struct.unpack_from("=i", message.payload)[0])


def raise_for_error(message: Message, what: str) -> None:
    """Raise KernelError unless the error message is an acknowledgement."""
    number = error_number(message)
    if number:
        name = errno.errorcode.get(number, str(number))
        raise KernelError(f"{what}: the kernel refused: {name} ({os.strerror(number)})")
