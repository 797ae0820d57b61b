"""The drill's story: a real scan is seen, counted, decided, dropped and released, each step proved.

Every step looks at the thing itself (the wire, the alert log, the kernel's set), never at what another
step assumed. Nothing outlives it: namespaces without names, one temporary folder, children that die with
their parent. Closing the iterator ends it at any step.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, Lab, _enter
from correlator.drill.packets import AnswerKind, Flag
from correlator.drill.rig import Rig, wait_for
from correlator.drill.scanner import Scanner
from correlator.errors import KernelError

_SERVICE_PORT = 22
_CLOSED_PORT = 79
_PATIENCE = 10.0
_UNANSWERED_SECONDS = 0.3
_NMAP_PACE = ("--scan-delay", "20ms", "--max-retries", "0")
_NMAP_PORTS = "21,22,25,79,80,110,111,143"
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TECHNIQUES = (
    ("SYN", Flag.SYN),
    ("FIN", Flag.FIN),
    ("NULL", Flag.NONE),
    ("XMAS", Flag.XMAS),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried, and what was seen."""

    name: str
    is_proved: bool
    seen: str


def home_namespace() -> int:
    """Return a descriptor of the network namespace that we are in, for `come_home`."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def come_home(home: int) -> None:
    """Leave the lab where a signal found us in it: its end kills whoever is inside, and would kill us."""
    with suppress(KernelError):  # who may not go home was never away
        _enter(home)


def tell() -> Generator[Step, None, None]:
    """Yield the steps as they happen."""
    with _folder() as folder, Lab() as lab:
        yield Step("namespaces", True, f"victim {VICTIM4} and {VICTIM6}, scanner {SCANNER4} and {SCANNER6}")
        with open_service(lab), Rig(lab, folder) as rig, Scanner(lab) as scanner, _undisturbed_end():
            processes = rig.process_ids()
            yield Step(
                "processes",
                len(processes) == 3,
                ", ".join(f"{name} pid {number}" for name, number in sorted(processes.items())),
            )
            yield from _tell_of_a_client(rig, scanner)
            yield from _tell_of_a_scan(rig, scanner)
            yield from _tell_of_techniques(rig, scanner)
            yield from _tell_of_nmap(rig)


def _tell_of_a_client(rig: Rig, scanner: Scanner) -> Iterator[Step]:
    answer = scanner.wait_for_answer(scanner.send_tcp(_SERVICE_PORT))
    is_fine = answer is not None and answer.kind is AnswerKind.OPEN and not rig.alerts()
    yield Step("client", is_fine, f"SYN to open port {_SERVICE_PORT}: {_told(answer)}, no alert line")


def _tell_of_a_scan(rig: Rig, scanner: Scanner) -> Iterator[Step]:
    sent = time.time_ns()
    first = scanner.wait_for_answer(scanner.send_tcp(_CLOSED_PORT))
    yield Step("packet", first is not None, f"SYN to closed port {_CLOSED_PORT}: {_told(first)}")
    is_seen = wait_for(rig.alerts, _PATIENCE)
    yield Step("alert line", is_seen, rig.alerts()[0] if is_seen else "none")
    is_dropped = wait_for(lambda: SCANNER4 in rig.denied(), _PATIENCE)
    why = rig.ask("why", SCANNER4)
    decisions = why["decisions"]
    yield Step("strikes", bool(decisions), _strikes_told(decisions))
    yield Step("decision", bool(decisions), _decision_told(decisions))
    left = rig.denied().get(SCANNER4)
    yield Step("kernel set", is_dropped, f"inet portward source4 holds {SCANNER4}, {left} s left")
    is_answered = scanner.is_answered(_SERVICE_PORT, _UNANSWERED_SECONDS)
    reaction = _reaction(decisions, why["in_force"], sent)
    told = "answered" if is_answered else "unanswered"
    yield Step("next probe", not is_answered, f"to open port {_SERVICE_PORT}: {told}{reaction}")
    history = (rig.folder / "state/portward.history").read_text().strip()
    yield Step("history", f"/{SCANNER4} Port: {_CLOSED_PORT} TCP Blocked" in history, history)
    released = rig.ask("release", SCANNER4)
    is_answered = scanner.is_answered(_SERVICE_PORT)
    yield Step("release", released["released"] == 1 and is_answered, f"port {_SERVICE_PORT} answers again")


def _tell_of_techniques(rig: Rig, scanner: Scanner) -> Iterator[Step]:
    for name, flags in _TECHNIQUES:
        for victim, source in ((VICTIM4, SCANNER4), (VICTIM6, SCANNER6)):
            scanner.send_tcp(_CLOSED_PORT, flags, destination=victim)
            yield _blocked_and_released(rig, name, source)
    for victim, source in ((VICTIM4, SCANNER4), (VICTIM6, SCANNER6)):
        scanner.send_udp(_CLOSED_PORT, destination=victim)
        yield _blocked_and_released(rig, "UDP", source)


def _blocked_and_released(rig: Rig, name: str, source: str) -> Step:
    is_dropped = wait_for(lambda: source in rig.denied(), _PATIENCE)
    alert = rig.alerts()[-1] if rig.alerts() else "no alert line"
    rig.ask("release", "--all")
    wait_for(lambda: rig.ask("status")["correlator"]["denied"] == 0, _PATIENCE)
    return Step(f"{name} scan", is_dropped and source in alert, alert)


def _tell_of_nmap(rig: Rig) -> Iterator[Step]:
    if shutil.which("nmap") is None:
        return
    done = rig.lab.scanner.run("nmap", "-sS", "-n", "-Pn", "-r", *_NMAP_PACE, "-p", _NMAP_PORTS, VICTIM4)
    ports = [line for line in done.stdout.splitlines() if "/tcp" in line]
    learned = [line.split()[0] for line in ports if "filtered" not in line]
    is_dropped = SCANNER4 in rig.denied()
    total = _NMAP_PORTS.count(",") + 1
    told = (
        f"a port every 20 ms: blocked, learned {len(learned)} of {total} ports: {' '.join(learned) or 'none'}"
    )
    yield Step("nmap", is_dropped, told)


def _told(answer: Any) -> str:
    return "no answer" if answer is None else f"answered by {answer.kind.value}"


def _strikes_told(decisions: list[dict[str, Any]]) -> str:
    if not decisions:
        return "none"
    body = decisions[0]["body"]
    return (
        f"{body['strikes']} within {body['span'] // 1_000_000} s, ports {','.join(map(str, body['ports']))}"
    )


def _decision_told(decisions: list[dict[str, Any]]) -> str:
    if not decisions:
        return "none"
    decision = decisions[0]
    return f"{decision['kind']} {decision['source']} by jail {decision['jail']}, outcome {decision['state']}"


def _reaction(decisions: list[dict[str, Any]], in_force: list[dict[str, Any]], sent: int) -> str:
    if not decisions or not in_force:
        return ""
    return f" ({(in_force[0]['created'] - sent // 1000) / 1000:.1f} ms from the first packet to the request)"


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that no signal at any moment can leave behind; a kill may."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    try:
        with tempfile.TemporaryDirectory(prefix="portward-drill-") as folder:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                yield Path(folder)
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _undisturbed_end() -> Iterator[None]:
    """Let no signal interrupt what is tidied up after this; `_folder` lets them in again, as the last."""
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)


@contextmanager
def open_service(lab: Lab) -> Iterator[None]:
    """Listen on the victim's service port, both families; the kernel alone answers."""
    with lab.victim.entered():
        listener = socket.create_server(("::", _SERVICE_PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    with listener:
        yield
