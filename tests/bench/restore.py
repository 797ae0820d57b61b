"""How long until so many blocks are in force again: by nftables alone, and from a start of the process.

As after a reboot: rows in the database, nothing in the kernel. The start counts from exec until the process
says that it is ready, with its modules loaded, all rows read, checked again and restored, the files written.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from correlator.drill.lab import Lab
from correlator.enforcer.nftables import NftablesBackend
from correlator.model import SECOND, Micros, Source, parse_prefix
from correlator.store.blocks import BlockStore, NewBlock
from tests.faults.hosts import Host

COUNTS = (50_000, 100_000)
RESTORED = "restored by nftables"
STARTED = "exec to ready"
_HOUR: Micros = 3600 * SECOND


def measure(rounds: int) -> dict[tuple[str, str], dict[str, list[float | None]]]:
    """Return milliseconds of both, by how many blocks there are."""
    restored: dict[str, list[float | None]] = {}
    started: dict[str, list[float | None]] = {}
    for count in COUNTS:
        name = f"{count:,} blocks"
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portward-bench-")))
            ends = _write_rows(folder / "rows.sqlite", count)
            for number in range(rounds):
                with Lab() as lab:
                    restored.setdefault(name, []).append(_restore(lab, ends))
                with Lab() as lab:
                    home = folder / f"{number}"
                    home.mkdir()
                    started.setdefault(name, []).append(_start(lab, home, folder / "rows.sqlite"))
    return {(RESTORED, "ms"): restored, (STARTED, "ms"): started}


def _restore(lab: Lab, ends: list[tuple[Source, Micros]]) -> float:
    with lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
        began = time.monotonic()
        backend.restore(ends, now=time.time_ns() // 1000)
        return (time.monotonic() - began) * 1e3


def _start(lab: Lab, folder: Path, rows: Path) -> float:
    host = Host(lab, folder)
    (folder / "state").mkdir()
    shutil.copy(rows, folder / "state/blocks.sqlite")
    try:
        began = time.monotonic()
        host.start("enforce")
        return (time.monotonic() - began) * 1e3
    finally:
        host.close()


def _write_rows(path: Path, count: int) -> list[tuple[Source, Micros]]:
    """Write so many blocks in force, each with an end of its own; return sources and ends."""
    now = time.time_ns() // 1000
    store = BlockStore.open(path)
    connection = store._connection
    connection.execute("BEGIN")
    found = []
    for index in range(count):
        source = parse_prefix(f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}")
        until = now + _HOUR + index * SECOND
        store.request(
            NewBlock(f"portscan/{index}", source, "portscan", now, until, 79, "TCP", "", ("nftables",))
        )
        found.append((source, until))
    connection.execute("UPDATE blocks SET state = 'done', is_in_history = 1")
    connection.execute("COMMIT")
    store.close()
    return found
