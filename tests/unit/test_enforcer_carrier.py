"""Several actions in one block: their order, each with its own ending, and what is said of them."""

import pytest

from correlator.enforcer import enforcement as enforcement_module
from correlator.enforcer.deeds import MOST_TELLING
from correlator.model import OutcomeKind
from tests.unit.enforcer_bench import FAILED, CarrierBench


def test_the_kernel_first_and_the_others_in_turn(carrier: CarrierBench) -> None:
    """The answer comes with the first; the next begins when the one before has ended."""
    assert carrier.block_by("nftables", "slow", "mail") == "done"
    assert carrier.slow.calls == []
    carrier.tend()
    assert (carrier.slow.calls, carrier.mail.calls) == (["block 192.0.2.9"], [])
    carrier.slow.end()
    carrier.tend()
    assert carrier.mail.calls == ["block 192.0.2.9"]
    carrier.mail.end()
    assert carrier.endings == [("slow", "done"), ("mail", "done")]
    assert carrier.states == {"slow": "done", "mail": "done"}


def test_a_command_that_is_named_first_is_run_first(carrier: CarrierBench) -> None:
    """As KILL_RUN_CMD_FIRST wants it: the kernel denies when it has ended, well or not."""
    assert carrier.block_by("mail", "nftables") == "later"
    carrier.tend()
    assert carrier.backend.elements == {}
    carrier.mail.end(FAILED)
    carrier.tend()
    assert list(map(str, carrier.backend.elements)) == ["192.0.2.9"]
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE]


def test_messages_that_hang_hold_up_no_denial(carrier: CarrierBench) -> None:
    """A mail server that is away: others are denied meanwhile, however many messages wait."""
    for number in range(100):
        carrier.block_by("nftables", "mail", source=f"198.51.100.{number}")
    carrier.tend()
    assert len(carrier.mail.open) == MOST_TELLING
    carrier.block_by("nftables", "slow")
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9"]
    told = 0
    while carrier.mail.open:
        assert len(carrier.mail.open) <= MOST_TELLING
        carrier.mail.end()
        told += 1
        carrier.tend()
    assert told == 100


def test_a_block_by_slow_actions_alone(carrier: CarrierBench) -> None:
    """In force with the first that denies; failed when all have failed, and the next strike may try again."""
    assert carrier.block_by("slow", "other") == "later"
    assert carrier.block_by("slow", "other") == "later"  # asked again meanwhile: nothing is done twice
    carrier.tend()
    carrier.slow.end(FAILED)
    assert carrier.later == []
    carrier.tend()
    carrier.other.end()
    assert [outcome.kind for outcome in carrier.later] == [OutcomeKind.DONE] * 2
    assert len(carrier.enforcement) == 1
    carrier.later.clear()
    assert carrier.block_by("other", source="192.0.2.10") == "later"
    carrier.tend()
    carrier.other.end(FAILED)
    assert [(outcome.kind, outcome.detail) for outcome in carrier.later] == [
        (OutcomeKind.FAILED, "exit status 1")
    ]
    assert carrier.block_by("other", source="192.0.2.10") == "later"


def test_an_empty_list_of_actions_is_never_asked_for(carrier: CarrierBench) -> None:
    """The protocol refuses it; here it would put nothing in force."""
    assert carrier.block_by(source="192.0.2.10").startswith("failed")


def test_so_many_blocks_wait_for_their_actions_and_no_more(
    carrier: CarrierBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for blocks by a command that hangs must not fill memory and disk."""
    monkeypatch.setattr(enforcement_module, "MOST_PENDING", 2)
    assert [carrier.block_by("slow", source=f"198.51.100.{number}") for number in range(3)] == [
        "later",
        "later",
        "failed 2 blocks wait for their actions already",
    ]
    carrier.tend()
    carrier.slow.end()
    assert carrier.block_by("slow", source="198.51.100.2") == "later"


def test_the_list_says_how_far_each_action_has_come(carrier: CarrierBench) -> None:
    """In the order of the actions; what only tells somebody has told."""
    carrier.block_by("nftables", "file", "slow", "mail", until=None)
    (block,) = carrier.enforcement.blocks()
    assert block.endings == ("done", "done", "under way", "under way")
    carrier.tend()
    carrier.slow.end(FAILED)
    carrier.tend()
    carrier.mail.end()
    (block,) = carrier.enforcement.blocks()
    assert block.endings == ("done", "done", "failed", "told")
    (failing,) = carrier.enforcement.status()["failing"]
    assert (failing["source"], failing["action"], failing["is_over"]) == ("192.0.2.9", "slow", False)
