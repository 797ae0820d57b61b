"""Tries one action on throw-away ground: namespaces of its own, copies of /etc, /run and /var/lib.

Every step looks at the thing itself: does a connection come through before, not while it is blocked, and
again after. Runs in a process of its own (`unshare`), so that an action may edit any file and hurts nobody.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from correlator.actions import ActionDefinition, Argv, Order, expand_argv, show
from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, Lab
from correlator.drill.scanner import Scanner
from correlator.drill.story import Step, open_service
from correlator.enforcer.action import Action, Ending, Result, Survey, Surveyor
from correlator.enforcer.build import build_actions
from correlator.enforcer.keeping import Keeping
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.runner import FOLDERS, Ran, Runner
from correlator.errors import KernelError
from correlator.model import SECOND, Micros, parse_source

_PORT = 22
_UNANSWERED_SECONDS = 0.5
_PATIENCE = 60.0
_COPIED = ("/etc", "/run", "/var/lib")
_STAGE = """
set -e
mount -t tmpfs tmpfs {folder}
for name in {copied}; do
    mkdir -p {folder}$name/upper {folder}$name/work
    mount -t overlay overlay -o lowerdir=$name,upperdir={folder}$name/upper,workdir={folder}$name/work $name
done
exec "$@"
"""


def run_apart(arguments: list[str], folder: Path) -> int:
    """Run ourselves again with these arguments where nothing of the host's files can be changed.

    Raises: KernelError where the kernel does not let us.
    """
    stage = _STAGE.format(folder=shlex.quote(str(folder)), copied=" ".join(_COPIED))
    command = [sys.executable, "-P", "-m", "correlator", *arguments]
    package = Path(__file__).resolve().parent.parent.parent
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", stage, "sh", *command],
            env={**os.environ, "PYTHONPATH": str(package)},
            check=False,
        )
    except OSError as exc:
        raise KernelError(f"unshare: {exc.strerror}") from exc
    return done.returncode


def try_action(definition: ActionDefinition) -> Generator[Step, None, None]:
    """Yield what was tried of an action and what was seen; see `run_apart`."""
    with (
        Lab() as lab,
        open_service(lab),
        Scanner(lab) as scanner,
        lab.victim.entered(),
        closing(_Stage(definition)) as stage,
    ):
        action = stage.build()
        for argv in definition.trial:
            prepared = stage.run(argv)
            hint = f" (it needs {definition.package})" if prepared and definition.package else ""
            yield Step("trial", not prepared, prepared + hint or show(argv))
            if prepared:
                return  # without ground of its own it would not be the action that is tried
        checked = stage.check(action)
        if checked is not None:
            yield checked
            if not checked.is_proved:
                return
        if not definition.denies and (definition.evidence or definition.rights == "root"):
            yield from _tell_of_commands(definition)
            return
        served = set(definition.commands) or {4, 6}
        for source, victim in ((SCANNER4, VICTIM4), (SCANNER6, VICTIM6)):
            if parse_source(source).version not in served:
                continue
            if definition.denies:
                yield from _try_source(stage, action, scanner, source, victim)
            else:
                yield from _try_on_connection(stage, action, lab, source, victim)


def tell_once(definition: ActionDefinition) -> Iterator[Step]:
    """Carry out, once and on this host, an action that only tells somebody; yield what came of it."""
    reason = "1 strikes in 60s, last: this is a trial: nobody attacked, and nobody is blocked"
    order = replace(_order(SCANNER4), reason=reason)
    with closing(_Stage(definition)) as stage:
        action = stage.build()
        checked = stage.check(action)
        if checked is not None:
            yield checked
            if not checked.is_proved:
                return
        told = stage.wait(lambda ended: action.block(order, _now(), ended))
        yield Step("told", told.is_success, told.detail or "done")


def _try_source(stage: _Stage, action: Action, scanner: Scanner, source: str, victim: str) -> Iterator[Step]:
    definition = stage.definition
    name = f"IPv{parse_source(source).version}"
    order = _order(source)
    is_answered = scanner.is_answered(_PORT, destination=victim)
    yield Step(f"{name} before", is_answered, f"{victim} answers {source}")
    blocked = stage.wait(lambda ended: action.block(order, _now(), ended))
    yield Step(f"{name} block", blocked.ending is Ending.DONE, blocked.detail or "done")
    if not blocked.is_success:
        return
    if definition.kind == "record":
        yield Step(f"{name} blocked", True, "denies nobody, as it is meant to")
    elif definition.kind == "hosts-deny":
        yield _ask_libwrap(f"{name} blocked", definition, source, is_denied=True)
    else:
        is_answered = scanner.is_answered(_PORT, _UNANSWERED_SECONDS, destination=victim)
        told = "still answers" if is_answered else "does not answer"
        yield Step(f"{name} blocked", not is_answered, f"{victim} {told} {source}")
    if isinstance(action, Surveyor) and action.can_survey:
        survey = stage.survey(action, order)
        told = survey.problem or ("missing" if survey.missing else "there")
        yield Step(f"{name} list", not survey.problem and not survey.missing, f"{source} is {told}")
    again = stage.wait(lambda ended: action.block(order, _now(), ended, is_again=True))
    yield Step(f"{name} again", again.is_success, again.detail or "done")
    if not action.can_release:
        yield Step(f"{name} release", False, "there is no command that undoes it")
        return
    released = stage.wait(lambda ended: action.release(order, _now(), ended))
    yield Step(f"{name} release", released.is_success, released.detail or "done")
    if definition.kind == "hosts-deny":
        yield _ask_libwrap(f"{name} after", definition, source, is_denied=False)
        return
    is_answered = scanner.is_answered(_PORT, destination=victim)
    told = "again" if is_answered else "not: it is still denied"
    yield Step(f"{name} after", is_answered, f"{victim} answers {source} {told}")


def _ask_libwrap(step: str, definition: ActionDefinition, source: str, *, is_denied: bool) -> Step:
    """Return what TCP wrappers make of the line, asked of their own tool."""
    daemon = definition.line.partition(":")[0].split()[0] if definition.line[0] != "$" else "ALL"
    program = shutil.which("tcpdmatch", path=FOLDERS)
    if program is None:
        return Step(step, True, "not asked of libwrap: no tcpdmatch here (package tcpd)")
    argv = [program, "sshd" if daemon == "ALL" else daemon, source]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"^access:\s+(\w+)", done.stdout, re.MULTILINE)
    access = found[1] if found else f"no answer: {done.stderr.strip()}"
    return Step(step, access == ("denied" if is_denied else "granted"), f"libwrap: {access} for {source}")


def _try_on_connection(stage: _Stage, action: Action, lab: Lab, source: str, victim: str) -> Iterator[Step]:
    """Carry out what changes nothing but connections of the source, beside one that is open."""
    name = f"IPv{parse_source(source).version}"
    with lab.scanner.entered():
        client = socket.create_connection((victim, _PORT), 5, source_address=(source, 0))
    with client:
        done = stage.wait(lambda ended: action.block(_order(source), _now(), ended))
        yield Step(f"{name} block", done.is_success, done.detail or "done")
        client.settimeout(_UNANSWERED_SECONDS)
        try:
            client.recv(1)
        except ConnectionResetError:
            told = "is ended"
        except TimeoutError:
            told = "goes on, where nothing else denies its source"
        else:
            told = "is closed"
        yield Step(f"{name} open", True, f"an open connection from {source} {told}")


def _order(source: str) -> Order:
    return Order("trial", parse_source(source), "trial", _now(), _now() + 600 * SECOND, 79, "TCP", "atcp")


def _tell_of_commands(definition: ActionDefinition) -> Iterator[Step]:
    """Yield what would be run: whom it would tell cannot be asked to take it back."""
    for version, source in ((4, SCANNER4), (6, SCANNER6)):
        commands = definition.commands.get(version)
        order = Order("trial", parse_source(source), "trial", _now(), None, 79, "TCP", "atcp")
        for argv in commands.block if commands else ():
            yield Step(f"IPv{version} not run", True, f"would run: {show(expand_argv(argv, order, _now()))}")
    yield Step("not told", True, f"`portward action test {definition.name} --tell` does it once, for real")


class _Stage:
    """A loop for one action."""

    def __init__(self, definition: ActionDefinition) -> None:
        self.definition = definition
        self._selector = selectors.DefaultSelector()
        self._runner = Runner(self)
        self._backend = NftablesBackend()

    def build(self) -> Action:
        """Return the action, running on this loop."""
        definition = self.definition
        if definition.kind == "nftables":
            return Keeping(self._backend, is_enforcing=True, tell=lambda _mend: None)
        return build_actions([definition], self._runner)[definition.name]

    def check(self, action: Action) -> Step | None:
        """Return whether an action can work here; None where it cannot tell."""
        if not isinstance(action, Surveyor):
            return None
        checked = self.wait(lambda ended: action.check(_now(), ended))
        return Step("check", checked.is_success, checked.detail or "can work on this host")

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call `ready` when readable; for `Runner`."""
        self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def unwatch(self, descriptor: int) -> None:
        """Watch it no longer."""
        self._selector.unregister(descriptor)

    def wait(self, begin: Callable[[Callable[[Result], None]], None]) -> Result:
        """Begin something and return how it ended."""
        ended: list[Result] = []
        begin(ended.append)
        self._turn_until(ended)
        return ended[0] if ended else Result(Ending.FAILED, f"no end within {_PATIENCE:g} s")

    def run(self, argv: Argv) -> str:
        """Run a command and return what was wrong with it."""
        ran: list[Ran] = []
        self._runner.run(argv, ran.append, seconds=_PATIENCE)
        self._turn_until(ran)
        return ran[0].problem if ran else f"no end within {_PATIENCE:g} s"

    def survey(self, action: Surveyor, order: Order) -> Survey:
        """Return what an action says of one order."""
        found: list[Survey] = []
        action.survey([order], _now(), found.append)
        self._turn_until(found)
        return found[0] if found else Survey(problem=f"no end within {_PATIENCE:g} s")

    def close(self) -> None:
        """Give everything back."""
        self._runner.close()
        self._backend.close()
        self._selector.close()

    def _turn_until(self, found: list[Ran] | list[Result] | list[Survey]) -> None:
        end = time.monotonic() + _PATIENCE
        while not found and time.monotonic() < end:
            pause = self._runner.pause()
            for key, _ in self._selector.select(0.1 if pause is None else min(pause, 0.1)):
                key.data()
            self._runner.tend()


def _now() -> Micros:
    return time.time_ns() // 1000
