"""Whom the enforcer never blocks, and that it says why."""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.enforcer.never_block import FRESH, NeverBlock
from correlator.errors import KernelError
from correlator.model import parse_prefix
from correlator.settings import EnforcerSettings, Paths

NOW = 1_000_000_000


class Host:
    """A host whose addresses a test chooses."""

    def __init__(self) -> None:
        self.own = {"192.0.2.1", "2001:db8::1"}
        self.asked = 0
        self.is_broken = False

    def addresses(self) -> frozenset[bytes]:
        """Answer as the kernel does."""
        self.asked += 1
        if self.is_broken:
            raise KernelError("own addresses: the kernel refused: ENOBUFS")
        return frozenset(ipaddress.ip_address(text).packed for text in self.own)


@pytest.fixture
def host() -> Host:
    """A host."""
    return Host()


@pytest.fixture
def never(tmp_path: Path, host: Host) -> NeverBlock:
    """A list with one entry of each kind."""
    settings = EnforcerSettings(
        paths=replace(Paths(), ignore=tmp_path / "ignore{d}"), never_block=(parse_prefix("203.0.113.0/24"),)
    )
    return NeverBlock(
        settings,
        own=host.addresses,
        routers=packed("192.0.2.254"),
        name_servers=packed("198.51.100.53"),
    )


def packed(text: str) -> Callable[[], frozenset[bytes]]:
    """Return a function that answers with one address."""
    return lambda: frozenset({ipaddress.ip_address(text).packed})


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("127.0.0.9", "127.0.0.9 is a loopback address"),
        ("::1", "::1 is the loopback address"),
        ("0.0.0.0", "0.0.0.0 is an unspecified address"),
        ("::", ":: is the unspecified address"),
        ("224.0.0.1", "224.0.0.1 is a multicast address"),
        ("ff02::1", "ff02::1 is a multicast address"),
        ("255.255.255.255", "255.255.255.255 is the broadcast address"),
        ("192.0.2.1", "192.0.2.1 is this host's own address"),
        ("::ffff:192.0.2.1", "192.0.2.1 is this host's own address"),
        ("2001:db8::1", "2001:db8::1 is this host's own address"),
        ("192.0.2.254", "192.0.2.254 is a gateway of this host"),
        ("198.51.100.53", "198.51.100.53 is a resolver of this host"),
        ("203.0.113.9", "203.0.113.9 is covered by 203.0.113.0/24 of never_block in the settings"),
        ("192.0.2.0/24", "192.0.2.0/24 would cover 192.0.2.1: 192.0.2.1 is this host's own address"),
        ("192.0.2.9", None),
        ("2001:db8::2", None),
        ("198.51.0.0/18", None),
    ],
)
def test_find(never: NeverBlock, source: str, why: str | None) -> None:
    """The answer names the entry; a prefix around a protected address is refused as well."""
    assert never.find(parse_prefix(source), NOW) == why


def test_the_ignore_file_is_read_again_when_it_changes(never: NeverBlock, tmp_path: Path) -> None:
    """An edit counts with the next block, without a restart; a file that goes counts no longer."""
    path = tmp_path / "ignore{d}"
    source = parse_prefix("192.0.2.9")
    assert never.find(source, NOW) is None
    path.write_text("192.0.2.8/29 # ours\nhost.example.net\n")
    assert never.find(source, NOW) == f"192.0.2.9 is covered by 192.0.2.8/29 in {path}"
    assert [str(fault).partition(": got")[0] for fault in never.faults] == [f"{path}:2: entry"]
    path.unlink()
    assert never.find(source, NOW) is None
    assert never.faults == ()


def test_an_ignore_file_that_cannot_be_read_keeps_what_was_read(never: NeverBlock, tmp_path: Path) -> None:
    """A mistake with permissions must not suddenly block whom the administrator protects."""
    path = tmp_path / "ignore{d}"
    path.write_text("192.0.2.9\n")
    assert never.find(parse_prefix("192.0.2.9"), NOW) is not None
    path.unlink()
    path.mkdir()
    assert never.find(parse_prefix("192.0.2.9"), NOW) is not None
    assert [fault.key for fault in never.faults] == ["file"]


def test_the_host_is_asked_again_after_some_seconds(never: NeverBlock, host: Host) -> None:
    """A flood of requests asks once; an address that came since is protected soon."""
    source = parse_prefix("192.0.2.77")
    assert never.find(source, NOW) is None
    assert never.find(source, NOW + FRESH) is None
    assert host.asked == 1
    host.own.add("192.0.2.77")
    assert never.find(source, NOW + FRESH + 1) == "192.0.2.77 is this host's own address"
    assert host.asked == 2


def test_a_clock_that_is_set_back_asks_again(never: NeverBlock, host: Host) -> None:
    """Otherwise nothing would be asked until the old time is reached again."""
    never.refresh(NOW)
    never.refresh(NOW - 3600 * FRESH)
    assert host.asked == 2


def test_a_host_that_does_not_answer_keeps_what_was_known(never: NeverBlock, host: Host) -> None:
    """To forget our own address for a moment could lock everybody out."""
    never.refresh(NOW)
    host.is_broken = True
    assert never.find(parse_prefix("192.0.2.1"), NOW + FRESH + 1) == "192.0.2.1 is this host's own address"
    assert [fault.where for fault in never.faults] == ["this host"]
    host.is_broken = False
    never.refresh(NOW + 3 * FRESH)
    assert never.faults == ()


def test_generation_moves_only_with_the_entries(never: NeverBlock, host: Host, tmp_path: Path) -> None:
    """It tells when blocks in force must be looked at again."""
    never.refresh(NOW)
    before = never.generation
    never.refresh(NOW + 2 * FRESH)
    assert never.generation == before
    host.own.add("192.0.2.77")
    never.refresh(NOW + 4 * FRESH)
    assert never.generation == before + 1
    path = tmp_path / "ignore{d}"
    path.write_text("192.0.2.9")
    os.utime(path, ns=(1, 1))
    never.refresh(NOW + 4 * FRESH)
    assert never.generation == before + 2
