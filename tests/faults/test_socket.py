"""What anybody may write to the enforcer's socket: nothing ends it, nothing is done that was not asked."""

import json
import random
import socket
from collections.abc import Callable

import pytest

from correlator.enforcer.fields import MAX_LINE
from tests.faults.hosts import Host

pytestmark = pytest.mark.netns

GOOD = b'{"id": 7, "verb": "status"}\n'
BLOCK = {
    "id": 1,
    "verb": "block",
    "request": "r",
    "source": "198.51.100.1",
    "jail": "scan",
    "until": None,
    "actions": ["nftables"],
}
STRANGE = (
    *(None, True, -1, 1e308, 1 << 70, "", "x" * 5000, "\0", "\x1b[2J", "\ud800", [], {}, [[]], {"a": 1}),
    *(
        "0.0.0.0/0",
        "::/0",
        "127.0.0.1",
        "198.51.100.1; reboot",
        "$(reboot)",
        "../../etc/passwd",
        "nftables\n",
    ),
)
ROUNDS = 300


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    """A running enforcer."""
    made = make_host()
    made.start("enforce")
    return made


def talk(host: Host, data: bytes, *, is_whole: bool = True) -> list[dict[str, object]]:
    """Send bytes, and return the answers until the enforcer or we have ended the connection."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(host.folder / "run/enforcer/enforcer.sock"))
        try:
            client.sendall(data)
            if is_whole:
                client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := client.recv(1 << 16):
                answer += piece
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
    return [json.loads(line) for line in answer.splitlines()]


def garbage(chance: random.Random) -> bytes:
    """Return bytes of one of the kinds that a liar or a broken program sends."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 5000))
    if kind == 1:  # a request cut or changed somewhere
        line = bytearray(json.dumps({**BLOCK, "until": -1}).encode() + b"\n")  # over, whatever is changed
        line[chance.randrange(len(line))] = chance.randrange(256)
        return bytes(line[: chance.randrange(1, len(line) + 1)])
    if kind == 2:
        return b"[" * chance.randrange(1, MAX_LINE - 1) + b"\n"
    if kind == 3:
        return b"x" * (MAX_LINE + chance.randrange(1, 100_000))
    if kind == 4:
        return b"\n" * chance.randrange(1, 2000) + b'{"id":' + b"9" * chance.randrange(1, 5000) + b"}\n"
    fields = {**BLOCK, chance.choice([*BLOCK, "more"]): chance.choice(STRANGE)}
    fields["source"] = fields["source"] if fields["source"] != BLOCK["source"] else chance.choice(STRANGE)
    return json.dumps(fields).encode() + b"\n"


def test_any_bytes_end_nothing_and_deny_nobody(host: Host) -> None:
    """Hundreds of connections with nonsense of every kind; in between it answers as before."""
    chance = random.Random(6)  # noqa: S311 -- the same bytes in every run
    for number in range(ROUNDS):
        talk(host, garbage(chance))
        if not number % 20:
            (answer,) = talk(host, GOOD)
            assert (answer["id"], answer["answer"]) == (7, "status")
    assert host.children["enforce"].poll() is None
    assert host.rig.denied() == {}
    assert "Traceback" not in host.words()


def test_a_good_request_behind_bad_ones_is_answered(host: Host) -> None:
    """A line that is refused spoils only itself; one that is too long ends the connection."""
    bad = b'{"id": 1, "verb": "block", "source": "0.0.0.0/0"}\n' * 50
    answers = talk(host, b"nonsense\n" + bad + GOOD)
    assert len(answers) == 52
    assert [answer["answer"] for answer in answers] == ["error"] * 51 + ["status"]
    answers = talk(host, b"y" * (2 * MAX_LINE) + b"\n" + GOOD)
    assert [answer["answer"] for answer in answers] in ([], ["error"])


def test_a_client_that_goes_in_the_middle_is_forgotten(host: Host) -> None:
    """Half a request is none; what it asked whole is carried out though nobody hears of it."""
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(host.folder / "run/enforcer/enforcer.sock"))
            client.sendall(json.dumps(BLOCK).encode()[:60])
    (answer,) = talk(host, GOOD)
    assert answer["answer"] == "status"
    assert host.rig.denied() == {}
    (answer,) = talk(host, json.dumps(BLOCK).encode() + b"\n")
    assert answer["answer"] == "outcome"
    assert set(host.rig.denied()) == {"198.51.100.1"}
    assert host.rig.ask("status")["enforcer"]["clients"] == 1
