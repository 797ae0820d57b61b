"""Frames on one device of one namespace: sends any bytes, and receives with the kernel's time stamps.

A stamp is taken where the frame enters or leaves the device, not when Python gets to read it; both ends of
a veth pair use the same clock. Decides nothing about what a frame means. Source: packet(7), socket(7).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from correlator.drill.lab import Namespace

_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_OUTGOING = 4
_LONGEST_FRAME = 65_536
_BUFFER_BYTES = 64 << 20  # a flat-out scan of some seconds, should nobody read meanwhile
_TIMESPEC = struct.Struct("=qq")


@dataclass(frozen=True, slots=True)
class Frame:
    """One Ethernet frame as it passed a device."""

    at: int
    """The kernel's stamp, nanoseconds since 1970."""
    is_outgoing: bool
    """True where the namespace itself sent it."""
    data: bytes


class Wire:
    """One device, listened to from the moment this is made; close it, or use it in a `with`."""

    def __init__(self, namespace: Namespace, device: str) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind((device, _ETH_P_ALL))
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def hardware_address(self) -> bytes:
        """The device's own Ethernet address."""
        address: bytes = self._socket.getsockname()[4]
        return address

    def send(self, frame: bytes) -> None:
        """Put one frame on the wire as it stands."""
        self._socket.send(frame)

    def receive(self, seconds: float) -> Frame | None:
        """Return the next frame, waiting for it at most that long; None where none came."""
        if not self._poll.poll(max(0.0, seconds) * 1000):
            return None
        try:
            data, ancillary, _, address = self._socket.recvmsg(_LONGEST_FRAME, 64)
        except BlockingIOError:
            return None
        stamp = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                whole, rest = _TIMESPEC.unpack_from(value)
                stamp = whole * 1_000_000_000 + rest
        return Frame(stamp, address[2] == _PACKET_OUTGOING, data)

    def receive_until(self, deadline: float) -> Iterator[Frame]:
        """Yield frames until `time.monotonic()` passes `deadline`."""
        while (left := deadline - time.monotonic()) > 0:
            frame = self.receive(left)
            if frame is not None:
                yield frame

    def drain(self) -> list[Frame]:
        """Return what has arrived, without waiting."""
        frames = []
        while (frame := self.receive(0)) is not None:
            frames.append(frame)
        return frames

    def count_lost(self) -> int:
        """Return how many frames found our buffer full since this was last asked."""
        _, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(lost)

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()
