"""What is told of how a body begins holds for everything that an expression matches."""

import re

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from correlator.matching.openings import as_bytes, as_expression, openings_of

TAKEN = {
    r"\w": "aZ9_éß𝔸٣", r"\W": " :.", r"\s": " \t\r\u00a0\u2003", r"\S": "a:é\x7f\udcff", r"\d": "09٣",
    r"\D": "a é", r".": "a é\t\udcff", r"[a-z]": "az", r"[^a:]": "bZ é\udcff", r"[\w.-]": "a.-é",
    r"[^\s:]": "a.é\x7f", r"[aA]": "aA", r"[é-ü]": "éü", r"[^é]": "aß\udcff", r"[\x00-\x1f]": "\t\r\x1c\x1f",
    r"a": "a", r"é": "é", r"\udcff": "\udcff", r"[\W_]": "_ .",
}  # fmt: skip
"""Expressions of one character, each with some that it takes."""
TIMES = {"": (1, 1), "?": (0, 1), "+": (1, 5), "*": (0, 5), "{2}": (2, 2), "{0,3}": (0, 3), "{1,4}": (1, 4),
         "+?": (1, 5), "{0}": (0, 0), "{3,}": (3, 6)}  # fmt: skip
BODY = st.text(st.sampled_from("".join(TAKEN.values())), max_size=10)


@st.composite
def _item(draw):
    """Return an expression of some characters of a class, and such characters."""
    one, times = draw(st.sampled_from([*TAKEN])), draw(st.sampled_from([*TIMES]))
    fewest, most = TIMES[times]
    return one + times, draw(st.text(st.sampled_from(TAKEN[one]), min_size=fewest, max_size=most))


@st.composite
def _group(draw):
    """Return a group of such, and what it takes."""
    inside = draw(st.lists(_item(), max_size=3))
    other = draw(_item())
    expression, text = ("".join(parts) for parts in zip(("", ""), *inside, strict=True))
    return draw(
        st.sampled_from(
            [(f"(?:{expression})", text), (f"({expression})?", text), (f"(?:{expression})?", ""),
             (f"(?:{expression}|{other[0]})", text), (f"(?:{expression}|{other[0]})", other[1]),
             (f"(?:{expression}|)", ""), (f"(?>{expression})", text), (f"(?i:{expression})", text.swapcase()),
             (f"(?={expression})", ""), (f"(?!{expression})", ""), (f"(?:{expression}){{2}}", text * 2),
             (f"(?:{expression}){{0}}", ""), (f"(?:(?:{expression}))", text), (r"\b", ""), ("$", "")]
        )
    )  # fmt: skip


@st.composite
def _pattern_and_text(draw):
    """Return an expression, and text that it matches, unless what stands ahead or behind forbids it."""
    anchor = draw(st.sampled_from(["^", "^", r"\A", "(?:^)", "(?:^|^a)", ""]))
    parts = draw(st.lists(_item() | _item() | _group(), max_size=6))
    return anchor + "".join(part for part, _text in parts), "".join(text for _part, text in parts)


def _begins(opening, body):
    return re.match(as_expression(opening), as_bytes(body)) is not None


@given(_pattern_and_text(), st.lists(BODY, max_size=5))
def test_what_matches_begins_with_one_of_the_openings(written, others):
    """In whatever letters, bytes that are no UTF-8 among them."""
    pattern, text = written
    openings = openings_of(pattern)
    for body in (text, text + "x", *others):
        if openings and regex.search(pattern, body):
            assert any(_begins(opening, body) for opening in openings)


@given(_pattern_and_text(), st.lists(BODY, max_size=5))
@example(written=(r"^(?:\W*[a-z]{0})", ":"), others=[])
def test_there_is_one_way_to_take_an_opening(written, others):
    """Else what stands behind it would be looked for once for each way, through a line of any length."""
    pattern, text = written
    for opening in openings_of(pattern):
        for body in map(as_bytes, (text, text + "aaaa  ", *others)):
            ends = [end for end in range(len(body) + 1) if re.fullmatch(as_expression(opening), body[:end])]
            assert len(ends) <= 1


SUDO = r"^ {0,8}(?P<account>[\w.-]{1,64}) : (?P<count>\d{1,4}) incorrect password attempts? ; (?!x)"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "pam_unix(sudo:session): session closed for user root",
        "ops : TTY=pts/0 ; incorrect password attempt",
        " : 3 ",
    ],
)
def test_a_body_that_begins_otherwise_is_ruled_out(body):
    """Else it would be searched for the text in vain."""
    assert openings_of(SUDO)
    assert not any(_begins(opening, body) for opening in openings_of(SUDO))


def test_openings_go_on_behind_what_is_not_fixed():
    """Up to where an item is not simple, or enough is told; each way in which it may begin by itself."""
    found = {as_expression(opening) for opening in openings_of(r"^(?:error: )?x[0-9]{1,3} y(?:.*)z")}
    assert found == {rb"x[\x30-\x39]{1,3}\ y", rb"error:\ x"}


@pytest.mark.parametrize(
    "pattern", ["a", "(?i)^a", "^", "^.*a", r"^(?|(a)|(b))", "^(?:a|.*b)", r"(?:^a|b)", "^(?:|a)"]
)
def test_where_anything_may_come_first_nothing_is_told(pattern):
    """Then a body may begin with anything."""
    assert openings_of(pattern) == frozenset()
