"""Lives of blocks that went wrong once: each short, and died at every step in turn.

What random lives find in thousands is kept here, so that it is found every time.
"""

import pytest

from correlator.model import parse_prefix
from tests.property.action_lives import ActionLife


@pytest.mark.parametrize("text", ["198.51.100.1", "198.51.100.2"], ids=["our line", "a line like ours"])
@pytest.mark.parametrize(
    "longer", [("nftables", "chain", "mail", "rule"), ("file", "timer"), ("rule", "file")]
)
@pytest.mark.parametrize("death", range(40))
def test_a_block_is_extended_after_a_death(text: str, longer: tuple[str, ...], death: int) -> None:
    """Whatever the first block was at when we died, the second one loses nothing when the first is over."""
    life, source = ActionLife(), parse_prefix(text)
    try:
        life.block(source, None, ["chain", "mail", "nftables", "file"], 1, None)
        life.work(4, 0, death)
        life.block(source, None, list(longer), 1, None)
        life.settle()
        life.release(source, None)
    finally:
        life.teardown()


@pytest.mark.parametrize("name", ["timer", "rule", "file"])
@pytest.mark.parametrize("death", range(30))
def test_a_block_is_given_up_after_a_death(name: str, death: int) -> None:
    """Nothing of it stands, whatever it was at when we died, and though its tool then broke."""
    life, source = ActionLife(), parse_prefix("198.51.100.1")
    try:
        life.break_or_mend("chain")
        life.block(source, None, ["chain", name], 1, None)
        life.work(2, 0, death)
        life.break_or_mend(name)
        life.work(1, 0, None)
        life.settle()
    finally:
        life.teardown()


@pytest.mark.parametrize("room", range(12))
def test_the_disk_is_full_while_an_action_ends(room: int) -> None:
    """Whichever write it was that failed, the block comes in force when there is room again."""
    life, source = ActionLife(), parse_prefix("198.51.100.1")
    try:
        life.block(source, None, ["mail", "file"], 1, None)
        life.fill_or_empty_the_disk(room)
        life.work(3, 0, None)
        life.settle()
        assert life.denied
    finally:
        life.teardown()


@pytest.mark.parametrize("death", range(30))
def test_a_block_comes_in_force_late_and_lasts_as_long_as_another(death: int) -> None:
    """Whatever it was at when we died, what carries its own end is given the later one."""
    life, source = ActionLife(), parse_prefix("198.51.100.1")
    try:
        life.block(source, 1, ["timer"], 1, None)
        life.block(source, None, ["nftables"], 1, None)
        life.work(1, 0, death)
        life.settle()
    finally:
        life.teardown()
