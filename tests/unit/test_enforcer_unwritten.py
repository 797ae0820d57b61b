"""What a full disk would not take: kept below /run, read back as a request is, written down in its order."""

import os
from pathlib import Path

import pytest

from correlator.enforcer import spool as spool_module
from correlator.enforcer import unwritten as unwritten_module
from correlator.enforcer.spool import Fact, Spool
from correlator.model import SECOND, parse_prefix
from correlator.store.blocks import NewBlock
from tests.enforcer_fakes import LATER, NOW, SOON
from tests.unit.enforcer_bench import Bench, empty_disk, fill_disk

BLOCK = NewBlock(
    "a", parse_prefix("192.0.2.9"), "scan", NOW, SOON, 1, "TCP", "two ports", ("nftables",), "tcp", "x"
)
FACTS = [Fact(NOW, BLOCK, "a"), Fact(SOON, None, "b")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A started enforcement with nothing denied, and a folder below /run."""
    (tmp_path / "run/enforcer").mkdir(parents=True)
    return Bench(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a spool is."""
    return tmp_path / "unwritten"


def fill(bench: Bench) -> None:
    """Fill the disk, and have it full when it is opened again."""
    fill_disk(bench.store)
    bench.prepare = fill_disk


def empty(bench: Bench) -> None:
    """Have it take everything again, and let the time pass until that is tried."""
    empty_disk(bench.store)
    bench.prepare = lambda _store: None
    bench.now += 5 * SECOND
    bench.enforcement.expire(bench.now)
    bench.enforcement.tend(bench.now)
    bench.clock += 5
    bench.records.tend(bench.enforcement.blocked_lines)


def denied(bench: Bench) -> set[str]:
    """Return whom the kernel denies now."""
    return set(map(str, bench.backend.list(now=bench.now).elements))


# The file


def test_what_is_kept_is_read_back(path: Path) -> None:
    """In its order, whole, and by us alone."""
    spool = Spool(path, pytest.fail)
    assert [spool.add(fact) for fact in FACTS] == [True, True]
    assert Spool(path, pytest.fail).read() == FACTS
    assert path.stat().st_mode & 0o777 == 0o600
    spool.rewrite(FACTS[1:])
    assert spool.read() == FACTS[1:]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x end a",
        b"1 end",
        b"1 end a b",
        b"1 end \xff",
        b"123456789012345678 end a",
        b"1 block",
        b"1 block {}",
        b'1 block {"id":0,"verb":"release","all":true}',
        b'1 block {"id":0,"verb":"block","request":"a","source":"192.0.2.9","reason":"\\u001b[2J"}',
        b'1 block {"id":0,"verb":"block","request":"a","source":"192.0.2.9","until":NaN}',
        b'1 block {"id":0,"verb":"block","request":"a","source":"192.0.2.9"}\r',
        b"1 sync {}",
    ],
)
def test_what_no_request_could_be_is_left_out(path: Path, line: bytes) -> None:
    """Each line for itself, and it is said; a carriage return is white space to JSON."""
    said: list[str] = []
    path.write_bytes(line + b"\n2 end b\n")
    path.chmod(0o600)
    found = Spool(path, said.append).read()
    assert found[-1] == Fact(2, None, "b")
    assert len(found) == 1 + line.endswith(b"\r")
    assert (
        said == []
        if line.endswith(b"\r")
        else [f"{path}: 1 lines are no requests of ours, they are left out"]
    )


def test_half_a_line_is_left_out(path: Path) -> None:
    """We were killed while it was written: before anything was done about it."""
    said: list[str] = []
    path.write_bytes(b"2 end b\n1 end a")
    path.chmod(0o600)
    assert Spool(path, said.append).read() == [Fact(2, None, "b")]
    assert len(said) == 1


