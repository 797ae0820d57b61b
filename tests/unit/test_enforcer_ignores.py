"""Ignore files in PortSentry's syntax."""

import pytest

from correlator.ignores import IgnoreList, parse_ignore_file
from correlator.model import parse_prefix


def read(text: str) -> tuple[list[str], list[str]]:
    """Return the entries and the faults of a text, both as text."""
    entries, faults = parse_ignore_file(text, "ignore")
    return [str(source) for source, _ in entries], [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("192.0.2.2", "192.0.2.2"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("192.0.2.2 # text", "192.0.2.2"),
        ("192.0.2.2#text", "192.0.2.2"),
        ("192.0.2.2\r", "192.0.2.2"),
        ("\t 192.0.2.2", "192.0.2.2"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.2", "192.0.2.2"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("\ufeff192.0.2.2", "192.0.2.2"),
    ],
)
def test_lines_that_are_entries(line: str, entry: str) -> None:
    """What PortSentry takes is taken, and what it silently drops but clearly means as well."""
    assert read(line) == ([entry], [])
    assert read(f"{line}\n# comment\n\n") == ([entry], [])


@pytest.mark.parametrize(
    "line", ["host.example.net", "192.0.2.0/33", "192.0.2.0/", "192.0.2", "fe80::1%eth0", "1"]
)
def test_lines_that_are_faults(line: str) -> None:
    """A bad line is told with its number and never stops the next one."""
    entries, faults = read(f"{line}\n192.0.2.9")
    assert entries == ["192.0.2.9"]
    assert faults == [f"ignore:1: entry: got {line!r}, expected an IPv4 or IPv6 address or prefix"]


def test_of_two_entries_on_a_line_the_first_counts() -> None:
    """As with PortSentry; unlike there, it is said."""
    entries, faults = read("192.0.2.2 192.0.2.3")
    assert entries == ["192.0.2.2"]
    assert faults == [
        "ignore:1: entry: got '192.0.2.3' after 192.0.2.2, expected one entry a line, then `#` text"
    ]


def test_find_names_the_narrowest_entry() -> None:
    """The entry that is told is the one a person would look for."""
    entries, _ = parse_ignore_file("192.0.0.0/8\n192.0.2.7/24\n2001:db8::/32\n", "ignore")
    assert entries.find(parse_prefix("192.0.2.9")) == "192.0.2.7/24"
    assert entries.find(parse_prefix("192.9.2.9")) == "192.0.0.0/8"
    assert entries.find(parse_prefix("192.0.2.0/25")) == "192.0.2.7/24"
    assert entries.find(parse_prefix("192.0.0.0/7")) is None
    assert entries.find(parse_prefix("2001:db8:ffff::1")) == "2001:db8::/32"
    assert entries.find(parse_prefix("2001:db9::1")) is None


def test_find_within_tells_what_a_prefix_would_cover() -> None:
    """A prefix around an ignored address is as bad as the address itself."""
    entries, _ = parse_ignore_file("192.0.2.9\n", "ignore")
    assert entries.find_within(parse_prefix("192.0.2.0/24")) == (parse_prefix("192.0.2.9"), "192.0.2.9")
    assert entries.find_within(parse_prefix("192.0.3.0/24")) is None
    assert entries.find_within(parse_prefix("192.0.2.9")) is None
    assert IgnoreList().find_within(parse_prefix("192.0.2.0/24")) is None
