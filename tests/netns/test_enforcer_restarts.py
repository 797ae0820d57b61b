"""The end of an enforcer and its next start on a real kernel, SIGKILL too: nothing lost, nothing doubled."""

import random
import signal
import time
from collections import Counter
from dataclasses import replace

import pytest

from correlator.enforcer.protocol import BlockRequest, OutcomeAnswer
from correlator.errors import BusyError
from correlator.model import SECOND, OutcomeKind, parse_prefix
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockState, BlockStore, NewBlock
from correlator.store.history import read_history
from tests.netns.enforcers import HOUR, STRANGER4, Running, now

pytestmark = pytest.mark.netns


def test_sigterm_leaves_the_blocks_in_force_and_the_next_start_touches_nothing(running: Running) -> None:
    """A restart has no gap: not one transaction is made where kernel and rows agree."""
    client = running.start()
    running.block(client, STRANGER4)
    running.block(client, "2001:db8:7::/64", None)
    assert running.kill(signal.SIGTERM) == 0
    assert not running.paths.enforcer_socket.exists()
    before = running.generation()
    assert sorted(running.kernel()) == [STRANGER4, "2001:db8:7::/64"]
    client = running.start()
    assert running.generation() == before
    assert [str(block.source) for block in client.blocks()] == [STRANGER4, "2001:db8:7::/64"]
    assert running.output.read_text().splitlines()[-1] == "started table=intact added=0 removed=0 refreshed=0"


def test_fifty_thousand_blocks_are_restored_in_one_batch(running: Running) -> None:
    """As after a reboot: one transaction, exact ends, and requests are answered soon after."""
    running.paths.state.mkdir()
    store = BlockStore.open(running.paths.blocks_database)
    base = now()
    sources = [f"10.{index >> 8 & 255}.{index & 255}.{index >> 16}" for index in range(40_000)]
    sources += [f"2001:db9:{index:x}::/64" for index in range(10_000)]
    store._connection.execute("BEGIN")
    for index, source in enumerate(sources):
        until = None if index % 10 == 0 else base + HOUR + index * SECOND
        row = NewBlock(f"r{index}", parse_prefix(source), "scan", base, until, 1, "TCP", "", ("nftables",))
        number = store.request(row)
        store._connection.execute(
            "UPDATE blocks SET state = 'done', is_in_history = 1 WHERE number = ?", (number,)
        )
    store._connection.execute("COMMIT")
    store.close()
    before, started = running.generation(), now()
    client = running.start(is_enforcing=True)
    assert running.generation() == before + 1
    found = running.kernel()
    took = now() - started  # a timeout runs from when nft has carried it in: so much later it may end
    assert len(found) == 50_000
    assert found[sources[0]] is None
    until = found[sources[44_444]]
    assert until is not None
    assert abs(until - base - HOUR - 44_444 * SECOND) < took + SECOND
    assert len(client.blocks()) == 50_000
    mend = running.sync(client)
    assert (mend.table, mend.added, mend.removed) == ("intact", 0, 0)
    assert len(read_blocked_file(running.paths.blocked)) == 50_000


def test_blocks_of_any_length_are_restored(running: Running) -> None:
    """An hour and a week, thirty days, to the last that may be asked for; all at once, and some hundreds."""
    client = running.start()
    days = (1, 2, 7, 30, 365, 36_500, 136_000)
    for number, length in enumerate(days):
        running.block(client, f"203.0.113.{number}", length * 24 * HOUR)
        running.block(client, f"198.51.{number}.0/24", length * 24 * HOUR)
    before = running.kernel()
    running.nft("flush ruleset")
    assert running.sync(client).added == 2 * len(days)
    found = running.kernel()
    assert found.keys() == before.keys()
    assert all(abs((found[source] or 0) - (before[source] or 0)) < 5 * SECOND for source in before)
    for number in range(600):
        running.block(client, f"203.1.{number >> 8}.{number & 255}", 7 * 24 * HOUR)
    running.nft("flush set inet portward source4")
    assert running.sync(client).added == 600 + len(days)
    assert len(running.kernel()) == 600 + 2 * len(days)


def test_killed_at_any_moment_nothing_is_lost_and_nothing_doubled(running: Running) -> None:
    """Forty lives, each killed among requests under way; what was not answered is asked again.

    At the end kernel, belief, rows, history and the blocked file agree with what was asked, each once.
    """
    chance = random.Random(20_261_123)  # noqa: S311 -- the same deaths in every run, nothing secret
    asked: dict[str, BlockRequest] = {}
    waiting: dict[str, BlockRequest] = {}
    settled: Counter[str] = Counter()
    client = running.start(is_enforcing=True)
    lives = 40
    for life in range(lives):
        for _ in range(chance.randrange(1, 25)):
            number = len(asked)
            source = parse_prefix(
                chance.choice(
                    [
                        f"203.{number >> 8}.{number & 255}.9",
                        f"2001:db9:{number:x}::1",
                        f"2001:db9:{number:x}::/64",
                    ]
                )
            )
            until = chance.choice([None, now() + HOUR + number * SECOND])
            request = BlockRequest(0, f"r{number}", source, "scan", until, number, "TCP", "why")
            asked[request.request] = waiting[request.request] = request
        for request in waiting.values():
            client.send(replace(request, id=running.next_id()))
        enough = 0 if life % 8 == 0 else chance.randrange(len(waiting) + 1)
        heard = 0
        while heard < enough:
            for answer in client.receive():
                assert isinstance(answer, OutcomeAnswer)
                heard += 1
                settled[answer.outcome.kind.value] += 1
                del waiting[answer.outcome.request]
        if chance.random() < 0.5:
            spin_until = time.perf_counter() + chance.random() * 0.004
            while time.perf_counter() < spin_until:
                pass
        assert running.kill() == -signal.SIGKILL
        client = running.start(is_enforcing=True)
    for request in list(waiting.values()):
        answer = client.ask(replace(request, id=running.next_id()))
        assert isinstance(answer, OutcomeAnswer)
        assert answer.outcome.kind in {OutcomeKind.DONE, OutcomeKind.EXISTS}
    assert settled.keys() <= {"done", "exists"}
    assert settled["done"] > lives
    expected = {str(request.source): request.until for request in asked.values()}
    assert {str(block.source): block.until for block in client.blocks()} == expected
    assert len(client.blocks()) == len(expected)
    found = running.kernel()
    assert found.keys() == expected.keys()
    assert all((found[source] is None) == (until is None) for source, until in expected.items())
    assert running.kill(signal.SIGTERM) == 0
    store = BlockStore.open(running.paths.blocks_database)
    assert Counter(row.state for row in store.since(0)) == {BlockState.DONE: len(expected)}
    store.close()
    ports = Counter(line.port for line in read_history(running.paths.history))
    assert ports == Counter(request.port for request in asked.values())
    blocked = Counter(str(line.source) for line in read_blocked_file(running.paths.blocked))
    assert blocked == Counter(expected.keys())


def test_a_second_enforcer_is_refused(running: Running) -> None:
    """Two would undo each other's work; the message names the one that runs."""
    running.start()
    assert running.process is not None
    second = running.popen()
    assert second.wait(20) == BusyError.exit_status
    assert f"another enforcer runs here already, process {running.process.pid}" in running.output.read_text()
    assert running.is_ready()
