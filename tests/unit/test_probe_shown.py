"""Lines on standard output: PortSentry's text for people, one JSON object a line for programs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.attackalert import ACTIVE, NO_IGNORE_FILE, format_ip_options, format_probe
from correlator.probe.shown import choose_spelling, spell_json
from correlator.probe.techniques import name_technique

STAMP = "2026-11-22T14:29:22.311584+00:00"


@pytest.mark.parametrize(
    "text",
    [
        ACTIVE,
        NO_IGNORE_FILE,
        format_ip_options("192.0.2.2", "192.0.2.2", "TCP", 7),
        "attackalert: Possible stealth scan from unknown host to TCP port: 7 (accept failed)",
        "adminalert: TCP SYN/Normal scan from host: 192.0.2.2/192.0.2.2 to TCP port: 7",
        "attackalert: TCP SYN/Normal scan from host: 192.0.2.2 to TCP port: 7",
        "",
    ],
)
def test_other_lines_are_no_probes(text: str) -> None:
    """They are shown by their text alone."""
    assert json.loads(spell_json(STAMP, text)) == {"at": STAMP, "text": text}


def test_a_probe_is_shown_by_field() -> None:
    """The name only where there is one; the NULL scan's odd space only in the text."""
    text = format_probe(name_technique(0), "scanner.example.net", "192.0.2.2", "TCP", 7)
    assert json.loads(spell_json(STAMP, text)) == {
        "at": STAMP,
        "text": text,
        "source": "192.0.2.2",
        "protocol": "TCP",
        "port": 7,
        "technique": "TCP NULL scan",
        "name": "scanner.example.net",
    }
    assert "name" not in json.loads(spell_json(STAMP, format_probe("UDP scan", "::1", "::1", "UDP", 7)))


@given(st.text(max_size=3000))
def test_any_text_is_one_whole_line(text: str) -> None:
    """Never cut in two, never longer than what a pipe takes at once."""
    shown = spell_json(STAMP, text)
    assert "\n" not in shown
    assert len(shown.encode()) < 2000
    assert json.loads(shown)["at"] == STAMP


def test_each_setting_has_its_spelling() -> None:
    """Nothing is shown by default."""
    assert choose_spelling("none") is None
    spelled = [spell(STAMP, ACTIVE) for spell in map(choose_spelling, ("lines", "json")) if spell is not None]
    assert spelled == [ACTIVE, spell_json(STAMP, ACTIVE)]
