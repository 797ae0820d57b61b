"""Whose turn it is: no client's list keeps the others waiting, and nobody takes every place."""

import os
import pwd
import socket
from collections.abc import Iterator

import pytest

from correlator.enforcer.connections import SLOW_SECONDS, Connection, block_pages
from correlator.enforcer.peers import Peer, find_peer
from correlator.enforcer.protocol import BlockInForce, BlocksAnswer, parse_answer
from correlator.model import parse_prefix

PEER = Peer("somebody", may_look=True, may_change=False)


class Hungry(socket.socket):
    """A client that takes whatever it gets, at once."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.taken = b""

    def send(self, data: bytes, _flags: int = 0) -> int:  # type: ignore[override]
        """Take all."""
        self.taken += bytes(data)
        return len(data)


def many(count: int) -> Iterator[BlockInForce]:
    """Yield blocks."""
    for number in range(count):
        source = parse_prefix(f"198.51.{number >> 8}.{number & 255}")
        yield BlockInForce(source, None, "scan", number, f"r{number}", 0, "", "x" * 100)


def test_a_list_is_sent_a_page_a_turn() -> None:
    """However fast it is read: between two pages everybody else has a turn."""
    with Hungry() as client:
        connection = Connection(client, PEER)
        connection.send_pages(block_pages(1, lambda: many(1000)))
        turns = 0
        while connection.wants_to_write:
            before = client.taken.count(b"\n")
            assert connection.flush(0.0)
            turns += 1
            assert client.taken.count(b"\n") <= before + 1
        answers = [parse_answer(line) for line in client.taken.splitlines()]
    assert len(answers) >= 10
    assert turns in (len(answers), len(answers) + 1)
    found = [block for answer in answers if isinstance(answer, BlocksAnswer) for block in answer.blocks]
    assert found == list(many(1000))


def test_a_list_that_is_not_read_costs_a_page() -> None:
    """It is made as it is taken, and whoever takes nothing is dropped after a while."""
    made: list[int] = []

    def counted() -> Iterator[BlockInForce]:
        for block in many(100_000):
            made.append(1)
            yield block

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        connection = Connection(ours, PEER)
        connection.send_pages(block_pages(1, counted))
        assert connection.flush(0.0)
        assert not connection.is_stuck(SLOW_SECONDS)
        assert connection.is_stuck(SLOW_SECONDS + 1)  # also while the kernel keeps what nobody reads
        for _ in range(1000):
            assert connection.flush(1.0)
        assert sum(made) < 5000
        assert not connection.is_stuck(SLOW_SECONDS + 1)
        assert not connection.flush(SLOW_SECONDS + 1.1)


def test_root_is_known_without_asking_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of users that hangs must keep nobody from a release; nor the correlator from a block."""

    def hang(_user: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(pwd, "getpwuid", hang)
    monkeypatch.setattr(os, "getgrouplist", lambda *_: hang(_))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        peer = find_peer(ours, allowed=frozenset(), group=0)
    assert (peer.may_look, peer.may_change, peer.is_root) == (True, True, os.getuid() == 0)
