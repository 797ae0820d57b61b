"""Holds open ports: takes connections and datagrams, shows the banner, and lets go at once.

PortSentry's -tcp and -udp. Bounded whatever strangers do: a connection costs one descriptor for two
seconds at most, and only where there is a banner to be read; of those there are never more than a set
number. Nothing that was sent to us is read into memory. A datagram is answered only where that can
neither feed a loop nor drown somebody whose address was forged.
Source: ip(7), ipv6(7), tcp(7); PortSentry 1.2 as run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

from correlator.attackalert import format_accept_failed
from correlator.model import SECOND, Micros
from correlator.probe.packets import TCP, UDP
from correlator.probe.rate_limit import RateLimit

_BATCH = 64
"""Taken from one port before the others get their turn."""
_BACKLOG = 4096
_LINGER = 2 * SECOND
"""How long a sender gets to read the banner: closed at once, what it sent us would turn into a reset."""
_MOST_LINGERING = 1024
_OTHER_DESCRIPTORS = 64
_REST = SECOND // 10
_ORPHAN_SECONDS = 5
_SMALLEST_BUFFER = 4096
_DATAGRAM_BUFFER = 1 << 20
"""Bytes, as far as net.core.rmem_max allows: for a burst while this process waits for the processor."""
_BANNERS_A_SECOND = 100
"""Datagrams sent to addresses that may be forged; as much as a ping flood of one packet each 10 ms."""
_FIRST_CLIENT_PORT = 1024
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_IP_PKTINFO = 8
_ANCILLARY_BYTES = 256
_MAPPED = bytes(10) + b"\xff\xff"

Report = Callable[[int, int, bytes, bytes | None], bool]
"""Takes protocol, our port, the packed sender and the packed address that it sent to (None for a connection:
one of ours); returns whether it was reported, and so is shown the banner."""


class Listener(NamedTuple):
    """One open port, on one device or on all."""

    protocol: int
    port: int
    socket: socket.socket


class _Arrival(NamedTuple):
    """Where a datagram came to, packed, and what makes the kernel answer from there."""

    destination: bytes
    info: tuple[int, int, bytes]


class Opened(NamedTuple):
    """What became of a list of ports."""

    listeners: tuple[Listener, ...]
    unbound: tuple[int, ...]
    """Ports that somebody else has, or that we may not have."""
    is_denied: bool
    """True where a right was missing (CAP_NET_BIND_SERVICE) for one of them."""


def open_ports(protocol: int, ports: Collection[int], interfaces: Collection[str]) -> Opened:
    """Open each of the ports for both IP versions, on the named devices or on all. Never raises."""
    _allow_descriptors(len(ports) * max(1, len(interfaces)) + _MOST_LINGERING)
    listeners: list[Listener] = []
    unbound: list[int] = []
    is_denied = False
    for port in ports:
        found: list[Listener] = []
        for device in interfaces or ("",):
            try:
                found.append(Listener(protocol, port, _open_port(protocol, port, device)))
            except OSError as exc:
                is_denied |= exc.errno in (errno.EACCES, errno.EPERM)
        if not found:
            unbound.append(port)
        listeners += found
    return Opened(tuple(listeners), tuple(unbound), is_denied)


class OpenPorts:
    """The open ports of a probe; `descriptor` is readable when `serve` has something to do."""

    def __init__(
        self, listeners: Collection[Listener], banner: bytes, report: Report, write: Callable[[str], None]
    ) -> None:
        self.lingering_at_most = 0
        self._banner = banner
        self._report = report
        self._write = write
        self._poll = select.epoll()
        self._listeners = {listener.socket.fileno(): listener for listener in listeners}
        self._udp_ports = frozenset(listener.port for listener in listeners if listener.protocol == UDP)
        self._answers = RateLimit(_BANNERS_A_SECOND)
        self._lingering: deque[tuple[Micros, socket.socket]] = deque()
        self._resting: deque[tuple[Micros, int]] = deque()
        """Ports whose connections could not be taken for want of descriptors or memory."""
        for descriptor in self._listeners:
            self._poll.register(descriptor, select.EPOLLIN)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.lingering_at_most = max(0, min(_MOST_LINGERING, limit - len(listeners) - _OTHER_DESCRIPTORS))

    @property
    def descriptor(self) -> int:
        """What to poll."""
        return self._poll.fileno()

    def serve(self, now: Micros) -> None:
        """Take what waits at the ports, up to a batch each."""
        for descriptor, _ in self._poll.poll(0):
            listener = self._listeners[descriptor]
            if listener.protocol == TCP:
                self._accept(listener, now)
            else:
                self._receive(listener, now)

    def tend(self, now: Micros) -> None:
        """Close connections that had their time, and look again at ports that rest."""
        while self._lingering and self._lingering[0][0] <= now:
            self._lingering.popleft()[1].close()
        while self._resting and self._resting[0][0] <= now:
            self._poll.register(self._resting.popleft()[1], select.EPOLLIN)

    def next_due(self) -> Micros | None:
        """Return when `tend` has something to do; None while it has nothing."""
        waiting = [queue[0][0] for queue in (self._lingering, self._resting) if queue]
        return min(waiting) if waiting else None

    def close(self) -> None:
        """Let go of everything."""
        self._poll.close()
        for listener in self._listeners.values():
            listener.socket.close()
        for _, connection in self._lingering:
            connection.close()

    def _accept(self, listener: Listener, now: Micros) -> None:
        for _ in range(_BATCH):
            try:
                connection, address = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno not in _SHORTAGES:
                    self._write(format_accept_failed(listener.port))
                elif self._lingering:
                    self._lingering.popleft()[1].close()
                else:
                    descriptor = listener.socket.fileno()
                    self._poll.unregister(descriptor)
                    self._resting.append((now + _REST, descriptor))
                    return
                continue
            is_reported = self._report(TCP, listener.port, _pack(address[0]), None)
            if self._banner and is_reported and self.lingering_at_most:
                self._show_banner(connection, now)
            else:
                connection.close()

    def _show_banner(self, connection: socket.socket, now: Micros) -> None:
        """Send the banner and our end of the connection; keep it for as long as it takes to be read."""
        try:
            connection.send(self._banner, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # reset meanwhile: nobody reads it
            connection.close()
            return
        if len(self._lingering) >= self.lingering_at_most:
            self._lingering.popleft()[1].close()
        self._lingering.append((now + _LINGER, connection))

    def _receive(self, listener: Listener, now: Micros) -> None:
        for _ in range(_BATCH):
            try:
                _, ancillary, _, address = listener.socket.recvmsg(1, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about a banner of ours
                continue
            arrival = _read_destination(ancillary)
            if arrival is None:
                continue
            may_answer = self._report(UDP, listener.port, _pack(address[0]), arrival.destination)
            if self._banner and may_answer and self._is_harmless(address[1], now):
                with contextlib.suppress(OSError):  # no way back, or no room: it was a courtesy
                    listener.socket.sendmsg([self._banner], [arrival.info], socket.MSG_DONTWAIT, address)

    def _is_harmless(self, source_port: int, now: Micros) -> bool:
        """True where an answer goes to a client: another service, or a probe like this, would answer it."""
        return (
            source_port >= _FIRST_CLIENT_PORT
            and source_port not in self._udp_ports
            and self._answers.admits(now)
        )


def _open_port(protocol: int, port: int, device: str) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
    try:
        opened = socket.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as exc:
        if exc.errno != errno.EAFNOSUPPORT:  # a kernel that was started without IPv6
            raise
        opened = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    is_ipv6 = opened.family == socket.AF_INET6
    try:
        if is_ipv6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if device:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if protocol == TCP:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what we closed a minute ago
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST_BUFFER)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, _ORPHAN_SECONDS)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_BUFFER)
            if is_ipv6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        opened.bind(("::" if is_ipv6 else "0.0.0.0", port))  # noqa: S104 - that is the mode's purpose
        if protocol == TCP:
            opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _allow_descriptors(count: int) -> None:
    """Raise our soft limit of descriptors as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(os.listdir("/proc/self/fd")) + count + _OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _pack(text: str) -> bytes:
    """Return a sender's address packed, an IPv4 one behind an IPv6 socket as IPv4."""
    text = text.partition("%")[0]
    return _unmap(socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text))


def _read_destination(ancillary: list[tuple[int, int, bytes]]) -> _Arrival | None:
    """Return where a datagram came to, as the kernel tells it; None where it does not."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            address, device = data[:16], data[16:20]
            is_link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
            info = address + (device if is_link_local else bytes(4))  # else the route chooses the device
            return _Arrival(_unmap(address), (level, kind, info))
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):  # device, local address, that in the header
            return _Arrival(data[8:12], (level, kind, bytes(4) + data[8:12] + bytes(4)))
    return None


def _unmap(packed: bytes) -> bytes:
    """Return an IPv4 address that an IPv6 socket shows as `::ffff:192.0.2.1` as IPv4."""
    return packed[12:] if packed.startswith(_MAPPED) else packed