@pytest.mark.parametrize("damage", ["others", "group", "owner", "link", "folder", "pipe", "size"])
def test_a_file_that_somebody_else_could_have_written_is_left_alone(
    path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither believed nor written: what stands in it could block and release anybody."""
    said: list[str] = []
    other = path.with_name("other")
    other.write_bytes(b"2 end b\n")
    other.chmod(0o600)
    match damage:
        case "others" | "group":
            other.rename(path)
            path.chmod(0o602 if damage == "others" else 0o620)
        case "owner":
            other.rename(path)
            monkeypatch.setattr(os, "geteuid", lambda: 4242)
            os.chown(path, 4243, 4243)
        case "link":
            path.symlink_to(other)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path, 0o600)
        case "size":
            other.rename(path)
            monkeypatch.setattr(spool_module, "MOST_BYTES", 7)
    spool = Spool(path, said.append)
    assert spool.read() == []
    assert len(said) == 1
    assert spool.add(FACTS[0]) is False
    if damage == "link":
        assert other.read_bytes() == b"2 end b\n"


def test_the_file_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is memory of the host."""
    monkeypatch.setattr(spool_module, "MOST_BYTES", 500)
    spool = Spool(path, pytest.fail)
    kept = [spool.add(FACTS[0]) for _ in range(100)]
    assert 1 < sum(kept) < 4
    assert path.stat().st_size <= 500
    spool.rewrite(FACTS[:1] * 100)
    assert len(spool.read()) == sum(kept)


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    """And keeps nobody from being denied: see the next tests."""
    said: list[str] = []
    spool = Spool(tmp_path / "nowhere/unwritten", said.append)
    assert [spool.add(fact) for fact in FACTS] == [False, False]
    assert said == [f"{tmp_path}/nowhere/unwritten: cannot be written: No such file or directory"]


# What becomes of it


def test_a_death_on_a_full_disk_forgets_nobody(bench: Bench) -> None:
    """Who was blocked, who was released, whose time ran out; each with its line in the history in the end."""
    for name, until in (("a", None), ("b", LATER), ("c", SOON)):
        bench.block(f"192.0.2.{ord(name)}", until, request=name)
    fill(bench)
    for name, until in (("d", None), ("e", LATER), ("f", SOON)):
        assert bench.block(f"192.0.2.{ord(name)}", until, request=name)[0] == "done"
    for name in "ad":
        assert bench.enforcement.release(parse_prefix(f"192.0.2.{ord(name)}"), bench.now) == 1
    bench.start()
    assert denied(bench) == {"192.0.2.98", "192.0.2.99", "192.0.2.101", "192.0.2.102"}
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    bench.start()
    assert denied(bench) == {"192.0.2.98", "192.0.2.101"}
    empty(bench)
    assert dict(bench.rows) == {
        "a": "released",
        "b": "done",
        "c": "expired",
        "d": "released",
        "e": "done",
        "f": "expired",
    }
    assert bench.enforcement.status()["unwritten"] == 0
    sources, blocked = bench.files()
    assert sorted(sources) == sorted(f"192.0.2.{ord(name)}" for name in "abcdef")
    assert sorted(blocked) == ["192.0.2.101", "192.0.2.98"]
    bench.start()
    assert denied(bench) == {"192.0.2.98", "192.0.2.101"}


def test_what_was_kept_is_checked_as_a_request_is(bench: Bench) -> None:
    """Never blocked, too wide, over: it is not believed for having been written by us."""
    fill(bench)
    bench.block("198.51.100.9", SOON, request="a")
    bench.block("198.51.100.10", LATER, request="b")
    kept = bench.settings.paths.unwritten
    told = kept.read_text().splitlines(keepends=True)
    kept.write_text(
        "".join(
            [
                *told,
                told[1].replace("198.51.100.10", "192.0.2.1"),
                told[1].replace("198.51.100.10", "0.0.0.0/0"),
            ]
        )
        .replace('"request":"b","source":"192.0.2.1"', '"request":"own","source":"192.0.2.1"')
        .replace('"request":"b","source":"0.0.0.0/0"', '"request":"wide","source":"0.0.0.0/0"')
    )
    bench.now = SOON
    bench.start()
    assert denied(bench) == {"198.51.100.10"}
    empty(bench)
    assert dict(bench.rows) == {"a": "expired", "b": "done", "own": "released", "wide": "released"}


def test_a_release_on_a_full_disk_lasts(bench: Bench) -> None:
    """Who locked himself out gets in, and is not blocked again by a restart, nor when there is room."""
    bench.block("192.0.2.9", None, request="a")
    fill(bench)
    assert bench.enforcement.release(parse_prefix("192.0.2.9"), bench.now) == 1
    assert bench.kernel == {}
    assert list(bench.enforcement.blocks()) == []
    assert bench.block("192.0.2.9", LATER, request="b")[0] == "done"
    bench.start()
    assert bench.kernel == {"192.0.2.9": LATER}
    empty(bench)
    assert bench.rows == [("a", "released"), ("b", "done")]


def test_on_a_full_disk_a_refusal_stays_one(bench: Bench) -> None:
    """Or a correlator would ask again for ever."""
    fill(bench)
    kind, _, detail = bench.block("192.0.2.1")
    assert (kind, detail) == ("refused", "192.0.2.1 is this host's own address")


def test_a_full_disk_is_said_once_and_tried_every_few_seconds(bench: Bench) -> None:
    """A host whose disk is full needs no log that fills it."""
    fill(bench)
    for number in range(20):
        bench.block(f"198.51.100.{number}")
        bench.now += SECOND
        bench.enforcement.tend(bench.now)
        assert 0 < (bench.enforcement.pause(bench.now) or 0) <= 5
    assert sum(line.startswith("trouble file=") for line in bench.lines) == 1
    empty(bench)
    assert sum(line.startswith("recovered file=") for line in bench.lines) == 1
    assert bench.enforcement.pause(bench.now) is None


def test_so_many_wait_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; what is over leaves first, and then the answer says why nobody more is denied."""
    monkeypatch.setattr(unwritten_module, "MOST", 2)
    fill(bench)
    bench.block("198.51.100.1", request="a")
    bench.block("198.51.100.2", request="b")
    kind, _, detail = bench.block("198.51.100.3", request="c")
    assert (kind, detail.endswith("2 blocks wait for the disk already")) == ("failed", True)
    bench.enforcement.release(parse_prefix("198.51.100.1"), bench.now)
    assert bench.block("198.51.100.3", request="c")[0] == "done"
    assert denied(bench) == {"198.51.100.2", "198.51.100.3"}
