"""Belief equals fact: what another hand took away or put in is made right, at the next look and a start."""

from correlator.enforcer.protocol import Mend, MendedEvent
from correlator.model import SECOND, parse_prefix
from tests.enforcer_fakes import LATER, SOON
from tests.unit.enforcer_bench import Bench


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
