"""Reads packets that rules hand over by NFLOG or `log group`, and writes them to the packet log.

A process of its own beside the probe: it needs CAP_NET_ADMIN, which the probe must not have, until its groups
are bound, and nothing after; and a flood of logged packets does not hold up the probe. For name spaces and
hosts where LOG does not reach the kernel's log: network name spaces do not, unless the first one allows it.

Only the kernel is listened to. So many lines in any second, then a count of the rest; what the kernel had to
drop because we were too slow is counted too. Source: linux/netfilter/nfnetlink_log.h, netlink(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator

from correlator.alerts.stamps import Stamps
from correlator.alerts.writer import AlertLog, Nudge, say
from correlator.errors import BusyError, KernelError, PermissionDeniedError
from correlator.kernel.netlink import NLM_F_ACK, NetlinkSocket, pack_attribute, read_attributes, read_messages
from correlator.kernel.process import (
    CAP_DAC_OVERRIDE,
    CAP_NET_ADMIN,
    Watchdog,
    current_capabilities,
    die_with_parent,
    hold_lock,
    is_root_among_others,
    keep_capabilities,
    notify,
)
from correlator.model import SECOND, Micros
from correlator.probe.loop import Timer, read_monotonic, signals_as_bytes
from correlator.probe.packet_log import LoggedPacket, format_packet, packed_source
from correlator.probe.rate_limit import RateLimit
from correlator.settings import ProbeSettings
from correlator.status_file import StatusFile

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 4 << 8
_PACKET, _CONFIG = _SUBSYSTEM, _SUBSYSTEM | 1
_GENERIC = struct.Struct("!BBH")
_COMMAND, _MODE, _TIMEOUT, _THRESHOLD = 1, 2, 4, 5
_BIND = 1
_COPY_PACKET = 2
_COPIED = 192
"""Bytes of each packet: the longest headers that a line is made of."""
_RECEIVE_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33
_BATCH = 256
_DATAGRAM = 1 << 16
_HEADER, _MARK, _INDEV, _OUTDEV, _PAYLOAD, _PREFIX, _FRAME = 1, 2, 4, 5, 9, 10, 16
_STATUS_EVERY = 2 * SECOND
_NAMES_GOOD_FOR: Micros = 5 * SECOND
_MOST_NAMES = 1024
_IDENTIFIER = "kernel"
"""As in the kernel's own log: the packet is the kernel's, and nobody else can write the packet log."""


class PacketGroups(NetlinkSocket):
    """The groups that rules hand packets to; needs CAP_NET_ADMIN while it is opened.

    Raises: KernelError where the kernel refuses: without NFLOG in it, or where a group is somebody's already.
    """

    def __init__(self, groups: tuple[int, ...]) -> None:
        super().__init__(_NETLINK_NETFILTER)
        self.dropped = 0
        """Times that the kernel found our buffer full: packets are missing."""
        for option, size in ((_SO_RCVBUFFORCE, _RECEIVE_BUFFER), (socket.SO_RCVBUF, _RECEIVE_BUFFER)):
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, option, size)
                break
        for group in groups:
            for attribute in (
                pack_attribute(_COMMAND, bytes([_BIND])),
                pack_attribute(_MODE, struct.pack("!IBx", _COPIED, _COPY_PACKET)),
                pack_attribute(_THRESHOLD, struct.pack("!I", 1)),  # each packet at once
                pack_attribute(_TIMEOUT, struct.pack("!I", 1)),
            ):
                head = _GENERIC.pack(socket.AF_UNSPEC, 0, group)
                self.ask(_CONFIG, head + attribute, flags=NLM_F_ACK, what=f"NFLOG group {group}")
        self.socket.setblocking(False)

    def receive(self) -> Iterator[dict[int, bytes]]:
        """Yield the attributes of packets that wait, up to a batch."""
        for _ in range(_BATCH):
            try:
                data, address = self.socket.recvfrom(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                self.dropped += 1
                continue
            if address[0] != 0:  # not the kernel
                continue
            for message in read_messages(data):
                if message.kind == _PACKET:
                    yield read_attributes(message.payload, _GENERIC.size)


class _Devices:
    """Names of network devices, asked for at most every few seconds."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._until: Micros = 0

    def name_of(self, number: bytes | None, now: Micros) -> str:
        if number is None:
            return ""
        if now >= self._until or len(self._names) > _MOST_NAMES:
            self._names, self._until = {}, now + _NAMES_GOOD_FOR
        index = int.from_bytes(number)
        if index not in self._names:
            try:
                self._names[index] = socket.if_indextoname(index)
            except OSError:  # it is gone, or of another name space
                self._names[index] = f"if{index}"
        return self._names[index]


