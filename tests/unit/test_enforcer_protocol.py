"""The enforcer's protocol: what it reads, what it refuses, and that both sides spell alike."""

import json
from typing import Any

import pytest

from correlator.enforcer.fields import MAX_LINE, MAX_UNTIL, RequestError
from correlator.enforcer.protocol import (
    Answer,
    BlockInForce,
    BlockRequest,
    BlocksAnswer,
    ErrorAnswer,
    Event,
    ListRequest,
    Mend,
    MendedEvent,
    OutcomeAnswer,
    OutcomeEvent,
    ReleasedAnswer,
    ReleaseRequest,
    Request,
    StatusAnswer,
    StatusRequest,
    SyncedAnswer,
    SyncRequest,
    WatchingAnswer,
    WatchRequest,
    encode_answer,
    encode_request,
    parse_answer,
    parse_request,
)
from correlator.model import Outcome, OutcomeKind, parse_prefix

SOURCE = parse_prefix("192.0.2.9")
BLOCK = {"id": 1, "verb": "block", "request": "portscan/192.0.2.9/17", "source": "192.0.2.9"}
OUTCOME = Outcome(OutcomeKind.DONE, SOURCE, "a", 17, "why")


def line(**changes: Any) -> bytes:
    """Return a block request with some fields changed."""
    return json.dumps({**BLOCK, **changes}).encode()


def test_a_short_block_request_has_defaults() -> None:
    """What a person types with echo is enough."""
    expected = BlockRequest(1, "portscan/192.0.2.9/17", SOURCE, "manual", None, 0, "", "", ("nftables",))
    assert parse_request(line()) == expected


@pytest.mark.parametrize(
    "request_",
    [
        BlockRequest(
            7,
            "a",
            parse_prefix("2001:db8::/64"),
            "portscan",
            1_000,
            65535,
            "UDP",
            "über 6 ports",
            ("a-b", "c"),
        ),
        ReleaseRequest(8, SOURCE),
        ReleaseRequest(9, None),
        ListRequest(10),
        StatusRequest(11),
        SyncRequest(12),
        WatchRequest(13),
    ],
)
def test_requests_are_read_as_written(request_: Request) -> None:
    """One module spells for both sides."""
    encoded = encode_request(request_)
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    assert parse_request(encoded) == request_
    assert parse_request(encoded[:-1]) == request_


@pytest.mark.parametrize(
    "answer",
    [
        OutcomeAnswer(1, OUTCOME),
        ReleasedAnswer(1, 2, parse_prefix("192.0.2.0/24")),
        ReleasedAnswer(1, 0),
        BlocksAnswer(1, (BlockInForce(SOURCE, None, "j", 5, "r", 1, "TCP", "why"),), has_more=True),
        StatusAnswer(1, {"blocks": 3, "table": "intact"}),
        SyncedAnswer(1, Mend("altered", 3, 0, 0, "the rules")),
        WatchingAnswer(1),
        ErrorAnswer(None, "no"),
        OutcomeEvent(OUTCOME),
        MendedEvent(Mend("intact", 1, 2, 3)),
    ],
)
def test_answers_are_read_as_written(answer: Answer | Event) -> None:
    """One module spells for both sides."""
    assert parse_answer(encode_answer(answer)) == answer


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": None}, "id"),
        ({"id": -1}, "id"),
        ({"id": True}, "id"),
        ({"id": 1.0}, "id"),
        ({"id": 1 << 60}, "id"),
        ({"verb": "flush"}, "verb"),
        ({"verb": ["block"]}, "verb"),
        ({"request": ""}, "request"),
        ({"request": "a b"}, "request"),
        ({"request": "a\n"}, "request"),
        ({"request": "x" * 201}, "request"),
        ({"request": "\u0430"}, "request"),
        ({"source": "scanner.example.net"}, "source"),
        ({"source": "192.0.2.9\n"}, "source"),
        ({"source": "fe80::1%eth0"}, "source"),
        ({"source": "192.0.2.9; drop"}, "source"),
        ({"source": 3221225993}, "source"),
        ({"jail": "../etc"}, "jail"),
        ({"jail": ""}, "jail"),
        ({"until": -1}, "until"),
        ({"until": "soon"}, "until"),
        ({"until": MAX_UNTIL + 1}, "until"),
        ({"port": 65536}, "port"),
        ({"protocol": "TCP\x1b"}, "protocol"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "a\nmended table=missing"}, "reason"),
        ({"reason": "\u202egnidaelsim"}, "reason"),
        ({"reason": "\ud800"}, "reason"),
        ({"actions": []}, "actions"),
        ({"actions": "nftables"}, "actions"),
        ({"actions": ["nftables"] * 9}, "actions"),
        ({"actions": ["/bin/sh"]}, "actions"),
        ({"shell": "true"}, "shell"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    """The error names the field, what it got and what it expected; the id is kept where it is known."""
    with pytest.raises(RequestError, match=rf"^{field}: got .*, expected ") as caught:
        parse_request(line(**changes))
    assert caught.value.id == (None if "id" in changes else 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"id":1,"id":2,"verb":"list"}',
        b'{"id":NaN,"verb":"list"}',
        b"\xff",
        b"[" * 60_000,
        b"1" * 5_000,
        b'{"id":1,"verb":"list","extra":0}',
        b'{"id":1,"verb":"release"}',
        b'{"id":1,"verb":"release","all":false}',
        b'{"id":1,"verb":"release","all":true,"source":"192.0.2.9"}',
        b" " * (MAX_LINE + 1),
    ],
)
def test_a_bad_line_is_an_error_of_the_protocol(data: bytes) -> None:
    """Whatever it is, it is a RequestError of one short line."""
    with pytest.raises(RequestError) as caught:
        parse_request(data)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "data", [b"{}", b'{"answer":"outcome"}', b'{"answer":"synced","id":1,"mend":{"x":1}}']
)
def test_a_bad_answer_is_an_error_of_the_protocol(data: bytes) -> None:
    """A client is not thrown off by an answer that it does not know."""
    with pytest.raises(RequestError):
        parse_answer(data)


def test_an_ipv4_mapped_source_is_ipv4() -> None:
    """Two spellings of one address are one source."""
    request = parse_request(line(source="::ffff:192.0.2.9"))
    assert isinstance(request, BlockRequest)
    assert request.source == SOURCE
