"""Blocks that are over: what their actions did is undone, once, and never under the next block."""

import pytest

from correlator.model import SECOND, OutcomeKind, parse_prefix
from tests.enforcer_fakes import LATER, SOON
from tests.unit.enforcer_bench import FAILED, CarrierBench


@pytest.mark.parametrize("end", ["release", "expire"])
def test_what_was_done_is_undone_when_the_block_is_over(carrier: CarrierBench, end: str) -> None:
    """Released or expired; what only told somebody has nothing to undo."""
    carrier.block_by("nftables", "file", "slow", "mail")
    for action in (carrier.slow, carrier.mail):
        carrier.tend()
        action.end()
    if end == "release":
        assert carrier.enforcement.release(parse_prefix("192.0.2.9"), carrier.now) == 1
    else:
        carrier.now = SOON
        carrier.enforcement.expire(carrier.now)
    carrier.tend()
    carrier.slow.end()
    carrier.tend()
    assert carrier.file.calls[-1] == carrier.slow.calls[-1] == "release 192.0.2.9"
    assert carrier.mail.calls == ["block 192.0.2.9"]
    assert carrier.states == {}


def test_an_action_that_ends_after_its_block_is_undone(carrier: CarrierBench) -> None:
    """Released while the command still ran."""
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.enforcement.release(None, carrier.now)
    carrier.slow.end()
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


@pytest.mark.parametrize("name", ["file", "slow"])
def test_a_block_right_after_a_release_is_not_undone_by_it(carrier: CarrierBench, name: str) -> None:
    """First the old line goes, then the new one comes; never the other way round."""
    action = {"file": carrier.file, "slow": carrier.slow}[name]
    carrier.block_by("nftables", name)
    carrier.tend()
    if action.open:
        action.end()
    carrier.enforcement.release(None, carrier.now)
    assert carrier.block_by("nftables", name, until=LATER) == "done"
    for _ in range(2):
        carrier.tend()
        if action.open:
            action.end()
    assert action.calls == ["block 192.0.2.9", "release 192.0.2.9", "block 192.0.2.9"]
    assert carrier.states == {name: "done"}


def test_a_new_block_takes_over_what_could_not_be_undone(carrier: CarrierBench) -> None:
    """Or the next try to undo it, an hour later, would take away what is wanted again."""
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.slow.end()
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    carrier.slow.end(FAILED)
    carrier.block_by("nftables", "slow", until=None)
    carrier.tend()
    carrier.slow.end()
    carrier.now += 2 * 3600 * SECOND
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9", "block 192.0.2.9 again"]


@pytest.mark.parametrize("everybody", [False, True])
def test_a_block_that_is_not_in_force_yet_is_released(carrier: CarrierBench, everybody: bool) -> None:
    """Whoever released it would else find it blocked a moment later."""
    carrier.block_by("slow")
    carrier.tend()
    source = None if everybody else parse_prefix("192.0.2.9")
    assert carrier.enforcement.release(source, carrier.now) == 1
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.RELEASED]
    carrier.slow.end()
    carrier.tend()
    assert len(carrier.enforcement) == 0
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_who_is_ignored_while_an_action_runs_is_not_blocked(carrier: CarrierBench) -> None:
    """The list is asked again before the block comes in force, and what was done is undone."""
    carrier.block_by("slow")
    carrier.tend()
    carrier.settings.paths.ignore.write_text("192.0.2.9\n")
    carrier.slow.end()
    carrier.tend()
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.REFUSED]
    assert len(carrier.enforcement) == 0
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_what_carries_its_own_end_is_undone_though_it_was_not_renewed(carrier: CarrierBench) -> None:
    """Released before the longer block had renewed it: the entry of the first would stay."""
    carrier.slow.expires_by_itself = True
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.slow.end()
    carrier.block_by("nftables", "slow", until=LATER)
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_an_action_that_is_gone_from_the_settings_is_said_and_left(carrier: CarrierBench) -> None:
    """We cannot know how to undo it any more."""
    carrier.block_by("nftables", "file")
    del carrier.enforcement._carrier._actions["file"]
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.states == {}
    assert carrier.block_by("file", source="192.0.2.10").startswith(
        "refused no such action: file; there is: mail"
    )
