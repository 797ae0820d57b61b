"""Probes that the drill builds, and answers that it reads: right sums, no nonsense taken for an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.drill.packets import (
    ETHERNET_BYTES,
    Answer,
    AnswerKind,
    Flag,
    Route,
    build_frame,
    build_ip,
    build_tcp,
    build_udp,
    checksum,
    read_answer,
)

OUT = Route("192.0.2.2", 40000, "192.0.2.1", 21)
OUT6 = Route("2001:db8::2", 40000, "2001:db8::1", 21)
BACK = Route(OUT.destination, OUT.port, OUT.source, OUT.source_port)
BACK6 = Route(OUT6.destination, OUT6.port, OUT6.source, OUT6.source_port)
BOTH = pytest.mark.parametrize(("out", "back"), [(OUT, BACK), (OUT6, BACK6)])


def _frame(packet: bytes) -> bytes:
    return build_frame(packet, b"\2\0\0\0\0\1", b"\2\0\0\0\0\2")


@given(st.binary(max_size=65))
def test_a_checksum_over_itself_is_zero(data: bytes) -> None:
    """RFC 1071: a receiver sums the data with its checksum and gets zero; odd lengths are padded."""
    even = data + b"\0" * (len(data) % 2)
    assert checksum(even + checksum(data).to_bytes(2, "big")) == 0


def test_a_syn_as_it_goes_on_the_wire() -> None:
    """Byte for byte, with both sums computed by another program (scapy 2.5)."""
    assert build_tcp(OUT).hex() == (
        "45000028123400004006e498c0000202c0000201"  # IP
        "9c400015000003e8000000005002040087a10000"  # TCP
    )


@BOTH
@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (Flag.SYN | Flag.ACK, AnswerKind.OPEN),
        (Flag.RST | Flag.ACK, AnswerKind.CLOSED),
        (Flag.RST, AnswerKind.CLOSED),
    ],
)
def test_answers_to_tcp(out: Route, back: Route, flags: Flag, kind: AnswerKind) -> None:
    """An answer is named after the probe's own route."""
    assert read_answer(_frame(build_tcp(back, flags)), at=7) == Answer(kind, out, 7)


@BOTH
def test_a_probe_is_no_answer(out: Route, back: Route) -> None:
    """What we sent ourselves, and data of a connection, answer nothing."""
    assert read_answer(_frame(build_tcp(out))) is None
    assert read_answer(_frame(build_tcp(back, Flag.ACK))) is None


@BOTH
def test_an_icmp_error_names_the_probe_that_it_quotes(out: Route, back: Route) -> None:
    """The quoted packet tells which probe it was, not the error's own sender (a router may send it)."""
    protocol, kind = (58, 1) if ":" in out.source else (1, 3)
    router = "2001:db8::9" if ":" in out.source else "192.0.2.9"
    error = bytes([kind, 3, 0, 0, 0, 0, 0, 0]) + build_udp(out, b"x")
    answer = read_answer(_frame(build_ip(router, back.destination, protocol, error)))
    assert answer == Answer(AnswerKind.UNREACHABLE, out)


@given(st.binary(max_size=120), st.sampled_from([OUT, OUT6]), st.integers(0, 255))
def test_any_bytes_are_an_answer_or_nothing(data: bytes, out: Route, protocol: int) -> None:
    """A victim may send whatever it likes: the scanner never stumbles."""
    for frame in (
        data,
        bytes(ETHERNET_BYTES) + data,
        _frame(build_ip(out.source, out.destination, protocol, data)),
    ):
        answer = read_answer(frame)
        assert answer is None or isinstance(answer, Answer)


@given(st.integers(0, 60))
def test_a_frame_cut_short_is_no_answer_or_the_same(size: int) -> None:
    """Every prefix of an answer is read without a crash."""
    whole = _frame(build_tcp(BACK, Flag.RST))
    assert read_answer(whole[:size]) in (None, read_answer(whole))
