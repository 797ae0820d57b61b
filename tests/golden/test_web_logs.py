"""What web servers and web applications really wrote, and what each filter understands of it."""

import json
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.model import SECOND, Event

FILTERS = Path(__file__).parents[2] / "filters"
LOGS = Path(__file__).parent / "filters" / "web"
EXPECTED: dict[str, dict[str, dict[str, str]]] = json.loads((LOGS / "expected.json").read_text())
PAIRS = [(log, name) for log, filters in EXPECTED.items() for name in filters]
ARRIVED = 1_795_424_000 * SECOND
BYSTANDER = "203.0.113.9"


def _answers(log, name):
    """Return, by the number of its line, each answer that is not "not ours"."""
    definition, faults = load_filter(FILTERS / f"{name}.toml")
    assert [str(fault) for fault in faults] == []
    filter_ = Filter(definition)
    text = (LOGS / log).read_bytes().decode("utf-8", "surrogateescape")
    answers = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        read = make_line(line, arrived=ARRIVED, layout=filter_.layout)
        answer = filter_.read(read) if filter_.wants(read.header.identifier) else None
        if answer is not None:
            answers[str(number)] = answer
    return answers


@pytest.mark.parametrize(("log", "name"), PAIRS)
def test_a_recorded_log_is_understood_line_by_line(log, name):
    """Every line that a filter should understand it does, as what it is, and no other line."""
    found = {
        number: f"{answer.pattern} {answer.source}" if isinstance(answer, Event) else answer.reason
        for number, answer in _answers(log, name).items()
    }
    assert found == EXPECTED[log][name]


@pytest.mark.parametrize(("log", "name"), PAIRS)
def test_who_sent_nothing_is_never_denied_for_long(log, name):
    """A line that a stranger wrote whole counts as evidence that anybody could have forged."""
    forged = [answer for answer in _answers(log, name).values() if str(answer.source) == BYSTANDER]
    assert [answer.pattern for answer in forged if not answer.is_spoofable] == []
