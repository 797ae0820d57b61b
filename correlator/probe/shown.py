"""Spells a line for standard output as one JSON object: what PortSentry's text says, by field.

For programs that read the probe's output; the alert log and syslog stay PortSentry's. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from correlator.attackalert import parse_probe

_LONGEST = 1900
"""Bytes of one object: less than is written at once, so that none is cut in two."""


def choose_spelling(echo: str) -> Callable[[str, str], str] | None:
    """Return how a line is shown, by its stamp and its text, for `lines` and `json`; None for `none`."""
    if echo == "lines":
        return lambda _stamp, text: text
    return spell_json if echo == "json" else None


def spell_json(stamp: str, text: str) -> str:
    """Return `{"at": ..., "text": ...}`, with source, name, protocol, port and technique where it is a probe.

    `stamp` is the alert log's. All of ASCII, without line feeds.
    """
    found: dict[str, str | int] = {"at": stamp, "text": text}
    probe = parse_probe(text)
    if probe is not None:
        found |= {"source": probe.address, "protocol": probe.protocol, "port": probe.port}
        found["technique"] = probe.technique.strip()
        if probe.name != probe.address:
            found["name"] = probe.name
    spelled = json.dumps(found)
    if len(spelled) <= _LONGEST:
        return spelled
    return json.dumps({"at": stamp, "text": text[: _LONGEST // 16], "is_cut": True})
