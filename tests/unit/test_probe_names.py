"""Names of senders are text that an attacker chose: cleaned, bounded, and never waited for."""

import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from correlator.model import SECOND
from correlator.probe.names import (
    KEPT,
    MOST_A_SECOND,
    MOST_ASKED,
    MOST_KNOWN,
    NAMELESS_KEPT,
    PATIENCE,
    RESTART_AFTER,
    NameLookups,
    Names,
    clean_name,
)

ECHO = """
import socket, sys
channel = socket.socket(fileno=0)
while address := channel.recv(64):
    channel.send(address + b" host-of-" + address.replace(b".", b"-") + b".example")
"""
SILENT = "import sys; sys.stdin.read(1)"
FORWARD = """
import socket
channel = socket.socket(fileno=0)
channel.recv(64)
for answer in (b"\\0", b" ", b"\\xff\\xfe", b"198.51.100.1 a.example", b"192.0.2.2 x/10.0.0.1", b"y" * 9000):
    channel.send(answer)
channel.recv(64)
"""


@pytest.mark.parametrize(
    "name",
    ["scanner.example.net", "localhost", "a", "_dmarc.example", "3com.example", "1-2.ptr.example", "x" * 253],
)
def test_names_of_hosts_are_used(name: str) -> None:
    """As they are told."""
    assert name == clean_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "evil/10.0.0.1;$(id)",
        "a b",
        "a\nb",
        "a\tb",
        "a\x1b[31m",
        "b\u00fccher.example",
        "\u0661.example",
        "x" * 254,
        "-rf.example",
        ".example",
        "a:b",
        "2001:db8::1",
        "10.0.0.1",
        "10.0.0.1.",
        "10.1",
        "167772161",
        "0xa000001",
        "0xa.0x0.0.1",
        "012.0.0.1",
        "host.example.1",
        "a%b",
        "a@b",
        "$(id)",
        "`id`",
    ],
)
def test_what_is_no_name_or_like_an_address_is_not_used(name: str) -> None:
    """A reader that takes the wrong side of the slash must not find whom the attacker wants to be blocked."""
    assert clean_name(name) is None


@given(st.one_of(st.text(), st.text("0123456789abcdefxX.-_", max_size=40), st.from_regex(r"[\d.x]+")))
@example("0x")
@example("1.")
def test_no_text_becomes_a_name_that_is_anything_else(text: str) -> None:
    """Letters, digits, `.`, `_`, `-`; no address in any spelling that a C library takes."""
    name = clean_name(text)
    if name is not None:
        assert name == text
        assert name.isascii()
        assert name.replace(".", "a").replace("-", "a").replace("_", "a").isalnum()
        assert len(name) <= 253
        with pytest.raises(OSError, match="illegal"):
            socket.inet_aton(name)


