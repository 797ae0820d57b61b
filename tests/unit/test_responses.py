"""PortSentry's lines about responses, from how an action ended."""

import pytest

from correlator.daemon.responses import Responses
from correlator.enforcer.protocol import DeedEvent
from correlator.model import parse_prefix


def deed(**more):
    """How KILL_ROUTE ended."""
    values = {
        "request": "scan:1",
        "source": parse_prefix("2001:db8::2"),
        "jail": "portscan",
        "mode": "atcp",
        "name": "",
        "protocol": "TCP",
        "action": "kill-route",
        "says": "route",
        "ending": "done",
        "detail": "route add 2001:db8::2",
    }
    return DeedEvent(**{**values, **more})


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {},
            'Host 2001:db8::2 has been blocked via dropped route using command: "route add 2001:db8::2"',
        ),
        ({"ending": "failed"}, "ERROR: Could not block host 2001:db8::2/2001:db8::2!!"),
        ({"ending": "failed", "mode": "tcp"}, "ERROR: Could not block host 2001:db8::2 !!"),
        ({"ending": "failed", "mode": "stcp"}, "ERROR: Could not block host 2001:db8::2/2001:db8::2 !!"),
        ({"ending": "unknown", "detail": "kill-route does not take IPv6"}, None),
        ({"mode": ""}, None),
    ],
)
def test_what_an_action_came_to_is_said_in_portsentrys_words(more, expected):
    """An action that is not for IPv6 has not failed to block a host that another one blocked."""
    lines = [f"attackalert: {expected}"] if expected else []
    assert list(Responses(["atcp"]).acted(deed(**more))) == lines


def test_an_action_that_is_tried_again_is_told_once():
    """Its failure, not each of its tries."""
    responses = Responses(["atcp"])
    assert len(list(responses.acted(deed(ending="failed")))) == 1
    assert list(responses.acted(deed(ending="failed"))) == []
