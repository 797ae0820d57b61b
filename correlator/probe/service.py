"""The probe process: opens its sockets, gives its rights away, and turns packets into lines.

One thread, one poll loop. SIGTERM and SIGINT end it, SIGHUP opens the alert log anew. Writes counters to
the status file for `portward status`. Source: PortSentry's start and stop lines as run, sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from correlator.attackalert import (
    ACTIVE,
    SHUTTING_DOWN,
    STARTING,
    format_excluded,
    format_ignored,
    format_left_out,
    format_monitored,
)
from correlator.kernel.addresses import own_addresses
from correlator.kernel.netlink import NetlinkSocket
from correlator.kernel.process import CAP_DAC_OVERRIDE, die_with_parent, keep_capabilities, notify, run_ahead
from correlator.model import SECOND, Micros
from correlator.probe.capture import Capture, open_capture
from correlator.probe.kernel_filter import build_filter
from correlator.probe.packets import TCP, UDP, parse_packet
from correlator.probe.ports import is_reachable, span_ranges
from correlator.probe.sockets import SocketTable
from correlator.probe.watch import PROTOCOLS, Watch
from correlator.probe.writer import AlertLog, Nudge, Syslog, Writer
from correlator.settings import ProbeSettings
from correlator.status_file import StatusFile

_REFRESH_EVERY = SECOND
_STATUS_EVERY = 2 * SECOND
_BATCH = 512
"""Packets read from one socket before timers and the other socket get their turn."""
_LARGEST_PACKET = 1 << 16
_ADDRESS_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_DRAIN_BYTES = 1 << 16
_SYSLOG_RETRY_MILLISECONDS = 20


def run_probe(settings: ProbeSettings, *, echo: bool = False) -> int:
    """Run until SIGTERM or SIGINT and return the exit status, 0; `echo` shows every line on standard output.

    Raises: PermissionDeniedError without CAP_NET_RAW, KernelError where the kernel lacks what we need.
    """
    die_with_parent()
    run_ahead()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(_signals_as_bytes())
        tcp, udp = span_ranges(settings.tcp_ports), span_ranges(settings.udp_ports)
        captures = [open_capture(version, build_filter(version, tcp, udp)) for version in (4, 6)]
        for capture in captures:
            stack.callback(capture.close)
        sockets = SocketTable()
        stack.callback(sockets.close)
        routes = stack.enter_context(NetlinkSocket(socket.NETLINK_ROUTE, groups=_ADDRESS_GROUPS))
        routes.socket.setblocking(False)
        host = socket.gethostname().partition(".")[0] or "localhost"
        syslog = Syslog(settings.paths.syslog) if settings.to_syslog else None
        log, nudge = AlertLog(settings.paths.alert_log), Nudge(settings.paths.nudge_socket)
        writer = Writer(log, syslog, echo=echo, host=host, nudge=nudge)
        stack.callback(writer.close)
        keep_capabilities(*_needed_capabilities(settings))
        probe = _Probe(settings, captures, sockets, routes, writer)
        probe.start()
        probe.run(signals)
        probe.stop()
    return 0


def _needed_capabilities(settings: ProbeSettings) -> tuple[int, ...]:
    """Return what must stay: nothing; as root with a log folder of another user, the right to write there."""
    if os.geteuid() != 0:
        return ()
    folders = (settings.paths.alert_log.parent, settings.paths.probe_status.parent)
    with contextlib.suppress(OSError):
        if all(folder.stat().st_uid == 0 for folder in folders):
            return ()
    return (CAP_DAC_OVERRIDE,)


@contextlib.contextmanager
def _signals_as_bytes() -> Iterator[socket.socket]:
    """Give a socket that receives the numbers of the signals we listen to, one byte each."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield reading
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def _monotonic() -> Micros:
    return time.monotonic_ns() // 1000


class _Timer:
    """Something that is due every so often."""

    def __init__(self, every: Micros, action: Callable[[Micros], None]) -> None:
        self.due = 0
        self._every = every
        self._action = action

    def fire(self, now: Micros) -> None:
        if now >= self.due:
            self.due = now + self._every
            self._action(now)