def read_packet(attributes: dict[int, bytes], devices: _Devices, now: Micros) -> LoggedPacket:
    """Return what the kernel said about one packet."""
    return LoggedPacket(
        protocol=int.from_bytes(attributes.get(_HEADER, b"")[:2]),
        payload=attributes.get(_PAYLOAD, b""),
        prefix=attributes.get(_PREFIX, b"").rstrip(b"\0").decode("utf-8", "backslashreplace"),
        incoming=devices.name_of(attributes.get(_INDEV), now),
        outgoing=devices.name_of(attributes.get(_OUTDEV), now),
        link=attributes.get(_FRAME, b""),
        mark=int.from_bytes(attributes.get(_MARK, b"")),
    )


def run_packet_log(settings: ProbeSettings) -> int:
    """Write the packets of `settings.nflog` to the packet log until SIGTERM or SIGINT; returns 0.

    Raises: PermissionDeniedError without CAP_NET_ADMIN, KernelError where the kernel has no NFLOG or another
    process reads the group, BusyError where another one of us runs.
    """
    die_with_parent()
    paths = settings.paths
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(signals_as_bytes())
        paths.probe_run.mkdir(mode=0o755, parents=True, exist_ok=True)
        stack.enter_context(hold_lock(paths.probe_run / "packet-log.lock", "packet log reader"))
        try:
            groups = stack.enter_context(PacketGroups(settings.nflog))
        except KernelError as exc:
            if not current_capabilities()[0] & 1 << CAP_NET_ADMIN:
                raise PermissionDeniedError(f"{exc}: expected CAP_NET_ADMIN") from exc
            if "EPERM" in str(exc):
                raise BusyError(f"{exc}: expected a group that no other process reads") from exc
            raise
        folders = (paths.packet_log.parent, paths.probe_run)
        keep_capabilities(*((CAP_DAC_OVERRIDE,) if is_root_among_others(*folders) else ()))
        log = AlertLog(paths.packet_log, "packet log")
        stack.callback(log.close)
        nudge = Nudge(paths.nudge_socket)
        stack.callback(nudge.close)
        _PacketLog(settings, groups, log, nudge).run(signals)
    return 0


class _PacketLog:
    def __init__(self, settings: ProbeSettings, groups: PacketGroups, log: AlertLog, nudge: Nudge) -> None:
        self._groups = groups
        self._log = log
        self._nudge = nudge
        self._host = socket.gethostname().partition(".")[0] or "localhost"
        self._limit = RateLimit(settings.lines_a_second, is_shared=True)
        self._devices = _Devices()
        self._stamps = Stamps()
        self._counts = {"packets": 0, "lines": 0, "left_out": 0, "unknown": 0}
        self._numbers = ",".join(map(str, settings.nflog))
        self._status = StatusFile(settings.paths.packet_log_status)
        self._started = time.time_ns() // 1000
        self._timer = Timer(_STATUS_EVERY, self._write_status)

    def run(self, signals: socket.socket) -> None:
        """Work until a signal says stop."""
        waiting = select.poll()
        for descriptor in (signals.fileno(), self._groups.socket.fileno()):
            waiting.register(descriptor, select.POLLIN)
        notify("READY=1")
        watchdog = Watchdog()
        while True:
            watchdog.tend()
            for descriptor, _ in waiting.poll(self._milliseconds_left()):
                if descriptor == signals.fileno():
                    if self._is_told_to_stop(signals):
                        self._write_status(read_monotonic())
                        return
                else:
                    self._read()
            now = read_monotonic()
            self._timer.fire(now)
            left_out = self._limit.take_left_out(now)
            if left_out:
                self._write(
                    f"portward: {left_out} packets not logged, limit {self._limit.limit} a second", now
                )

    def _read(self) -> None:
        is_written = False
        for attributes in self._groups.receive():
            now = read_monotonic()
            self._counts["packets"] += 1
            packet = read_packet(attributes, self._devices, now)
            text = format_packet(packet)
            if text is None:
                self._counts["unknown"] += 1
            elif not self._limit.admits(now, packed_source(packet)):
                self._counts["left_out"] += 1
            else:
                self._counts["lines"] += 1
                self._write(f"{_IDENTIFIER}: {text}", now)
                is_written = True
        if is_written:
            self._nudge.give()

    def _write(self, text: str, now: Micros) -> None:
        stamp = self._stamps.alert_log(time.time_ns())
        news = self._log.write(f"{stamp} {self._host} {text}\n".encode(), now)
        if news is not None:
            say(2, news)

    def _is_told_to_stop(self, signals: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                numbers = signals.recv(64)
                if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                    return True
                self._log.close()
        return False

    def _milliseconds_left(self) -> int:
        due = [self._timer.due, *filter(None, [self._limit.next_due()])]
        return max(0, -(-(min(due) - read_monotonic()) // 1000))

    def _write_status(self, _now: Micros) -> None:
        self._status.write(
            {
                "pid": os.getpid(),
                "started": self._started,
                "groups": self._numbers,
                **self._counts,
                "kernel_drops": self._groups.dropped,
                "log_failures": self._log.trouble.failures,
            }
        )
