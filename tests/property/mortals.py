"""What the enforcer works on, so made that it can die before and after each thing that it does."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from correlator.actions import ActionDefinition, Order
from correlator.enforcer.action import Ended, Ending, Result, Survey, Surveyed
from correlator.enforcer.hosts_deny import HostsDeny
from correlator.enforcer.plans import Until
from correlator.model import Micros, Source
from tests.enforcer_fakes import FakeBackend


class Killed(BaseException):
    """The process is gone, at once and without a word."""


class Fate:
    """Counts the steps of ours at which a process can die, and the writes that the disk still takes."""

    def __init__(self) -> None:
        self.steps_left: int | None = None
        self.room: int | None = None

    def step(self) -> None:
        """Die here, if it is time."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.steps_left = None
                raise Killed

    def write(self) -> None:
        """Write one statement, where there is room."""
        if self.room is not None:
            if self.room <= 0:
                raise sqlite3.OperationalError("database or disk is full")
            self.room -= 1


class MortalConnection:
    """A database before and after each of whose statements we may die."""

    def __init__(self, connection: Any, fate: Fate) -> None:
        self._connection = connection
        self._fate = fate

    def execute(self, query: str, values: Sequence[object] = ()) -> Any:
        """Run one statement; reading is no step, and a rollback is what a death comes to."""
        if query.startswith(("SELECT", "ROLLBACK", "PRAGMA")):
            return self._connection.execute(query, values)
        self._fate.step()
        if query.startswith(("INSERT", "UPDATE", "DELETE")):
            self._fate.write()
        done = self._connection.execute(query, values)
        self._fate.step()
        return done

    def executemany(self, query: str, values: Any) -> Any:
        """Run one statement for each of `values`, all or nothing."""
        rows = list(values)
        self._fate.step()
        if rows:
            self._fate.write()
        self._connection.execute("SAVEPOINT many")
        self._connection.executemany(query, rows)
        self._connection.execute("RELEASE many")
        self._fate.step()

    @property
    def in_transaction(self) -> bool:
        """As it is."""
        return bool(self._connection.in_transaction)

    def close(self) -> None:
        """What was not committed is gone."""
        self._connection.close()


class MortalBackend(FakeBackend):
    """A firewall that outlives the enforcement, and lets it die before or after any change."""

    def __init__(self) -> None:
        super().__init__()
        self.death: str | None = None

    def block(self, add: Sequence[tuple[Source, Until]], remove: Sequence[Source], *, now: Micros) -> None:
        """Change all or nothing, where the kernel has ended by itself what is over."""
        self._die("before")
        self.elements = dict(self.list(now=now).elements)
        super().block(add, remove, now=now)
        self._die("after")

    def restore(self, denied: Iterable[tuple[Source, Until]], *, now: Micros) -> None:
        """Begin anew."""
        self._die("before")
        super().restore(denied, now=now)
        self._die("after")

    def is_untouched(self) -> bool:
        """Never sure."""
        return False

    def flush(self) -> None:
        """Somebody flushes all rules."""
        self.table, self.elements = "missing", {}

    def _die(self, when: str) -> None:
        if self.death == when:
            self.death = None
            raise Killed


class Firewall(MortalBackend):
    """The kernel, before and after each of whose changes we may die."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self._fate = fate

    def _die(self, when: str) -> None:
        del when
        self._fate.step()


@dataclass
class Call:
    """A command that runs: what it will have done, and who waits for its end."""

    effect: Callable[[], None]
    ended: Callable[[Result], None]


class Commands:
    """An action that takes its time; what it has done outlives us."""

    is_quick = False
    says = ""
    can_survey = True

    def __init__(self, name: str, fate: Fate) -> None:
        self.name = name
        self.denies = name != "mail"
        self.can_release = self.denies
        self.expires_by_itself = name == "timer"
        self.is_failing = False
        self.held: dict[str, tuple[Source, Until]] = {}
        self.planted: set[str] = set()
        """What another hand put there; it may stay while we deny nobody in this way."""
        self.told: Counter[str] = Counter()
        self.open: list[Call] = []
        self._fate = fate

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Begin to deny, or to tell."""
        del now
        self._fate.step()
        trace = self.trace(order)
        if is_again and not self.denies:
            ended(Result(Ending.UNKNOWN, "not twice"))
            return

        def deny() -> None:
            if not self.denies:
                self.told[order.request] += 1
                return
            is_new = trace not in self.held or trace in self.planted
            assert is_again or self.expires_by_itself or is_new, f"{trace} twice"
            self.held[trace] = (order.source, order.until)

        self.open.append(Call(deny, ended))

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Begin to undo."""
        del now
        self._fate.step()
        self.open.append(Call(lambda: self.take_away(self.trace(order)), ended))

    def trace(self, order: Order) -> str:
        """The rule names a port, the others the source alone."""
        return f"{order.source} {order.port}" if self.name == "rule" else str(order.source)

    def survey(self, orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        """Find what is missing, and of the chain, which is all ours, what is too much."""
        del now
        wanted = {self.trace(order): order for order in orders}

        def hear(result: Result) -> None:
            if result.ending is Ending.FAILED:
                surveyed(Survey(problem=result.detail))
                return
            missing = tuple(order for trace, order in wanted.items() if trace not in self.held)
            owned = self.held.items() if self.name == "chain" else ()
            surveyed(Survey(missing, tuple(source for trace, (source, _) in owned if trace not in wanted)))

        self.open.append(Call(lambda: None, hear))

    def restore(self, orders: Sequence[Order], now: Micros, ended: Ended) -> bool:
        """One by one."""
        del orders, now, ended
        return False

    def check(self, now: Micros, ended: Ended) -> None:
        """It works here."""
        del now
        ended(Result(Ending.DONE))

    def end(self, place: int) -> None:
        """Let one of the commands end."""
        call = self.open.pop(place % len(self.open))
        if self.is_failing:
            call.ended(Result(Ending.FAILED, "exit status 1"))
            return
        call.effect()
        self._fate.step()
        call.ended(Result(Ending.DONE, "ran"))

    def take_away(self, trace: str) -> None:
        """Undo, whoever it is."""
        self.held.pop(trace, None)


class File(HostsDeny):
    """The real hosts.deny, before and after each of whose changes we may die."""

    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(ActionDefinition("file", "", kind="hosts-deny", file=str(path)))
        self.is_failing = False
        self._fate = fate

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Append the line."""
        if self.is_failing:
            ended(Result(Ending.FAILED, "read-only"))
            return
        self._fate.step()
        super().block(order, now, self._mortal(ended), is_again=is_again)

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Take the line away."""
        if self.is_failing:
            ended(Result(Ending.FAILED, "read-only"))
            return
        self._fate.step()
        super().release(order, now, self._mortal(ended))

    def _mortal(self, ended: Ended) -> Ended:
        def end(result: Result) -> None:
            self._fate.step()
            ended(result)

        return end
