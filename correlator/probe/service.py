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
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple, NoReturn

from correlator.alerts.writer import AlertLog, Nudge, Syslog, Writer
from correlator.attackalert import ACTIVE, SHUTTING_DOWN, STARTING, format_left_out
from correlator.errors import BusyError, PermissionDeniedError
from correlator.kernel.addresses import own_addresses
from correlator.kernel.netlink import NetlinkSocket
from correlator.kernel.process import (
    CAP_DAC_OVERRIDE,
    die_with_parent,
    hold_lock,
    is_root_among_others,
    keep_capabilities,
    notify,
    run_ahead,
)
from correlator.model import SECOND, Micros
from correlator.probe.announce import announce_mode, is_connect, names_port, protocol_of
from correlator.probe.answers import Answers, read_segment
from correlator.probe.capture import AUXILIARY_BYTES, Capture, is_verified, open_capture
from correlator.probe.connect import Opened, OpenPorts, open_ports
from correlator.probe.ignored import IgnoreFile
from correlator.probe.kernel_filter import OUTGOING, build_answer_filter, build_filter
from correlator.probe.loop import Timer, read_monotonic, signals_as_bytes
from correlator.probe.names import NameLookups
from correlator.probe.packets import TCP, UDP, parse_packet
from correlator.probe.ports import is_reachable
from correlator.probe.shown import choose_spelling
from correlator.probe.sockets import SocketTable
from correlator.probe.watch import Watch
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


def run_probe(settings: ProbeSettings) -> int:
    """Run until SIGTERM or SIGINT and return the exit status, 0.

    Raises: PermissionDeniedError without CAP_NET_RAW, KernelError where the kernel lacks what we need,
    BusyError where no mode has a port of its own, or another probe serves one of the modes.
    """
    die_with_parent()
    run_ahead()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(signals_as_bytes())
        settings.paths.probe_run.mkdir(mode=0o755, parents=True, exist_ok=True)
        for mode in settings.modes:  # two in one mode would report every packet twice
            lock = settings.paths.probe_run / f"probe-{mode}.lock"
            stack.enter_context(hold_lock(lock, f"probe in mode {mode}"))
        writer = _make_writer(settings)
        stack.callback(writer.close)
        sockets = SocketTable()
        stack.callback(sockets.close)
        ignored = IgnoreFile(settings.paths.ignore, _saying(writer), must_exist=settings.compat)
        lookups = stack.enter_context(NameLookups()) if settings.resolve_names else None
        name_of = (lambda address, _now: address) if lookups is None else lookups.names.name_of
        watch = Watch(settings, sockets.find_taker, ignored.covers, name_of)
        opened = {
            mode: open_ports(
                protocol_of(mode),
                settings.tcp_list if mode == "tcp" else settings.udp_list,
                settings.interfaces,
            )
            for mode in settings.modes
            if is_connect(mode)
        }
        _learn_ports(watch, sockets, read_monotonic())
        if settings.compat:
            watch.watch_without_a_list({each: _unbindable(sockets, each) for each in (TCP, UDP)})
        captures = _open_captures(settings, watch)
        for capture in captures:
            stack.callback(capture.close)
        routes = stack.enter_context(NetlinkSocket(socket.NETLINK_ROUTE, groups=_ADDRESS_GROUPS))
        routes.socket.setblocking(False)
        keep_capabilities(*_needed_capabilities(settings))
        probe = _Probe(settings, watch, _Descriptors(captures, sockets, routes, opened, lookups), writer)
        stack.callback(probe.close)
        probe.start()
        probe.run(signals)
        probe.stop()
    return 0


def _make_writer(settings: ProbeSettings) -> Writer:
    host = socket.gethostname().partition(".")[0] or "localhost"
    syslog = Syslog(settings.paths.syslog) if settings.to_syslog else None
    log, nudge = AlertLog(settings.paths.alert_log), Nudge(settings.paths.nudge_socket)
    return Writer(log, syslog, host=host, echo=choose_spelling(settings.echo), nudge=nudge)


def _saying(writer: Writer) -> Callable[[str], None]:
    """Return what writes a line at the time it is called."""
    return lambda text: writer.write(text, time.time_ns(), read_monotonic())


def _learn_ports(watch: Watch, sockets: SocketTable, now: Micros) -> None:
    """Learn which ports are in use, and forget those that no longer are."""
    for protocol, in_use in watch.in_use.items():
        listening = sockets.listening(protocol)
        in_use.note((port for address, port in listening if is_reachable(address)), now)
        in_use.forget(now)


