"""Decisions on their way to the enforcer: bounded, never stuck, and belief that follows what it holds."""

import dataclasses
import selectors
import socket
import threading

import pytest

from correlator.actions import Order, expand
from correlator.daemon.outbox import Outbox
from correlator.enforcer import protocol
from correlator.model import SECOND, Block, Outcome, OutcomeKind, parse_source

NOW = 1_795_357_762 * SECOND


def _block(number, until=NOW + 3600 * SECOND):
    source = parse_source(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
    return Block(
        request=f"scan:{source}:{NOW}",
        source=source,
        jail="scan",
        at=NOW,
        until=until,
        strikes=1,
        span=SECOND,
        ports=(1,),
        port=1,
        protocol="TCP",
        is_spoofable=False,
        is_observed=False,
        actions=("nftables",),
        evidence=(),
    )


@pytest.fixture
def enforcer(tmp_path):
    """An enforcer that answers every request on its socket at once: done."""
    path = tmp_path / "enforcer.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    seen = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                for line in stream:
                    request = protocol.parse_request(line)
                    match request:
                        case protocol.BlockRequest():
                            seen.append(request)
                            outcome = Outcome(
                                OutcomeKind.DONE, request.source, request.request, request.until
                            )
                            answer = protocol.OutcomeAnswer(request.id, outcome)
                        case protocol.ListRequest():
                            answer = protocol.BlocksAnswer(request.id, (), has_more=False)
                        case _:
                            answer = protocol.WatchingAnswer(request.id)
                    stream.write(protocol.encode_answer(answer))
                    stream.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path, seen
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def _run(selector, wait_until, condition):
    def turn():
        for key, _ in selector.select(0.01):
            key.data()
        return condition()

    wait_until(turn, seconds=60)


def test_any_number_that_waited_is_sent_in_the_end(enforcer, wait_until):
    """Thirty thousand at once neither fill the connection nor start again from the first for ever."""
    path, seen = enforcer
    heard, agreed = [], []
    with selectors.DefaultSelector() as selector:
        outbox = Outbox(
            path,
            selector,
            is_used=True,
            heard=lambda o, b: heard.append((o, b)),
            acted=lambda _deed: None,
            agree=agreed.append,
            say=print,
        )
        blocks = [_block(number) for number in range(30_000)]
        outbox.keep(blocks[:20_000])
        outbox.connect(NOW)
        for block in blocks[20_000:]:
            outbox.put(block)
        _run(selector, wait_until, lambda: len(outbox) == 0)
        outbox.close()
    assert {request.request for request in seen} == {block.request for block in blocks}
    assert len(heard) == 30_000
    assert agreed == [frozenset()]


def test_the_reason_says_what_the_jail_adds_up(enforcer, wait_until):
    """Four lines of five points each are no twenty strikes; an action is told the number all the same."""
    path, seen = enforcer
    block = dataclasses.replace(_block(1), strikes=20, unit="points", span=600 * SECOND)
    with selectors.DefaultSelector() as selector:
        outbox = Outbox(
            path,
            selector,
            is_used=True,
            heard=lambda _o, _b: None,
            acted=lambda _deed: None,
            agree=lambda _requests: None,
            say=print,
        )
        outbox.put(block)
        outbox.connect(NOW)
        _run(selector, wait_until, lambda: len(outbox) == 0)
        outbox.close()
    assert [request.reason for request in seen] == ["20 points in 600s"]
    order = Order(block.request, block.source, block.jail, NOW, block.until, reason=seen[0].reason)
    assert expand("$STRIKES$", order, NOW) == "20"


def test_what_is_over_is_given_up(tmp_path):
    """A block whose time passed while the enforcer was away is not sent any more."""
    heard = []
    with selectors.DefaultSelector() as selector:
        outbox = Outbox(
            tmp_path / "nobody",
            selector,
            is_used=True,
            heard=lambda o, _b: heard.append(o.kind),
            acted=lambda _deed: None,
            agree=print,
            say=print,
        )
        outbox.put(_block(1, until=NOW + SECOND))
        outbox.put(_block(2, until=None))
        outbox.connect(NOW)
        outbox.drop_expired(NOW + SECOND)
    assert heard == [OutcomeKind.EXPIRED]
    assert (len(outbox), outbox.dropped, outbox.state) == (1, 1, "unreachable")
