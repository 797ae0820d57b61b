"""A capture file gives the lines that a probe on the wire would have written, with the packets' own times."""

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.packet import Raw

from correlator.cli import main
from correlator.errors import CaptureFileError
from correlator.probe.capture_file import _read_packets, read_capture
from correlator.probe.replay import replay_capture, survey_capture
from correlator.settings import ProbeSettings

AT = 1_795_357_762
US, THEM = "192.0.2.1", "192.0.2.2"
LINE = "attackalert: {} from host: {} to {} port: {}"


def write(path: Path, *packets: bytes, link: int = 1, magic: int = 0xA1B2C3D4, order: str = "<") -> Path:
    """A capture with a packet each second and 123456 units."""
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for number, packet in enumerate(packets):
        data += struct.pack(f"{order}IIII", AT + number, 123456, len(packet), len(packet)) + packet
    path.write_bytes(data)
    return path


def syn(port: int, *, source: str = THEM, to: str = US) -> Any:
    """A SYN of a scanner."""
    return IP(src=source, dst=to) / TCP(sport=40_000, dport=port, flags="S")


def lines(path: Path, **options: Any) -> list[str]:
    """What a probe says about the file."""
    settings = ProbeSettings(**options)
    return [text for _, text in replay_capture(path, settings, survey_capture(path))]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_both_byte_orders_and_both_units_of_time(tmp_path: Path, order: str, magic: int, unit: int) -> None:
    """The stamp is the packet's own, in nanoseconds."""
    path = write(tmp_path / "x.pcap", bytes(syn(25)), link=101, magic=magic, order=order)
    assert [captured.at for captured in read_capture(path)] == [AT * 10**9 + 123456 * unit]


@pytest.mark.parametrize(
    ("link", "head"),
    [
        (1, bytes(Ether(type=0x0800))),
        (1, bytes(Ether() / Dot1Q(vlan=5, type=0x0800))),
        (1, bytes(Ether(type=0x88A8) / Dot1Q(vlan=5) / Dot1Q(vlan=6, type=0x0800))),
        (101, b""),
        (228, b""),
        (113, bytes(CookedLinux(proto=0x0800))),
        (276, struct.pack("!HHIHBB8s", 0x0800, 0, 2, 1, 0, 6, bytes(8))),
    ],
)
def test_each_kind_of_link(tmp_path: Path, link: int, head: bytes) -> None:
    """The IP packet behind it, whole."""
    path = write(tmp_path / "x.pcap", head + bytes(syn(25)), link=link)
    assert [captured.data for captured in read_capture(path)] == [bytes(syn(25))]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x0a\x0d\x0d\x0a" + bytes(30), "a pcapng file: convert it"),
        (b"\x1f\x8b" + bytes(30), "a gzip file"),
        (b"hello", "got 68656c6c, expected a libpcap file"),
        (b"", "got nothing, expected a libpcap file"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 127), "got link type 127"),
        (
            struct.pack("<IHHiIII8xII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 1 << 20, 9),
            "a packet of 1048576 bytes",
        ),
    ],
)
def test_what_is_no_capture_is_refused_with_its_reason(tmp_path: Path, data: bytes, expected: str) -> None:
    """One clear error."""
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(CaptureFileError, match=expected):
        list(read_capture(path))
    with pytest.raises(CaptureFileError, match="No such file"):
        list(read_capture(tmp_path / "missing"))


def test_a_file_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    """As tcpdump leaves it when it is killed."""
    path = write(tmp_path / "x.pcap", bytes(syn(25)), bytes(syn(26)), link=101)
    path.write_bytes(path.read_bytes()[:-1])
    assert len(list(read_capture(path))) == 1


@given(st.binary(max_size=200), st.sampled_from([1, 101, 113, 276]))
def test_no_bytes_make_the_reader_raise_anything_else(data: bytes, link: int) -> None:
    """Behind a right header: packets or our one error."""
    from io import BytesIO

    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    record = struct.pack("<IIII", AT, 0, len(data), len(data))
    assert all(captured.version in (4, 6) for captured in _read_packets(BytesIO(header + record + data), "x"))
    try:
        list(_read_packets(BytesIO(header + data), "x"))
    except CaptureFileError as error:
        assert "expected 262144 at most" in str(error)  # noqa: PT017 - it need not raise


def test_probes_are_told_and_what_answered_is_let_be(tmp_path: Path) -> None:
    """Services by their SYN/ACK, also before it; names by UDP answers; others' traffic not at all."""
    path = write(
        tmp_path / "x.pcap",
        bytes(syn(22)),
        bytes(IP(src=US, dst=THEM) / TCP(sport=22, dport=40_000, flags="SA")),
        bytes(syn(25)),
        bytes(IP(src=US, dst=THEM) / TCP(sport=25, dport=40_000, flags="RA")),
        bytes(IP(src=THEM, dst=US) / UDP(sport=9, dport=53) / Raw(b"?")),
        bytes(IP(src=US, dst=THEM) / UDP(sport=53, dport=9) / Raw(b"!")),
        bytes(IP(src=THEM, dst=US) / UDP(sport=9, dport=69) / Raw(b"?")),
        bytes(syn(80, source=US, to=THEM)),
        bytes(syn(80, source="203.0.113.1", to="203.0.113.2")),
        bytes(IPv6(src="2001:db8::2", dst="2001:db8::1") / TCP(dport=7, flags="FPU")),
        bytes(IPv6(src="2001:db8::3", dst="2001:db8::1") / TCP(dport=7, flags="")),
        link=101,
    )
    host, host6 = f"{THEM}/{THEM}", "2001:db8::2/2001:db8::2"
    assert lines(path) == [
        LINE.format("TCP SYN/Normal scan", host, "TCP", 25),
        LINE.format("UDP scan", host, "UDP", 69),
        LINE.format("TCP XMAS scan", host6, "TCP", 7),
        LINE.format(" TCP NULL scan", "2001:db8::3/2001:db8::3", "TCP", 7),
    ]


