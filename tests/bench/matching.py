"""How long a log takes: our filters and jails, fail2ban-regex, SSHGuard's parser and GNU grep, in one run.

Three logs, made anew and the same every time: a host's auth.log, one in which about one line in a hundred
matters, and one of a host under attack. We read them as the correlator reads /var/log/auth.log, chunk by
chunk, with all shipped filters loaded and a jail for each; fail2ban-regex has its sshd filter alone and is
taken at its own word (neither its start counts nor ours), SSHGuard's parser and grep by the clock.
grep looks for the texts that our filters of this log require. Each tool takes its turn in each round.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from correlator.config.filters import read_filter
from correlator.counting.jail_definition import JailDefinition
from correlator.counting.jails import Jail
from correlator.engine import Engine
from correlator.matching.filter_definition import FilterDefinition
from correlator.matching.whole_line_filters import run_filter
from correlator.model import SECOND, Chunk
from tests.bench.logs import make_auth_log

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".cache" / "peers"
FAIL2BAN = PEERS / "fail2ban"
SSHGUARD = PEERS / "sshguard/usr/libexec/sshguard/sshg-parser"
BUSY = "200,000 lines of auth.log"
QUIET = "300,000 lines, 1 % matters"
HOSTILE = "100,000 lines, 40 % of what happens is an attack"
_ORIGIN = "/var/log/auth.log"
_CHUNK = 1 << 18
_ARRIVED = 1_795_500_000 * SECOND
_PROCESSED = re.compile(rb"\[processed in ([0-9.]+) sec\]")
Samples = dict[tuple[str, str], dict[str, list[float | None]]]


def measure(rounds: int) -> Samples:
    """Return milliseconds of each tool for each log; tools that are not there are left out."""
    logs = {
        BUSY: make_auth_log(200_000, share_of_strangers=0.03),
        QUIET: make_auth_log(300_000, share_of_strangers=0.012),
        HOSTILE: make_auth_log(100_000, share_of_strangers=0.4),
    }
    samples: Samples = {(what, "ms"): {} for what in logs}
    with tempfile.TemporaryDirectory(prefix="portward-bench-") as folder:
        for what, data in logs.items():
            path = Path(folder) / "auth.log"
            path.write_bytes(data)
            words = Path(folder) / "words"
            words.write_text("".join(f"{text}\n" for text in _words()))
            tools = _tools(path, words, data)
            for _ in range(rounds):
                for name, run in tools.items():
                    samples[what, "ms"].setdefault(name, []).append(run() * 1000)
    return samples


def why_not() -> list[str]:
    """Return what cannot be compared with, and how to get it."""
    missing = [path.name for path in (FAIL2BAN / "usr/bin/fail2ban-regex", SSHGUARD) if not path.exists()]
    return [f"no {name} here: run make peer" for name in missing]


def _tools(path: Path, words: Path, data: bytes) -> dict[str, Callable[[], float]]:
    tools: dict[str, Callable[[], float]] = {"portward": lambda: _portward(data)}
    if (FAIL2BAN / "usr/bin/fail2ban-regex").exists():
        tools["fail2ban-regex"] = lambda: _fail2ban(path)
    if SSHGUARD.exists():
        tools["sshguard"] = lambda: _clocked([str(SSHGUARD)], path)
    if shutil.which("grep"):
        tools["grep -F"] = lambda: _clocked(["grep", "-c", "-F", "-f", str(words)], path)
        expression = "|".join(map(_escaped, _words()))
        tools["grep -E"] = lambda: _clocked(["grep", "-c", "-E", expression], path)
    return tools


def _definitions() -> list[FilterDefinition]:
    found = [read_filter(path)[0] for path in sorted((ROOT / "filters").glob("*.toml"))]
    return [definition for definition in found if definition is not None]


def _reads(definition: FilterDefinition) -> bool:
    return _ORIGIN in definition.files


def _words() -> list[str]:
    """Return, for each pattern of the filters of this log, the text that its lines must hold."""
    needs = [
        need for definition in _definitions() if _reads(definition) for need in run_filter(definition).needs()
    ]
    return sorted({need.literal for need in needs if need.literal})


def _escaped(text: str) -> str:
    return re.sub(r"([][\\.*^$+?{}|()])", r"\\\1", text)


def _portward(data: bytes) -> float:
    definitions = _definitions()
    filters = [run_filter(definition) for definition in definitions]
    jails = [
        Jail(
            JailDefinition(
                name=filter_.name, where="bench", filters=(filter_.name,), threshold=5, span=600 * SECOND
            ),
            max_sources=100_000,
        )
        for filter_ in filters
    ]
    engine = Engine(
        filters,
        jails,
        routes={_ORIGIN: [definition.name for definition in definitions if _reads(definition)]},
        ignored_by=lambda _source: None,
    )
    chunks = _chunks(data)
    engine.warm(_ORIGIN)
    started = time.perf_counter()
    for chunk in chunks:
        engine.feed(chunk)
    return time.perf_counter() - started


def _chunks(data: bytes) -> list[Chunk]:
    """Return the log as the tailer hands it over: whole lines, a quarter of a megabyte at a time."""
    chunks = []
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _CHUNK) + 1
        chunks.append(Chunk(_ORIGIN, start, data[start:end], _ARRIVED, is_live=False))
        start = end
    return chunks


def _fail2ban(path: Path) -> float:
    config = FAIL2BAN / "etc/fail2ban"
    done = subprocess.run(
        [
            "/usr/bin/python3",
            FAIL2BAN / "usr/bin/fail2ban-regex",
            "-c",
            config,
            path,
            config / "filter.d/sshd.conf",
        ],
        env={**os.environ, "PYTHONPATH": str(FAIL2BAN / "usr/lib/python3/dist-packages")},
        capture_output=True,
        check=True,
    )
    found = _PROCESSED.search(done.stdout)
    if found is None:
        raise RuntimeError(f"fail2ban-regex did not say how long it took: {done.stdout[-200:]!r}")
    return float(found.group(1))


def _clocked(command: Sequence[str], path: Path) -> float:
    with path.open("rb") as log:
        started = time.perf_counter()
        subprocess.run(
            command, stdin=log, stdout=subprocess.PIPE, check=True
        )  # grep is lazy before /dev/null
        return time.perf_counter() - started
