"""Packed strikes come back as they were, and the book of their lines stays within its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.counting.evidence import EvidenceBook, StrikePacker
from correlator.counting.spans import Row
from correlator.model import Evidence, Strike, parse_source

SOURCES = st.one_of(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda address: parse_source(str(address))),
    st.builds(
        lambda address, length: parse_source(str(address)).prefix(length),
        st.ip_addresses(),
        st.integers(0, 128),
    ),
)
WORDS = st.one_of(st.none(), st.text(max_size=5))


def _strike(source, key, *, at=7, port=22, protocol="TCP", is_spoofable=True, pattern="scan", line="a line"):
    return Strike(
        jail="j",
        key=key,
        source=source,
        at=at,
        weight=1,
        value="",
        is_spoofable=is_spoofable,
        port=port,
        protocol=protocol,
        evidence=Evidence(at, "/log", 0, line),
        filter="f",
        pattern=pattern,
    )


@given(
    SOURCES,
    st.tuples(st.integers(0, 32), st.integers(0, 128)),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "port": st.one_of(st.none(), st.integers(0, 65535)),
            "protocol": WORDS,
            "is_spoofable": st.booleans(),
            "pattern": st.text(max_size=5),
        }
    ),
)
def test_a_packed_strike_comes_back(source, prefixes, is_keyed, told):
    """Whatever prefix it is counted by, and whether or not its key tells its address."""
    key = str(source.prefix(prefixes[source.version == 6])) if is_keyed else "root/64"
    book = EvidenceBook()
    packer = StrikePacker(book, is_keyed_by_source=is_keyed)
    strike = _strike(source, key, **told)
    item = packer.pack(strike)
    struck = packer.unpack(key, Row(7, 5, 0, item), 5)
    assert struck[:7] == (7, 5, source, *told.values())
    assert book.find(struck.number, 7) is strike.evidence
    assert len(item) <= 25


@given(st.lists(st.text(max_size=30), max_size=60), st.integers(1, 9), st.integers(1, 60))
def test_the_book_keeps_the_newest_lines_within_its_bounds(lines, most_lines, most_characters):
    """What is found is the line of that number; what is not has left for want of room."""
    book = EvidenceBook(most_lines=most_lines, most_characters=most_characters)
    numbers = {}
    for at, line in enumerate(lines):
        evidence = Evidence(at, "/log", at, line)
        numbers[book.keep(evidence)] = evidence
    found = [evidence for number, evidence in numbers.items() if book.find(number, evidence.at) is evidence]
    assert len(found) == len(book) <= most_lines
    assert sum(len(evidence.line) for evidence in found) <= most_characters
    assert found == list(numbers.values())[len(lines) - len(found) :]
    longer = list(numbers.values())[len(lines) - len(found) - 1 :] if len(found) < len(lines) else None
    if longer is not None:
        is_over = sum(len(evidence.line) for evidence in longer) > most_characters
        assert is_over or len(longer) > most_lines


def test_a_line_that_several_jails_count_is_kept_once():
    """One event, one line, one number."""
    book = EvidenceBook()
    evidence = Evidence(1, "/log", 0, "x")
    assert (book.keep(evidence), book.keep(evidence), len(book)) == (0, 0, 1)
    other = Evidence(1, "/log", 0, "x")
    assert (book.keep(other), book.keep(other)) == (1, 1)
    assert book.find(book.next_number, 1) is None


def test_numbers_go_round():
    """After 2**32 lines they begin anew: what has left is not taken for what is there."""
    book = EvidenceBook(most_lines=3)
    book._first = 2**32 - 2
    numbers = [book.keep(Evidence(at, "/log", at, "x")) for at in range(4)]
    assert numbers == [2**32 - 2, 2**32 - 1, 0, 1]
    assert [book.find(number, at) is not None for at, number in enumerate(numbers)] == [
        False,
        True,
        True,
        True,
    ]
    assert book.find(numbers[3], 99) is None
    assert [book.is_before(number, 0) for number in numbers] == [True, True, False, False]


def test_words_that_strangers_choose_fill_no_table(monkeypatch):
    """A pattern may take any word for a protocol; past the bound it is no longer told apart."""
    monkeypatch.setattr("correlator.counting.evidence._MOST_KINDS", 3)
    packer = StrikePacker(EvidenceBook(), is_keyed_by_source=True)
    source = parse_source("192.0.2.9")
    items = [packer.pack(_strike(source, "192.0.2.9", protocol=f"P{n}")) for n in range(50)]
    protocols = [packer.unpack("192.0.2.9", Row(7, 1, 0, item), 1).protocol for item in items]
    assert protocols == ["P0", "P1", "P2", *[None] * 47]
    assert len(packer._known) == 4


@pytest.mark.parametrize(
    ("source", "key", "length"),
    [
        ("192.0.2.9", "192.0.2.9", 8),
        ("192.0.2.9", "192.0.2.0/24", 13),
        ("2001:db8::9", "2001:db8::/64", 17),
        ("2001:db8::9", "2001:db8::/63", 25),
    ],
)
def test_a_strike_costs_few_bytes(source, key, length):
    """What the key tells is not kept again: a million sources are to fit."""
    packer = StrikePacker(EvidenceBook(), is_keyed_by_source=True)
    assert len(packer.pack(_strike(parse_source(source), key))) == length
