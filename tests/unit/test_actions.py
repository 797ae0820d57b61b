"""Actions as values: their tokens, and how a command is spelled."""

import json
import re

import pytest

from correlator.actions import Order, encode_evidence, expand, expand_argv, show, spell, unknown_tokens
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


def test_a_script_of_many_lines_is_told_on_one():
    """A log line, or a step of a trial, that nobody could read otherwise."""
    assert show(("/bin/sh", "-c", "\n  a\n  b \\\n c")) == "a b \\ c"
    assert show(("/bin/sh", "-c", "x\n" * 200)) == "x " * 58 + " ..."
    assert show(("/bin/sh", "-c", "x " * 200)) == "x " * 200


def test_evidence_is_one_line_of_json():
    """The one way in which a command gets text that a stranger chose."""
    encoded = encode_evidence(order(reason="é\nx"), "json")
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["source"] == "192.0.2.9"
    assert json.loads(encoded)["reason"] == "é\nx"


HOSTILE = "5 strikes in 60s, last: .\r\nBcc: x@example.org\r\n.\r\nQUIT " + "\U0001f4a9\u202e\x1b[2J" * 300


def test_evidence_as_text_is_safe_in_a_message():
    """Short lines of plain ASCII; none begins with a stranger's text, so none is a header or a lone dot."""
    encoded = encode_evidence(order(reason=HOSTILE, name="a.example"), "text")
    lines = encoded.decode("ascii").splitlines()
    assert encoded.endswith(b"\n")
    assert max(map(len, lines)) <= 78
    names = ("source", "name", "jail", "blocked", "until", "port", "mode", "reason", "request", "")
    assert {line[:9].rstrip() for line in lines} == set(names)
    told = "".join(line[9:] for line in lines if line[:9].rstrip() in ("reason", ""))
    assert told.startswith(
        r"5 strikes in 60s, last: .\r\nBcc: x@example.org\r\n.\r\nQUIT \U0001f4a9\u202e\x1b[2J"
    )
    assert "source   192.0.2.9" in lines
    assert "until    2026-11-22 14:19:00 UTC" in lines


def test_evidence_as_text_leaves_out_what_is_not_known():
    """A block by hand has no port and no mode; one without end says so."""
    encoded = encode_evidence(order(until=None, port=0, protocol="", mode="", reason=""), "text").decode()
    assert "\nport" not in encoded
    assert "\nmode" not in encoded
    assert "until    it is released\n" in encoded
    assert encode_evidence(order(), "") == b""


@pytest.mark.parametrize("named", ["x;reboot", "$(id)", "`id`", "'|cat", 'a"b', "-rf", "a>b&c", "*?[~#!"])
def test_the_name_of_a_request_is_a_word(named):
    """It comes from the correlator: one that was taken over gets no command of its own by it."""
    text = expand("echo $REQUEST$", order(request=named), NOW)
    assert re.fullmatch(r"echo [\w:/.@%+,=][\w:/.@%+,=-]*", text)
    assert expand("$REQUEST$", order(request="scan:2001:db8::/64:17"), NOW) == "scan:2001:db8::/64:17"
