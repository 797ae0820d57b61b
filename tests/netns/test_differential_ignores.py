"""The real PortSentry 1.2 and our probe read the same ignore file: whom they leave out, what they say."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from correlator.attackalert import NO_IGNORE_FILE as MISSED
from correlator.drill.lab import SCANNER4, VICTIM4
from tests.peers.differences import BAD_IGNORES, NO_IGNORE_FILE
from tests.peers.duel import IN_PAIRS, NEEDS_PEER, NOTHING, SECONDS, Duel
from tests.peers.probes import build_probes

pytestmark = NEEDS_PEER

FRIEND, STRANGER = "203.0.113.9", "203.0.113.10"


def _probe_from(duel: Duel, *sources: str) -> None:
    for source in sources:
        for packet in build_probes(79, 7, source):
            duel.send(packet)


def _sources(reports: Counter[str]) -> set[str]:
    return {line.split("host: ")[1].split("/")[0] for line in reports}


@IN_PAIRS
def test_an_edit_counts_for_the_next_packet(duel: Duel, modes: tuple[str, ...]) -> None:
    """A host is left out, then reported, then left out with its whole network; no restart, no trace."""
    duel.start(*modes, ignored=(FRIEND,))
    before = len(duel.ours.logs[0].texts())
    _probe_from(duel, FRIEND)
    assert duel.demand_equal("ignored") == NOTHING
    texts = [text for text in duel.ours.logs[0].texts()[before:] if FRIEND in text]
    duel.ignore("127.0.0.1\n")
    _probe_from(duel, FRIEND)
    assert _sources(duel.demand_equal("no longer")) == {FRIEND}
    duel.ignore("127.0.0.1\n203.0.113.0/24\n")
    _probe_from(duel, FRIEND, STRANGER, "203.0.114.9")
    assert (texts, _sources(duel.demand_equal("its network"))) == ([], {"203.0.114.9"})


@pytest.mark.parametrize(
    "line",
    [
        FRIEND,
        f"{FRIEND}/32",
        f"{FRIEND} # text",
        f"{FRIEND}\t",
        f"{FRIEND}\r",
        f"{FRIEND} {STRANGER}",
        f"#{FRIEND}",
        "200.0.0.0/5",
        "203.0.113.77/24",
        "203.0.113.8/31",
        "203.0.113.0/33",
        "0.0.0.0",
        "2001:db8::/32",
        "friend.example.net",
    ],
)
def test_a_line_means_the_same(duel: Duel, line: str) -> None:
    """Whom it covers, and that the lines around it count; what PortSentry cannot read is nobody to ours."""
    duel.start("atcp", "audp", ignored=("198.51.100.1", line, "198.51.100.2"))
    _probe_from(duel, FRIEND, STRANGER, "198.51.100.1", "198.51.100.2", "198.51.100.3")
    sources = _sources(duel.demand_equal(line))
    assert not sources & {"198.51.100.1", "198.51.100.2"}


def test_who_is_ignored_is_shown_no_banner(duel: Duel) -> None:
    """Accepted, and closed without a word."""
    duel.start("tcp", ignored=("192.0.2.77",), PORT_BANNER="GO AWAY")
    shown = []
    for side in duel.sides:
        side.lab.add_scanner_address("192.0.2.77")
        for source in ("192.0.2.77", SCANNER4):
            with side.lab.scanner.entered():
                client = socket.create_connection((VICTIM4, 79), SECONDS, source_address=(source, 0))
            with client:
                shown.append(client.makefile("rb").read())
    assert shown == [b"", b"GO AWAY"] * 2
    assert _sources(duel.demand_equal("connections")) == {SCANNER4}


@IN_PAIRS
def test_a_bad_line_is_said_once_by_ours(duel: Duel, modes: tuple[str, ...]) -> None:
    """And changes nothing else (`BAD_IGNORES`)."""
    duel.start(*modes, ignored=("203.0.113.0/33", "friend.example.net", FRIEND))
    for _ in range(2):
        _probe_from(duel, FRIEND, STRANGER)
        assert _sources(duel.demand_equal("beside bad lines")) == {STRANGER}
    theirs = [text for log in duel.theirs.logs for text in log.texts() if "Invalid netmask" in text]
    ours = [text for text in duel.ours.logs[0].texts() if "/ignore:" in text]
    assert set(theirs) == {"adminalert: Invalid netmask in config file: 203.0.113.0/33\n  Ignoring entry.\n"}
    assert len(theirs) > 2 == len(ours), BAD_IGNORES


@IN_PAIRS
def test_a_missing_file_is_said_once_by_ours(duel: Duel, modes: tuple[str, ...]) -> None:
    """In PortSentry's words, and everybody is reported (`NO_IGNORE_FILE`)."""
    duel.start(*modes, ignored=(FRIEND,))
    _probe_from(duel, FRIEND)
    assert duel.demand_equal("ignored") == NOTHING
    duel.ignore(None)
    _probe_from(duel, FRIEND, SCANNER4)
    assert _sources(duel.demand_equal("missing")) == {FRIEND, SCANNER4}
    theirs = [text for log in duel.theirs.logs for text in log.texts() if text == MISSED + "\n"]
    ours = [text for text in duel.ours.logs[0].texts() if text == MISSED + "\n"]
    assert len(theirs) > 1 == len(ours), NO_IGNORE_FILE
