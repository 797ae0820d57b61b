"""Which journal entries a filter reads, and that nobody else can be taken for the kernel."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.config.filters import load_filter
from correlator.counting.jails import Jail, JailDefinition
from correlator.engine import Engine
from correlator.errors import JournalMatchError
from correlator.lines import journal_match
from correlator.lines.journal_match import parse_journal_match
from correlator.matching.filters import Filter
from correlator.model import JOURNAL, SECOND, Entries, Entry

NOW = 1_795_357_762 * SECOND
FORGED = {"_TRANSPORT": "syslog", "_UID": "65534"}
REAL = {"_TRANSPORT": "kernel"}
PACKET = "drop: IN=eth0 OUT= SRC=192.0.2.9 DST=192.0.2.1 PROTO=TCP SPT=4 DPT=23"
FILTER = """
identifiers = ["{identifier}"]
{journal}
[[pattern]]
name = "packet"
regex = '''^drop: IN=\\S+ OUT= .*SRC=(?P<source>\\S+) .*DPT=(?P<port>\\d+)$'''
[[test]]
line = "2026-11-22T14:29:22+00:00 vm {identifier}: drop: IN=a OUT= SRC=192.0.2.9 DPT=2"
expect = {{ source = "192.0.2.9" }}
"""


def _entry(fields, identifier="kernel", body=PACKET):
    return Entry(NOW, "vm", identifier, "", body, fields)


def _load(tmp_path, journal="", identifier="kernel"):
    path = tmp_path / "packets.toml"
    path.write_text(FILTER.format(journal=journal, identifier=identifier))
    return load_filter(path, alert_log=tmp_path / "alert.log")


def _engine(definition, **settings):
    return Engine(
        [Filter(definition)],
        [Jail(JailDefinition(name="scan", where="test", filters=("packets",)), max_sources=9)],
        routes={JOURNAL: ["packets"]},
        ignored_by=lambda _source: None,
        **settings,
    )


@given(st.text(alphabet="aZ_=./@: -\t\n\v#'\"\\\\é", max_size=12))
def test_words_are_parted_as_the_shell_does(text):
    """Text in which nothing is quoted takes a shorter way, to the same words."""
    try:
        expected = shlex.split(text)
    except ValueError:
        expected = None
    try:
        assert journal_match._words(text) == expected
    except JournalMatchError:
        assert expected is None


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("_TRANSPORT=kernel", {"_TRANSPORT": "kernel"}, True),
        ("_TRANSPORT=kernel", {"_TRANSPORT": "syslog"}, False),
        ("_TRANSPORT=kernel", {}, False),
        ("_UID=0 _COMM=sshd", {"_UID": "0", "_COMM": "sshd"}, True),
        ("_UID=0 _COMM=sshd", {"_UID": "0", "_COMM": "cron"}, False),
        ("_SYSTEMD_UNIT=a.service _SYSTEMD_UNIT=b.service", {"_SYSTEMD_UNIT": "b.service"}, True),
        ("'_CMDLINE=/bin/x -a=b c'", {"_CMDLINE": "/bin/x -a=b c"}, True),
    ],
)
def test_a_match_means_what_journalctl_means_by_it(text, fields, expected):
    """Terms of different fields must all hold, of one field any; a field not there has no value."""
    assert parse_journal_match(text).accepts(fields) is expected


@pytest.mark.parametrize(
    "text", ["", "_TRANSPORT", "transport=kernel", "=x", "_UID=", "_UID=0 + _UID=1", "'_A=b"]
)
def test_what_is_no_condition_is_refused(text):
    """A slip of the pen must not become a condition that always or never holds."""
    with pytest.raises(JournalMatchError):
        parse_journal_match(text)


def test_a_bad_condition_is_a_fault_of_the_filter(tmp_path):
    """It names the file, the line, what it got and what it expected."""
    definition, faults = _load(tmp_path, 'journal = ["transport=kernel"]')
    assert definition is None
    assert len(faults) == 1
    assert str(faults[0]) == (
        f"{tmp_path}/packets.toml:3: journal: got no condition: 'transport=kernel', expected FIELD=value,"
        " such as _TRANSPORT=kernel; several in one text must all hold"
    )


@pytest.mark.parametrize("journal", ["", 'journal = ["_TRANSPORT=kernel"]', 'journal = ["_UID=65534"]'])
def test_a_forged_kernel_line_never_counts(tmp_path, journal):
    """`logger -t kernel` writes what a packet log writes; only journald's own fields tell them apart."""
    definition, _faults = _load(tmp_path, journal)
    assert not Filter(definition).takes(_entry(FORGED))


