"""An enforcer in a lab with actions to choose, asked over its socket, and a scanner to see what it does."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, Lab
from correlator.drill.scanner import Scanner
from correlator.enforcer.client import EnforcerClient
from correlator.enforcer.protocol import (
    BlockRequest,
    OutcomeAnswer,
    ReleaseRequest,
    StatusAnswer,
    StatusRequest,
)
from correlator.errors import PortwardError
from correlator.model import Outcome, parse_prefix
from tests.netns.victim import serve
from tests.peers.unpacked import Stage
from tests.site_folders import ENFORCER_PATHS, paths_table

ROOT = Path(__file__).resolve().parents[2]
PORT = 22
UNANSWERED = 0.3
BOTH = ((SCANNER4, VICTIM4), (SCANNER6, VICTIM6))
WaitUntil = Callable[..., None]


class Site:
    """An enforcer in a lab, whose jail blocks by these actions, and which compares every second.

    `popen` starts it: in the victim, or where else its actions find their programs. `settings` are further
    tables of TOML.
    """

    def __init__(
        self,
        lab: Lab,
        popen: Callable[..., object],
        folder: Path,
        wait_until: WaitUntil,
        *actions: str,
        settings: str = "",
    ) -> None:
        self.lab, self.folder, self.actions = lab, folder, actions
        self._wait_until = wait_until
        (folder / "portward.toml").write_text(
            f'mode = "block"\n{paths_table(folder, ENFORCER_PATHS)}[enforcer]\nsync_every = "1s"\n'
            f'[jail.scan]\nfilters = ["portsentry"]\nactions = {json.dumps(actions)}\n' + settings
        )
        with (folder / "said").open("w") as said:
            popen(
                *("env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", "correlator"),
                *("enforce", "--config", str(folder)),
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.stage: Stage | None = None
        """Where its actions find their programs, where that is not the victim itself."""
        self._ids = 0
        self._client: EnforcerClient | None = None
        wait_until(self._connect, 20, "the enforcer takes requests")
        self.serving = serve(lab, PORT)
        self.scanner = Scanner(lab)

    def close(self) -> None:
        """Let go of everything; the lab ends the processes."""
        assert self._client is not None
        self._client.close()
        self.serving.close()
        self.scanner.close()

    def said(self) -> str:
        """All that the enforcer printed."""
        return (self.folder / "said").read_text()

    def block(self, source: str, reason: str = "") -> Outcome:
        """Ask for a block by all of its actions."""
        self._ids += 1
        request = BlockRequest(
            *(self._ids, f"r{self._ids}", parse_prefix(source), "scan", None, 79, "TCP"),
            reason=reason,
            actions=self.actions,
        )
        answer = self._ask(request)
        assert isinstance(answer, OutcomeAnswer), answer
        return answer.outcome

    def release(self, source: str) -> None:
        """Ask for a release."""
        self._ids += 1
        self._ask(ReleaseRequest(self._ids, parse_prefix(source)))

    def status(self) -> dict:
        """What the enforcer says of itself."""
        self._ids += 1
        answer = self._ask(StatusRequest(self._ids))
        assert isinstance(answer, StatusAnswer)
        return answer.status

    def is_answered(self, victim: str) -> bool:
        """Whether a SYN of the scanner's to the open port is answered."""
        return self.scanner.is_answered(PORT, destination=victim)

    def is_silent(self, victim: str) -> bool:
        """Whether no answer comes, as long as one takes on a busy machine."""
        return not self.scanner.is_answered(PORT, UNANSWERED, destination=victim)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait, and show what the enforcer said where it does not come true."""
        try:
            self._wait_until(condition, 20, what)
        except BaseException:
            print(self.said())
            raise

    def _ask(self, request: object) -> object:
        assert self._client is not None
        return self._client.ask(request)

    def _connect(self) -> bool:
        try:
            self._client = EnforcerClient(self.folder / "run/enforcer/enforcer.sock", timeout=30)
        except PortwardError:
            return False
        return True