class Asked:
    """Takes what is to be looked up, or refuses."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_open = True

    def send(self, address: str) -> bool:
        """Take one."""
        self.sent.append(address)
        return self.is_open


@pytest.fixture
def asked() -> Asked:
    """A process that takes everything."""
    return Asked()


def test_the_first_line_has_the_address_and_later_ones_the_name(asked: Asked) -> None:
    """Asked once, however many lines come; then for an hour not again."""
    names = Names(asked.send)
    assert [names.name_of("192.0.2.2", now) for now in range(3)] == ["192.0.2.2"] * 3
    names.ask(3)
    assert names.name_of("192.0.2.2", 4) == "192.0.2.2"
    names.ask(5)
    names.note("192.0.2.2", "scanner.example.net", 6)
    assert names.name_of("192.0.2.2", 7) == "scanner.example.net"
    assert names.name_of("192.0.2.2", 6 + KEPT) == "scanner.example.net"  # and asks again
    names.ask(6 + KEPT)
    assert asked.sent == ["192.0.2.2"] * 2


@pytest.mark.parametrize("told", ["", "evil/10.0.0.1", "10.0.0.1"])
def test_who_has_no_fit_name_keeps_the_address(asked: Asked, told: str) -> None:
    """For five minutes unasked."""
    names = Names(asked.send)
    names.name_of("192.0.2.2", 0)
    names.ask(0)
    names.note("192.0.2.2", told, 0)
    for now in (1, NAMELESS_KEPT - 1, NAMELESS_KEPT):
        assert names.name_of("192.0.2.2", now) == "192.0.2.2"
        names.ask(now)
    assert asked.sent == ["192.0.2.2"] * 2


def test_forged_senders_fill_neither_table_nor_queue(asked: Asked) -> None:
    """So many at a time, so many a second, so many remembered; what is left out is counted."""
    names = Names(asked.send)
    for number in range(1000):
        names.name_of(str(number), 0)
    names.ask(0)
    assert (len(asked.sent), names.left_out) == (MOST_ASKED, 1000 - MOST_ASKED)
    for number in range(MOST_ASKED):
        names.note(str(number), "", 0)
    for number in range(1000, 1000 + MOST_ASKED):
        names.name_of(str(number), 0)
    names.ask(1)
    assert len(asked.sent) == MOST_A_SECOND
    for now in range(MOST_KNOWN + 10):
        names.name_of(f"late {now}", (now + 10) * SECOND)
        names.ask((now + 10) * SECOND)
        names.note(f"late {now}", "x.example", (now + 10) * SECOND)
    assert len(names._known) == MOST_KNOWN
    assert f"late {MOST_KNOWN + 9}" in names._known


def test_answers_that_nobody_asked_for_change_nothing(asked: Asked) -> None:
    """Nor does one that comes twice."""
    names = Names(asked.send)
    names.note("192.0.2.2", "scanner.example.net", 0)
    assert names.name_of("192.0.2.2", 1) == "192.0.2.2"
    names.ask(1)
    names.note("192.0.2.2", "first.example", 2)
    names.note("192.0.2.2", "second.example", 2)
    assert names.name_of("192.0.2.2", 3) == "first.example"


def test_what_could_not_be_sent_is_asked_again_with_the_next_line(asked: Asked) -> None:
    """The process is not there: nothing is remembered."""
    names = Names(asked.send)
    asked.is_open = False
    names.name_of("192.0.2.2", 0)
    names.ask(0)
    assert (names.oldest(), names.left_out) == (None, 1)
    asked.is_open = True
    names.name_of("192.0.2.2", 1)
    names.ask(1)
    assert names.oldest() == 1


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], NameLookups]]:
    """Lookups with this program in the other process."""
    started: list[NameLookups] = []

    def make(program: str) -> NameLookups:
        path = tmp_path / "program.py"
        path.write_text(program)
        started.append(NameLookups((sys.executable, "-I", "-S", str(path))))
        return started[-1]

    yield make
    for lookups in started:
        lookups.close()


def wait(lookups: NameLookups, now: int) -> None:
    """Take what the other process does next."""
    assert select.select([lookups.descriptor], [], [], 10)[0]
    lookups.receive(now)


def test_a_name_comes_from_the_other_process(start: Callable[[str], NameLookups]) -> None:
    """And asking waits for nothing."""
    lookups = start(ECHO)
    lookups.tend(0)
    assert lookups.names.name_of("192.0.2.2", 1) == "192.0.2.2"
    lookups.tend(1)
    wait(lookups, 2)
    assert lookups.names.name_of("192.0.2.2", 3) == "host-of-192-0-2-2.example"
    assert lookups.next_due() is None


@pytest.mark.parametrize("program", [SILENT, "raise SystemExit(3)", "not Python"])
def test_a_process_that_hangs_or_ends_is_started_again_a_minute_later(
    start: Callable[[str], NameLookups], capfd: pytest.CaptureFixture[str], program: str
) -> None:
    """Its lookups have found nothing; meanwhile nothing is asked."""
    lookups = start(program)
    lookups.tend(0)
    lookups.names.name_of("192.0.2.2", 0)
    lookups.tend(0)
    first = lookups._process
    if program == SILENT:
        assert lookups.next_due() == PATIENCE
        lookups.tend(PATIENCE - 1)
        assert lookups._channel is not None
        lookups.tend(PATIENCE)
    else:
        wait(lookups, 1)
    assert (lookups._channel, lookups.next_due()) == (None, RESTART_AFTER)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert lookups.names.name_of("192.0.2.2", 1) == "192.0.2.2"
    lookups.tend(RESTART_AFTER - 1)
    assert lookups._channel is None
    lookups.tend(RESTART_AFTER)
    assert lookups._channel is not None
    capfd.readouterr()  # what the broken program complains of


def test_no_answer_of_the_other_process_is_believed_unseen(
    start: Callable[[str], NameLookups], wait_until: Callable[..., None]
) -> None:
    """It talks with strangers; whatever it says is cleaned again, and never raises."""
    lookups = start(FORWARD)
    lookups.tend(0)
    lookups.names.name_of("192.0.2.2", 0)
    lookups.tend(0)

    def is_answered() -> bool:
        wait(lookups, 1)
        return lookups.names.oldest() is None

    wait_until(is_answered)
    known: dict[str, Any] = lookups.names._known
    assert list(known) == ["192.0.2.2"]
    assert lookups.names.name_of("192.0.2.2", 2) == "192.0.2.2"


def test_a_missing_program_costs_names_and_nothing_else() -> None:
    """The probe goes on."""
    with NameLookups(("/nonexistent/python",)) as lookups:
        lookups.tend(0)
        assert (lookups._channel, lookups.next_due()) == (None, RESTART_AFTER)
        assert lookups.names.name_of("192.0.2.2", 1) == "192.0.2.2"
        lookups.tend(1)
        assert lookups.names.left_out == 1
