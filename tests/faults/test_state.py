"""Disks that are full or read-only, and files that are damaged, empty or of a newer version.

Nobody is let go or let in for that; it is said, and the service goes on by itself when it can.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from correlator.drill.lab import Lab
from correlator.drill.scanner import Scanner
from tests.faults.hosts import Host

pytestmark = pytest.mark.netns

A, B, C, D, E = (f"198.51.100.{number}" for number in range(1, 6))
MEGABYTE = 1 << 20
TINY = "mkdir -p {0}; mount -t tmpfs -o size={1} tmpfs {0}"
READ_ONLY = "mount --bind {0} {0}; mount -o remount,bind,ro {0}"


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    """Nothing started yet."""
    return make_host()


def fill(folder: Path) -> Path:
    """Fill a file system, and return the file that does it."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(folder).f_bavail == 0
    return path


def outcome(host: Host, source: str) -> dict[str, str]:
    """Ask for a block; return its outcome."""
    return host.rig.ask("block", source)["outcome"]


def blocked(host: Host) -> set[str]:
    """Return whom the enforcer says to be denied."""
    return {block["source"] for block in host.rig.ask("blocks")["blocks"]}


def test_a_full_disk_lets_nobody_in_and_forgets_nobody(host: Host, wait_until: Callable[..., None]) -> None:
    """Denied in the kernel, listed, released; in the database and the files as soon as there is room."""
    state = host.folder / "state"
    host.start("enforce", TINY.format(state, MEGABYTE))
    assert outcome(host, A)["detail"] == ""
    ballast = fill(host.inside("enforce", state))
    assert outcome(host, B)["kind"] == "done"
    assert "not written down yet" in outcome(host, C)["detail"]
    assert set(host.rig.denied()) == blocked(host) == {A, B, C}
    assert host.rig.ask("release", B)["released"] == 1
    assert set(host.rig.denied()) == {A, C}
    ballast.unlink()
    wait_until(lambda: host.rig.ask("status")["enforcer"]["unwritten"] == 0, 30)
    history = host.inside("enforce", state / "portward.history")
    wait_until(lambda: history.read_text().count(f"/{C} ") == 1, 30)
    wait_until(lambda: "file is written again" in host.words(), 30)
    assert "file cannot be written: [Errno 28]" in host.words()
    assert blocked(host) == set(host.rig.denied()) == {A, C}


def test_a_death_on_a_full_disk_forgets_nobody(host: Host, wait_until: Callable[..., None]) -> None:
    """Who was denied and who was let go, through kills and an orderly end; all is written in the end."""
    state = host.folder / "state"
    host.keep_mounts(TINY.format(state, MEGABYTE))
    host.start("enforce")
    assert outcome(host, A)["detail"] == outcome(host, B)["detail"] == ""
    ballast = fill(host.inside("enforce", state))
    assert "not written down yet" in outcome(host, C)["detail"]
    assert "not written down yet" in outcome(host, D)["detail"]
    host.kill("enforce")
    host.start("enforce")
    assert set(host.rig.denied()) == blocked(host) == {A, B, C, D}
    assert 3500 < host.rig.denied()[C] <= 3600
    assert host.rig.ask("release", A)["released"] == host.rig.ask("release", C)["released"] == 1
    host.kill("enforce")
    host.start("enforce")
    assert set(host.rig.denied()) == blocked(host) == {B, D}
    assert host.end("enforce") == 0
    host.start("enforce")
    assert "not written down yet" in outcome(host, E)["detail"]
    host.kill("enforce")
    host.start("enforce")
    assert set(host.rig.denied()) == blocked(host) == {B, D, E}
    inside = host.inside("enforce", state)
    ballast.unlink()
    wait_until(lambda: host.rig.ask("status")["enforcer"]["unwritten"] == 0, 30)
    history = (inside / "portward.history").read_text
    wait_until(lambda: all(history().count(f"/{source} ") == 1 for source in (A, B, C, D, E)), 30)
    assert (host.folder / "run/enforcer/unwritten").read_bytes() == b""
    host.kill("enforce")
    host.start("enforce")
    assert set(host.rig.denied()) == blocked(host) == {B, D, E}
    host.end("enforce")
    copy = host.folder / "copy.sqlite"
    copy.write_bytes((inside / "blocks.sqlite").read_bytes())
    with contextlib.closing(sqlite3.connect(copy)) as database:
        rows = database.execute("SELECT source, state FROM blocks").fetchall()
    assert dict(rows) == {A: "released", B: "done", C: "released", D: "done", E: "done"}
    assert len(rows) == 5


