"""The enforcer process: one loop over a Unix socket, no threads, root's part of Portward.

    request line -> parse_request -> Enforcement -> answer line, events to watchers, one printed line

Believes nobody: the kernel names the peer of each connection, and every field is checked again. Answers
are sent before files are written. SIGHUP reads and compares everything anew; SIGTERM ends the process and
leaves what the kernel denies in force.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import assert_never

from correlator.enforcer import protocol
from correlator.enforcer.build import build_actions
from correlator.enforcer.connections import Connection, block_pages
from correlator.enforcer.enforcement import Enforcement
from correlator.enforcer.entry import keep_what_is_needed, listen
from correlator.enforcer.fields import MAX_LINE, RequestError
from correlator.enforcer.keeping import BackendError
from correlator.enforcer.lines import Printer
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.peers import KEPT_FOR_ROOT, MOST_LOOKERS, Peer, find_peer
from correlator.enforcer.records import Records
from correlator.enforcer.runner import Runner
from correlator.enforcer.tripwire import Tripwire
from correlator.kernel.process import (
    die_with_parent,
    hold_lock,
    notify,
    run_ahead,
)
from correlator.model import SECOND, Micros, Outcome
from correlator.settings import EnforcerSettings
from correlator.store.blocks import BlockStore

MOST_CLIENTS = 32

_BACKLOG = 128
_MOST_NAMES = 64
_CLOCK_STEP: Micros = SECOND
_LONGEST_SLEEP = 1.0  # as often we look who is never blocked, before a request has to
_MAY_LOOK = "this user may look and change nothing: ask as root"


def run_enforcer(settings: EnforcerSettings) -> int:
    """Carry out requests until SIGTERM or SIGINT; return the exit status.

    Raises: BusyError where another enforcer runs; any PortwardError that keeps it from starting.
    """
    die_with_parent()
    run_ahead()
    paths = settings.paths
    paths.enforcer_run.mkdir(mode=0o755, parents=True, exist_ok=True)
    paths.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    with hold_lock(paths.enforcer_run / "enforcer.lock", "enforcer"):
        keep_what_is_needed(paths, settings.actions)
        with contextlib.closing(NftablesBackend()) as backend, contextlib.closing(listen(paths)) as listener:
            store = BlockStore.open(paths.blocks_database)
            with (
                contextlib.closing(store),
                contextlib.closing(Service(settings, backend, store, listener)) as service,
            ):
                service.start()
                service.run()
        with contextlib.suppress(OSError):
            os.unlink(paths.enforcer_socket)
    return 0


class Service:
    """The loop. `start` once, then `run` until a signal ends it."""

    def __init__(
        self,
        settings: EnforcerSettings,
        backend: NftablesBackend,
        store: BlockStore,
        listener: socket.socket,
    ) -> None:
        self._settings = settings
        self._printer = Printer()
        self._records = Records(settings.paths, store, self._complain, blocked_modes=settings.blocked_modes)
        self._never_block = NeverBlock(settings)
        self._asking: Connection | None = None
        self._selector = selectors.DefaultSelector()
        self._runner = Runner(self)
        self._enforcement = Enforcement(
            settings,
            backend=backend,
            store=store,
            never_block=self._never_block,
            records=self._records,
            announce=self._announce,
            actions=build_actions(settings.actions, self._runner),
        )
        self._tripwire = Tripwire(settings.tripwire, backend.run, self._never_block, self._complain)
        self._listener = listener
        self._group = os.stat(settings.paths.enforcer_socket).st_gid
        self._clients: set[Connection] = set()
        self._turned_away: set[str] = set()
        """Users of whom that was said: it is once a life, however often they come."""
        self._is_stopping = False
        self._is_told_to_sync = False
        self._faults: tuple[str, ...] = ()
        self._sync_at = 0.0
        self._clock_offset: Micros = 0
        self._started: Micros = 0
        period = os.environ.get("WATCHDOG_USEC", "")
        self._watchdog_every = int(period) / 2e6 if period.isdigit() else None
        self._watchdog_at = 0.0
        self._wake_read, self._wake_write = socket.socketpair()

    def close(self) -> None:
        """Close every connection; commands that run may end by themselves."""
        self._runner.close()
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        signal.set_wakeup_fd(-1)
        self._wake_read.close()
        self._wake_write.close()

    def start(self) -> None:
        """Restore what should be in force, then take requests and say that we are ready."""
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take_signal)
        self._started = _now()
        self._enforcement.start(self._started)
        self._tripwire.start(is_enforcing=self._settings.is_enforcing)
        self._tell_faults()
        self._plan_next_sync()
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        notify(f"READY=1\nSTATUS={len(self._enforcement)} blocks in force")

    def run(self) -> None:
        """Work until a signal says to stop."""
        while not self._is_stopping:
            ready = self._selector.select(self._sleep())
            for key, events in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, Connection):
                    self._serve(key.data, events)
                elif callable(key.data):
                    self._hear_command(key.data)
                else:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_read.recv(64)
            for client in [client for client in self._clients if client.has_turn]:
                self._serve(client, 0)
            self._tend()
        notify("STOPPING=1")
        self._tripwire.close()
        self._records.close(self._enforcement.blocked_lines())

    def _take_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._is_told_to_sync = True
        else:
            self._is_stopping = True

    # Commands

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when the descriptor is readable; for `Runner`."""
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def unwatch(self, descriptor: int) -> None:
        """Watch it no longer."""
        self._selector.unregister(descriptor)

    def _hear_command(self, ready: Callable[[], None]) -> None:
        try:
            ready()
        except sqlite3.Error as exc:  # what the command did is looked at again at the next start
            self._complain(f"{self._settings.paths.blocks_database}: {exc}")

    # What is due by itself

    def _sleep(self) -> float:
        if self._is_told_to_sync or self._is_stopping or any(client.has_turn for client in self._clients):
            return 0.0
        now = time.monotonic()
        due = [now + _LONGEST_SLEEP, self._sync_at]
        if self._enforcement.next_expiry is not None:
            due.append(now + max(0, self._enforcement.next_expiry - _now()) / SECOND)
        if self._watchdog_every is not None:
            due.append(self._watchdog_at)
        if any(client.wants_to_write for client in self._clients):
            due.append(now + 1.0)
        pauses = (self._records.pause(), self._runner.pause(), self._enforcement.pause(_now()))
        due += [now + pause for pause in pauses if pause is not None]
        return max(0.0, min(due) - now)

    def _tend(self) -> None:
        now = time.monotonic()
        self._enforcement.expire(_now())
        self._enforcement.tend(_now())
        # The kernel counts timeouts on a clock that nobody sets; ours may have been set meanwhile.
        is_stepped = abs(_clock_offset() - self._clock_offset) > _CLOCK_STEP
        if self._is_told_to_sync or is_stepped or now >= self._sync_at:
            self._sync_by_itself(is_thorough=self._is_told_to_sync or is_stepped)
        self._runner.tend()
        self._never_block.refresh(_now(), is_early=True)
        self._tripwire.look()
        self._records.tend(self._enforcement.blocked_lines)
        for client in [client for client in self._clients if client.is_stuck(now)]:
            self._drop(client)
        if self._watchdog_every is not None and now >= self._watchdog_at:
            notify("WATCHDOG=1")
            self._watchdog_at = now + self._watchdog_every

    def _sync_by_itself(self, *, is_thorough: bool) -> None:
        try:
            self._enforcement.sync(_now(), is_thorough=is_thorough)
        except (*BackendError, sqlite3.Error) as exc:
            self._complain(f"sync failed, next try in {self._settings.sync_every // SECOND} s: {exc}")
        self._tripwire.look(is_thorough=True)
        self._is_told_to_sync = False
        self._tell_faults()
        self._plan_next_sync()

    def _plan_next_sync(self) -> None:
        self._sync_at = time.monotonic() + self._settings.sync_every / SECOND
        self._clock_offset = _clock_offset()

    # Clients

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError:
            return
        peer = find_peer(connected, allowed=self._settings.allowed_users, group=self._group)
        if why := self._why_not(peer):
            connected.setblocking(False)
            with contextlib.suppress(OSError):
                connected.send(protocol.encode_answer(protocol.ErrorAnswer(None, why)))
            connected.close()
            return
        client = Connection(connected, peer)
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ, client)

    def _why_not(self, peer: Peer) -> str:
        """Return why this user gets no connection, empty where they do."""
        if not peer.may_look:
            if peer.name not in self._turned_away and len(self._turned_away) < _MOST_NAMES:
                self._turned_away.add(peer.name)
                self._complain(f"user {peer.name} was turned away: not one of allowed_users in the settings")
            return "this user may not ask"
        if len(self._clients) >= MOST_CLIENTS - (0 if peer.is_root else KEPT_FOR_ROOT):
            return f"at most {MOST_CLIENTS} clients at once"
        lookers = sum(not client.peer.may_change for client in self._clients)
        if not peer.may_change and lookers >= MOST_LOOKERS:
            return f"at most {MOST_LOOKERS} clients at once that only look"
        return ""

    def _serve(self, client: Connection, events: int) -> None:
        if events & selectors.EVENT_READ and not client.has_lines and not client.receive():
            self._drop(client)
            return
        for line in client.take_lines():
            if not self._take_line(client, line):
                return
        self._flush(client)

    def _take_line(self, client: Connection, line: bytes) -> bool:
        """Answer one line; false where the client was dropped over it."""
        try:
            request = protocol.parse_request(line)
        except RequestError as exc:
            client.send(protocol.ErrorAnswer(exc.id, str(exc)))
            if len(line) > MAX_LINE:
                client.flush(time.monotonic())
                self._drop(client)
                return False
            return True
        if not client.peer.may_ask(request):
            client.send(protocol.ErrorAnswer(request.id, _MAY_LOOK))
            return True
        self._asking = client
        try:
            self._answer(client, request)
        except (*BackendError, sqlite3.Error) as exc:
            client.send(protocol.ErrorAnswer(request.id, str(exc)))
        finally:
            self._asking = None
        return True

    def _answer(self, client: Connection, request: protocol.Request) -> None:
        now = _now()
        match request:
            case protocol.BlockRequest():
                outcome = self._enforcement.block(
                    request, now, lambda end: self._answer_later(client, request.id, end)
                )
                if outcome is not None:
                    client.send(protocol.OutcomeAnswer(request.id, outcome))
            case protocol.ReleaseRequest(source=source):
                count = self._enforcement.release(source, now)
                denied_by = None if source is None else self._enforcement.denied_by(source)
                client.send(protocol.ReleasedAnswer(request.id, count, denied_by))
            case protocol.LetGoRequest(source=source):
                self._tripwire.let_go(source)
                client.send(protocol.ReleasedAnswer(request.id, 0))
            case protocol.ListRequest():
                client.send_pages(block_pages(request.id, self._enforcement.blocks))
            case protocol.StatusRequest():
                status = {
                    "pid": os.getpid(),
                    "started": self._started,
                    "clients": len(self._clients),
                    "lines_left_out": self._printer.left_out,
                    **self._enforcement.status(),
                }
                client.send(protocol.StatusAnswer(request.id, status))
            case protocol.SyncRequest():
                client.send(protocol.SyncedAnswer(request.id, self._enforcement.sync(now)))
                self._plan_next_sync()
            case protocol.WatchRequest():
                client.is_watching = True
                client.send(protocol.WatchingAnswer(request.id))
            case _:
                assert_never(request)

    def _answer_later(self, client: Connection, id_: int, outcome: Outcome) -> None:
        if client in self._clients:
            client.send(protocol.OutcomeAnswer(id_, outcome))
            self._flush(client)

    def _announce(self, line: str, event: protocol.Event | None) -> None:
        if self._asking is None or not self._asking.is_watching:  # who asks and watches says it himself
            self._printer.say(line)
        if event is not None:
            for client in self._clients:
                if client.is_watching:
                    client.send(event)
            for client in [client for client in self._clients if client.is_watching]:
                self._flush(client)

    def _flush(self, client: Connection) -> None:
        if client not in self._clients:
            return
        if not client.flush(time.monotonic()):
            self._drop(client)
            return
        events = selectors.EVENT_READ if client.wants_to_read else 0
        events |= selectors.EVENT_WRITE if client.wants_to_write else 0
        self._selector.modify(client, events, client)

    def _drop(self, client: Connection) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client)
            client.socket.close()

    # Words

    def _tell_faults(self) -> None:
        faults = tuple(map(str, self._enforcement.faults))
        for fault in faults:
            if fault not in self._faults:
                self._complain(fault)
        self._faults = faults

    def _complain(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _now() -> Micros:
    return time.time_ns() // 1000


def _clock_offset() -> Micros:
    return (time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1000
