"""Enforcers that run in the lab's victim, one after the other on the same files."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from correlator.drill.lab import Lab
from correlator.enforcer.client import EnforcerClient
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.protocol import BlockRequest, Mend, OutcomeAnswer, SyncedAnswer, SyncRequest
from correlator.errors import PortwardError
from correlator.model import SECOND, Micros, Outcome, parse_prefix
from correlator.settings import Paths

STRANGER4 = "198.51.100.7"
STRANGER6 = "2001:db8:7::7"
HOUR: Micros = 3600 * SECOND
# Run in the victim's namespace: the enforcer with settings that a test chose.
PROGRAM = """
import json, sys
from pathlib import Path
from correlator.enforcer.service import run_enforcer
from correlator.errors import PortwardError
from correlator.settings import EnforcerSettings, Paths
told = json.loads(sys.argv[1])
paths = Paths(**{name: Path(path) for name, path in told.pop("paths").items()})
try:
    sys.exit(run_enforcer(EnforcerSettings(paths=paths, **told)))
except PortwardError as exc:
    print(exc, file=sys.stderr)
    sys.exit(exc.exit_status)
"""


class Running:
    """Enforcers in the victim's namespace, one after the other on the same files."""

    def __init__(self, lab: Lab, folder: Path, wait_until: Callable[..., None]) -> None:
        self.lab = lab
        self.paths = replace(
            Paths(),
            state=folder / "state",
            run=folder / "run",
            history=folder / "history",
            blocked=folder / "blocked",
            ignore=folder / "ignore",
        )
        self.output = folder / "output"
        self.wait_until = wait_until
        self.ids = 0
        self.process: subprocess.Popen[str] | None = None
        self.clients: list[EnforcerClient] = []

    def start(self, **settings: Any) -> EnforcerClient:
        """Start one and return a client of it, connected when it is ready."""
        self.process = self.popen(**settings)
        self.wait_until(self.is_ready, 20)
        return self.connect()

    def popen(self, **settings: Any) -> subprocess.Popen[str]:
        """Start one and wait for nothing."""
        paths = {
            name: str(getattr(self.paths, name)) for name in ("state", "run", "history", "blocked", "ignore")
        }
        told = json.dumps({"paths": paths, **settings})
        with self.output.open("a") as output:
            return self.lab.victim.popen(sys.executable, "-c", PROGRAM, told, stdout=output, stderr=output)

    def is_ready(self) -> bool:
        """Whether the enforcer takes requests."""
        assert self.process is not None
        assert self.process.poll() is None, self.output.read_text()
        with contextlib.suppress(PortwardError):
            EnforcerClient(self.paths.enforcer_socket).close()
            return True
        return False

    def connect(self) -> EnforcerClient:
        """Return a further client."""
        client = EnforcerClient(self.paths.enforcer_socket, timeout=30)
        self.clients.append(client)
        return client

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it and return its status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self) -> None:
        """End all connections; the lab ends the process."""
        for client in self.clients:
            client.close()

    def next_id(self) -> int:
        """Return a number not used before."""
        self.ids += 1
        return self.ids

    def block(
        self, client: EnforcerClient, source: str, lasts: Micros | None = HOUR, request: str = ""
    ) -> Outcome:
        """Ask for a block and return what became of it."""
        until = None if lasts is None else now() + lasts
        asked = BlockRequest(
            self.next_id(), request or f"{source}/{self.ids}", parse_prefix(source), "scan", until, 1, "TCP"
        )
        answer = client.ask(asked)
        assert isinstance(answer, OutcomeAnswer)
        return answer.outcome

    def sync(self, client: EnforcerClient) -> Mend:
        """Ask for a comparison and return what was mended."""
        answer = client.ask(SyncRequest(self.next_id()))
        assert isinstance(answer, SyncedAnswer)
        return answer.mend

    def nft(self, text: str) -> str:
        """Run a line of nft in the victim's namespace, as another hand would."""
        return self.lab.victim.run("nft", "-f", "-", text=text + "\n").stdout

    def kernel(self) -> dict[str, Micros | None]:
        """Return what the kernel holds, read by a socket of our own."""
        with self.lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
            listing = backend.list(now=now())
        assert listing.table == "intact"
        return {str(source): until for source, until in listing.elements.items()}

    def generation(self) -> int:
        """Return the ruleset's generation: every change moves it on."""
        with self.lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
            return backend._ask_generation()


def now() -> Micros:
    """Return the time."""
    return time.time_ns() // 1000
