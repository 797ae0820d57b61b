"""A port is in use while a service was seen on it, and for the linger after that."""

import socket

import pytest

from correlator.model import SECOND
from correlator.probe.ports import PortsInUse, is_reachable, list_ranges, mark_ranges


def test_a_port_stays_in_use_for_exactly_the_linger() -> None:
    """Services restart; exactly `linger` old is out."""
    ports = PortsInUse(5 * SECOND)
    ports.note({22, 80}, 0)
    ports.note({80}, SECOND)
    ports.forget(5 * SECOND - 1)
    assert ports.numbers() == [22, 80]
    ports.forget(5 * SECOND)
    assert ports.numbers() == [80]
    assert (ports.flags[22], ports.flags[80]) == (0, 1)
    ports.forget(6 * SECOND)
    assert bytes(65536) == bytes(ports.flags)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0.0.0.0", True),
        ("192.0.2.1", True),
        ("127.0.0.1", False),
        ("127.0.0.53", False),
        ("::", True),
        ("::1", False),
        ("2001:db8::1", True),
        ("::ffff:127.0.0.1", False),
        ("::ffff:192.0.2.1", True),
    ],
)
def test_a_loopback_listener_does_not_blind_its_port(address: str, expected: bool) -> None:
    """Nobody outside can reach it, so a probe from outside to its port is a probe."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    assert expected == is_reachable(socket.inet_pton(family, address))


def test_a_port_that_is_passed_on_stays_so_for_a_day() -> None:
    """Nobody listens who could be seen; what is seen of a service meanwhile shortens nothing."""
    ports = PortsInUse(5 * SECOND)
    ports.note_passed_on(443, 0)
    ports.note((443,), 10 * SECOND)
    ports.forget(86_400 * SECOND - 1)
    assert ports.numbers() == [443]
    ports.forget(86_400 * SECOND)
    assert ports.numbers() == []


def test_ranges_are_inclusive_and_exclusions_win() -> None:
    """The edges of ports included."""
    watched = mark_ranges(((0, 2), (100, 100), (65535, 65535)), {1})
    assert [port for port in range(65536) if watched[port]] == [0, 2, 100, 65535]
    assert len(watched) == 65536
    assert list_ranges(watched, 9) == ((0, 0), (2, 2), (100, 100), (65535, 65535))


def test_too_many_ranges_are_joined_where_they_are_nearest() -> None:
    """The kernel filter compares only so many; what it passes too much, Python drops."""
    watched = mark_ranges(((10, 12), (14, 14), (100, 110), (120, 120), (9000, 9000)), ())
    assert list_ranges(watched, 4) == ((10, 14), (100, 110), (120, 120), (9000, 9000))
    assert list_ranges(watched, 2) == ((10, 120), (9000, 9000))
    assert list_ranges(watched, 1) == ((10, 9000),)
    assert list_ranges(bytes(65536), 1) == ()


def test_a_port_once_used_is_remembered_for_good() -> None:
    """Long after the linger: whoever talked to it may not know that it is gone."""
    ports = PortsInUse(SECOND)
    ports.note({22}, 0)
    ports.mark_used({700})
    ports.forget(SECOND)
    assert (ports.numbers(), [port for port in range(65536) if ports.ever[port]]) == ([], [22, 700])
