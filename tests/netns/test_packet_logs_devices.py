"""The filters of packet logs at other devices and in other chains: who is not the stranger."""

import fcntl
import os
import socket
import struct
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM4, VICTIM6, VICTIM_DEVICE, LabError
from correlator.drill.packets import Flag
from correlator.errors import MissingToolError
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter, Unreadable
from correlator.model import SECOND
from tests.netns.packet_kinds import NOTHING, make_source, tcp, udp
from tests.netns.packet_rules import INGRESS, NFT_WAYS, PREROUTING, log_table

pytestmark = pytest.mark.netns

FOLDER = Path(__file__).parents[2] / "filters"
NAMES = ("netfilter", "netfilter-forward", "ufw", "firewalld", "shorewall")
NOON = 1_795_400_000 * SECOND
TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001


@pytest.fixture(scope="module")
def filters():
    """The shipped filters, running."""
    return {name: Filter(load_filter(FOLDER / f"{name}.toml")[0]) for name in NAMES}


@pytest.fixture
def answers(filters):
    """A function that returns what these lines say to these filters, all answers in one set."""

    def ask(lines, *names):
        found = set()
        for name in names:
            for text in lines:
                answer = filters[name].read(make_line(f"Nov 23 08:01:02 vm kernel: {text}", arrived=NOON))
                assert not isinstance(answer, Unreadable), (name, answer)
                found.add(answer and (answer.pattern, str(answer.source), answer.port, answer.protocol))
        return found

    return ask


def test_what_we_send_ourselves_never_counts(lab, kernel_log, answers):
    """With the sender's user and group in the line, or as an ICMP error that quotes a stranger's packet."""
    for program in ("iptables-nft", "ip6tables-nft"):
        lab.victim.run(program, "-A", "OUTPUT", "-j", "LOG", "--log-prefix", "own: ", "--log-uid")
    for family, ours, theirs in (
        (socket.AF_INET, VICTIM4, SCANNER4),
        (socket.AF_INET6, VICTIM6, SCANNER6),
    ):
        with lab.victim.entered():
            client = socket.socket(family)
        with client, pytest.raises(ConnectionRefusedError):
            client.connect((theirs, 79))
        with lab.scanner.entered():
            asking = socket.socket(family, socket.SOCK_DGRAM)
        with asking:
            asking.sendto(b"x", (ours, 79))
    kernel_log.wait_for("own: IN= OUT=v0 ", " UID=0 GID=0", count=2)
    kernel_log.wait_for("own: IN= OUT=v0 ", "[SRC=", count=2)
    assert answers(kernel_log.lines("own: IN= OUT=v0 "), *NAMES) == {NOTHING}


def test_loopback_never_counts(lab, kernel_log, answers):
    """A host that asks itself is no scanner of itself."""
    lab.victim.run(
        "nft", "-f", "-", text=log_table("inet", PREROUTING, ['log prefix "lo "'], verdict="accept")
    )
    lab.victim.run("ip", "link", "set", "lo", "up")
    with lab.victim.entered():
        client = socket.socket()
    with client, pytest.raises(ConnectionRefusedError):
        client.connect((VICTIM4, 79))
    lines = kernel_log.wait_for("lo IN=lo OUT= ", f" SRC={VICTIM4} ", " SYN ")
    assert answers(lines, *NAMES) == {NOTHING}


def test_the_other_side_of_our_own_connections_never_counts(lab, kernel_log, answers):
    """A reset to our own attempt to connect is no scan by whom we called."""
    lab.victim.run("nft", "-f", "-", text=log_table("inet", PREROUTING, ["log"], verdict="accept"))
    with lab.victim.entered():
        client = socket.socket()
    with client, pytest.raises(ConnectionRefusedError):
        client.connect((SCANNER4, 79))
    lines = kernel_log.wait_for(f" SRC={SCANNER4} ", " ACK RST ")
    assert answers(lines, *NAMES) == {NOTHING}


def test_vlan_tags_are_read(lab, scanner, kernel_log, answers):
    """At ingress the frame still has its tag."""
    lab.victim.run("nft", "-f", "-", text=log_table("netdev", INGRESS))
    source = make_source(VICTIM4)
    frame = scanner.frame(tcp(source, Flag.SYN))
    scanner.send_frame(frame[:12] + b"\x81\x00\x00\x05" + frame[12:])
    lines = kernel_log.wait_about([source], len(NFT_WAYS))[source]
    assert any("VPROTO=8100 VID=5" in line for line in lines)
    assert answers(lines, "netfilter") == {("syn", source, 79, "TCP")}


def test_frames_that_are_no_packets_say_nothing(lab, scanner, kernel_log, answers):
    """ARP, and frames of which the kernel knows no more than their kind."""
    lab.victim.run("nft", "-f", "-", text=log_table("netdev", INGRESS))
    frame = scanner.frame(tcp(SCANNER4, Flag.SYN))
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + frame[6:12] + bytes([192, 0, 2, 2]) + bytes(6)
    scanner.send_frame(frame[:12] + b"\x08\x06" + arp + bytes([192, 0, 2, 1]))
    scanner.send_frame(frame[:12] + b"\x88\xcc" + bytes(46))
    sender = frame[6:12].hex(":")
    for words in ((" ARP HTYPE=1 ", sender), (sender, ":88:cc "), (sender, "MACPROTO=88cc ")):
        assert answers(kernel_log.wait_for(*words), *NAMES) == {NOTHING}


