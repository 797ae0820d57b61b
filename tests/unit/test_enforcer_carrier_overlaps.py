"""Several blocks of one source: nothing is done twice, nothing is undone under the longer one."""

import pytest

from correlator.model import OutcomeKind, parse_prefix
from tests.enforcer_fakes import LATER, SOON
from tests.unit.enforcer_bench import CarrierBench


def test_a_longer_block_does_nothing_twice(carrier: CarrierBench) -> None:
    """What another action does already goes on; a message is sent again; nothing is undone."""
    carrier.block_by("nftables", "file", "slow")
    carrier.tend()
    carrier.slow.end()
    assert carrier.block_by("nftables", "slow", until=LATER) == "done"
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9"]
    assert carrier.file.calls == ["block 192.0.2.9"]
    assert carrier.states == {"slow": "done", "file": "done"}
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    carrier.slow.end()
    carrier.tend()
    assert carrier.file.calls[-1] == carrier.slow.calls[-1] == "release 192.0.2.9"


def test_another_way_of_denying_is_added(carrier: CarrierBench) -> None:
    """A source that is denied long enough, but not in all the ways that are wanted now."""
    carrier.block_by("nftables", until=LATER)
    assert carrier.block_by("file", until=SOON) == "done"
    assert carrier.file.calls == ["block 192.0.2.9"]
    (block,) = carrier.enforcement.blocks()
    assert block.until == LATER
    assert list(map(str, carrier.backend.elements)) == ["192.0.2.9"]
    assert carrier.block_by("file", "nftables", until=LATER - 1) == "exists"


def test_a_prefix_swallows_only_what_it_denies_in_all_ways(carrier: CarrierBench) -> None:
    """Else the line in the file would go, and nothing take its place."""
    carrier.block_by("nftables", "file", source="198.51.100.9")
    assert carrier.block_by("nftables", source="198.51.100.0/24", until=LATER) == "done"
    carrier.tend()
    assert carrier.file.calls == ["block 198.51.100.9"]
    assert len(carrier.enforcement) == 2


def test_what_a_prefix_swallowed_does_not_outlive_it_in_the_kernel(carrier: CarrierBench) -> None:
    """Also where another action put the prefix in force, and the kernel comes after it."""
    carrier.block_by("nftables", source="198.51.100.9", until=SOON)
    carrier.block_by("file", "slow", "nftables", source="198.51.100.0/24", until=LATER)
    carrier.tend()
    carrier.slow.end()
    carrier.tend()
    assert list(map(str, carrier.backend.elements)) == ["198.51.100.0/24"]
    carrier.enforcement.release(parse_prefix("198.51.100.0/24"), carrier.now)
    assert carrier.backend.elements == {}


def test_two_blocks_of_one_source_do_the_same_thing_once(carrier: CarrierBench) -> None:
    """Two jails, neither answered yet: the second takes over, and nothing is undone below it."""
    assert carrier.block_by("slow", until=SOON) == "later"
    assert carrier.block_by("slow", until=LATER) == "later"
    carrier.tend()
    carrier.slow.end()
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9"]
    assert [block.until for block in carrier.enforcement.blocks()] == [LATER]
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_a_longer_block_that_names_another_port_undoes_the_first_ones_rule(carrier: CarrierBench) -> None:
    """KILL_ROUTE with $PORT$: what undoes the second rule does not undo the first."""
    carrier.slow.names_port = True
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.slow.end()
    carrier.block_by("nftables", "slow", until=LATER, port=2)
    for _ in range(2):
        carrier.tend()
        carrier.slow.end()
    assert sorted(carrier.slow.calls) == ["block 192.0.2.9", "block 192.0.2.9", "release 192.0.2.9"]
    assert carrier.states == {"slow": "done"}


def test_a_longer_block_renews_what_carries_its_own_end(carrier: CarrierBench) -> None:
    """An entry of ipset would else expire with the first block."""
    carrier.slow.expires_by_itself = True
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.slow.end()
    carrier.block_by("nftables", "slow", until=LATER)
    carrier.tend()
    carrier.slow.end()
    assert carrier.slow.calls == ["block 192.0.2.9", "block 192.0.2.9 again"]
    assert carrier.states == {"slow": "done"}


