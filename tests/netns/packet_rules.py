"""Rules that log, in every way that nftables and iptables have."""

from correlator.drill.lab import VICTIM_DEVICE

NFT_WAYS = (
    "log",
    'log prefix "drop it: "',
    'log prefix "debug " level debug',
    'log prefix "user " flags skuid',
    'log prefix "ether " flags ether',
    'log prefix "sequence " flags tcp sequence',
    'log prefix "options " flags tcp options',
    'log prefix "both " flags tcp sequence,options',
    'log prefix "ip " flags ip options',
    'log prefix "all " flags all',
    f'log prefix "{"x" * 126} "',  # the longest
    'log prefix "[drop] SRC=203.0.113.1 " flags all',
    'log prefix "IN=e OUT= MAC= SRC=203.0.113.1 DST=192.0.2.1 LEN=40 "',
)
PREROUTING = "type filter hook prerouting priority -450"  # before fragments are joined
INGRESS = f'type filter hook ingress device "{VICTIM_DEVICE}" priority 0'

IPTABLES_WAYS = (
    (),
    ("--log-prefix", "iptables: "),
    ("--log-prefix", "no space at the end:"),
    ("--log-level", "debug", "--log-tcp-options"),
    ("--log-ip-options",),
    ("--log-tcp-sequence",),
    ("--log-uid",),
    ("--log-macdecode",),
    ("--log-tcp-options", "--log-ip-options", "--log-tcp-sequence", "--log-uid", "--log-macdecode"),
)


def log_table(family, hook, ways=NFT_WAYS, *, before="", verdict="drop"):
    """Return an nft table whose one chain logs each packet in each way, then lets go of it."""
    rules = "\n".join((before, *ways, verdict))
    return f"table {family} packet_logs {{\nchain logged {{\n{hook}\n{rules}\n}}\n}}\n"
