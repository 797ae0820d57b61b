"""Actions that fail: what is tried again and when, what is given up, what holds up nobody."""

from correlator.enforcer.deeds import MOST_BLIND_TRIES, RETRY_AFTER
from correlator.model import SECOND, OutcomeKind, parse_prefix
from tests.enforcer_fakes import LATER, SOON
from tests.unit.enforcer_bench import DONE, FAILED, CarrierBench


def test_one_that_fails_does_not_hide_the_others(carrier: CarrierBench) -> None:
    """Each has its own ending, and the failure is in the answer."""
    carrier.file.ending = FAILED
    assert carrier.block_by("file", "nftables", "slow") == "done exit status 1"
    carrier.tend()
    carrier.slow.end()
    assert carrier.endings == [("file", "failed"), ("slow", "done")]
    assert len(carrier.enforcement) == 1


def test_what_fails_is_tried_again_later_and_later(carrier: CarrierBench) -> None:
    """As long as the block is in force."""
    carrier.block_by("nftables", "slow", until=None)
    for tries, pause in enumerate((*RETRY_AFTER, RETRY_AFTER[-1]), start=1):
        carrier.tend()
        assert len(carrier.slow.calls) == tries
        carrier.slow.end(FAILED)
        carrier.now += pause - 1
        carrier.tend()
        assert len(carrier.slow.calls) == tries
        carrier.now += 1
    carrier.tend()
    carrier.slow.end()
    assert carrier.states == {"slow": "done"}


def test_undoing_what_cannot_be_seen_is_given_up_after_a_day(carrier: CarrierBench) -> None:
    """A hand took the rule away, and its deletion fails for that reason: it must not be tried for ever."""
    carrier.block_by("nftables", "slow", until=None)
    carrier.tend()
    carrier.slow.end()
    carrier.enforcement.release(None, carrier.now)
    started = carrier.now
    for _ in range(MOST_BLIND_TRIES):
        carrier.tend()
        carrier.slow.end(FAILED)
        carrier.now += RETRY_AFTER[-1]
    carrier.tend()
    assert carrier.slow.calls.count("release 192.0.2.9") == MOST_BLIND_TRIES
    assert carrier.slow.open == []
    assert carrier.enforcement.status()["failing"] == []
    assert carrier.lines[-1].startswith(f"slow of 192.0.2.9 is given up after {MOST_BLIND_TRIES} tries")
    assert carrier.now - started >= 24 * 3600 * SECOND


def test_a_command_that_failed_may_have_done_its_work(carrier: CarrierBench) -> None:
    """Killed at its time limit: the next try knows. What takes no time knows itself whether it did."""
    carrier.file.ending = FAILED
    carrier.block_by("nftables", "file", "slow", until=None)
    carrier.tend()
    carrier.slow.end(FAILED)
    carrier.now += RETRY_AFTER[0]
    carrier.tend()
    assert carrier.slow.calls == ["block 192.0.2.9", "block 192.0.2.9 again"]
    assert carrier.file.calls == ["block 192.0.2.9", "block 192.0.2.9"]


def test_a_message_that_fails_is_not_sent_an_hour_late(carrier: CarrierBench) -> None:
    """Only what denies is tried again."""
    carrier.block_by("nftables", "mail")
    carrier.tend()
    carrier.mail.end(FAILED)
    carrier.now += 2 * 3600 * SECOND
    carrier.tend()
    assert len(carrier.mail.calls) == 1


def test_an_undoing_that_fails_is_tried_again(carrier: CarrierBench) -> None:
    """Or the source would stay denied in silence."""
    carrier.block_by("nftables", "file")
    carrier.file.ending = FAILED
    carrier.enforcement.release(None, carrier.now)
    carrier.tend()
    assert carrier.states == {"file": "ending"}
    carrier.file.ending = DONE
    carrier.now += RETRY_AFTER[0]
    carrier.tend()
    assert carrier.states == {}


def test_a_command_alone_that_fails_is_not_run_at_every_probe(carrier: CarrierBench) -> None:
    """BLOCK_TCP="2": PortSentry does not look at the exit status; ours says it, and counts it as told."""
    assert carrier.block_by("mail") == "later"
    carrier.tend()
    carrier.mail.end(FAILED)
    assert [(outcome.kind, outcome.detail) for outcome in carrier.later] == [
        (OutcomeKind.DONE, "exit status 1")
    ]
    assert carrier.block_by("mail", until=SOON - 1) == "exists"


def test_what_may_stand_and_fails_holds_up_none_that_comes_after(carrier: CarrierBench) -> None:
    """It is shown as failed, and tried again later."""
    carrier.block_by("nftables", "slow", "other")
    carrier.tend()
    carrier.start()
    carrier.tend()
    carrier.slow.end(FAILED)
    carrier.tend()
    assert carrier.other.calls == ["block 192.0.2.9"]
    (block,) = carrier.enforcement.blocks()
    assert block.endings == ("done", "failed", "under way")
    assert [(one["action"], one["is_over"]) for one in carrier.enforcement.status()["failing"]] == [
        ("slow", False)
    ]
    carrier.other.end()
    carrier.now += RETRY_AFTER[1]
    carrier.tend()
    carrier.slow.end()
    assert carrier.slow.calls == ["block 192.0.2.9", *["block 192.0.2.9 again"] * 2]
    assert carrier.states == {"other": "done", "slow": "done"}


def test_a_trace_that_could_not_be_undone_is_nobodys_until_the_next_block_has_it(
    carrier: CarrierBench,
) -> None:
    """A block that takes it over and fails itself must not leave it without anybody who undoes it."""
    carrier.block_by("file")
    carrier.file.ending = FAILED
    carrier.enforcement.release(parse_prefix("192.0.2.9"), carrier.now)
    carrier.tend()
    assert carrier.block_by("file", until=LATER).startswith("failed")
    carrier.file.ending = DONE
    carrier.now += RETRY_AFTER[-1]
    carrier.tend()
    assert carrier.file.calls[-2:] == ["block 192.0.2.9 again", "release 192.0.2.9"]
