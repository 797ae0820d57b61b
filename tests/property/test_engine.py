"""The core under whatever a stranger writes: three answers and nothing else, and what is written is read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.attackalert import format_ip_options, format_probe
from correlator.config.filters import load_filter
from correlator.counting.jails import Jail, JailDefinition
from correlator.engine import Engine, Step
from correlator.lines.syslog import format_instant
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter, Unreadable
from correlator.model import SECOND, Block, Chunk, Event, Repeat, parse_source
from correlator.probe.techniques import UDP_TECHNIQUE, name_technique

NOW = 1_795_357_762 * SECOND
LOG = "/log/alert.log"
HEADER = "2026-11-22T14:29:22.000000+00:00 vm portsentry[71]: "
DEFINITION, FAULTS = load_filter(Path(__file__).parents[2] / "filters/portsentry.toml", alert_log=Path(LOG))
TECHNIQUES = sorted({name for flags in range(256) if (name := name_technique(flags)) is not None})
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)
NAMES = st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=300)


def _engine(**settings):
    assert DEFINITION is not None
    jail = JailDefinition(name="scan", where="", filters=("portsentry",), is_blocking=True, **settings)
    return Engine(
        [Filter(DEFINITION)],
        [Jail(jail, max_sources=50)],
        routes={LOG: ["portsentry"]},
        ignored_by=lambda _source: None,
    )


def _blocks(step):
    return [decision for decision in step.decisions if isinstance(decision, Block)]


@given(st.sampled_from(TECHNIQUES), NAMES, ADDRESSES, PORTS)
def test_every_probe_line_that_we_write_is_read_back(technique, name, address, port):
    """Whatever the name is, address and port are ours and come back as they went in."""
    line = make_line(HEADER + format_probe(technique, name, address, "TCP", port), arrived=NOW)
    event = Filter(DEFINITION).read(line)
    assert isinstance(event, Event)
    assert (event.source, event.port, event.protocol) == (parse_source(address), port, "TCP")
    assert event.fields["technique"] == technique.strip().removesuffix(" scan")
    assert event.is_spoofable


@given(NAMES, ADDRESSES, PORTS)
def test_datagrams_and_connects_are_read_back(name, address, port):
    """A finished handshake proves its sender, a datagram does not."""
    answers = [
        Filter(DEFINITION).read(
            make_line(HEADER + format_probe(technique, name, address, protocol, port), arrived=NOW)
        )
        for technique, protocol in ((UDP_TECHNIQUE, "UDP"), ("Connect", "UDP"), ("Connect", "TCP"))
    ]
    assert [answer.source for answer in answers] == [parse_source(address)] * 3
    assert [answer.is_spoofable for answer in answers] == [True, True, False]


@given(NAMES, ADDRESSES, PORTS)
def test_the_line_about_ip_options_means_nothing(name, address, port):
    """It follows a probe that is counted already; its text chooses nobody."""
    line = make_line(HEADER + format_ip_options(name, address, "TCP", port), arrived=NOW)
    answer = Filter(DEFINITION).read(line)
    assert answer is None or isinstance(answer, Unreadable)


@given(st.lists(st.one_of(st.binary(max_size=200), ADDRESSES.map(str.encode)), max_size=8))
def test_any_bytes_are_taken(parts):
    """No bytes raise; what is decided is an address that stands in the chunk."""
    data = (
        b"\n".join(HEADER.encode() + b"attackalert: " + part for part in parts)
        + b"\n"
        + b"".join(parts)
        + b"\n"
    )
    step = _engine().feed(Chunk(LOG, 0, data, NOW))
    assert all(isinstance(decision, Block) for decision in step.decisions)


MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["cut", "double", "put"]), st.integers(0, 160), st.binary(max_size=6)),
    max_size=4,
)


@given(ADDRESSES, MUTATIONS)
def test_damaged_lines_never_name_somebody_else(address, mutations):
    """However a line is damaged, who is blocked is an address of digits that stands there, whole."""
    line = bytearray((HEADER + format_probe("TCP FIN scan", address, address, "TCP", 7)).encode())
    for kind, place, text in mutations:
        if kind == "cut":
            del line[place : place + 3]
        elif kind == "double":
            line[place:place] = line[place : place + 8]
        else:
            line[place:place] = text
    step = _engine().feed(Chunk(LOG, 0, bytes(line) + b"\n", NOW))
    for block in step.decisions:
        text = block.evidence[-1].line
        word = text[text.rindex("/") + 1 :].split(" ")[0]
        assert parse_source(word) == block.source


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 5000)), max_size=120))
def test_tables_stay_bounded_under_any_sources(strikes):
    """A flood of sources pushes the idlest out and is counted; memory does not grow with it."""
    engine = _engine(threshold=3)
    lines = "".join(f"{HEADER}{format_probe('TCP FIN scan', a, a, 'TCP', 7)}\n" for a, _ in strikes)
    engine.feed(Chunk(LOG, 0, lines.encode(), NOW))
    assert len(engine.jails["scan"].windows) <= 50


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40)), max_size=12), max_size=6),
    st.integers(1, 4),
    st.sampled_from([{}, {"escalate": (SECOND, 20 * SECOND)}, {"spoofable_a_minute": 1}]),
    st.sampled_from(["TCP FIN scan", "Connect"]),
)
def test_a_restart_between_any_two_chunks_changes_nothing(chunks, threshold, settings, technique):
    """What a step says has to be kept is enough, and in the order of their times."""
    settings = {"threshold": threshold, "span": 15 * SECOND, "block_for": 9 * SECOND, **settings}
    settings |= {"spoofable_block_for": 9 * SECOND}
    engine = _engine(**settings)
    kept, repeats = Step(), {}
    at = NOW - 400 * SECOND
    for chunk in chunks:
        lines = ""
        for host, later in chunk:
            at += later * SECOND // 4
            address = f"192.0.2.{host}"
            lines += f"{format_instant(at)} vm portsentry[1]: "
            lines += format_probe(technique, address, address, "TCP", 7) + "\n"
        arrived = Chunk(LOG, 0, lines.encode(), NOW, is_live=False)
        restarted = _engine(**settings)
        restarted.restore(
            sorted(kept.strikes, key=lambda strike: strike.at),
            _blocks(kept),
            repeats=repeats.values(),
        )
        step = engine.feed(arrived)
        assert _blocks(restarted.feed(arrived)) == _blocks(step)
        kept.add(step)
        for block in _blocks(step):
            if block.step:
                repeats.pop(block.key, None)
                repeats[block.key] = Repeat(block.jail, block.key, block.step, block.until)


def test_the_shipped_filter_is_sound():
    """The tests above mean something."""
    assert FAULTS == []
    assert len(TECHNIQUES) == 15


@pytest.mark.parametrize("text", ["999.1.1.1", "1.2.3", "", "::ffff:1.2.3.4%1"])
def test_what_is_no_address_is_unreadable(text):
    """It is ours, and it is said; nobody is blocked for it."""
    line = make_line(f"{HEADER}attackalert: TCP FIN scan from host: a/{text} to TCP port: 7", arrived=NOW)
    assert isinstance(Filter(DEFINITION).read(line), Unreadable)
