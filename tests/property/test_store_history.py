"""History lines: written is read, and any text is a line or None."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.model import SECOND, Source
from correlator.store.history import HistoryLine, format_history_line, parse_history_line

CALM = settings(deadline=None)  # a busy machine is no fault of the code

SINGLE = st.ip_addresses().map(lambda address: Source(ipaddress.ip_network(address)))
PREFIX = st.tuples(SINGLE, st.integers(8, 128)).map(lambda pair: pair[0].prefix(pair[1]))
NAME = st.from_regex(r"[A-Za-z0-9.-]{1,200}", fullmatch=True)


def is_mapped(source: Source) -> bool:
    """IPv4-mapped IPv6 never comes out of `parse_prefix`, so it is no source."""
    address = source.network.network_address
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


@CALM
@given(
    st.integers(0, 4_000_000_000),
    (SINGLE | PREFIX).filter(lambda source: not is_mapped(source)),
    st.integers(0, 65535),
    st.sampled_from(["TCP", "UDP", ""]),
    st.just("") | NAME,
)
def test_written_is_read(epoch: int, source: Source, port: int, protocol: str, name: str) -> None:
    """What a line was made from is what is read from it, names and prefixes included."""
    line = format_history_line(epoch * SECOND, source, port, protocol, name)
    expected = HistoryLine(epoch * SECOND, name or str(source), source, port, protocol or "ANY")
    assert parse_history_line(line) == expected


@CALM
@given(st.text() | st.text(alphabet="0123456789 -/:.HostPrTCBlckd\n"))
def test_any_text_is_a_line_or_none(text: str) -> None:
    """Nothing raises, whatever a hand or a crash left in the file."""
    assert parse_history_line(text) is None or isinstance(parse_history_line(text), HistoryLine)
