"""The actions that are commands: what an action file lists, run one after the other for each order."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from correlator.actions import (
    ActionDefinition,
    Argv,
    Commands,
    Order,
    encode_evidence,
    environment_for,
    expand,
    expand_argv,
    show,
    spell,
)
from correlator.enforcer.action import Ended, Ending, Result, Survey, Surveyed
from correlator.enforcer.runner import Done, Ran, Runner
from correlator.errors import SourceError
from correlator.model import SECOND, Micros, Source, parse_prefix, parse_source

MOST_ASKED = 200
"""Sources that one comparison asks about, each by a command of its own."""

_PARTS = re.compile(r"[;&|\n]")
_NOTHING = Ran("", "")
_MISSING = Ran("not there", "", is_no=True)
_OURS = Result(Ending.DONE, "done before")
_FOREIGN = Result(Ending.EXISTS, "there before us")


class CommandAction:
    """Runs the commands of one action file; see `Action`."""

    is_quick = False

    def __init__(self, definition: ActionDefinition, runner: Runner) -> None:
        self.name = definition.name
        self.denies = definition.denies
        self.says = definition.says
        self.can_release = any(commands.release for commands in definition.commands.values())
        self.expires_by_itself = definition.expires_by_itself
        self.can_survey = definition.denies and any(c.list or c.present for c in definition.commands.values())
        self._list_pattern = re.compile(definition.list_pattern, re.MULTILINE)
        self._definition = definition
        self._runner = runner
        self._is_started: set[int] = set()
        self._asked = 0
        """Where in the list of sources the next comparison goes on asking."""

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Run `block`; after a death first ask whether it had been carried out, or undo it where we can.

        What carries its own end is put there again all the same: what stands may end too early.
        """
        commands = self._commands(order)
        if commands is None:
            ended(Result(Ending.UNKNOWN, f"{self.name} does not take IPv{order.source.version}"))
        elif is_again and not self.denies:
            ended(Result(Ending.UNKNOWN, "interrupted; it is not run twice"))
        elif is_again and commands.present and not self.expires_by_itself:
            self._run(commands.present, order, now, partial(self._block_anew, commands, order, now, ended))
        elif is_again:
            self._block_anew(commands, order, now, ended, _MISSING)
        else:
            self._block(commands, order, now, ended)

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Run `release`; a source that is surely not denied any more is released."""
        commands = self._commands(order)
        if commands is None or not commands.release:
            ended(Result(Ending.FAILED, f"{self.name} has no command that undoes it"))
            return

        def check(failed: Ran) -> None:
            if not failed.problem:
                ended(Result(Ending.DONE, show_all(commands.release, order, now)))
            elif failed.is_killed or not (commands.present or commands.list):
                ended(Result(Ending.FAILED, failed.problem))
            else:
                self._ask(commands, order, now, partial(end, failed))

        def end(failed: Ran, present: Ran) -> None:
            is_gone = present.is_no
            ended(Result(Ending.DONE, "gone before") if is_gone else Result(Ending.FAILED, failed.problem))

        self._run(commands.release, order, now, check)

    def trace(self, order: Order) -> str:
        """Return what undoes it; the source alone where nothing does."""
        commands = self._commands(order)
        if commands is None or not commands.release:
            return str(order.source)
        return "; ".join(spell(expand_argv(argv, order, 0)) for argv in commands.release)

    def survey(self, orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        """Run `list` for each version of IP and compare; where there is none, ask of each source in turn."""
        versions = [version for version, commands in self._definition.commands.items() if commands.list]
        if not versions:
            self._ask_in_turn(orders, now, surveyed)
            return
        wanted = {order.source: order for order in orders if order.source.version in versions}
        there: set[Source] = set()

        def hear(ran: Ran) -> None:
            if ran.problem:
                surveyed(Survey(problem=ran.problem))
                return
            there.update(self._sources(ran.output))
            if versions:
                ask(versions.pop())
                return
            missing = tuple(order for source, order in wanted.items() if source not in there)
            extra = tuple(source for source in there if source not in wanted) if self._definition.owns else ()
            surveyed(Survey(missing, extra))

        def ask(version: int) -> None:
            if version not in {order.source.version for order in orders} and not self._definition.owns:
                hear(_NOTHING)
                return
            commands = self._definition.commands[version]
            self._is_started.discard(version)  # a flush by hand may have taken what it had prepared
            self._start(
                commands,
                version,
                now,
                lambda ran: hear(ran) if ran.problem else self._list(commands, version, now, hear),
            )

        ask(versions.pop())

    def restore(self, orders: Sequence[Order], now: Micros, ended: Ended) -> bool:
        """Run `restore` for each version of IP with all of its orders."""
        by_version = {version: [o for o in orders if o.source.version == version] for version in (4, 6)}
        todo = [version for version, some in by_version.items() if some]
        definitions = self._definition.commands
        if not all(version in definitions and definitions[version].restore for version in todo):
            return False

        def go_on(ran: Ran) -> None:
            if ran.problem or not todo:
                ended(Result(Ending.FAILED if ran.problem else Ending.DONE, ran.problem))
                return
            version = todo.pop()
            commands = definitions[version]
            lines = "".join(expand(commands.restore_line, order, now) for order in by_version[version])
            text = commands.restore_head + lines + commands.restore_tail
            self._run(commands.restore, by_version[version][0], now, go_on, text.encode())

        go_on(_NOTHING)
        return True

    def check(self, now: Micros, ended: Ended) -> None:
        """Run `check` for each version of IP."""
        todo = list(self._definition.commands)

        def go_on(ran: Ran) -> None:
            if ran.problem:
                hint = f" (it needs {package})" if (package := self._definition.package) else ""
                ended(Result(Ending.FAILED, ran.problem + hint))
                return
            if not todo:
                ended(Result(Ending.DONE))
                return
            version = todo.pop()
            self._run(self._definition.commands[version].check, _nobody(version), now, go_on)

        go_on(_NOTHING)

    def clear(self, now: Micros, complain: Callable[[str], None]) -> None:
        """Run `stop` for each version of IP: nothing of ours shall be left."""

        def hear(ran: Ran) -> None:
            if ran.problem:
                complain(f"{self.name}: {ran.problem}")

        for version, commands in self._definition.commands.items():
            self._run(commands.stop, _nobody(version), now, hear)

    def _ask_in_turn(self, orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        """Ask of some sources whether they are denied; the next time of those that follow."""
        able = [order for order in orders if (commands := self._commands(order)) and commands.present]
        start = self._asked % max(1, len(able))
        chosen = deque((able[start:] + able[:start])[:MOST_ASKED])
        self._asked = start + len(chosen)
        missing: list[Order] = []

        def hear(order: Order, present: Ran) -> None:
            if present.is_no:
                missing.append(order)
                self._is_started.discard(order.source.version)  # what it had prepared may be gone with it
            elif present.problem:
                surveyed(Survey(problem=present.problem))
                return
            ask()

        def ask() -> None:
            if not chosen:
                surveyed(Survey(tuple(missing)))
                return
            order = chosen.popleft()
            self._run(
                self._definition.commands[order.source.version].present, order, now, partial(hear, order)
            )

        ask()

    def _ask(self, commands: Commands, order: Order, now: Micros, heard: Done) -> None:
        """Find out whether a source is denied: no problem, `is_no`, or why it cannot be found out."""

        def look(ran: Ran) -> None:
            is_there = order.source in set(self._sources(ran.output))
            heard(ran if ran.problem or is_there else _MISSING)

        if commands.present:
            self._run(commands.present, order, now, heard)
        else:
            self._list(commands, order.source.version, now, lambda ran: look(replace(ran, is_no=False)))

    def _sources(self, output: str) -> Iterator[Source]:
        for found in self._list_pattern.finditer(output):
            with contextlib.suppress(SourceError):
                yield parse_prefix(found["source"])

    def _list(self, commands: Commands, version: int, now: Micros, heard: Done) -> None:
        self._run(commands.list, _nobody(version), now, heard)

    def _start(self, commands: Commands, version: int, now: Micros, started: Done) -> None:
        """Prepare the host where that was not done yet."""
        if version in self._is_started or not commands.start:
            started(_NOTHING)
            return

        def note(ran: Ran) -> None:
            if not ran.problem:
                self._is_started.add(version)
            started(ran)

        self._run(commands.start, _nobody(version), now, note)

    def _commands(self, order: Order) -> Commands | None:
        return self._definition.commands.get(order.source.version)

    def _block_anew(self, commands: Commands, order: Order, now: Micros, ended: Ended, present: Ran) -> None:
        """Block what may have been blocked before; `present`: it is there, is not, or nobody can tell."""
        if not present.problem:
            ended(_OURS)
        elif not present.is_no:
            ended(Result(Ending.FAILED, present.problem))
        elif commands.release:  # a part of it may be there, or it cannot be asked about: never twice
            again = partial(self._block, commands, order, now, ended, there=_OURS)
            self._run(commands.release, order, now, lambda _: again())
        else:
            self._block(commands, order, now, ended, there=_OURS)

    def _block(
        self, commands: Commands, order: Order, now: Micros, ended: Ended, *, there: Result = _FOREIGN
    ) -> None:
        """Run `block`; `there` is how it ended where it fails, and the source is denied all the same."""
        version = order.source.version

        def end(ran: Ran) -> None:
            if not ran.problem:
                ended(Result(Ending.DONE, show_all(commands.block, order, now)))
                return
            self._is_started.discard(version)  # somebody may have cleared what `start` prepared
            failed = Result(Ending.FAILED, ran.problem)
            if commands.release and (ran.is_killed or _has_parts(commands.block)):
                # the first of two rules is in: tried again it would be there twice, and stay for ever
                self._run(commands.release, order, now, lambda _: ended(failed))
            elif commands.present and not ran.is_killed:
                self._run(
                    commands.present, order, now, lambda present: ended(failed if present.problem else there)
                )
            else:
                ended(failed)

        def go(started: Ran) -> None:
            if started.problem:
                ended(Result(Ending.FAILED, started.problem))
                return
            evidence = encode_evidence(order, self._definition.evidence)
            self._run(commands.block, order, now, end, evidence)

        self._start(commands, version, now, go)

    def _run(self, argvs: Sequence[Argv], order: Order, now: Micros, done: Done, stdin: bytes = b"") -> None:
        """Run these in turn until one fails."""
        if not argvs:
            done(_NOTHING)
            return
        seconds = self._definition.timeout / SECOND

        def go_on(ran: Ran) -> None:
            if ran.problem or len(argvs) == 1:
                done(ran)
            else:
                self._run(argvs[1:], order, now, done, stdin)

        variables = self._definition.variables
        environment = environment_for(variables, order, hostname=os.uname().nodename) if variables else None
        argv = expand_argv(argvs[0], order, now)
        self._runner.run(argv, go_on, seconds=seconds, stdin=stdin, environment=environment)


def _has_parts(argvs: Sequence[Argv]) -> bool:
    """True where the commands can fail with a part of their work done."""
    return len(argvs) > 1 or any(_PARTS.search(text) for text in map(spell, argvs))


def _nobody(version: int) -> Order:
    """Return an order about nobody, for commands that concern no source."""
    return Order("", parse_source("0.0.0.0" if version == 4 else "::"), "", 0, None)  # noqa: S104


def show_all(argvs: Sequence[Argv], order: Order, now: Micros) -> str:
    """Return the commands as they were run, for people."""
    return "; ".join(show(expand_argv(argv, order, now)) for argv in argvs)
