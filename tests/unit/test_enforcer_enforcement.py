"""What becomes of requests: in the answer, in the kernel, in the rows, in the files."""

from dataclasses import replace
from pathlib import Path

import pytest

from correlator.enforcer.protocol import OutcomeEvent
from correlator.errors import KernelError, MissingToolError
from correlator.model import SECOND, OutcomeKind, parse_prefix
from correlator.store.blocks import BlockState
from tests.enforcer_fakes import LATER, SOON
from tests.unit.enforcer_bench import Bench


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


def test_a_block_ends_when_its_time_is_over_and_not_when_the_kernel_says(bench: Bench) -> None:
    """The kernel counts from when it took an element: of many that were restored at once, that was later."""
    bench.block("192.0.2.9", SOON)
    bench.block("192.0.2.10", LATER)
    bench.backend.elements[parse_prefix("192.0.2.9")] = SOON + 2 * SECOND
    bench.now = SOON
    bench.enforcement.expire(bench.now)
    assert bench.kernel == {"192.0.2.10": LATER}


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
