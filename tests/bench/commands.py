"""How long commands take that only ask, with every shipped filter enabled, beside Python that does nothing.

Each is started anew, as somebody at a terminal does it, in turn; nothing here fails because of a time.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from correlator.config.vendor import vendor_folder

WHAT = "command to its answer"
_LINE = "Nov 22 14:29:22 vm sshd[7]: Failed password for root from 192.0.2.9 port 22 ssh2\n"
_PORTWARD = [str(Path(sys.executable).with_name("portward"))]
_NOTHING = "python -c pass"


def measure(rounds: int) -> dict[tuple[str, str], dict[str, list[float | None]]]:
    """Return milliseconds from the start of each command to its end."""
    samples: dict[str, list[float | None]] = {}
    with tempfile.TemporaryDirectory(prefix="portward-bench-") as folder:
        every = sorted(path.stem for path in vendor_folder("filters").glob("*.toml"))
        all_of_them, sshd = (_site(Path(folder), names) for names in (every, ["sshd"]))
        commands = {
            _NOTHING: [sys.executable, "-c", "pass"],
            "filter list": [*_PORTWARD, "filter", "list", "--config", all_of_them],
            "check": [*_PORTWARD, "check", "--config", all_of_them],
            "explain": [*_PORTWARD, "explain", "--config", all_of_them, "-"],
            "explain, sshd alone": [*_PORTWARD, "explain", "--config", sshd, "-"],
        }
        for _ in range(rounds):
            for name, command in commands.items():
                samples.setdefault(name, []).append(_clocked(command) * 1000)
    return {(WHAT, "ms"): samples}


def _site(folder: Path, names: list[str]) -> str:
    """Return the folder of a site with these filters enabled."""
    site = folder / f"{len(names)}"
    site.mkdir()
    (site / "portward.toml").write_text(f"enabled = [{', '.join(map(repr, names))}]\n")
    return str(site)


def _clocked(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, input=_LINE, text=True, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - started
