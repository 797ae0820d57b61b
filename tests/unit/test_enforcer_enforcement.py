"""What becomes of requests: in the answer, in the kernel, in the rows, in the files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from correlator.enforcer.enforcement import Enforcement
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.plans import Until
from correlator.enforcer.protocol import BlockRequest, Event, Mend, MendedEvent, OutcomeEvent
from correlator.enforcer.records import Records
from correlator.errors import KernelError, MissingToolError
from correlator.model import SECOND, OutcomeKind, parse_prefix
from correlator.settings import EnforcerSettings, Paths
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockState, BlockStore
from correlator.store.history import read_history
from tests.unit.enforcer_fakes import LATER, NOW, SOON, FakeBackend, own


class Bench:
    """An enforcement on a fake firewall and real files, that can be started again on the same files."""

    def __init__(self, folder: Path) -> None:
        self.settings = EnforcerSettings(
            paths=replace(
                Paths(),
                state=folder,
                run=folder / "run",
                history=folder / "history",
                blocked=folder / "blocked",
                ignore=folder / "ignore",
            )
        )
        self.backend = FakeBackend()
        self.now = NOW
        self.clock = 0.0
        self.prepare: Callable[[BlockStore], None] = lambda _store: None
        """What is done to the database that was opened, before anything else."""
        self.start()

    def start(self) -> None:
        """Start, or start again as after a kill."""
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.complaints: list[str] = []
        self.store = BlockStore.open(self.settings.paths.blocks_database)
        self.prepare(self.store)
        never = NeverBlock(self.settings, own=own, routers=frozenset, name_servers=frozenset)
        self.records = Records(
            self.settings.paths, self.store, self.complaints.append, clock=lambda: self.clock
        )
        self.enforcement = Enforcement(
            self.settings,
            backend=self.backend,
            store=self.store,
            never_block=never,
            records=self.records,
            announce=self.announce,
        )
        self.enforcement.start(self.now)

    def announce(self, line: str, event: Event | None) -> None:
        """Keep what was announced."""
        self.lines.append(line)
        if event is not None:
            self.events.append(event)

    def block(
        self, source: str, until: Until = SOON, request: str = "", **more: Any
    ) -> tuple[str, Until, str]:
        """Ask for a block; return kind, end and detail."""
        asked = BlockRequest(
            1, request or f"{source}-{until}", parse_prefix(source), "scan", until, 1, "TCP", **more
        )
        outcome = self.enforcement.block(asked, self.now)
        return outcome.kind.value, outcome.until, outcome.detail

    @property
    def kernel(self) -> dict[str, Until]:
        """What the firewall holds, as text."""
        return {str(source): until for source, until in self.backend.elements.items()}

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Request and state of each row, oldest first."""
        return [(row.request, row.state.value) for row in reversed(self.store.since(0))]

    def files(self) -> tuple[list[str], list[str]]:
        """The sources in the history and in the blocked file, when all is written."""
        self.records.close(self.enforcement.blocked_lines())
        return (
            [str(line.source) for line in read_history(self.settings.paths.history)],
            [str(line.source) for line in read_blocked_file(self.settings.paths.blocked)],
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A started enforcement with nothing denied."""
    return Bench(tmp_path)


def test_a_block_is_in_kernel_rows_files_and_words(bench: Bench) -> None:
    """The whole life of the simplest block."""
    assert bench.kernel == {}
    assert bench.block("192.0.2.9", request="a") == ("done", SOON, "")
    assert bench.kernel == {"192.0.2.9": SOON}
    assert bench.files() == (["192.0.2.9"], ["192.0.2.9"])
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert bench.rows == [("a", "expired")]
    assert bench.files() == (["192.0.2.9"], [])
    assert bench.lines == [
        "started table=absent restored=0",
        "blocked source=192.0.2.9 jail=scan until=2026-11-22T14:10:00Z request=a",
        "expired source=192.0.2.9 jail=scan request=a",
    ]
    assert [event.outcome.kind for event in bench.events if isinstance(event, OutcomeEvent)] == [
        OutcomeKind.DONE,
        OutcomeKind.EXPIRED,
    ]


def test_the_same_request_again_gives_the_first_result(bench: Bench) -> None:
    """A correlator that did not hear the answer asks again, and nothing happens twice."""
    bench.block("192.0.2.9", request="a")
    assert bench.block("192.0.2.9", LATER, request="a") == ("exists", SOON, "requested before")
    assert bench.files() == (["192.0.2.9"], ["192.0.2.9"])
    bench.enforcement.release(None, bench.now)
    assert bench.block("192.0.2.9", request="a") == ("released", SOON, "released on request")
    assert bench.kernel == {}


def test_a_denied_source_exists_and_needs_no_row(bench: Bench) -> None:
    """A second jail that wants the same is answered, and the history is not doubled."""
    bench.block("192.0.2.9", LATER, request="a")
    assert bench.block("192.0.2.9", SOON, request="b") == ("exists", LATER, "")
    assert bench.rows == [("a", "done")]


def test_an_extension_replaces_the_row(bench: Bench) -> None:
    """One row in force, the longer one, and a line for each in the history."""
    bench.block("192.0.2.9", SOON, request="a")
    assert bench.block("192.0.2.9", None, request="b") == ("done", None, "")
    assert bench.kernel == {"192.0.2.9": None}
    assert bench.rows == [("a", "released"), ("b", "done")]
    assert bench.files() == (["192.0.2.9", "192.0.2.9"], ["192.0.2.9"])
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert len(bench.enforcement) == 1


def test_a_prefix_swallows_what_it_covers(bench: Bench) -> None:
    """The covered address leaves kernel and belief, and asking for it again finds the prefix."""
    bench.block("198.51.100.9", SOON, request="a")
    assert bench.block("198.51.100.0/24", LATER, request="p") == ("done", LATER, "")
    assert bench.kernel == {"198.51.100.0/24": LATER}
    assert bench.rows == [("a", "released"), ("p", "done")]
    assert bench.block("198.51.100.77", SOON) == ("exists", LATER, "covered by 198.51.100.0/24")
    assert bench.block("198.51.100.9", SOON, request="a") == ("exists", LATER, "covered by 198.51.100.0/24")


def test_a_longer_prefix_inside_a_shorter_one_and_its_release(bench: Bench) -> None:
    """The kernel holds pieces that do not overlap, and one piece again afterwards."""
    bench.block("198.51.100.0/24", SOON)
    bench.block("198.51.100.128/25", LATER)
    assert bench.kernel == {"198.51.100.0/25": SOON, "198.51.100.128/25": LATER}
    assert bench.enforcement.release(parse_prefix("198.51.100.128/25"), bench.now) == 1
    assert bench.kernel == {"198.51.100.0/24": SOON}
    assert bench.enforcement.denied_by(parse_prefix("198.51.100.200")) == parse_prefix("198.51.100.0/24")
    assert "list" not in bench.backend.calls[3:]


def test_never_blocked_is_refused_with_the_reason(bench: Bench) -> None:
    """The refusal is a row, so that `history` tells it, and the same request stays refused."""
    why = "192.0.2.1 is this host's own address"
    assert bench.block("192.0.2.1", request="a") == ("refused", None, why)
    assert bench.rows == [("a", "refused")]
    assert bench.block("192.0.2.1", request="a") == ("refused", SOON, why)
    assert bench.kernel == {}
    assert bench.files() == ([], [])


def test_an_unknown_action_is_refused(bench: Bench) -> None:
    """Whoever asks for a shell gets none."""
    kind, _, detail = bench.block("192.0.2.9", actions=("nftables", "sh"))
    assert (kind, detail) == ("refused", "no such action: sh; there is: nftables")


def test_a_new_ignore_entry_releases_its_block(bench: Bench) -> None:
    """Who is ignored from now on is not denied any longer either."""
    bench.block("192.0.2.9", request="a")
    bench.settings.paths.ignore.write_text("192.0.2.9\n")
    bench.enforcement.sync(bench.now)
    assert bench.kernel == {}
    assert bench.rows == [("a", "released")]
    assert "is covered by 192.0.2.9 in" in bench.lines[-1]


def test_a_missing_table_is_mended_and_said(bench: Bench) -> None:
    """Belief equals fact: `nft flush ruleset` by another hand costs one line and no block."""
    bench.block("192.0.2.9", SOON)
    bench.block("198.51.100.9", None)
    bench.backend.table, bench.backend.elements = "missing", {}
    assert bench.enforcement.sync(bench.now) == Mend("missing", added=2)
    assert bench.kernel == {"192.0.2.9": SOON, "198.51.100.9": None}
    assert bench.lines[-1] == "mended table=missing restored=2"
    assert bench.events[-1] == MendedEvent(Mend("missing", added=2))
    assert bench.enforcement.sync(bench.now) == Mend("intact")


def test_elements_by_another_hand_are_mended(bench: Bench) -> None:
    """One taken out, one put in, one with another time."""
    for index in (7, 8, 9):
        bench.block(f"192.0.2.{index}", SOON)
    bench.backend.elements = {
        parse_prefix("192.0.2.8"): LATER,
        parse_prefix("192.0.2.9"): SOON,
        parse_prefix("203.0.113.1"): None,
    }
    assert bench.enforcement.sync(bench.now) == Mend("intact", added=1, removed=1, refreshed=1)
    assert bench.kernel == {"192.0.2.7": SOON, "192.0.2.8": SOON, "192.0.2.9": SOON}


def test_a_block_that_finds_the_table_gone_mends_it(bench: Bench) -> None:
    """The next block does not wait for the next comparison."""
    bench.block("192.0.2.8", SOON)
    bench.backend.table, bench.backend.elements = "missing", {}
    assert bench.block("192.0.2.9", SOON)[0] == "done"
    assert bench.kernel == {"192.0.2.8": SOON, "192.0.2.9": SOON}
    assert bench.lines[-2] == "mended table=missing restored=2"


def test_untouched_rules_are_not_read_again(bench: Bench) -> None:
    """The periodic comparison costs one question as long as nobody touched any rule."""
    bench.block("192.0.2.9", SOON)
    bench.backend.calls.clear()
    assert bench.enforcement.sync(bench.now, is_thorough=False) == Mend("intact")
    assert bench.backend.calls == []
    bench.backend.is_touched = True
    bench.enforcement.sync(bench.now, is_thorough=False)
    assert bench.backend.calls == ["list"]


def test_a_kernel_that_refuses_fails_the_block_and_nothing_is_believed(bench: Bench) -> None:
    """The answer carries the kernel's words; the same request may be tried again."""
    bench.backend.refusal = KernelError("nftables: the kernel refused: EPERM")
    assert bench.block("192.0.2.9", request="a") == ("failed", None, "nftables: the kernel refused: EPERM")
    assert (len(bench.enforcement), bench.rows) == (0, [("a", "failed")])
    assert bench.enforcement.status()["trouble"] == "nftables: the kernel refused: EPERM"
    bench.backend.refusal = None
    assert bench.block("192.0.2.9", request="a")[0] == "done"
    assert bench.rows == [("a", "done")]
    assert bench.files() == (["192.0.2.9"], ["192.0.2.9"])


def test_a_disk_that_refuses_keeps_nobody_from_being_denied(bench: Bench) -> None:
    """The kernel denies, the outcome says what is missing, and it is written down when that is possible."""
    bench.block("192.0.2.8", SOON, request="a")
    bench.store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE UPDATE ON blocks WHEN NEW.state = 'done'"
        " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    kind, _, detail = bench.block("192.0.2.9", SOON, request="b")
    assert (kind, detail.startswith("not written down yet: ")) == ("done", True)
    assert detail.endswith("database or disk is full")
    assert bench.kernel == {"192.0.2.8": SOON, "192.0.2.9": SOON}
    assert bench.block("192.0.2.9", SOON, request="c")[0] == "exists"
    assert bench.block("198.51.100.9", SOON + SECOND, request="d")[0] == "done"
    assert bench.enforcement.status()["unwritten"] == 2
    bench.enforcement.sync(bench.now)
    assert set(bench.kernel) == {"192.0.2.8", "192.0.2.9", "198.51.100.9"}
    bench.store._connection.execute("DROP TRIGGER full")
    bench.now += 5 * SECOND
    bench.enforcement.tend(bench.now)
    assert bench.enforcement.status()["unwritten"] == 0
    assert ("d", "done") in bench.rows
    assert bench.files() == (["192.0.2.8", "192.0.2.9", "198.51.100.9"],) * 2
    bench.start()
    assert set(bench.kernel) == {"192.0.2.8", "192.0.2.9", "198.51.100.9"}


def test_what_the_disk_never_took_ends_all_the_same(bench: Bench) -> None:
    """By its time or by a release; nothing of it is left."""
    bench.store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON blocks BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
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
    bench.store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE UPDATE ON blocks BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert bench.enforcement.next_expiry == LATER
    assert bench.enforcement.pause(bench.now) == 5
    assert [str(block.source) for block in bench.enforcement.blocks()] == ["192.0.2.10"]
    bench.store._connection.execute("DROP TRIGGER full")
    bench.now += 5 * SECOND
    bench.enforcement.tend(bench.now)
    bench.now = LATER
    bench.enforcement.expire(bench.now)
    assert bench.rows == [("a", "expired"), ("b", "expired")]
    assert sum(line.startswith("expired source=192.0.2.9 ") for line in bench.lines) == 1


def test_a_block_ends_when_its_time_is_over_and_not_when_the_kernel_says(bench: Bench) -> None:
    """The kernel counts from when it took an element: of many that were restored at once, that was later."""
    bench.block("192.0.2.9", SOON)
    bench.block("192.0.2.10", LATER)
    bench.backend.elements[parse_prefix("192.0.2.9")] = SOON + 2 * SECOND
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert bench.kernel == {"192.0.2.10": LATER}


def test_a_restart_touches_nothing_that_is_right(bench: Bench) -> None:
    """No gap and no work where the kernel holds exactly what the rows say."""
    bench.block("192.0.2.9", SOON)
    bench.block("198.51.100.0/24", None)
    bench.backend.calls.clear()
    bench.start()
    assert bench.backend.calls == ["list"]
    assert bench.lines == ["started table=intact added=0 removed=0 refreshed=0"]
    assert bench.files() == (["192.0.2.9", "198.51.100.0/24"], ["192.0.2.9", "198.51.100.0/24"])


def test_a_restart_after_a_reboot_restores_what_is_left(bench: Bench) -> None:
    """Blocks keep their end, those whose time is over are ended, in one batch."""
    bench.block("192.0.2.8", SOON, request="a")
    bench.block("192.0.2.9", LATER, request="b")
    bench.backend.table, bench.backend.elements = "missing", {}
    bench.backend.calls.clear()
    bench.now = SOON + SECOND
    bench.start()
    assert bench.kernel == {"192.0.2.9": LATER}
    assert bench.backend.calls[:2] == ["list", "restore"]
    assert bench.rows == [("a", "expired"), ("b", "done")]
    assert bench.lines == ["started table=missing restored=1", "expired source=192.0.2.8 jail=scan request=a"]


def test_observing_needs_no_firewall(tmp_path: Path) -> None:
    """Where nothing is to be blocked, a host without nft is no reason not to start."""
    bench = Bench(tmp_path)
    bench.backend.refusal = MissingToolError("nft: not found")
    bench.start()
    assert bench.lines == ["cannot block yet: nft: not found"]
    assert bench.block("192.0.2.9")[0] == "failed"
    bench.settings = replace(bench.settings, is_enforcing=True)
    with pytest.raises(MissingToolError):
        bench.start()


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


def test_status_and_list(bench: Bench) -> None:
    """What is told is what is."""
    bench.block("192.0.2.9", request="a", reason="six ports")
    (block,) = bench.enforcement.blocks()
    assert (str(block.source), block.until, block.jail, block.request, block.reason) == (
        "192.0.2.9", SOON, "scan", "a", "six ports",
    )  # fmt: skip
    status = bench.enforcement.status()
    assert (status["blocks"], status["table"], status["next_expiry"]) == (1, "intact", SOON)
    assert status["since_start"] == {"done": 1}
    assert [row.state for row in bench.store.find(parse_prefix("192.0.2.9"))] == [BlockState.DONE]