def _unbindable(sockets: SocketTable, protocol: int) -> list[int]:
    """Return the ports that cannot be bound on 0.0.0.0: for that a service on loopback is enough."""
    return [port for address, port in sockets.listening(protocol) if len(address) == 4 or not any(address)]


def _open_captures(settings: ProbeSettings, watch: Watch) -> list[Capture]:
    """Return the packet sockets that the modes need; none, and no right to have one, for connect modes."""
    tcp, udp = watch.watched_ranges(TCP), watch.watched_ranges(UDP)
    if not tcp and not udp:
        return []
    captures = [open_capture(version, build_filter(version, tcp, udp)) for version in (4, 6)]
    if tcp and settings.hidden_scans and not settings.compat:
        captures.append(open_capture(0, build_answer_filter(tcp)))
    return captures


def _needed_capabilities(settings: ProbeSettings) -> tuple[int, ...]:
    """Return what must stay: nothing; as root with a log folder of another user, the right to write there."""
    folders = (settings.paths.alert_log.parent, settings.paths.probe_run)
    return (CAP_DAC_OVERRIDE,) if is_root_among_others(*folders) else ()


class _Descriptors(NamedTuple):
    """What was opened while we had the right to."""

    captures: list[Capture]
    sockets: SocketTable
    routes: NetlinkSocket
    opened: dict[str, Opened]
    """What became of the ports of each connect mode."""
    lookups: NameLookups | None


