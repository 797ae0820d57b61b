"""What is written down of blocks, when, and what is done while it cannot be."""

from correlator.model import SECOND, parse_prefix
from correlator.store.blocked import read_blocked_file
from tests.enforcer_fakes import LATER, SOON
from tests.unit.enforcer_bench import Bench, empty_disk, fill_disk


def test_a_disk_that_refuses_keeps_nobody_from_being_denied(bench: Bench) -> None:
    """The kernel denies, the outcome says what is missing, and it is written down when that is possible."""
    bench.block("192.0.2.8", SOON, request="a")
    fill_disk(bench.store, "UPDATE ON blocks WHEN NEW.state = 'done'")
    kind, _, detail = bench.block("192.0.2.9", SOON, request="b")
    assert (kind, detail.startswith("not written down yet: ")) == ("done", True)
    assert detail.endswith("database or disk is full")
    assert bench.kernel == {"192.0.2.8": SOON, "192.0.2.9": SOON}
    assert bench.block("192.0.2.9", SOON, request="c")[0] == "exists"
    assert bench.block("198.51.100.9", SOON + SECOND, request="d")[0] == "done"
    assert bench.enforcement.status()["unwritten"] == 2
    bench.enforcement.sync(bench.now)
    assert set(bench.kernel) == {"192.0.2.8", "192.0.2.9", "198.51.100.9"}
    empty_disk(bench.store)
    bench.now += 5 * SECOND
    bench.enforcement.tend(bench.now)
    assert bench.enforcement.status()["unwritten"] == 0
    assert ("d", "done") in bench.rows
    assert bench.files() == (["192.0.2.8", "192.0.2.9", "198.51.100.9"],) * 2
    bench.start()
    assert set(bench.kernel) == {"192.0.2.8", "192.0.2.9", "198.51.100.9"}


def test_what_the_disk_never_took_ends_all_the_same(bench: Bench) -> None:
    """By its time or by a release; nothing of it is left."""
    fill_disk(bench.store, "INSERT ON blocks")
    assert bench.block("192.0.2.9", SOON, request="a")[0] == "done"
    assert bench.block("198.51.100.9", None, request="b")[0] == "done"
    assert bench.enforcement.release(parse_prefix("198.51.100.9"), bench.now) == 1
    assert bench.enforcement.next_expiry == SOON
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert len(bench.enforcement) == len(bench.kernel) == 0
    assert list(bench.enforcement.blocks()) == bench.rows == []
    assert bench.enforcement.next_expiry is None


def test_expiry_waits_for_no_disk(bench: Bench) -> None:
    """What is over is over, told once, and written down once it can be; nothing turns round until then."""
    bench.block("192.0.2.9", SOON, request="a")
    bench.block("192.0.2.10", LATER, request="b")
    fill_disk(bench.store, "UPDATE ON blocks")
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert bench.enforcement.next_expiry == LATER
    assert bench.enforcement.pause(bench.now) == 5
    assert [str(block.source) for block in bench.enforcement.blocks()] == ["192.0.2.10"]
    empty_disk(bench.store)
    bench.now += 5 * SECOND
    bench.enforcement.tend(bench.now)
    bench.now = LATER
    bench.enforcement.expire(bench.now)
    assert bench.rows == [("a", "expired"), ("b", "expired")]
    assert sum(line.startswith("expired source=192.0.2.9 ") for line in bench.lines) == 1


def test_a_history_that_cannot_be_written_is_said_once_and_made_up_for(bench: Bench) -> None:
    """It stops no block, and no line is lost."""
    bench.settings.paths.history.mkdir()
    for index in range(3):
        bench.block(f"192.0.2.{index + 7}")
        bench.records.write_history()
    assert len(bench.complaints) == 1
    bench.settings.paths.history.rmdir()
    bench.clock = 6.0
    bench.records.tend(bench.enforcement.blocked_lines)
    assert bench.files()[0] == ["192.0.2.7", "192.0.2.8", "192.0.2.9"]
    assert bench.complaints[1:] == ["the history file is written again"]
    assert bench.store.unwritten(10) == ()


def test_the_blocked_file_waits_until_changes_have_settled(bench: Bench) -> None:
    """Whatever a flood of blocks does, the disk is left in peace, and the file is a second late at most."""

    def sources() -> int:
        bench.records.tend(bench.enforcement.blocked_lines)
        return len(read_blocked_file(bench.settings.paths.blocked))

    seen = []
    for step in range(40):
        bench.clock = 10 + step * 0.04
        if step < 30:
            bench.block(f"192.0.2.{step + 10}")
        seen.append(sources())
    # Every 40 ms one more: nothing for a second, then what there is, and all when it has been quiet.
    assert seen[:25] == [0] * 25
    assert seen[25:31] == [26] * 6
    assert seen[-5:] == [30] * 5
    assert len(set(seen)) == 3
    assert bench.records.pause() is not None  # the disk is waited for later, in a quiet moment
