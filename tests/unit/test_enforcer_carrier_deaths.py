"""Deaths while actions run: nothing is lost, nothing is done twice, and nothing stands that nobody wants."""

import pytest

from correlator.model import OutcomeKind
from tests.enforcer_fakes import LATER
from tests.unit.enforcer_bench import FAILED, CarrierBench


@pytest.mark.parametrize("killed", ["before it began", "while it ran", "after it ended"])
def test_a_death_loses_and_doubles_nothing(carrier: CarrierBench, killed: str) -> None:
    """What was not begun begins; what ran is asked about; what had ended is left alone."""
    carrier.block_by("nftables", "slow")
    if killed != "before it began":
        carrier.tend()
    if killed == "after it ended":
        carrier.slow.end()
    carrier.start()
    carrier.tend()
    first = "block 192.0.2.9"
    assert (
        carrier.slow.calls
        == {
            "before it began": [first],
            "while it ran": [first, f"{first} again"],
            "after it ended": [first],
        }[killed]
    )
    if carrier.slow.open:
        carrier.slow.end()
    assert carrier.states == {"slow": "done"}


def test_a_death_before_the_only_action_ended(carrier: CarrierBench) -> None:
    """The row stays open, and the correlator's next request hears of it."""
    carrier.block_by("slow")
    carrier.tend()
    carrier.start()
    assert len(carrier.enforcement) == 0
    carrier.tend()
    assert carrier.block_by("slow") == "later"
    carrier.slow.end()
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE]
    assert len(carrier.enforcement) == 1


def test_a_death_between_a_release_and_its_undoing(
    carrier: CarrierBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row had ended, the line was still there."""
    carrier.block_by("nftables", "file")
    monkeypatch.setattr(carrier.store.deeds, "end", _die)
    with pytest.raises(KeyboardInterrupt):
        carrier.enforcement.release(None, carrier.now)
    carrier.start()
    carrier.tend()
    assert carrier.file.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_a_death_while_an_action_of_a_released_block_ran(carrier: CarrierBench) -> None:
    """It may have been carried out: it is undone at the next start, not forgotten."""
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.enforcement.release(None, carrier.now)
    carrier.start()
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_what_was_interrupted_is_undone_though_it_was_not_tried_again(carrier: CarrierBench) -> None:
    """Killed while a command ran, and the block was over before the command had its turn again."""
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.start()
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_what_was_interrupted_is_not_undone_under_the_longer_block(carrier: CarrierBench) -> None:
    """Killed while a line was added: the next block finds it there, and the first must not take it away."""
    carrier.block_by("nftables", "slow", "file")
    carrier.tend()
    carrier.slow.end()
    carrier.file.is_deadly = True
    with pytest.raises(KeyboardInterrupt):
        carrier.tend()
    carrier.file.is_deadly = False
    carrier.start()
    carrier.block_by("file", "nftables", "slow", until=LATER)
    carrier.tend()
    calls = ["block 192.0.2.9", "block 192.0.2.9 again"]
    assert carrier.file.calls == calls
    assert carrier.states == {"file": "done", "slow": "done"}
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.file.calls == [*calls, "release 192.0.2.9"]


@pytest.mark.parametrize("name", ["slow", "file"])
def test_what_was_interrupted_and_then_failed_is_undone(carrier: CarrierBench, name: str) -> None:
    """Killed when it had done its work, and its tool broke: a block given up leaves nothing behind."""
    assert carrier.block_by("other", name) == "later"
    carrier.tend()
    carrier.other.end(FAILED)
    carrier.file.is_deadly = name == "file"
    try:
        carrier.tend()
    except KeyboardInterrupt:
        carrier.file.is_deadly = False
    carrier.start()
    assert carrier.block_by("other", name) == "later"
    carrier.file.ending = FAILED
    carrier.tend()
    if name == "slow":
        carrier.slow.end(FAILED)
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.FAILED]
    assert "exit status 1" in carrier.later[0].detail
    carrier.tend()
    action = carrier.slow if name == "slow" else carrier.file
    assert action.calls == ["block 192.0.2.9", "block 192.0.2.9 again", "release 192.0.2.9"]


def _die(*_arguments: object) -> None:
    raise KeyboardInterrupt
