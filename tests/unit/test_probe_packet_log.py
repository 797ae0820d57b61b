"""The line about a packet that rules handed over: what the kernel would have written, from any bytes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.drill.packets import Flag, Route, build_tcp, build_udp
from correlator.probe.packet_log import IPV4, IPV6, LoggedPacket, format_packet

SYN = build_tcp(Route("192.0.2.2", 40000, "192.0.2.1", 79), Flag.SYN)
FRAME = bytes.fromhex("3e20d8d3ecae22f932db86ae0800")


def _line(payload, protocol=IPV4, **more):
    return format_packet(LoggedPacket(protocol, payload, **more))


def test_a_syn_is_written_as_the_kernel_writes_it():
    """Prefix, devices, frame, addresses, ports, flags, in the kernel's order."""
    line = _line(SYN, prefix="drop: ", incoming="eth0", link=FRAME, mark=31)
    assert re.fullmatch(
        r"drop: IN=eth0 OUT= MAC=3e:20:d8:d3:ec:ae:22:f9:32:db:86:ae:08:00 SRC=192\.0\.2\.2 DST=192\.0\.2\.1"
        r" LEN=40 TOS=0x00 PREC=0x00 TTL=64 ID=\d+ PROTO=TCP SPT=40000 DPT=79 WINDOW=\d+ RES=0x00 SYN URGP=0"
        r" MARK=0x1f",
        line,
    )


def test_what_we_send_has_no_incoming_device():
    """By that the filters know that nobody came to us."""
    assert _line(SYN, outgoing="eth0").startswith("IN= OUT=eth0 SRC=192.0.2.2 ")


def test_what_is_no_ip_is_no_line():
    """ARP, for instance, which a rule on a bridge may log."""
    assert _line(SYN, protocol=0x0806) is None


@pytest.mark.parametrize(
    ("length", "end"), [(0, "MAC= INCOMPLETE"), (19, "MAC= INCOMPLETE"), (30, "INCOMPLETE [10 bytes]")]
)
def test_a_packet_that_ends_too_early_says_so(length, end):
    """Nothing is read beyond the bytes that there are."""
    assert _line(SYN[:length], incoming="eth0").endswith(end)


def test_a_prefix_cannot_end_the_line():
    """Whoever may write rules may write a line feed into one."""
    assert _line(SYN, prefix="a\nb ").startswith(r"a\nb IN=")


def test_ports_of_a_datagram():
    """UDP has a length in the place of flags."""
    line = _line(build_udp(Route("2001:db8::2", 5, "2001:db8::1", 161), b"x"), protocol=IPV6)
    assert line.endswith(" PROTO=UDP SPT=5 DPT=161 LEN=9")
    assert "SRC=2001:0db8:0000:0000:0000:0000:0000:0002 " in line


@given(st.binary(max_size=200), st.sampled_from([IPV4, IPV6]), st.text(max_size=64))
def test_any_bytes_give_one_line(payload, protocol, prefix):
    """Whatever a stranger sends, and whatever the prefix: one printable line that names one sender."""
    line = _line(payload, protocol, prefix=prefix, incoming="eth0")
    assert line.isprintable()
    assert line.removeprefix(prefix).count("SRC=") <= 1 + prefix.count("SRC=")