def test_the_kernel_denies_on_when_a_block_that_it_carried_out_second_is_extended(
    carrier: CarrierBench,
) -> None:
    """KILL_RUN_CMD_FIRST: undoing the first block's part must not take the longer one's element."""
    carrier.block_by("mail", "nftables")
    carrier.tend()
    carrier.mail.end()
    carrier.tend()
    assert carrier.block_by("nftables", until=LATER) == "done"
    carrier.tend()
    assert carrier.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.backend.elements == {}


def test_a_block_that_comes_in_force_late_shortens_no_longer_one(carrier: CarrierBench) -> None:
    """Two jails: the slow, short one ends after the quick, long one, and both hold together."""
    assert carrier.block_by("slow", until=SOON) == "later"
    carrier.tend()
    assert carrier.block_by("nftables", until=LATER) == "done"
    carrier.slow.end()
    (block,) = carrier.enforcement.blocks()
    assert (block.until, set(block.actions)) == (LATER, {"slow", "nftables"})
    assert carrier.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert (carrier.slow.calls[-1], carrier.backend.elements) == ("release 192.0.2.9", {})


def test_a_command_that_ends_late_ends_no_block(carrier: CarrierBench) -> None:
    """BLOCK_UDP="2" beside BLOCK_TCP="1": what only tells somebody takes nobody's place."""
    assert carrier.block_by("mail", until=SOON) == "later"
    carrier.tend()
    assert carrier.block_by("nftables", "file", until=LATER) == "done"
    carrier.mail.end()
    carrier.tend()
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE]
    (block,) = carrier.enforcement.blocks()
    assert (block.until, block.actions) == (LATER, ("nftables", "file"))
    assert carrier.file.calls == ["block 192.0.2.9"]


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_short_block_that_comes_late_does_not_cut_a_long_one(
    carrier: CarrierBench, *, is_killed: bool
) -> None:
    """Its command took its time, and meanwhile the source was denied for longer."""
    assert carrier.block_by("slow", until=SOON) == "later"
    carrier.tend()
    assert carrier.block_by("nftables", "file", until=LATER) == "done"
    carrier.slow.end()
    if is_killed:
        carrier.start()
    (block,) = carrier.enforcement.blocks()
    assert (block.until, set(block.actions)) == (LATER, {"slow", "nftables", "file"})
    assert carrier.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    carrier.tend()
    assert carrier.slow.calls == carrier.file.calls == ["block 192.0.2.9"]
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.slow.calls[-1] == carrier.file.calls[-1] == "release 192.0.2.9"


def test_a_short_block_that_denies_in_the_kernel_late_does_not_cut_a_long_one(carrier: CarrierBench) -> None:
    """KILL_RUN_CMD_FIRST took its time, and another jail was faster."""
    assert carrier.block_by("mail", "nftables", until=SOON) == "later"
    carrier.tend()
    assert carrier.block_by("nftables", until=LATER) == "done"
    carrier.mail.end()
    carrier.tend()
    assert carrier.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE]


def test_what_was_done_before_is_not_done_again_behind_a_command(carrier: CarrierBench) -> None:
    """A longer block that begins with something slow; what denies already does not wait for it."""
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.slow.end()
    assert carrier.block_by("mail", "other", "slow", until=LATER) == "done"
    assert carrier.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    for action in (carrier.mail, carrier.other):
        carrier.tend()
        action.end()
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9"]
    assert carrier.states == {"mail": "done", "other": "done", "slow": "done"}


def test_what_carries_its_own_end_is_renewed_when_the_first_one_has_ended(carrier: CarrierBench) -> None:
    """Two commands at once about one source: the shorter end would win when its command ends last."""
    carrier.slow.expires_by_itself = True
    carrier.block_by("nftables", "slow")
    carrier.tend()
    carrier.block_by("nftables", "slow", until=LATER)
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9"]
    carrier.slow.end()
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "block 192.0.2.9 again"]
    carrier.slow.end()
    assert carrier.states == {"slow": "done"}
