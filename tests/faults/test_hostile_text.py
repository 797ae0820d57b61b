"""Text that a stranger chose, in logs and beside them: no output lets it move a cursor or hide words."""

import os
import pty
import re
import subprocess
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.hosts import ROOT, Host

pytestmark = pytest.mark.netns

A, B = "198.51.100.7", "198.51.100.8"
SETTINGS = """
[jail.portscan]
filters = ["portsentry"]
[jail.sshd]
filters = ["sshd"]
threshold = 2
"""
HOSTILE = (
    *(b"\x1b[2J\x1b]0;owned\x07", b"\x9b31m", "\x9b31m".encode(), b"\x00\x08\x0b\x0c\x7f", b"a\rb"),
    *(text.encode() for text in ("\u202emoc.live", "\u2028\u2029", "\u200b\u2066", "\U000e0041", "\ufffe")),
    *(b"\xff\xfe\xed\xa0\x80", b"\xc0\x80", b"x" * 300),
)
COMMANDS = (
    *(("status",), ("sources",), ("blocks",), ("history",), ("history", A), ("why", A), ("why-not", B)),
    *(("explain", "-"), ("check",), ("filter", "list")),
)


def strange(text: str) -> set[str]:
    """Return what in a text may change how a terminal shows it; line feeds are ours."""
    kinds = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return {char for char in text if char != "\n" and unicodedata.category(char) in kinds}


def stamp() -> bytes:
    """Return the time as logs have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").encode()


def lines(source: str) -> bytes:
    """Return what sshd and a probe could have written, hostile text where a stranger has a say."""
    parts = []
    for number, text in enumerate(HOSTILE):
        head = b"%s vm sshd[%d]: " % (stamp(), 100 + number)
        parts += [
            head + b"Invalid user " + text + f" from {source} port 4711\n".encode(),
            head + b"Failed password for invalid user " + text + f" from {source} port 4711 ssh2\n".encode(),
            head + text + b"\n",
        ]
    return b"".join(parts)


def shown(host: Host, *command: str, more: bytes = b"") -> str:
    """Return what a command prints on a terminal that says it understands everything."""
    ours, theirs = pty.openpty()
    with (
        host.lab.victim.entered(),
        subprocess.Popen(
            host.command(command[0], "", *command[1:]),
            env={**host.environment(), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
        ) as child,
    ):
        os.close(theirs)
        assert child.stdin is not None
        child.stdin.write(more)
        child.stdin.close()
        found = b""
        try:
            while piece := os.read(ours, 1 << 16):
                found += piece
        except OSError:  # Linux says so of a terminal whose other end has gone
            pass
    os.close(ours)
    return found.decode().replace("\r\n", "\n")


def test_no_output_lets_text_of_a_stranger_through(
    make_host: Callable[..., Host], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Each command, for people and as JSON, what the processes print, and the files that they write."""
    log = tmp_path / "auth.log"
    log.touch()
    ours = (ROOT / "filters/sshd.toml").read_text()
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/sshd.toml").write_text(re.sub(r"(?m)^files .*$", f'files = ["{log}"]', ours))
    host = make_host(SETTINGS).start_all()
    with log.open("ab") as file:
        file.write(lines(A))
    wait_until(lambda: A in host.rig.denied())
    with (tmp_path / "alert.log").open("ab") as file:
        for text in HOSTILE:
            name = text.replace(b"\n", b"") or b"x"
            alert = b"attackalert: TCP SYN/Normal scan from host: %s/%s to TCP port: 79\n" % (
                name,
                B.encode(),
            )
            file.write(stamp() + b" vm portsentry[71]: " + alert)
    wait_until(lambda: host.rig.ask("status")["correlator"]["sources"][0]["backlog"] == 0)
    host.rig.ask("block", "203.0.113.9", "--reason", "made by \u00e9")
    for command in COMMANDS:
        for as_json in ((), ("--json",)):
            said = shown(host, *command, *as_json, more=lines(A) if "-" in command else b"")
            assert strange(said) == set(), (command, as_json, said)
            assert "Traceback" not in said
    assert A in shown(host, "why", A)
    assert strange(host.words()) == set()
    assert "Traceback" not in host.words()
    for path in (tmp_path / "state").rglob("portward.*"):
        assert strange(path.read_text()) == set(), path
