"""The enforcer's rows, and the file they stand in."""

import os
import sqlite3
from pathlib import Path

import pytest

from correlator.errors import PermissionDeniedError
from correlator.model import SECOND, parse_prefix
from correlator.store.block_reader import BlockReader
from correlator.store.blocks import BlockRow, BlockState, BlockStore, NewBlock
from correlator.store.database import DatabaseError, open_database, transaction

NOW = 1_795_356_540 * SECOND
SCHEMA = "CREATE TABLE thing (name TEXT)"


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    """An empty store."""
    return BlockStore.open(tmp_path / "blocks.sqlite")


def new(request: str, source: str = "192.0.2.9", until: int | None = NOW + 60 * SECOND) -> NewBlock:
    """Return a request as it comes."""
    return NewBlock(request, parse_prefix(source), "scan", NOW, until, 1, "TCP", "six ports", ("nftables",))


def test_a_block_lives_from_requested_to_expired(store: BlockStore) -> None:
    """Each step is seen in the row, and the row keeps what was asked."""
    number = store.request(new("a"))
    assert [row.request for row in store.undecided()] == ["a"]
    store.mark_done(number, now=NOW)
    assert store.undecided() == ()
    assert [row.source for row in store.in_force()] == [parse_prefix("192.0.2.9")]
    assert store.next_expiry() == NOW + 60 * SECOND
    assert store.expire_due(NOW + 60 * SECOND - 1) == ()
    (row,) = store.expire_due(NOW + 60 * SECOND)
    expected = BlockRow(
        number, "a", parse_prefix("192.0.2.9"), "scan", NOW, NOW + 60 * SECOND, BlockState.EXPIRED, 1, "TCP",
        "six ports", ("nftables",), "", NOW + 60 * SECOND, is_in_history=False,
    )  # fmt: skip
    assert row == expected
    assert store.get(number) == expected
    assert store.next_expiry() is None


def test_a_request_is_known_by_its_name_for_ever(store: BlockStore) -> None:
    """The same name cannot be written twice, whatever became of the first."""
    store.refuse(new("a"), "never blocked")
    with pytest.raises(sqlite3.IntegrityError):
        store.request(new("a", "192.0.2.10"))
    found = store.find_request("a")
    assert found is not None
    assert (found.state, found.detail) == (BlockState.REFUSED, "never blocked")


def test_the_file_itself_refuses_a_second_block_of_one_source(store: BlockStore) -> None:
    """Two rows of one source can never be in force, not even by a mistake of ours."""
    store.mark_done(store.request(new("a")), now=NOW)
    second = store.request(new("b"))
    with pytest.raises(sqlite3.IntegrityError):
        store.mark_done(second, now=NOW)
    assert [row.request for row in store.in_force()] == ["a"]


def test_an_extension_ends_what_it_replaces_in_the_same_step(store: BlockStore) -> None:
    """Between the old and the new row there is no moment without one."""
    first = store.request(new("a"))
    store.mark_done(first, now=NOW)
    second = store.request(new("b", until=None))
    store.mark_done(second, now=NOW + 1, replaced=[(first, "extended by b")])
    assert [row.request for row in store.in_force()] == ["b"]
    assert [(row.request, row.state, row.detail) for row in store.find(parse_prefix("192.0.2.9"))] == [
        ("b", BlockState.DONE, ""),
        ("a", BlockState.RELEASED, "extended by b"),
    ]


def test_a_failed_request_may_be_tried_again(store: BlockStore) -> None:
    """Under the same name, with its new terms."""
    number = store.request(new("a"))
    store.mark_failed(number, "no kernel", now=NOW)
    store.request_again(number, new("a", until=None))
    (row,) = store.undecided()
    assert (row.number, row.until, row.detail, row.ended) == (number, None, "", None)


def test_unwritten_are_the_carried_out_rows_without_a_line(store: BlockStore) -> None:
    """Refused and failed requests have no history line; expired ones need theirs all the same."""
    store.refuse(new("r"), "never")
    store.mark_failed(store.request(new("f")), "no", now=NOW)
    number = store.request(new("a"))
    store.mark_done(number, now=NOW)
    store.expire_due(NOW + 100 * SECOND)
    assert [row.request for row in store.unwritten(10)] == ["a"]
    store.mark_written([number])
    assert store.unwritten(10) == ()


