"""The enforcer's socket: who may ask, and that nobody who asks can stop, grow or fill it."""

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from correlator.enforcer.client import EnforcerClient
from correlator.enforcer.fields import MAX_LINE
from correlator.enforcer.protocol import ErrorAnswer, StatusAnswer, StatusRequest
from correlator.errors import UnreachableError
from correlator.model import OutcomeKind
from tests.netns.enforcers import STRANGER4, Running

pytestmark = pytest.mark.netns


def test_a_user_who_is_not_allowed_is_turned_away(running: Running) -> None:
    """The kernel says who asks; the file mode alone is not trusted."""
    running.start()
    path = running.paths.enforcer_socket
    assert path.stat().st_mode & 0o777 == 0o660
    path.chmod(0o666)
    _let_everybody_in(path)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1000).decode())"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert json.loads(done.stdout or "{}").get("detail") == "this user may not ask", done.stderr
    assert "user nobody was turned away" in running.output.read_text()


def test_a_member_of_the_sockets_group_may_look_and_change_nothing(running: Running) -> None:
    """With the packaged set-up that is adm: whoever may read the logs may read who is blocked."""
    client = running.start()
    running.block(client, STRANGER4)
    path = running.paths.enforcer_socket
    _let_everybody_in(path)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(0); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); file = s.makefile('rwb', 0)\n"
        "for line in sys.argv[2:]: file.write(line.encode() + b'\\n');"
        " print(file.readline().decode(), end='')"
    )
    asked = (
        '{"id":1,"verb":"list"}',
        '{"id":2,"verb":"release"}',
        '{"id":3,"verb":"block","source":"192.0.2.77","request":"x","reason":"y"}',
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(path), *asked],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["answer"] for answer in answers] == ["blocks", "error", "error"], done
    assert {str(block.source) for block in client.blocks()} == {STRANGER4}


def test_nonsense_is_answered_and_too_long_a_line_ends_the_connection(running: Running) -> None:
    """Nothing that is sent stops the enforcer, or grows it."""
    client = running.start()
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(os.fspath(running.paths.enforcer_socket))
        rude.settimeout(10)
        rude.sendall(b'\xff\x00\n{"id":7,"verb":"block","source":"x","request":"a"}\n')
        answers = [json.loads(line) for line in rude.makefile("rb").readlines(1)]
        assert answers[0]["answer"] == "error"
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(os.fspath(running.paths.enforcer_socket))
        rude.settimeout(10)
        with contextlib.suppress(BrokenPipeError):
            rude.sendall(b"x" * (MAX_LINE * 4))
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := rude.recv(4096):
                received += data
        assert b"expected at most 65536" in received
    assert running.block(client, STRANGER4).kind is OutcomeKind.DONE


def test_a_client_that_never_reads_is_dropped_and_nobody_else_notices(running: Running) -> None:
    """Its answers pile up to a bound; then it is not read from, and in the end it is gone."""
    client = running.start()
    for index in range(200):
        running.block(client, f"203.0.113.{index}")
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(os.fspath(running.paths.enforcer_socket))
        lazy.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                lazy.sendall(b'{"id":1,"verb":"list"}\n' * 1000)
        # Thousands of lists were asked for; they wait, and others have their turn.
        assert running.block(client, STRANGER4).kind is OutcomeKind.DONE
        running.wait_until(lambda: _count_clients(client, running) == 1, 30)


def test_at_most_so_many_clients(running: Running) -> None:
    """One too many is told so and turned away; when one leaves there is room again."""
    running.start()
    held = [running.connect() for _ in range(31)]
    extra = running.connect()
    running.wait_until(lambda: _has_answer(extra, ErrorAnswer(None, "at most 32 clients at once")))
    with pytest.raises(UnreachableError):
        extra.ask(StatusRequest(2))
    held.pop().close()
    running.wait_until(lambda: _count_clients(held[0], running) == 31)
    running.connect().ask(StatusRequest(1))


def test_root_finds_a_place_whatever_an_allowed_user_does(running: Running) -> None:
    """A correlator taken over must not keep the administrator from releasing himself."""
    client = running.start(allowed_users=["nobody"])
    path = running.paths.enforcer_socket
    path.chmod(0o666)
    _let_everybody_in(path)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); held = []\n"
        "for _ in range(200):\n"
        "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)\n"
        "print(sum(b'at most' in s.recv(99) for s in held[60:]), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "140\n"
        assert _count_clients(client, running) == 28
        others = [running.connect() for _ in range(4)]
        for other in others:
            assert running.block(other, STRANGER4).kind in (OutcomeKind.DONE, OutcomeKind.EXISTS)
        crowd.communicate()


def _let_everybody_in(path: Path) -> None:
    """Open the folders of a test above `path` to other users."""
    for folder in path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)


def _count_clients(client: EnforcerClient, running: Running) -> int:
    """Return how many clients the enforcer has."""
    answer = client.ask(StatusRequest(running.next_id()))
    assert isinstance(answer, StatusAnswer)
    return int(answer.status["clients"])


def _has_answer(client: EnforcerClient, expected: ErrorAnswer) -> bool:
    """Return whether exactly that came by now."""
    answers = client.receive()
    assert answers in ([], [expected])
    return bool(answers)
