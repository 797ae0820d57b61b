"""`action list`, `test` and `stop`: the actions there are, whether one does what it says, an end to it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import colour, complain, print_json, print_table
from correlator.errors import ConfigError, Fault, PermissionDeniedError
from correlator.model import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from correlator.actions import ActionDefinition
    from correlator.drill.story import Step

_APART = "PORTWARD_APART"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    action = commands.add_parser("action", help="the actions there are; prove that one works")
    which = action.add_subparsers(dest="which", metavar="list|test|stop", required=True)
    every = which.add_parser("list", parents=[common], help="every action, ours and this site's")
    every.set_defaults(run=_run_list)
    test = which.add_parser(
        "test", parents=[common], help="block and release a scanner with it, in throw-away namespaces"
    )
    test.add_argument("name", metavar="NAME")
    test.add_argument(
        "--tell",
        action="store_true",
        help="carry out an action that only tells somebody (mail, webhook, run), once and for real",
    )
    test.set_defaults(run=_run_test)
    stop = which.add_parser(
        "stop", parents=[common], help="take away what an action prepared on this host, once no jail uses it"
    )
    stop.add_argument("name", metavar="NAME")
    stop.set_defaults(run=_run_stop)


def _run_list(options: argparse.Namespace) -> int:
    from correlator.config.actions import ActionShelf

    settings = sites.load_settings(options)
    shelf = ActionShelf(settings)
    actions = [action for name in shelf.names if (action := shelf.load(name)) is not None]
    used = {
        name: [jail.name for jail in settings.jails.values() if name in jail.actions] for name in shelf.names
    }
    if options.json:
        print_json(
            "actions",
            actions=[
                {
                    "name": action.name,
                    "kind": action.kind,
                    "denies": action.denies,
                    "where": action.where,
                    "description": action.description,
                    "jails": used[action.name],
                }
                for action in actions
            ],
            faults=shelf.faults,
        )
    else:
        print_table(
            ("ACTION", "KIND", "JAILS", "DESCRIPTION"),
            (
                (action.name, action.kind, ",".join(used[action.name]) or "-", action.description)
                for action in actions
            ),
        )
    for fault in shelf.faults:
        complain(f"fault: {fault}")
    return 1 if shelf.faults else 0


def _run_test(options: argparse.Namespace) -> int:
    definition = _load(options)
    if options.tell:
        return _run_tell(options, definition)
    if os.geteuid() != 0:
        raise PermissionDeniedError("portward action test: makes namespaces: run it as root")
    if _APART not in os.environ:
        from correlator.drill.trial import run_apart

        arguments = ["action", "test", options.name, *(["--json"] if options.json else [])]
        arguments += ["--config", str(options.config)] if options.config is not None else []
        with tempfile.TemporaryDirectory(prefix="portward-action-") as folder:
            os.environ[_APART] = "1"
            return run_apart(arguments, Path(folder))
    from correlator.drill.story import come_home, home_namespace
    from correlator.drill.trial import try_action

    home = home_namespace()

    def interrupt(_signal: int, _frame: object) -> None:
        come_home(home)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    with closing(try_action(definition)) as trial:
        return _show_steps(options, definition, trial)


def _run_tell(options: argparse.Namespace, definition: ActionDefinition) -> int:
    from correlator.drill.trial import tell_once

    if definition.denies:
        complain(f"portward action test: {definition.name} denies its source: it is tried without --tell")
        return 2
    return _show_steps(options, definition, tell_once(definition))


def _show_steps(options: argparse.Namespace, definition: ActionDefinition, trial: Iterable[Step]) -> int:
    """Print each step as it comes; return 0 where all are proved."""
    steps = []
    for step in trial:
        steps.append(step)
        if not options.json:
            mark = colour("proved", "good") if step.is_proved else colour("FAILED", "bad")
            print(f"{mark}  {step.name:<13} {printable(step.seen)}", flush=True)
    is_proved = all(step.is_proved for step in steps)
    if options.json:
        print_json("action-test", action=definition.name, proved=is_proved, steps=steps)
    return 0 if is_proved else 1


def _run_stop(options: argparse.Namespace) -> int:
    """Run the commands `flush` and `stop` of an action; 1 where it has none, or one of them failed."""
    from correlator.actions import Order, expand_argv, spell
    from correlator.enforcer.runner import ENVIRONMENT, find_program
    from correlator.model import SECOND, parse_source

    definition = _load(options)
    users = [
        jail.name
        for jail in sites.load_settings(options).jails.values()
        if {options.name, definition.name} & {*jail.actions}
    ]
    if users:
        complain(f"portward action stop: still used by jail {', '.join(users)}: release what it denies first")
        return 1
    results = []
    for version, nobody in ((4, "0.0.0.0"), (6, "::")):  # noqa: S104  addresses of nobody
        commands = definition.commands.get(version)
        order = Order("", parse_source(nobody), "", 0, None)
        for argv in (*commands.flush, *commands.stop) if commands is not None else ():
            command = expand_argv(argv, order, 0)
            try:
                done = subprocess.run(
                    [find_program(command[0]), *command[1:]],
                    env=ENVIRONMENT,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=definition.timeout / SECOND,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as exc:
                results.append({"command": spell(command), "problem": str(exc)})
                continue
            said = " ".join(done.stdout.decode("utf-8", "replace").split())
            problem = f"exit status {done.returncode}: {said}" if done.returncode else ""
            results.append({"command": spell(command), "problem": problem})
    if options.json:
        print_json("action-stop", action=definition.name, commands=results)
    for result in results:
        told = f": {result['problem']}" if result["problem"] else ""
        complain(f"{printable(result['command'])}{printable(told)}")
    if not results:
        complain(f"portward action stop: {options.name} prepares nothing that it could take away")
    return 1 if not results or any(result["problem"] for result in results) else 0


def _load(options: argparse.Namespace) -> ActionDefinition:
    from correlator.config.actions import ActionShelf

    settings = sites.load_settings(options)
    shelf = ActionShelf(settings)
    definition = shelf.load(options.name)
    if definition is None:
        there = Fault(str(settings.where), "action", repr(options.name), "one of " + ", ".join(shelf.names))
        raise ConfigError(tuple(shelf.faults) or (there,))
    return definition
