"""The prefilter may pass too much, never too little."""

import regex
from hypothesis import given
from hypothesis import strategies as st

from correlator.prefilter import Prefilter, required_literal

WORDS = ["attackalert: ", "sshd", " from ", "Failed", "xyz", "é", "SRC="]
LINE = st.lists(st.sampled_from([*WORDS, "a", " ", "7"]), max_size=8).map("".join)
PIECE = st.sampled_from(
    [r"Failed", r"(?:sshd)", r"\d+", r".*", r"(?P<n>xyz)", r"(?: from )?", r"(?:SRC=|sshd)", r"(?i:failed)",
     r"[Ff]ailed", r"(?:xyz){2}", r"(?:xyz)*", r"^", r"(?=sshd)", r"é", r"(?>attackalert: )"]
)  # fmt: skip
PATTERN = st.lists(PIECE, min_size=1, max_size=5).map(
    lambda pieces: "".join(p.replace("?P<n>", f"?P<n{i}>") for i, p in enumerate(pieces))
)


@given(st.lists(LINE, max_size=6), st.lists(PATTERN, min_size=1, max_size=3))
def test_no_line_that_a_pattern_matches_is_lost(lines, patterns):
    """Whatever the patterns, every line that one of them matches is a candidate."""
    data = "".join(line + "\n" for line in lines).encode()
    found = {
        data[start:end].decode()
        for start, end in Prefilter(required_literal(pattern) for pattern in patterns).candidates(data)
    }
    wanted = {line for line in lines if any(regex.search(pattern, line) for pattern in patterns)}
    assert wanted <= found


@given(st.binary(max_size=400), st.lists(st.sampled_from(["abc", "", "b", "\n"]), max_size=3))
def test_candidates_are_whole_lines_in_order(data, literals):
    """What is handed out are lines of the chunk, once each, in their order, without line feeds."""
    data += b"\n"
    spans = list(Prefilter(literals).candidates(data))
    assert spans == sorted(set(spans))
    for start, end in spans:
        assert data[end : end + 1] == b"\n"
        assert start == 0 or data[start - 1 : start] == b"\n"


def test_the_longest_literal_is_chosen():
    """The rarest text is probably the longest."""
    assert required_literal(r"^attackalert: (?P<t>\S+) scan from host: (?P<s>\S+)$") == " scan from host: "


def test_case_insensitive_patterns_pass_all():
    """Bytes are searched as they stand, so such a pattern has no literal."""
    assert required_literal(r"(?i)failed") == ""
    assert required_literal(r"failed", ignores_case=True) == ""


def test_what_only_regex_understands_passes_all():
    """No literal is claimed for an expression that re cannot parse."""
    assert required_literal(r"(?|(a)|(b))attackalert") == ""
