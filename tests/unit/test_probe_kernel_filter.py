"""The assembler refuses what BPF cannot say, and the programs fit the kernel's limits."""

import struct

import pytest

from correlator.probe.kernel_filter import IF_EQUAL, JUMP, REJECT_ALL, RETURN, Op, assemble, build_filter


def test_labels_become_distances() -> None:
    """Conditional jumps hold theirs in a byte each, the plain jump in `k`."""
    program = assemble([Op(IF_EQUAL, 6, "yes"), Op(JUMP, then="no"), "yes", Op(RETURN, 1), "no", Op(RETURN)])
    expected = [(IF_EQUAL, 1, 0, 6), (JUMP, 0, 0, 1), (RETURN, 0, 0, 1), (RETURN, 0, 0, 0)]
    assert expected == list(struct.iter_unpack("=HBBI", program))


def test_a_conditional_jump_cannot_go_far_or_back() -> None:
    """A byte holds the distance; the kernel would jump somewhere else without this check."""
    far = [Op(IF_EQUAL, 6, "end"), *[Op(RETURN)] * 256, "end", Op(RETURN)]
    with pytest.raises(ValueError, match="jump of 256"):
        assemble(far)
    with pytest.raises(ValueError, match="jump of -1"):
        assemble(["start", Op(IF_EQUAL, 6, "start"), Op(RETURN)])


def test_an_unknown_label_is_our_bug() -> None:
    """It raises instead of jumping to the next instruction."""
    with pytest.raises(KeyError):
        assemble([Op(JUMP, then="nowhere")])


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_watched_lets_nothing_through(version: int) -> None:
    """No ranges: the one-instruction program."""
    assert build_filter(version, (), ()) == REJECT_ALL


def test_programs_are_short() -> None:
    """They run for every packet of the host; the kernel takes 4096 instructions at most."""
    watched = ((1, 1024),)
    assert len(build_filter(4, watched, watched)) // 8 < 40
    assert len(build_filter(6, watched, watched)) // 8 < 400