def test_a_disk_that_filled_while_we_were_away_is_no_reason_not_to_start(
    host: Host, wait_until: Callable[..., None]
) -> None:
    """There is no room to share the database with its readers; it is ours alone until there is."""
    state = host.folder / "state"
    host.keep_mounts(TINY.format(state, MEGABYTE))
    host.start("enforce")
    assert outcome(host, A)["detail"] == ""
    assert host.end("enforce") == 0
    ballast = fill(host.inside("enforce", state))
    host.start("enforce")
    assert "not written down yet" in outcome(host, B)["detail"]
    assert set(host.rig.denied()) == blocked(host) == {A, B}
    ballast.unlink()
    wait_until(lambda: host.rig.ask("status")["enforcer"]["unwritten"] == 0, 30)
    wait_until((host.inside("enforce", state) / "blocks.sqlite-shm").exists, 30)
    host.kill("enforce")
    host.start("enforce")
    assert set(host.rig.denied()) == blocked(host) == {A, B}


def test_a_full_disk_keeps_the_correlator_from_nothing(
    host: Host, lab: Lab, wait_until: Callable[..., None]
) -> None:
    """It decides on, says so once, and after a death then nothing was lost and nothing is doubled."""
    lab.add_scanner_address("192.0.2.30", "192.0.2.31", "192.0.2.32")
    state = host.folder / "state/correlator"
    host.start("enforce")
    host.start("correlate", TINY.format(state, MEGABYTE))
    host.start("probe")
    with Scanner(lab) as scanner:
        scanner.send_tcp(79, source="192.0.2.30")
        wait_until(lambda: set(host.rig.denied()) == {"192.0.2.30"})
        ballast = fill(host.inside("correlate", state))
        scanner.send_tcp(79, source="192.0.2.31")
        wait_until(lambda: set(host.rig.denied()) == {"192.0.2.30", "192.0.2.31"})
        wait_until(lambda: host.rig.ask("status")["correlator"]["trouble"] != "")
        ballast.unlink()
        scanner.send_tcp(79, source="192.0.2.32")
        wait_until(lambda: "recovered file=" in host.words(), 30)
    assert host.words().count("trouble file=") == 1
    host.kill("correlate")
    host.start("correlate")  # on its folder as it was before, empty: it reads what it did not see
    wait_until(lambda: host.rig.ask("status")["correlator"]["waiting"] == 0)
    rows = [block["source"] for block in host.rig.ask("history")["blocks"]]
    assert sorted(rows) == ["192.0.2.30", "192.0.2.31", "192.0.2.32"]


def test_a_correlator_starts_on_a_disk_that_is_full(
    host: Host, lab: Lab, wait_until: Callable[..., None]
) -> None:
    """It goes on where it was and decides; what it knows is written when there is room, and readable then."""
    lab.add_scanner_address("192.0.2.30", "192.0.2.31")
    state = host.folder / "state/correlator"
    host.keep_mounts(TINY.format(state, MEGABYTE))
    host.start_all()
    with Scanner(lab) as scanner:
        scanner.send_tcp(79, source="192.0.2.30")
        wait_until(lambda: set(host.rig.denied()) == {"192.0.2.30"})
        assert host.end("correlate") == 0
        ballast = fill(host.inside("correlate", state))
        host.start("correlate")
        scanner.send_tcp(79, source="192.0.2.31")
        wait_until(lambda: set(host.rig.denied()) == {"192.0.2.30", "192.0.2.31"})
        wait_until(lambda: "trouble file=" in host.words())
        ballast.unlink()
        wait_until(lambda: "recovered file=" in host.words(), 30)
    assert (host.inside("correlate", state) / "correlator.sqlite-shm").exists()
    rows = [block["source"] for block in host.rig.ask("history")["blocks"]]
    assert sorted(rows) == ["192.0.2.30", "192.0.2.31"]
    assert "Traceback" not in host.words()


