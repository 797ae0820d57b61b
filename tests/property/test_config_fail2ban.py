"""Whatever stands in Fail2ban's files or in a line: a value or faults come of it, never an exception."""

import contextlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.config.fail2ban.jail_settings import load_fail2ban_settings, spell_reference
from correlator.config.fail2ban.references import (
    BadReferenceError,
    Reference,
    parse_reference,
    split_references,
)
from correlator.config.fail2ban.times import parse_time
from correlator.config.filter_references import open_filter
from correlator.lines.date_patterns import DatePatternError, expand_patterns
from correlator.lines.dates import DateReader
from correlator.lines.expressions import TimeLimit
from correlator.matching.whole_line_filters import run_filter
from correlator.model import SECOND

NOW = 1_795_435_200 * SECOND
SECTIONS = ("[Definition]\n", "[Init]\n", "[INCLUDES]\n", "[DEFAULT]\n", "[Init?family=inet6]\n")
OPTIONS = ("failregex = ", "a = ", "before = x.conf\n", "maxlines = 2\n", "datepattern = ", "mode: ")
REFERENCES = ("%(a)s", "%(known/a)s", "%(x/a)s", "%", "%%", "<a>", "<b-<a>>", "<x/a>")
TAGS = ("<HOST>", "<F-USER>", "</F-USER>", "(", ")", "(?i)", "{^LN-BEG}", "{DATE}", "%%Y-%%m", "EPOCH")
REST = ("\\", "\n", "\n ", " ; c", "#", "\x00", "é", "\ud800", "[", "]", "=", "a", " ", ":")
PIECES = st.sampled_from([*SECTIONS, *OPTIONS, *REFERENCES, *TAGS, *REST])
TEXT = st.lists(PIECES, max_size=30).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXT, TEXT)
def test_any_filter_file_is_read_or_says_why_not(text, local):
    """And one that is read runs."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("x.conf", text), ("x.local", local)):
            (Path(folder) / name).write_bytes(content.encode("utf-8", "surrogatepass"))
        definition, faults = open_filter(f"{folder}/x.conf")
        assert (definition is None) is bool(faults)
        if definition is not None:
            run_filter(definition).find("Nov 20 10:00:00 a from 192.0.2.1", NOW)


@settings(max_examples=60, deadline=None)
@given(TEXT)
def test_any_jail_file_gives_jails_or_says_why_not(text):
    """A jail is ours, disabled, said to be lost, or at fault."""
    with tempfile.TemporaryDirectory() as folder:
        data = ("[DEFAULT]\nenabled = true\n[j]\n" + text).encode("utf-8", "surrogatepass")
        (Path(folder) / "jail.conf").write_bytes(data)
        found, gaps, disabled = load_fail2ban_settings(Path(folder))
        assert found.jails or found.faults or gaps or disabled


@given(TEXT)
def test_any_text_is_a_reference_or_refused(text):
    """Nothing else comes of it."""
    with contextlib.suppress(BadReferenceError):
        assert all(reference.name for reference in split_references(text))


NAME = st.text("abcXYZ09_.-/", min_size=1, max_size=9)
VALUE = (
    st.text("ab ,]['=\"<>%é\n", max_size=9).map(str.strip).filter(lambda text: not {"'", '"'} <= set(text))
)


@given(NAME, st.dictionaries(st.text("ab_-9", min_size=1, max_size=5), VALUE, max_size=3))
def test_what_is_written_of_a_reference_is_what_is_read(name, parameters):
    """Whatever one kind of quotes can hold."""
    reference = Reference(name, parameters)
    assert parse_reference(spell_reference(reference)) == reference


@given(st.text(max_size=12))
def test_any_text_is_a_length_of_time_or_none(text):
    """Of whole microseconds."""
    assert isinstance(parse_time(text), int | None)


NUMBERS = (" 31", "20", "10", "2026", "9" * 13, "+9959", "@4" + "0" * 23, "12:61:61", "99", "٣")
WORDS = ("Nov", "CEST", "AM", "feb 30 ", "Z", "T", "audit(", "é")
DATE = st.sampled_from([*NUMBERS, *WORDS, *":-/.[]\n\x00"])


@settings(deadline=None)
@given(st.lists(DATE, max_size=14).map("".join), st.integers(0, 1 << 42))
def test_any_line_has_a_date_inside_it_or_none(line, now):
    """What is cut out is a part of the line."""
    reader = DateReader(expand_patterns((), latest_year=2029), limit=TimeLimit(SECOND))
    stamp = reader.find(line, now)
    assert stamp is None or 0 <= stamp.start <= stamp.end <= len(line)


@given(TEXT)
def test_any_date_pattern_is_compiled_or_refused(text):
    """With its tokens and marks in any place."""
    with contextlib.suppress(DatePatternError):
        DateReader(expand_patterns(text.split("\n"), latest_year=2029), limit=TimeLimit(SECOND))