class _Probe:
    """The open descriptors and what is done with each."""

    def __init__(
        self,
        settings: ProbeSettings,
        watch: Watch,
        descriptors: _Descriptors,
        writer: Writer,
    ) -> None:
        self._settings = settings
        self._captures, self._sockets, self._routes, self._opened, self._lookups = descriptors
        listeners = [listener for one in self._opened.values() for listener in one.listeners]
        self._write = _saying(writer)
        self._open_ports = OpenPorts(listeners, settings.banner.encode(), self._take_connect, self._write)
        self._writer = writer
        self._watch = watch
        self._answers = Answers(watch.judge_answered, watch.in_use[TCP].mark_used, watch.note_served)
        self._status = StatusFile(settings.paths.probe_status)
        self._started = time.time_ns() // 1000
        self._buffer = bytearray(_LARGEST_PACKET)
        self._timers = [Timer(_REFRESH_EVERY, self._refresh), Timer(_STATUS_EVERY, self._write_status)]
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        if watchdog.isdecimal() and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            self._timers.append(Timer(max(1, int(watchdog) // 2), _pat_watchdog))

    def start(self) -> None:
        """Write PortSentry's start lines, and report readiness.

        A mode that has no port of its own says so and the others go on; PortSentry has a process each.
        Raises: BusyError or PermissionDeniedError where none is left.
        """
        self._write(STARTING)
        self._watch.own_addresses = own_addresses()
        started = []
        for mode in self._settings.modes:
            in_use = self._watch.in_use[protocol_of(mode)].numbers()
            unbound = self._opened[mode].unbound if mode in self._opened else ()
            announcement = announce_mode(mode, self._settings, in_use, unbound)
            for line in announcement.lines:
                self._write(line)
            if announcement.has_started:
                started.append(mode)
            if self._settings.compat and not is_connect(mode):
                lasting = [port for port in in_use if names_port(mode, self._settings, port)]
                self._watch.exclude(protocol_of(mode), lasting)
        if not started:
            for line in SHUTTING_DOWN:
                self._write(line)
            self._refuse()
        self._write(ACTIVE)
        notify("READY=1")
        if any(capture.version == 0 for capture in self._captures):
            self._watch.in_use[TCP].mark_used(self._sockets.local_ports())
        if self._lookups is not None:
            self._lookups.tend(read_monotonic())

    def _refuse(self) -> NoReturn:
        modes = " ".join(f"-{mode}" for mode in self._settings.modes)
        if any(opened.is_denied for opened in self._opened.values()):
            raise PermissionDeniedError(
                f"probe {modes}: permission denied for ports below 1024, expected CAP_NET_BIND_SERVICE"
            )
        raise BusyError(f"probe {modes}: all listed ports are in use, expected one that is free at least")

    def stop(self) -> None:
        """Write PortSentry's stop lines and the last counters."""
        notify("STOPPING=1")
        for line in SHUTTING_DOWN:
            self._write(line)
        self._write_status(read_monotonic())

    def close(self) -> None:
        """Close the ports that we opened."""
        self._open_ports.close()

    def run(self, signals: socket.socket) -> None:
        """Work until a signal says stop."""
        waiting = select.poll()
        captures = {capture.socket.fileno(): capture for capture in self._captures}
        routes, open_ports = self._routes.socket.fileno(), self._open_ports.descriptor
        lookups = -1 if self._lookups is None else self._lookups.descriptor
        for descriptor in (signals.fileno(), routes, open_ports, *captures):
            waiting.register(descriptor, select.POLLIN)
        if lookups >= 0:
            waiting.register(lookups, select.POLLIN)
        while True:
            for descriptor, _ in waiting.poll(self._milliseconds_left()):
                if descriptor == routes:
                    self._learn_addresses()
                elif descriptor in captures:
                    capture = captures[descriptor]
                    (self._read_packets if capture.version else self._read_answers)(capture)
                elif descriptor == open_ports:
                    self._open_ports.serve(read_monotonic())
                elif self._lookups is not None and descriptor == lookups:
                    self._lookups.receive(read_monotonic())
                elif self._is_told_to_stop(signals):
                    return
            now = read_monotonic()
            if self._writer.is_waiting:
                self._writer.flush(time.time_ns(), now)
            self._open_ports.tend(now)
            if self._lookups is not None:
                self._lookups.tend(now)
            for timer in self._timers:
                timer.fire(now)
            for limit in (self._watch.limit, self._watch.proven_limit):
                if left_out := limit.take_left_out(now):
                    self._write(format_left_out(left_out, limit.limit))

    def _read_packets(self, capture: Capture) -> None:
        """Work off what is queued, up to a batch: the path from a packet to its line."""
        buffer, version, receive = self._buffer, capture.version, capture.socket.recvmsg_into
        buffers = [buffer]
        judge = self._watch.judge
        for _ in range(_BATCH):
            try:
                size, ancillary, _, address = receive(buffers, AUXILIARY_BYTES)
            except BlockingIOError:
                return
            now = time.monotonic_ns() // 1000
            packet = parse_packet(version, buffer, size)
            lines = judge(packet, address[0], now, buffer, is_verified=is_verified(ancillary))
            for line in lines:
                self._writer.write(line, time.time_ns(), now)

    def _read_answers(self, capture: Capture) -> None:
        """Work off what our own kernel answered, up to a batch."""
        buffer, receive = self._buffer, capture.socket.recvfrom_into
        for _ in range(_BATCH):
            try:
                size, address = receive(buffer)
            except BlockingIOError:
                return
            now = read_monotonic()
            segment = read_segment(buffer, size)
            lines = self._answers.judge(segment, address[0], now, is_ours=address[2] == OUTGOING)
            for line in lines:
                self._writer.write(line, time.time_ns(), now)

    def _take_connect(self, protocol: int, port: int, source: bytes, destination: bytes | None) -> bool:
        now = read_monotonic()
        lines = self._watch.judge_connect(protocol, port, source, destination, now)
        for line in lines:
            self._writer.write(line, time.time_ns(), now)
        return bool(lines)

    def _refresh(self, now: Micros) -> None:
        _learn_ports(self._watch, self._sockets, now)

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
        lookups = None if self._lookups is None else self._lookups.next_due()
        limits = (self._watch.limit.next_due(), self._watch.proven_limit.next_due())
        for other in (*limits, self._open_ports.next_due(), lookups):
            if other is not None:
                due = min(due, other)
        left = max(0, -(-(due - read_monotonic()) // 1000))
        return min(left, _SYSLOG_RETRY_MILLISECONDS) if self._writer.is_waiting else left

    def _write_status(self, _now: Micros) -> None:
        tcp, udp = (self._watch.in_use[protocol].numbers() for protocol in (TCP, UDP))
        syslog = self._writer.syslog
        self._status.write(
            {
                "pid": os.getpid(),
                "started": self._started,
                **asdict(self._watch.counters),
                **({} if self._lookups is None else self._lookups.names.counts()),
                "kernel_drops": sum(capture.count_dropped() for capture in self._captures),
                "lines_not_shown": self._writer.unshown,
                "log_failures": self._writer.log.trouble.failures,
                "syslog_failures": 0 if syslog is None else syslog.trouble.failures,
                "reassembles_fragments": any(capture.is_reassembling for capture in self._captures),
                "ports_in_use": {"tcp": tcp, "udp": udp},
                "modes": " ".join(self._settings.modes),
            }
        )


def _pat_watchdog(_now: Micros) -> None:
    notify("WATCHDOG=1")