def test_frames_to_all_never_count(lab, scanner, kernel_log, answers):
    """Broadcast and multicast, by the frame's address where the packet's own does not tell."""
    lab.victim.run("nft", "-f", "-", text=log_table("inet", PREROUTING))
    sources = []
    for hardware, destination in (
        (b"\xff" * 6, "192.0.2.255"),
        (b"\xff" * 6, "255.255.255.255"),
        (b"\x01\x00\x5e\x00\x00\x01", "224.0.0.1"),
        (b"\x33\x33\x00\x00\x00\x01", "ff02::1"),
    ):
        source = make_source(destination)
        scanner.send_frame(hardware + scanner.frame(udp(source, 32_412, destination=destination))[6:])
        sources.append(source)
    for lines in kernel_log.wait_about(sources, len(NFT_WAYS)).values():
        assert answers(lines, *NAMES) == {NOTHING}


def test_a_bridge_names_its_port(lab, scanner, kernel_log, wait_until, answers):
    """Where a packet comes in at a bridge the line names its port too, and in the bridge family only that."""
    victim = lab.victim
    try:
        victim.run("ip", "link", "add", "br0", "type", "bridge")
    except LabError as exc:
        pytest.skip(f"no bridge here: {exc}")
    hardware = scanner.frame(tcp(SCANNER4, Flag.SYN))[:6].hex(":")
    victim.run("ip", "address", "flush", "dev", VICTIM_DEVICE)
    victim.run("ip", "link", "set", VICTIM_DEVICE, "master", "br0")
    victim.run("ip", "link", "set", "br0", "address", hardware, "up")
    victim.run("ip", "address", "add", f"{VICTIM4}/24", "dev", "br0")
    if not victim.set_kernel("net/bridge/bridge-nf-call-iptables", "1"):
        pytest.skip("no net.bridge.bridge-nf-call-iptables here: the kernel has no br_netfilter")
    rules = log_table("inet", PREROUTING, verdict="accept")
    rules += log_table("bridge", "type filter hook input priority 0")
    victim.run("nft", "-f", "-", text=rules)

    def is_forwarding():
        return "state forwarding" in victim.run("bridge", "link", "show", "dev", VICTIM_DEVICE).stdout

    wait_until(is_forwarding)
    source = make_source(VICTIM4)
    scanner.send_packet(tcp(source, Flag.SYN))
    lines = kernel_log.wait_about([source], 2 * len(NFT_WAYS))[source]
    assert sum("IN=br0 OUT= PHYSIN=v0 " in line for line in lines) == len(NFT_WAYS)
    assert answers(lines, "netfilter") == {("syn", source, 79, "TCP")}


def test_a_tunnel_has_no_hardware_address(lab, kernel_log, answers):
    """Behind `MAC=` stands nothing where packets come without frames."""
    device = Path("/dev/net/tun")
    if not device.exists():
        pytest.skip(f"no {device} here")
    with lab.victim.entered():
        tunnel = os.open(device, os.O_RDWR)
        fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22s", b"tun0", IFF_TUN_NO_PI, b""))
    try:
        lab.victim.run("ip", "link", "set", "tun0", "up")
        lab.victim.run("nft", "-f", "-", text=log_table("inet", PREROUTING))
        source = make_source(VICTIM4)
        os.write(tunnel, tcp(source, Flag.SYN))
        lines = kernel_log.wait_about([source], len(NFT_WAYS))[source]
    finally:
        os.close(tunnel)
    assert any("IN=tun0 OUT= MAC= SRC=" in line for line in lines)
    assert answers(lines, "netfilter") == {("syn", source, 79, "TCP")}


def test_what_is_passed_on_has_its_own_filter(lab, scanner, kernel_log, answers):
    """A router's lines are read by `netfilter-forward`, which leaves out private senders: they are inside."""
    lab.victim.set_kernel("net/ipv4/ip_forward", "1")
    lab.victim.run("nft", "-f", "-", text=log_table("inet", "type filter hook forward priority 0"))
    outside, inside = make_source(VICTIM4), "192.168.7.7"
    for source in (outside, inside):
        scanner.send_packet(tcp(source, Flag.SYN, destination="203.0.113.9"))
    lines = kernel_log.wait_about([outside, inside], len(NFT_WAYS))
    assert [line for line in lines[outside] if "IN=v0 OUT=v0 " not in line] == []
    others = [name for name in NAMES if name != "netfilter-forward"]
    assert answers(lines[outside], *others) == {NOTHING}
    assert answers(lines[outside], "netfilter-forward") == {("syn", outside, 79, "TCP")}
    assert answers(lines[inside], *NAMES) == {NOTHING}


def test_the_connection_tracker_and_tracing_say_nothing_new(lab, scanner, kernel_log, answers):
    """Both write lines like a rule's, beside the rule's own."""
    lab.victim.run("iptables-nft", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
    if not lab.victim.set_kernel("net/netfilter/nf_conntrack_log_invalid", "255"):
        pytest.skip("no net.netfilter.nf_conntrack_log_invalid here")
    try:
        lab.victim.run("iptables-legacy", "-t", "raw", "-A", "PREROUTING", "-j", "TRACE")
    except (LabError, MissingToolError) as exc:
        pytest.skip(f"no TRACE here: {exc}")
    source = make_source(VICTIM4)
    scanner.send_packet(tcp(source, Flag.XMAS))
    kernel_log.wait_for("nf_ct_proto_6: ", f" SRC={source} ")
    kernel_log.wait_for("TRACE: raw:PREROUTING:", f" SRC={source} ")
    assert answers(kernel_log.lines(f" SRC={source} "), *NAMES) == {NOTHING}
