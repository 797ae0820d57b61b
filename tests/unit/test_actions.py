"""Actions as values: their tokens, and how a command is spelled."""

import json

import pytest

from correlator.actions import Order, encode_evidence, expand, expand_argv, spell, unknown_tokens
from correlator.model import SECOND, parse_prefix

NOW = 1_795_356_540 * SECOND


def order(**more):
    """An order with everything in it."""
    values = {
        "request": "scan:1",
        "source": parse_prefix("192.0.2.9"),
        "jail": "portscan",
        "created": NOW,
        "until": NOW + 600 * SECOND,
        "port": 79,
        "protocol": "TCP",
        "mode": "atcp",
        "reason": "3 strikes; $(id) `id`",
    }
    return Order(**{**values, **more})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-s $TARGET$ -p $PORT$ $TARGET$", "-s 192.0.2.9 -p 79 192.0.2.9"),
        ("$MODE$ $PROTOCOL$ $FAMILY$ $JAIL$", "atcp tcp ipv4 portscan"),
        ("$UNTIL$ $SECONDS$", "1795357140 600"),
        ("$HOME$ $target$ $$TARGET$$ $TARGET", "$HOME$ $target$ $192.0.2.9$ $TARGET"),
    ],
)
def test_tokens_stand_for_values(text, expected):
    """PortSentry's three and ours, any number of times; anything else stays as it is."""
    assert expand(text, order(), NOW) == expected


def test_no_token_stands_for_a_strangers_text():
    """Whatever the reason or the name says: it gets into no argument."""
    hostile = order(reason="$(reboot)", name="a.example")
    argv = tuple(f"${token}$" for token in ("REASON", "NAME", "TARGET"))
    assert expand_argv(argv, hostile, NOW) == ("$REASON$", "$NAME$", "192.0.2.9")
    assert unknown_tokens("$REASON$ $TARGET$ $X$") == ("REASON", "X")


def test_a_block_without_end_and_without_mode():
    """0 stands for no end; the jail's name where no mode of PortSentry saw anything."""
    endless = order(until=None, mode="", protocol="", source=parse_prefix("2001:db8::/64"))
    text = "$UNTIL$ $SECONDS$ $MODE$ $PROTOCOL$ $FAMILY$ $TARGET$"
    assert expand(text, endless, NOW) == "0 0 portscan any ipv6 2001:db8::/64"


def test_a_command_is_spelled_as_a_person_would_type_it():
    """Of a shell command what the shell is told; of a list its words, quoted where they need it."""
    assert spell(("/bin/sh", "-c", "echo a >> b")) == "echo a >> b"
    assert spell(("iptables", "-m", "a b")) == "iptables -m 'a b'"


def test_evidence_is_one_line_of_json():
    """The one way in which a command gets text that a stranger chose."""
    encoded = encode_evidence(order(reason="é\nx"))
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["source"] == "192.0.2.9"
    assert json.loads(encoded)["reason"] == "é\nx"
