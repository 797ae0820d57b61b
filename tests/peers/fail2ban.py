"""The real Fail2ban, unpacked by `make peer`, asked for its opinion through its own fail2ban-regex.

Nothing of it is imported or installed: a child process reads a file of lines and says, for each, what it
found. Its trace names each line as it comes to it, and `-o row` prints each failure after that.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".cache" / "peers"
FAIL2BAN = PEERS / "fail2ban"
CONFIG = FAIL2BAN / "etc" / "fail2ban"
FILTERS = CONFIG / "filter.d"
FAKETIME = next(iter(PEERS.glob("faketime/usr/lib/*/faketime/libfaketime.so.1")), None)
_LINE = re.compile(r"\S+ \S+ fail2ban\.filter\s+\[\d+\]: TRACE  T: Working on line ")
_TIMEOUT = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What Fail2ban says of one line that is a failure."""

    identity: str
    time: float | None
    """None: the line has no date of its own."""
    fields: dict[str, Any]


class Fail2banError(Exception):
    """Fail2ban did not take the filter; its words."""


def is_there() -> bool:
    """Whether `make peer` found it, and a clock to show it."""
    return FAKETIME is not None and (FAIL2BAN / "usr/bin/fail2ban-regex").exists()


def ask(
    filter_: str,
    lines: Sequence[str],
    folder: Path,
    *,
    config: Path = CONFIG,
    now: int | None = None,
    options: Sequence[str] = (),
    zone: str = "UTC",
) -> list[list[Answer]]:
    """Return the failures that each line leads to; `filter_` as on its command line, lines not empty, no `#`.

    `now`: seconds since 1970 that its clock shows. Raises: Fail2banError.
    """
    log = folder / "asked.log"
    log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    command = ["/usr/bin/python3", str(FAIL2BAN / "usr/bin/fail2ban-regex"), "--config", str(config)]
    command += ["--no-check-all", "--raw", "--encoding", "UTF-8", "-l", "TRACEDEBUG", "-o", "row", *options]
    done = subprocess.run(
        [*command, str(log), filter_],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_TIMEOUT,
        check=False,
        env=_environment(now, zone),
    )
    return list(_parse(done.stdout.decode("utf-8", "replace"), len(lines)))


def run(arguments: Sequence[str], *, now: int | None = None, zone: str = "UTC") -> str:
    """Return what another of its programs prints."""
    program, *rest = arguments
    done = subprocess.run(
        ["/usr/bin/python3", str(FAIL2BAN / "usr/bin" / program), *rest],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_TIMEOUT,
        check=False,
        env=_environment(now, zone),
    )
    return done.stdout.decode("utf-8", "replace")


def _environment(now: int | None, zone: str) -> Mapping[str, str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(FAIL2BAN / "usr/lib/python3/dist-packages"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "LC_ALL": "C.UTF-8",
        "TZ": zone,
    }
    if now is not None:
        environment |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"@{_clock(now, zone)}", "TZ": zone}
    return environment


def _clock(now: int, zone: str) -> str:
    return (
        subprocess.run(
            ["/usr/bin/date", "-d", f"@{now}", "+%Y-%m-%d %H:%M:%S"],
            stdout=subprocess.PIPE,
            check=True,
            env={"TZ": zone},
        )
        .stdout.decode()
        .strip()
    )


def _parse(output: str, expected: int) -> list[list[Answer]]:
    answers: list[list[Answer]] = []
    for line in output.split("\n"):
        if _LINE.match(line):
            answers.append([])
        elif line.startswith(("['", '["')):
            identity, at, fields = ast.literal_eval(line.rstrip(","))
            answers[-1].append(Answer(identity, at, fields))
    if len(answers) != expected:
        raise Fail2banError(f"{len(answers)} answers to {expected} lines:\n{output[-4000:]}")
    return answers