class _Probe:
    """The open descriptors and what is done with each."""

    def __init__(
        self,
        settings: ProbeSettings,
        captures: list[Capture],
        sockets: SocketTable,
        routes: NetlinkSocket,
        writer: Writer,
    ) -> None:
        self._settings = settings
        self._captures = captures
        self._sockets = sockets
        self._routes = routes
        self._writer = writer
        self._watch = Watch(settings, sockets.find_taker)
        self._status = StatusFile(settings.paths.probe_status)
        self._started = time.time_ns() // 1000
        self._buffer = bytearray(_LARGEST_PACKET)
        self._timers = [_Timer(_REFRESH_EVERY, self._refresh), _Timer(_STATUS_EVERY, self._write_status)]
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        if watchdog.isdecimal() and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            self._timers.append(_Timer(max(1, int(watchdog) // 2), _pat_watchdog))

    def start(self) -> None:
        """Learn what is in use, write PortSentry's start lines, and report readiness."""
        self._write(STARTING)
        self._watch.own_addresses = own_addresses()
        self._refresh(_monotonic())
        for protocol, ranges, excluded in (
            (TCP, self._settings.tcp_ports, self._settings.exclude_tcp),
            (UDP, self._settings.udp_ports, self._settings.exclude_udp),
        ):
            span = span_ranges(ranges)
            if span is not None:
                self._write_protocol(protocol, span[1], sorted(excluded))
        self._write(ACTIVE)
        notify("READY=1")

    def stop(self) -> None:
        """Write PortSentry's stop lines and the last counters."""
        notify("STOPPING=1")
        for line in SHUTTING_DOWN:
            self._write(line)
        self._write_status(_monotonic())

    def run(self, signals: socket.socket) -> None:
        """Work until a signal says stop."""
        waiting = select.poll()
        captures = {capture.socket.fileno(): capture for capture in self._captures}
        routes = self._routes.socket.fileno()
        for descriptor in (signals.fileno(), routes, *captures):
            waiting.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in waiting.poll(self._milliseconds_left()):
                if descriptor == routes:
                    self._learn_addresses()
                elif descriptor in captures:
                    self._read_packets(captures[descriptor])
                elif self._is_told_to_stop(signals):
                    return
            now = _monotonic()
            if self._writer.is_waiting:
                self._writer.flush(time.time_ns(), now)
            for timer in self._timers:
                timer.fire(now)
            left_out = self._watch.limit.take_left_out(now)
            if left_out:
                self._write(format_left_out(left_out, self._watch.limit.limit))

    def _read_packets(self, capture: Capture) -> None:
        """Work off what is queued, up to a batch: the path from a packet to its line."""
        buffer, version, receive = self._buffer, capture.version, capture.socket.recvfrom_into
        judge = self._watch.judge
        for _ in range(_BATCH):
            try:
                size, address = receive(buffer)
            except BlockingIOError:
                return
            now = time.monotonic_ns() // 1000
            lines = judge(parse_packet(version, buffer, size), address[0], now)
            for line in lines:
                self._writer.write(line, time.time_ns(), now)

    def _write_protocol(self, protocol: int, highest: int, excluded: list[int]) -> None:
        self._write(format_monitored(highest))
        for port in excluded or (None,):
            self._write(format_excluded(port))
        used = (
            port for port in self._watch.in_use[protocol].numbers() if self._watch.is_watched(protocol, port)
        )
        for port in (*used, *excluded):
            self._write(format_ignored(PROTOCOLS[protocol], port))

    def _write(self, text: str) -> None:
        self._writer.write(text, time.time_ns(), _monotonic())

    def _refresh(self, now: Micros) -> None:
        for protocol, in_use in self._watch.in_use.items():
            listening = self._sockets.listening(protocol)
            in_use.note((port for address, port in listening if is_reachable(address)), now)
            in_use.forget(now)

    def _learn_addresses(self) -> None:
        """Empty the channel of address changes, and ask for all addresses anew."""
        with contextlib.suppress(OSError):  # nothing left, or too much at once (ENOBUFS): asked anew anyway
            while self._routes.socket.recv(_DRAIN_BYTES):
                pass
        self._watch.own_addresses = own_addresses()

    def _is_told_to_stop(self, signals: socket.socket) -> bool:
        while True:
            try:
                numbers = signals.recv(64)
            except BlockingIOError:
                return False
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                return True
            self._writer.reopen()

    def _milliseconds_left(self) -> int:
        due = min(timer.due for timer in self._timers)
        left_out_due = self._watch.limit.next_due()
        if left_out_due is not None:
            due = min(due, left_out_due)
        left = max(0, -(-(due - _monotonic()) // 1000))
        return min(left, _SYSLOG_RETRY_MILLISECONDS) if self._writer.is_waiting else left

    def _write_status(self, _now: Micros) -> None:
        tcp, udp = (self._watch.in_use[protocol].numbers() for protocol in (TCP, UDP))
        syslog = self._writer.syslog
        self._status.write(
            {
                "pid": os.getpid(),
                "started": self._started,
                **asdict(self._watch.counters),
                "kernel_drops": sum(capture.count_dropped() for capture in self._captures),
                "log_failures": self._writer.log.trouble.failures,
                "syslog_failures": 0 if syslog is None else syslog.trouble.failures,
                "reassembles_fragments": any(capture.is_reassembling for capture in self._captures),
                "ports_in_use": {"tcp": tcp, "udp": udp},
            }
        )


def _pat_watchdog(_now: Micros) -> None:
    notify("WATCHDOG=1")
