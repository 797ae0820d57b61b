"""Headers and stamps: any text has a header, and remembering hours changes no instant."""

from hypothesis import example, given
from hypothesis import strategies as st

from correlator.lines.layout_definition import Layout
from correlator.lines.layouts import read_line
from correlator.lines.syslog import StampReader, parse_header, read_stamp, repeats_of_last
from correlator.model import SECOND

DAY = 86_400 * SECOND
NOW = 1_795_357_762 * SECOND
MONTHS = ["Jan", "Feb", "Mar", "Oct", "Nov", "Dec", "Foo"]
TRADITIONAL = st.builds(
    "{} {:2} {:02}:{:02}:{:02}".format,
    st.sampled_from(MONTHS),
    st.integers(0, 32),
    st.integers(0, 25),
    st.integers(0, 61),
    st.integers(0, 61),
)
STAMP = TRADITIONAL | st.sampled_from(
    [
        "2026-11-22T14:29:22.5+01:00",
        "2026-11-22T14:29:22",
        "2026-13-22T14:29:22Z",
        "1795357762",
        "",
        "Nov 22 14:2x:22",
    ]
)
ARRIVED = st.integers(0, 800).map(lambda days: NOW + (days - 400) * DAY)
PIECES = st.lists(
    st.sampled_from(
        ["Nov 22 14:29:22 ", "2026-11-22T14:29:22Z ", "2026/11/22 14:29:22 ", "vm ", "sshd[7]: ", "sshd: ",
         "<29>", "1 ", "- ", "[", "]", "{", "message repeated 3 times: [ ", "last message repeated 2 times",
         "\x00", "'",
         '"a": ', "é", "\udcff", "Last message '", "' repeated 3 times, suppressed by syslog-ng on vm"]
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(st.lists(st.tuples(STAMP, ARRIVED), max_size=12))
@example(
    [("Nov 22 14:29:22", NOW), ("Nov 22 14:59:59", NOW - 400 * DAY), ("Nov 22 14:00:00", NOW + 364 * DAY)]
)
def test_a_reader_that_remembers_hours_reads_the_same(lines):
    """Whatever it has read before, and whenever the lines came."""
    reader = StampReader()
    for stamp, arrived in lines:
        assert reader.read(stamp, arrived) == read_stamp(stamp, arrived)


@given(st.text(max_size=200) | PIECES)
def test_any_text_has_a_header(text):
    """No text raises, the body is part of the line, and what is no program's has no program."""
    header = parse_header(text)
    assert header.body in text
    assert header.identifier in text
    assert header.repeats >= 1
    assert repeats_of_last(header, text) >= 0


@given(PIECES, st.sampled_from([Layout(is_json=True, time="a"), Layout(dates=("%d.%m.%Y", "EPOCH"))]))
def test_any_text_can_be_laid_out(text, layout):
    """A layout that does not fit leaves the header as it was."""
    reading = read_line(text, layout, arrived=NOW)
    assert reading.header.identifier == parse_header(text).identifier
    assert reading.record is None or reading.trouble == ""
