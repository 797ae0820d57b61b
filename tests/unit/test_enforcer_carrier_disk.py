"""Actions on a full disk: each ends and is undone once, and is written down when there is room."""

from correlator.model import SECOND, OutcomeKind, parse_prefix
from tests.enforcer_fakes import LATER
from tests.unit.enforcer_bench import CarrierBench, empty_disk, fill_disk


def test_an_ending_waits_for_the_disk_and_is_told_then(carrier: CarrierBench) -> None:
    """It does not stay as running until the next start, and nothing is begun or undone twice meanwhile."""
    assert carrier.block_by("slow", "other") == "later"
    carrier.tend()
    fill_disk(carrier.store, "INSERT ON deeds")
    carrier.slow.end()
    for _ in range(20):
        carrier.tend()
    assert (carrier.later, carrier.endings, carrier.other.calls) == ([], [], [])
    assert carrier.states == {"slow": "running", "other": "asked"}
    empty_disk(carrier.store)
    carrier.now += 5 * SECOND
    carrier.tend()
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE]
    assert carrier.endings == [("slow", "done")]
    carrier.other.end()
    assert carrier.states == {"slow": "done", "other": "done"}


def test_what_is_undone_on_a_full_disk_is_undone_once(carrier: CarrierBench) -> None:
    """The command is not run again and again, for want of a line that says it was."""
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.slow.end()
    carrier.enforcement.release(parse_prefix("192.0.2.9"), carrier.now)
    fill_disk(carrier.store, "DELETE ON deeds")
    carrier.tend()
    carrier.slow.end()
    for _ in range(20):
        carrier.now += SECOND
        carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]
    empty_disk(carrier.store)
    carrier.now += 5 * SECOND
    carrier.tend()
    assert carrier.states == {}
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_more_actions_than_may_run_at_once_survive_a_full_disk(carrier: CarrierBench) -> None:
    """One that could not be begun takes nobody's place."""
    for number in range(20):
        carrier.block_by("nftables", "slow", source=f"198.51.100.{number}", until=None)
    fill_disk(carrier.store, "INSERT ON deeds")
    for _ in range(20):
        carrier.now += 5 * SECOND
        carrier.tend()
    assert carrier.slow.calls == []
    assert (carrier.enforcement.pause(carrier.now) or 0) > 0
    empty_disk(carrier.store)
    carrier.now += 5 * SECOND
    for _ in range(20):
        carrier.tend()
        while carrier.slow.open:
            carrier.slow.end()
    assert len(carrier.slow.calls) == 20


def test_a_request_that_waits_is_asked_again_on_a_full_disk_and_waits_on(carrier: CarrierBench) -> None:
    """It has its row already: a second one beside it would end the first when the disk takes it."""
    assert carrier.block_by("slow") == "later"
    fill_disk(carrier.store, "INSERT ON blocks")
    assert carrier.block_by("nftables", until=LATER).startswith("done not written down yet")
    assert carrier.block_by("slow") == "later"
    empty_disk(carrier.store)
    carrier.now += 5 * SECOND
    for _ in range(3):
        carrier.tend()
    carrier.slow.end()
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE] * 2
    (block,) = carrier.enforcement.blocks()
    assert set(block.actions) == {"nftables", "slow"}
