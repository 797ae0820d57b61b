"""The actions that are commands: what an action file lists, run one after the other for each order."""

from __future__ import annotations

from collections.abc import Sequence

from correlator.actions import ActionDefinition, Argv, Commands, Order, encode_evidence, expand_argv, spell
from correlator.enforcer.action import Ended, Ending, Result
from correlator.enforcer.runner import Done, Ran, Runner
from correlator.model import SECOND, Micros


class CommandAction:
    """Runs the commands of one action file; see `Action`."""

    is_quick = False
    expires_by_itself = False

    def __init__(self, definition: ActionDefinition, runner: Runner) -> None:
        self.name = definition.name
        self.denies = definition.denies
        self.says = definition.says
        self.can_release = any(commands.release for commands in definition.commands.values())
        self._definition = definition
        self._runner = runner
        self._is_started: set[int] = set()

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Run `block`; after a death first ask whether it had been carried out."""
        commands = self._commands(order)
        if commands is None:
            ended(Result(Ending.UNKNOWN, f"{self.name} does not take IPv{order.source.version}"))
        elif is_again and not self.denies:
            ended(Result(Ending.UNKNOWN, "interrupted; it is not run twice"))
        elif is_again and commands.present:
            self._run(
                commands.present,
                order,
                now,
                lambda ran: (
                    self._block(commands, order, now, ended)
                    if ran.problem
                    else ended(Result(Ending.DONE, "done before"))
                ),
            )
        else:
            self._block(commands, order, now, ended)

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Run `release`; a source that is not denied any more is released."""
        commands = self._commands(order)
        if commands is None or not commands.release:
            ended(Result(Ending.FAILED, f"{self.name} has no command that undoes it"))
            return

        def check(failed: Ran) -> None:
            if not failed.problem:
                ended(Result(Ending.DONE, spell_all(commands.release, order, now)))
            elif not commands.present:
                ended(Result(Ending.FAILED, failed.problem))
            else:
                self._run(
                    commands.present,
                    order,
                    now,
                    lambda present: ended(
                        Result(Ending.DONE, "gone before")
                        if present.problem
                        else Result(Ending.FAILED, failed.problem)
                    ),
                )

        self._run(commands.release, order, now, check)

    def _commands(self, order: Order) -> Commands | None:
        return self._definition.commands.get(order.source.version)

    def _block(self, commands: Commands, order: Order, now: Micros, ended: Ended) -> None:
        version = order.source.version

        def end(ran: Ran) -> None:
            if ran.problem:
                self._is_started.discard(version)  # somebody may have cleared what `start` prepared
                ended(Result(Ending.FAILED, ran.problem))
            else:
                ended(Result(Ending.DONE, spell_all(commands.block, order, now)))

        def go(started: Ran) -> None:
            if started.problem:
                ended(Result(Ending.FAILED, started.problem))
                return
            self._is_started.add(version)
            evidence = encode_evidence(order) if self._definition.wants_evidence else b""
            self._run(commands.block, order, now, end, evidence)

        if commands.start and version not in self._is_started:
            self._run(commands.start, order, now, go)
        else:
            go(Ran("", ""))

    def _run(self, argvs: Sequence[Argv], order: Order, now: Micros, done: Done, stdin: bytes = b"") -> None:
        """Run these in turn until one fails."""
        if not argvs:
            done(Ran("", ""))
            return
        seconds = self._definition.timeout / SECOND

        def go_on(ran: Ran) -> None:
            if ran.problem or len(argvs) == 1:
                done(ran)
            else:
                self._run(argvs[1:], order, now, done, stdin)

        self._runner.run(expand_argv(argvs[0], order, now), go_on, seconds=seconds, stdin=stdin)


def spell_all(argvs: Sequence[Argv], order: Order, now: Micros) -> str:
    """Return the commands as they were run, as a person would type them."""
    return "; ".join(spell(expand_argv(argv, order, now)) for argv in argvs)