def test_the_kernels_line_counts(tmp_path):
    """A packet log in the journal, read into its event, decided on, and shown as a line with its time."""
    definition, _faults = _load(tmp_path)
    engine = _engine(definition)
    entries = (_entry(FORGED), _entry(REAL))
    (block,) = engine.feed(Entries(JOURNAL, entries, NOW)).decisions
    assert (str(block.source), block.port, block.at) == ("192.0.2.9", 23, NOW)
    (evidence,) = block.evidence
    assert (evidence.origin, evidence.offset) == (JOURNAL, NOW)
    assert evidence.line == f"2026-11-22T14:29:22.000000+00:00 vm kernel: {PACKET}"
    counters = engine.origins[JOURNAL]
    assert (counters.lines, counters.candidates, counters.events) == (2, 1, 1)


def test_other_conditions_than_the_kernels(tmp_path):
    """Without `journal` the identifier is enough, an empty list reads nothing, else one item must hold."""
    identity = {"_SYSTEMD_UNIT": "fw.service"}
    for journal, expected in (
        ("", True),
        ("journal = []", False),
        ('journal = ["_UID=0", "_SYSTEMD_UNIT=fw.service"]', True),
        ('journal = ["_UID=0"]', False),
    ):
        definition, _faults = _load(tmp_path, journal, identifier="fw")
        assert Filter(definition).takes(_entry(identity, "fw")) is expected
        assert not Filter(definition).takes(_entry(identity, "other"))


@pytest.mark.parametrize(
    ("uid", "transport", "is_read"),
    [("0", "syslog", True), ("0", "stdout", False), ("1000", "syslog", False)],
)
def test_sshd_is_root_and_speaks_through_syslog(uid, transport, is_read):
    """What `sshd -e` prints has strangers' line feeds in it, and systemd makes entries of such lines."""
    definition, _faults = load_filter(Path(__file__).parents[2] / "filters/sshd.toml")
    body = "Failed password for root from 192.0.2.1 port 5 ssh2"
    entry = Entry(NOW, "vm", "sshd", "7", body, {"_UID": uid, "_TRANSPORT": transport})
    assert Filter(definition).takes(entry) is is_read


def test_a_message_over_the_bound_is_counted_and_shown(tmp_path):
    """A message of any length costs a look, and what it says in its first words is kept."""
    definition, _faults = _load(tmp_path)
    engine = _engine(definition, max_line=300)
    step = engine.feed(Entries(JOURNAL, (_entry(REAL, body="x" * 301),), NOW))
    assert step.decisions == []
    assert engine.origins[JOURNAL].cut == 1
    assert [item.evidence.line for item in engine.unreadable] == ["x" * 200]


def test_entries_that_lie_back_keep_their_time(tmp_path):
    """What was written while we were stopped happened then; live, a clock that was set is not believed."""
    definition, _faults = _load(tmp_path)
    late = NOW + 600 * SECOND
    (block,) = _engine(definition).feed(Entries(JOURNAL, (_entry(REAL),), late, is_live=False)).decisions
    assert block.at == NOW
    (block,) = _engine(definition).feed(Entries(JOURNAL, (_entry(REAL),), late)).decisions
    assert block.at == late
