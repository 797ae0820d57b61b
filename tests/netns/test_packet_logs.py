"""The filters of packet logs read what this kernel writes: every way of logging, every kind of packet."""

from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.drill.lab import LabError
from correlator.errors import MissingToolError
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter, Unreadable
from correlator.model import SECOND
from tests.netns.packet_kinds import NOTHING, PACKETS, make_source
from tests.netns.packet_rules import INGRESS, IPTABLES_WAYS, NFT_WAYS, PREROUTING, log_table

pytestmark = pytest.mark.netns

FOLDER = Path(__file__).parents[2] / "filters"
NAMES = ("netfilter", "netfilter-forward", "ufw", "firewalld", "shorewall")
NOON = 1_795_400_000 * SECOND


@pytest.fixture(scope="module")
def filters():
    """The shipped filters, running."""
    found = {}
    for name in NAMES:
        definition, faults = load_filter(FOLDER / f"{name}.toml")
        assert [str(fault) for fault in faults] == []
        found[name] = Filter(definition)
    return found


@pytest.fixture
def read(filters):
    """A function that gives a kernel's line, as syslog writes it, to a filter."""

    def ask(name, text):
        line = make_line(f"Nov 23 08:01:02 vm kernel: [ 2194.823475] {text}", arrived=NOON)
        answer = filters[name].read(line)
        assert not isinstance(answer, Unreadable), (name, answer)
        return answer and (answer.pattern, str(answer.source), answer.port, answer.protocol)

    return ask


@pytest.fixture
def send_all(scanner, kernel_log):
    """A function that sends each kind of packet, from a sender of its own, and returns kind by sender."""

    def send(kinds=PACKETS):
        sent = {}
        for kind in kinds:
            destination, build, _expected = PACKETS[kind]
            source = make_source(destination)
            scanner.send_packet(build(source))
            kernel_log.lines()
            sent[source] = kind
        return sent

    return send


@pytest.fixture
def check(read):
    """A function that demands that each line says to `netfilter` what its packet was, to others nothing."""

    def demand(lines_by_source, sent):
        wrong = []
        for source, lines in lines_by_source.items():
            expected = PACKETS[sent[source]][2]
            if expected is not NOTHING:
                pattern, port, protocol = expected
                expected = (pattern, source, port, protocol)
            for line in lines:
                got = read("netfilter", line)
                others = [read(name, line) for name in NAMES if name != "netfilter"]
                if got != expected or any(others):
                    wrong.append((sent[source], got, others, line))
        assert wrong == []

    return demand


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(log_table("inet", PREROUTING), id="inet"),
        pytest.param(log_table("ip", PREROUTING) + log_table("ip6", PREROUTING), id="ip and ip6"),
        pytest.param(log_table("netdev", INGRESS), id="netdev"),
    ],
)
def test_all_that_nftables_logs_is_read(lab, kernel_log, send_all, check, rules):
    """Whatever the flags, prefix, level and family of the rule: source, port, protocol and kind are right."""
    lab.victim.run("nft", "-f", "-", text=rules)
    sent = send_all()
    check(kernel_log.wait_about(sent, len(NFT_WAYS)), sent)


@pytest.mark.parametrize("back_end", ["nft", "legacy"])
def test_all_that_iptables_logs_is_read(lab, kernel_log, send_all, check, back_end):
    """Whatever the options of LOG, IPv4 and IPv6, on both of iptables' back ends."""
    for program in (f"iptables-{back_end}", f"ip6tables-{back_end}"):
        for options in IPTABLES_WAYS:
            try:
                lab.victim.run(program, "-t", "raw", "-A", "PREROUTING", "-j", "LOG", *options)
            except (LabError, MissingToolError) as exc:
                pytest.skip(f"{program} cannot log here: {exc}")
        lab.victim.run(program, "-t", "raw", "-A", "PREROUTING", "-j", "DROP")
    sent = send_all()
    check(kernel_log.wait_about(sent, len(IPTABLES_WAYS)), sent)


def test_marks_are_read(lab, kernel_log, send_all, check):
    """A rule set that marks packets adds a word to the end of each line."""
    rules = log_table("inet", PREROUTING, ['log prefix "m " flags all'], before="meta mark set 0x1f")
    lab.victim.run("nft", "-f", "-", text=rules)
    sent = send_all()
    lines = kernel_log.wait_about(sent, 1)
    whole = [line for source in sent for line in lines[source] if PACKETS[sent[source]][2] is not NOTHING]
    assert [line for line in whole if " MARK=0x1f" not in line and "INCOMPLETE [" not in line] == []
    check(lines, sent)


PREFIXES = {
    # ufw 0.36.2
    "[UFW BLOCK] ": {"ufw"},
    "[UFW LIMIT BLOCK] ": {"ufw"},
    "[UFW AUDIT] ": set(),
    "[UFW AUDIT INVALID] ": set(),
    "[UFW ALLOW] ": set(),
    # firewalld 1.3.3, with nftables and with iptables
    "filter_IN_public_REJECT: ": {"firewalld"},
    "filter_IN_drop_DROP: ": {"firewalld"},
    "IN_public_REJECT: ": {"firewalld"},
    "FINAL_REJECT: ": {"firewalld"},
    "STATE_INVALID_DROP: ": {"firewalld"},
    "filter_IN_public_ICMP_BLOCK: ": {"firewalld"},
    "IN_work_ICMP_BLOCK: ": {"firewalld"},
    "rpfilter_DROP: ": set(),
    "RFC3964_IPv4_REJECT: ": set(),
    # Shorewall 5.2.8, its own LOGFORMAT and the older one. Its own is not to be told from anybody's prefix:
    # `netfilter` reads it too, and a site enables the one it has.
    "net-fw DROP ": {"shorewall", "netfilter"},
    "INPUT REJECT ": {"shorewall", "netfilter"},
    "logflags DROP ": {"shorewall", "netfilter"},
    "smurfs DROP ": {"netfilter"},
    "Shorewall:net-fw:DROP:": {"shorewall"},
    "Shorewall:net2fw:REJECT:": {"shorewall"},
    "Shorewall:dynamic:DROP:": set(),
    "net-fw ACCEPT ": set(),
    # the site's own, and what keeps somebody out already
    "drop: ": {"netfilter"},
    "accepted: ": set(),
    "portward ": set(),
    "Portsentry: dropping: ": set(),
}


def test_each_firewall_has_its_own_filter(lab, kernel_log, send_all, read):
    """A line that a firewall's rules write is read by that firewall's filter."""
    lab.victim.run(
        "nft", "-f", "-", text=log_table("inet", PREROUTING, [f'log prefix "{text}"' for text in PREFIXES])
    )
    sent = send_all(["syn", "syn 6", "xmas"])
    readers = {prefix: set() for prefix in PREFIXES}
    for source, lines in kernel_log.wait_about(sent, len(PREFIXES)).items():
        for line in lines:
            for name in NAMES:
                answer = read(name, line)
                if answer is not None:
                    assert answer[1] == source, line
                    readers[line[: line.index("IN=v0")]].add(name)
    assert readers == PREFIXES
