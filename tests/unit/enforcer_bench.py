"""Enforcements to try, on a firewall in memory and real files, with other actions or without; full disks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from correlator.actions import Order
from correlator.enforcer.action import Action, Ended, Ending, Result
from correlator.enforcer.plans import Until
from correlator.enforcer.protocol import BlockRequest, DeedEvent, Event
from correlator.enforcer.records import Records
from correlator.model import Micros, Outcome, parse_prefix
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockStore
from correlator.store.history import read_history
from tests.enforcer_fakes import NOW, SOON, FakeBackend, make_enforcement, settings_in

DONE, FAILED = Result(Ending.DONE, "ran"), Result(Ending.FAILED, "exit status 1")
WRITES = tuple(f"{way} ON {table}" for table in ("blocks", "deeds") for way in ("INSERT", "UPDATE", "DELETE"))


def fill_disk(store: BlockStore, *writes: str) -> None:
    """Have the disk take none of these writes, of SQL's triggers; nothing at all where none is named."""
    for number, write in enumerate(writes or WRITES):
        store._connection.execute(
            f"CREATE TEMP TRIGGER full_{number} BEFORE {write}"
            " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )


def empty_disk(store: BlockStore) -> None:
    """Have the disk take everything again."""
    for (name,) in store._connection.execute("SELECT name FROM sqlite_temp_master").fetchall():
        store._connection.execute(f"DROP TRIGGER {name}")


class Bench:
    """An enforcement on a fake firewall and real files, that can be started again on the same files."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_in(folder)
        self.backend = FakeBackend()
        self.now = NOW
        self.clock = 0.0
        self.prepare: Callable[[BlockStore], None] = lambda _store: None
        """What is done to the database that was opened, before anything else."""
        self.start()

    @property
    def actions(self) -> Mapping[str, Action]:
        """The actions that there are beside the firewall."""
        return {}

    def start(self) -> None:
        """Start, or start again as after a kill."""
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.complaints: list[str] = []
        self.store = BlockStore.open(self.settings.paths.blocks_database)
        self.prepare(self.store)
        self.records = Records(
            self.settings.paths, self.store, self.complaints.append, clock=lambda: self.clock
        )
        self.enforcement = make_enforcement(
            self.settings,
            backend=self.backend,
            store=self.store,
            records=self.records,
            announce=self.announce,
            actions=self.actions,
            clock=lambda: self.now,
        )
        self.enforcement.start(self.now)

    def announce(self, line: str, event: Event | None) -> None:
        """Keep what was announced."""
        self.lines.append(line)
        if event is not None:
            self.events.append(event)

    def block(
        self, source: str, until: Until = SOON, request: str = "", **more: Any
    ) -> tuple[str, Until, str]:
        """Ask for a block; return kind, end and detail."""
        asked = BlockRequest(
            1, request or f"{source}-{until}", parse_prefix(source), "scan", until, 1, "TCP", **more
        )
        outcome = self.enforcement.block(asked, self.now)
        return outcome.kind.value, outcome.until, outcome.detail

    def tend(self) -> None:
        """Let what is due begin."""
        self.enforcement.tend(self.now)

    @property
    def kernel(self) -> dict[str, Until]:
        """What the firewall holds, as text."""
        return {str(source): until for source, until in self.backend.elements.items()}

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Request and state of each row, oldest first."""
        return [(row.request, row.state.value) for row in reversed(self.store.since(0))]

    def files(self) -> tuple[list[str], list[str]]:
        """The sources in the history and in the blocked file, when all is written."""
        self.records.close(self.enforcement.blocked_lines())
        return (
            [str(line.source) for line in read_history(self.settings.paths.history)],
            [str(line.source) for line in read_blocked_file(self.settings.paths.blocked)],
        )


class FakeAction:
    """An action that ends when the test says so, or on the spot."""

    expires_by_itself = False

    def __init__(
        self, name: str, *, is_quick: bool = False, denies: bool = True, can_release: bool = True
    ) -> None:
        self.name = name
        self.says = ""
        self.is_quick = is_quick
        self.denies = denies
        self.can_release = can_release
        self.calls: list[str] = []
        self.open: list[Ended] = []
        self.ending = DONE
        self.names_port = False
        self.is_deadly = False

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Take an order."""
        del now
        self._take(f"block {order.source}{' again' * is_again}", ended)

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Take an order back."""
        del now
        self._take(f"release {order.source}", ended)

    def trace(self, order: Order) -> str:
        """Tell what an order leaves behind."""
        return f"{order.source} {order.port}" if self.names_port else str(order.source)

    def end(self, result: Result = DONE) -> None:
        """Let the oldest call end."""
        self.open.pop(0)(result)

    def _take(self, call: str, ended: Ended) -> None:
        self.calls.append(call)
        if self.is_deadly:
            raise KeyboardInterrupt
        if self.is_quick:
            ended(self.ending)
        else:
            self.open.append(ended)


class CarrierBench(Bench):
    """The same with actions beside the firewall, whose commands do not outlive a kill."""

    def __init__(self, folder: Path) -> None:
        self.slow = FakeAction("slow")
        self.other = FakeAction("other")
        self.file = FakeAction("file", is_quick=True)
        self.mail = FakeAction("mail", denies=False, can_release=False)
        super().__init__(folder)

    @property
    def actions(self) -> Mapping[str, FakeAction]:
        """The actions that there are beside the firewall."""
        return {action.name: action for action in (self.slow, self.other, self.file, self.mail)}

    def start(self) -> None:
        """Start, or start again as after a kill: whatever ran is not heard of any more."""
        self.later: list[Outcome] = []
        for action in self.actions.values():
            action.open.clear()
        super().start()

    def block_by(
        self, *actions: str, source: str = "192.0.2.9", until: Micros | None = SOON, port: int = 1
    ) -> str:
        """Ask for a block by these actions; return how it ended, `later` where that is not known yet."""
        request = BlockRequest(
            1,
            f"{source}/{until}/{actions}",
            parse_prefix(source),
            "scan",
            until,
            port,
            "TCP",
            actions=actions,
        )
        outcome = self.enforcement.block(request, self.now, self.later.append)
        return "later" if outcome is None else f"{outcome.kind.value} {outcome.detail}".strip()

    @property
    def endings(self) -> list[tuple[str, str]]:
        """What watchers were told of actions."""
        return [(event.action, event.ending) for event in self.events if isinstance(event, DeedEvent)]

    @property
    def states(self) -> dict[str, str]:
        """The deeds of the newest block."""
        (row, *_) = self.store.since(0)
        return {deed.action: deed.state.value for deed in self.store.deeds.of(row.number)}