def test_ended_rows_are_pruned_and_blocks_in_force_never(tmp_path: Path) -> None:
    """History is bounded; belief is not touched by that."""
    store = BlockStore(BlockStore.open(tmp_path / "b")._connection, ended_kept=3)
    store.mark_done(store.request(new("kept")), now=NOW)
    for index in range(10):
        store.refuse(new(f"r{index}"), "never")
    assert store.prune() == 7
    assert [row.request for row in store.since(0)] == ["r9", "r8", "r7", "kept"]
    assert store.count() == {BlockState.DONE: 1, BlockState.REFUSED: 3}


def test_a_reader_sees_what_the_writer_does_and_changes_nothing(tmp_path: Path) -> None:
    """`history` works beside a running enforcer; of a prefix it tells what lies inside."""
    path = tmp_path / "b"
    store = BlockStore.open(path)
    store.mark_done(store.request(new("a", "192.0.2.9")), now=NOW)
    store.mark_done(store.request(new("b", "198.51.100.1")), now=NOW)
    reader = BlockReader(path)
    assert [row.request for row in reader.history()] == ["a", "b"]
    assert [row.request for row in reader.history(parse_prefix("192.0.2.0/24"))] == ["a"]
    assert [row.request for row in reader.history(limit=1)] == ["b"]
    with pytest.raises(sqlite3.OperationalError):
        reader._connection.execute("DELETE FROM blocks")
    reader.close()
    with pytest.raises(DatabaseError, match="cannot be read"):
        BlockReader(tmp_path / "nothing")


def test_a_database_is_private_and_durable(tmp_path: Path) -> None:
    """Nobody else reads it, and it outlives our death by its journal."""
    path = tmp_path / "d"
    connection = open_database(path, schema=SCHEMA, version=3)
    with transaction(connection):
        connection.execute("INSERT INTO thing VALUES ('x')")
    assert path.stat().st_mode & 0o777 == 0o600
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    again = open_database(path, schema=SCHEMA, version=3)
    assert again.execute("SELECT name FROM thing").fetchall() == [("x",)]


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """An exception in the middle leaves what was before."""
    connection = open_database(tmp_path / "d", schema=SCHEMA, version=1)

    def break_off() -> None:
        with transaction(connection):
            connection.execute("INSERT INTO thing VALUES ('x')")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert connection.execute("SELECT count(*) FROM thing").fetchone() == (0,)


def test_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    """An older program must not write into what it does not understand, and says so."""
    open_database(tmp_path / "d", schema=SCHEMA, version=2).close()
    with pytest.raises(DatabaseError, match="version 2, expected 1: written by a newer portward"):
        open_database(tmp_path / "d", schema=SCHEMA, version=1)
    with pytest.raises(DatabaseError, match="older portward"):
        open_database(tmp_path / "d", schema=SCHEMA, version=3)


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_damaged_file_is_moved_aside_and_said_once(tmp_path: Path, damage: str) -> None:
    """Blocking goes on with an empty notebook; the torn one is kept for whoever wants to look."""
    path = tmp_path / "d"
    connection = open_database(path, schema=SCHEMA, version=1)
    connection.executemany("INSERT INTO thing VALUES (?)", [("x" * 900,)] * 100)
    connection.close()
    with path.open("r+b") as file:
        file.seek(0 if damage == "header" else 4096)
        file.write(b"\xff" * 4096)
    said: list[str] = []
    fresh = open_database(path, schema=SCHEMA, version=1, say=said.append)
    assert fresh.execute("SELECT count(*) FROM thing").fetchone() == (0,)
    assert len(said) == 1
    assert (
        len([name for name in os.listdir(tmp_path) if name.startswith("d.corrupt-") and name[-1] == "Z"]) == 1
    )
    assert open_database(path, schema=SCHEMA, version=1, say=said.append)
    assert len(said) == 1


def test_a_database_is_never_opened_through_a_link(tmp_path: Path) -> None:
    """A planted link must not choose root's file."""
    (tmp_path / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionDeniedError):
        open_database(tmp_path / "d", schema=SCHEMA, version=1)