def test_hidden_scans_are_told_by_our_answers(tmp_path: Path) -> None:
    """As on the wire; not with compat."""
    probe = IP(src=THEM, dst=US) / TCP(sport=40_000, dport=25, flags="A", ack=9)
    answer = IP(src=US, dst=THEM) / TCP(sport=25, dport=40_000, flags="R", seq=9)
    path = write(tmp_path / "x.pcap", bytes(probe), bytes(answer), bytes(answer / Raw(b"")), link=101)
    expected = LINE.format("TCP ACK scan", f"{THEM}/{THEM}", "TCP", 25)
    assert expected in lines(path)
    assert lines(path, compat=True) == []


def test_a_packet_that_never_came_whole_is_none(tmp_path: Path) -> None:
    """Its header states more than the wire carried; that the file keeps only its front is another matter."""
    short = bytes(IP(bytes(IP(src=THEM, dst=US, len=41) / TCP(sport=40_000, dport=25, flags="S"))))
    long = bytes(syn(26) / Raw(bytes(1000)))
    path = write(tmp_path / "x.pcap", bytes(Ether(type=0x0800)) + short, link=1)
    with path.open("ab") as file:
        file.write(
            struct.pack("<IIII", AT, 0, 14 + 60, 14 + len(long)) + bytes(Ether(type=0x0800)) + long[:60]
        )
    assert [text.rsplit(" ", 1)[1] for text in lines(path)] == ["26"]
    assert [captured.size for captured in read_capture(path)] == [40, len(long)]


def test_wrong_checksums_are_counted_and_unfinished_ones_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A capture on the machine that sends shows what its network card still has to fill in."""
    wrong, unfinished = (IP(src=THEM, dst=US) / TCP(sport=9, dport=port, flags="S") for port in (25, 26))
    wrong[TCP].chksum = 1
    # the sum of 192.0.2.2, 192.0.2.1, protocol 6 and length 20
    unfinished[TCP].chksum = (0xC000 + 0x0202 + 0xC000 + 0x0201 + 6 + 20) % 0xFFFF
    path = write(tmp_path / "x.pcap", bytes(wrong), bytes(unfinished), link=101)
    assert main(["probe", "--read", str(path), "--own", US]) == 0
    told = capsys.readouterr()
    assert [line.rsplit(" ", 1)[1] for line in told.out.splitlines()] == ["26"]
    assert told.err == "portward probe: 1 packets left out for a wrong checksum\n"


def test_modes_and_the_limit_hold(tmp_path: Path) -> None:
    """Listed ports in a stealth mode; the rest of a flood is counted; a connect mode has nothing to say."""
    path = write(tmp_path / "x.pcap", *[bytes(syn(port)) for port in (25, 79, 25)], link=101)
    assert [text.rsplit(" ", 1)[1] for text in lines(path, modes=("stcp",), tcp_list=(79,))] == ["79"]
    with pytest.raises(CaptureFileError, match="modes tcp: expected one that watches packets"):
        lines(path, modes=("tcp",))
    path.write_bytes(path.read_bytes()[:24] + path.read_bytes()[24:80] * 5)
    found = lines(path, lines_a_second=2)
    assert found[2:] == ["adminalert: 3 probes left out of the log, limit is 2 lines a second"]


def test_ignored_hosts_leave_no_line_here_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ignore file as it stands now; bad lines of it go to standard error."""
    path = write(tmp_path / "x.pcap", bytes(syn(25)), bytes(syn(26, source="192.0.2.3")), link=101)
    (tmp_path / "portward.toml").write_text(f'[paths]\nignore = "{tmp_path}/ignore"\n')
    (tmp_path / "ignore").write_text(f"{THEM}\nnobody\n")
    assert main(["probe", "--read", str(path), "--own", US, "--config", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert [line.rsplit(" ", 1)[1] for line in told.out.splitlines()] == ["26"]
    assert told.err.startswith(f"adminalert: {tmp_path}/ignore:2: entry: got 'nobody'")


def test_the_command_prints_lines_and_writes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the alert log's form, or as JSON; status 1 where there is nothing to say, 65 for no capture."""
    path = write(tmp_path / "x.pcap", bytes(syn(25)), link=101)
    assert main(["probe", "--read", str(path), "--own", US, "-stcp"]) == 1
    assert main(["probe", "--read", str(path), "--own", US]) == 0
    told = capsys.readouterr()
    assert told.out.endswith(LINE.format("TCP SYN/Normal scan", f"{THEM}/{THEM}", "TCP", 25) + "\n")
    assert (told.out[4], told.err) == ("-", "")
    assert main(["probe", "--read", str(path), "--json"]) in (0, 1)
    assert "own addresses taken to be" in capsys.readouterr().err
    assert main(["probe", "--read", str(tmp_path)]) == 65