@pytest.mark.parametrize("name", ["enforce", "correlate"])
def test_a_read_only_disk_is_said_at_the_start(host: Host, name: str) -> None:
    """The service manager tries again until it can be written."""
    host.start("enforce")
    host.start("correlate")
    outcome(host, A)
    assert host.end("correlate") == 0
    assert host.end("enforce") == 0
    status, said = host.refuse(name, READ_ONLY.format(host.folder / "state"))
    assert status == 74
    assert said.startswith(f"portward {name}: {host.folder}/state/")
    assert said.endswith(".sqlite: cannot be opened: Read-only file system\n")
    assert set(host.rig.denied()) == {A}
    host.start("enforce")
    assert blocked(host) == {A}


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_database_lets_nobody_go(host: Host, damage: str) -> None:
    """What the kernel denies is taken over with its end, the torn file kept, and history not doubled."""
    host.start("enforce")
    outcome(host, A)
    host.rig.ask("block", "203.0.113.0/25", "--for", "forever")
    host.end("enforce")
    before = host.rig.denied()
    path = host.folder / "state/blocks.sqlite"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:5000], "garbage": b"\xa5" * len(whole), "empty": b""}[damage])
    host.start("enforce")
    assert "recovered blocks=2" in host.words()
    assert blocked(host) == set(host.rig.denied()) == set(before) == {A, "203.0.113.0/25"}
    (expiring,) = [block for block in host.rig.ask("blocks")["blocks"] if block["source"] == A]
    assert 3500 < host.rig.denied()[A] <= 3600
    assert expiring["jail"] == "recovered"
    if damage != "empty":
        assert "is damaged" in host.words()
        assert len(list(path.parent.glob("blocks.sqlite.corrupt-*"))) >= 1
    assert (host.folder / "state/portward.history").read_text().count("Blocked") == 2
    assert host.rig.ask("release", A)["released"] == 1
    assert set(host.rig.denied()) == {"203.0.113.0/25"}


@pytest.mark.parametrize(("name", "file"), [("enforce", "blocks"), ("correlate", "correlator/correlator")])
def test_a_database_of_a_newer_version_is_left_alone(host: Host, name: str, file: str) -> None:
    """Both versions are named; the file is as it was, and what the kernel denies stays denied."""
    host.start("enforce")
    host.start("correlate")
    outcome(host, A)
    host.end("correlate")
    host.end("enforce")
    path = host.folder / f"state/{file}.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    whole = path.read_bytes()
    status, said = host.refuse(name)
    assert status == 74
    assert f"{path}: got schema version 99, expected" in said
    assert "written by a newer portward" in said
    assert path.read_bytes() == whole
    assert set(host.rig.denied()) == {A}


def test_a_damaged_memory_of_the_correlator_doubles_nothing(
    host: Host, lab: Lab, wait_until: Callable[..., None]
) -> None:
    """It reads its logs again from where it may, and the enforcer knows what it asks for."""
    host.start_all()
    with Scanner(lab) as scanner:
        scanner.send_tcp(79)
        wait_until(lambda: len(host.rig.denied()) == 1)
        host.end("correlate")
        path = host.folder / "state/correlator/correlator.sqlite"
        path.write_bytes(b"\xa5" * path.stat().st_size)
        host.start("correlate")
        scanner.send_tcp(80, source="192.0.2.254")  # never blocked: only a mark in the log
        wait_until(lambda: host.rig.ask("status")["correlator"]["sources"][0]["backlog"] == 0)
    assert "is damaged" in host.words()
    assert len(host.rig.ask("history")["blocks"]) == 1


def test_a_full_disk_under_the_alert_log_is_said_and_made_up_for(
    host: Host, lab: Lab, wait_until: Callable[..., None]
) -> None:
    """The probe lives on and says what it cannot write; what comes when there is room is written whole."""
    log = host.folder / "log"
    settings = host.folder / "portward.toml"
    settings.write_text(settings.read_text().replace(f"{host.folder}/alert.log", f"{log}/alert.log"))
    host.start("probe", TINY.format(log, 64 * 1024))
    ballast = fill(host.inside("probe", log))
    with Scanner(lab) as scanner:
        for port in range(1, 100):
            scanner.send_tcp(port)
        wait_until(lambda: "alert.log" in host.words())
        ballast.unlink()
        seen = host.inside("probe", log / "alert.log")

        def is_written() -> bool:
            scanner.send_tcp(79)
            return seen.read_text().rstrip("\n").endswith("TCP port: 79")

        wait_until(is_written)
    lines = seen.read_text().splitlines()
    assert all("portsentry[" in line for line in lines if "attackalert" in line)
    assert host.children["probe"].poll() is None
