"""What other actions really deny, held against what they should, and mended."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from correlator.actions import Order
from correlator.enforcer.action import Ended, Ending, Result, Survey, Surveyed
from correlator.enforcer.comparison import AT_ONCE
from correlator.model import SECOND, Micros, parse_prefix
from tests.enforcer_fakes import SOON
from tests.unit.enforcer_bench import CarrierBench, FakeAction


class Firewall(FakeAction):
    """A firewall in memory that can be looked at, and emptied behind our back."""

    can_survey = True

    def __init__(self, name: str) -> None:
        super().__init__(name, is_quick=True)
        self.held: set[str] = set()
        self.problem = ""
        self.has_batch = False

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Deny one."""
        self.held.add(str(order.source))
        super().block(order, now, ended, is_again=is_again)

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Deny one no longer."""
        self.held.discard(str(order.source))
        super().release(order, now, ended)

    def survey(self, orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        """Tell what differs."""
        del now
        self.calls.append("survey")
        wanted = {str(order.source) for order in orders}
        missing = tuple(order for order in orders if str(order.source) not in self.held)
        extra = tuple(parse_prefix(source) for source in sorted(self.held - wanted))
        surveyed(Survey(problem=self.problem) if self.problem else Survey(missing, extra))

    def restore(self, orders: Sequence[Order], now: Micros, ended: Ended) -> bool:
        """Deny many at once."""
        del now
        if self.has_batch:
            self.calls.append(f"restore {len(orders)}")
            self.held |= {str(order.source) for order in orders}
            ended(Result(Ending.DONE))
        return self.has_batch

    def check(self, now: Micros, ended: Ended) -> None:
        """Always able."""
        del now
        ended(Result(Ending.DONE))


@pytest.fixture
def carrier(tmp_path: Path) -> CarrierBench:
    """A started enforcement whose action `file` is a firewall that can be looked at."""
    made = CarrierBench(tmp_path)
    made.file = Firewall("file")
    made.start()
    return made


def test_what_was_taken_away_is_put_back(carrier: CarrierBench) -> None:
    """At the next comparison, one by one; nothing else is touched."""
    carrier.block_by("nftables", "file")
    carrier.block_by("nftables", "file", source="192.0.2.10")
    carrier.file.held.discard("192.0.2.10")
    carrier.enforcement.sync(carrier.now)
    carrier.tend()
    assert carrier.file.held == {"192.0.2.9", "192.0.2.10"}
    assert carrier.file.calls[-1] == "block 192.0.2.10 again"
    assert carrier.file.calls.count("block 192.0.2.9") == 1


@pytest.mark.parametrize("has_batch", [True, False])
def test_a_flush_is_mended_in_one_batch_where_there_is_one(carrier: CarrierBench, has_batch: bool) -> None:
    """Hundreds of processes for what one can do would take minutes."""
    count = AT_ONCE + 1
    for number in range(count):
        carrier.block_by("nftables", "file", source=f"198.51.100.{number}")
    carrier.file.held.clear()
    carrier.file.calls.clear()
    carrier.file.has_batch = has_batch
    carrier.enforcement.sync(carrier.now)
    carrier.tend()
    assert len(carrier.file.held) == count
    assert len(carrier.file.calls) == (2 if has_batch else 1 + count)


def test_a_stranger_in_what_is_ours_is_released(carrier: CarrierBench) -> None:
    """Left by a death, or put there by hand."""
    carrier.block_by("nftables", "file")
    carrier.file.held.add("203.0.113.5")
    carrier.enforcement.sync(carrier.now)
    assert carrier.file.held == {"192.0.2.9"}


def test_what_changes_meanwhile_is_not_at_fault(carrier: CarrierBench) -> None:
    """A source blocked while the list was read stands in it, and not in what we compared with."""
    carrier.block_by("nftables", "file")
    survey = carrier.file.survey

    def slow(orders: Sequence[Order], now: Micros, surveyed: Surveyed) -> None:
        carrier.block_by("nftables", "file", source="192.0.2.10")
        carrier.enforcement.release(parse_prefix("192.0.2.9"), carrier.now)
        carrier.tend()
        survey(orders, now, surveyed)

    carrier.file.survey = slow  # type: ignore[method-assign]
    carrier.enforcement.sync(carrier.now)
    carrier.file.survey = survey  # type: ignore[method-assign]
    carrier.tend()
    assert carrier.file.held == {"192.0.2.10"}


def test_an_action_that_nobody_asked_for_is_not_looked_at(carrier: CarrierBench) -> None:
    """To look at it would prepare the host for it."""
    carrier.block_by("nftables")
    carrier.enforcement.sync(carrier.now)
    assert carrier.file.calls == []


def test_what_cannot_be_seen_is_said_and_nothing_is_done(carrier: CarrierBench) -> None:
    """Until it can be seen again."""
    carrier.block_by("nftables", "file")
    carrier.file.problem = "exit status 4: Permission denied"
    carrier.file.held.clear()
    carrier.enforcement.sync(carrier.now)
    carrier.tend()
    problems = carrier.enforcement.status()["action_problems"]
    assert (problems, carrier.file.held) == ({"file": "exit status 4: Permission denied"}, set())
    carrier.file.problem = ""
    carrier.enforcement.sync(carrier.now)
    carrier.tend()
    assert (carrier.enforcement.status()["action_problems"], carrier.file.held) == ({}, {"192.0.2.9"})


def test_a_restart_compares_at_once(carrier: CarrierBench) -> None:
    """After a reboot nothing is there any more."""
    carrier.block_by("nftables", "file")
    carrier.file.held.clear()
    carrier.start()
    carrier.tend()
    assert carrier.file.held == {"192.0.2.9"}


def test_what_outlives_its_block_is_released(carrier: CarrierBench) -> None:
    """The clock was set forward before anything was compared: the block is over, its own timer still runs."""
    carrier.file.expires_by_itself = True
    carrier.block_by("file")
    carrier.now = SOON + SECOND
    carrier.enforcement.expire(carrier.now)
    carrier.tend()
    assert carrier.file.held == {"192.0.2.9"}
    carrier.enforcement.sync(carrier.now)
    carrier.tend()
    assert carrier.file.held == set()
