"""SCAN_TRIGGER counts as PortSentry does, with its ring of 50 hits of all hosts."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.probe.trigger import RING, ScanTrigger

A, B = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


def others(count: int) -> list[bytes]:
    """So many hosts."""
    return [bytes([10, 1, number >> 8, number & 255]) for number in range(count)]


def alarms(trigger: int, hits: Iterable[bytes]) -> list[int]:
    """The numbers of the hits, from 0, that are written."""
    counting = ScanTrigger(trigger)
    return [number for number, source in enumerate(hits) if counting.is_reached(source)]


@pytest.mark.parametrize(
    ("trigger", "hits", "expected"),
    [
        (0, [A, A], [0, 1]),
        (1, [A, B, A], [0, 1, 2]),
        (2, [A, A, A], [1, 2]),
        (3, [A, B, A, B, A, B, A], [4, 5, 6]),
        (3, [A, A, *others(47), A], [49]),
        (3, [A, A, *others(48), A], [50]),
        (3, [A, A, *others(49), A], []),
        (2, [A, *others(49), A], [50]),
        (2, [A, *others(50), A], []),
        (3, [A, A, *[B] * 60, A], [*range(4, 62)]),  # hits that are written are remembered too
        (50, [A] * 52, [49, 50, 51]),
        (50, [*[A] * 10, B, *[A] * 42], [50, 51, 52]),
    ],
)
def test_alarms_as_portsentry_gave_them(trigger: int, hits: list[bytes], expected: list[int]) -> None:
    """Each of these was run with the real program."""
    assert expected == alarms(trigger, hits)


@given(st.integers(0, 50), st.lists(st.integers(0, 4), max_size=200))
def test_it_is_the_count_among_the_last_fifty(trigger: int, hosts: list[int]) -> None:
    """By definition; an address of the other version is another host."""
    hits = [bytes([host]) * (16 if host % 2 else 4) for host in hosts]
    expected = [
        number
        for number, source in enumerate(hits)
        if hits[max(0, number - RING) : number].count(source) + 1 >= trigger
    ]
    assert expected == alarms(trigger, hits)
