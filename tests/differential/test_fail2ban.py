"""Fail2ban's own filters, read and run by us, beside the real Fail2ban on the same lines.

Decision, address, time and every field have to be equal, on lines of our own for each stock filter (matching,
not matching, hostile) in its modes, and on lines spelled out of its expressions and then bent. Names are
compared as text: neither side resolves them here.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from correlator.config.filter_references import open_filter
from correlator.matching.prefilter import Prefilter
from correlator.matching.whole_line_filters import WholeLineFilter, run_filter
from correlator.model import SECOND
from tests.peers import fail2ban
from tests.peers.spelling import Speller

pytestmark = pytest.mark.skipif(not fail2ban.is_there(), reason="no real Fail2ban (make peer)")

SAMPLES = sorted((Path(__file__).parent / "fail2ban").glob("*.log"))
NOW = 1_795_435_200  # 2026-11-23 12:00 UTC
ZONE = "Europe/Zurich"
NO_FILTERS = ("common", "apache-common", "botsearch-common", "exim-common", "selinux-common")
"""Files that only other filters include."""
RUNS_AWAY = "rfc5424"
"""Spelled lines of this log type keep Fail2ban busy for hours: its prefix has a repeat within a repeat."""
DATES = (
    *("Nov 20 10:00:0{} ", "2026-11-20T10:00:0{}.123456+01:00 ", "2026-11-20 10:00:0{} ", "179516880{} "),
    *("[20/Nov/2026:10:00:0{}] ", "Fri Nov 20 10:00:0{} 2026 ", "2026/11/20 10:00:0{} ", ""),
)


@pytest.fixture
def local_time() -> Iterator[None]:
    """Let this process live where the real one is told that it lives."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def _sections(sample: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    options: dict[str, str] = {}
    lines: list[str] = []
    for line in [*sample.read_text().splitlines(), "# options: "]:
        if not line.startswith("# options: "):
            lines.append(line)
            continue
        yield options, lines
        options = dict(
            option.split("=", 1) for option in line.removeprefix("# options: ").split(",") if option
        )
        lines = []


def _open(name: str, options: dict[str, str]) -> WholeLineFilter:
    definition, faults = open_filter(str(fail2ban.FILTERS / f"{name}.conf"), options)
    assert [str(fault) for fault in faults] == []
    filter_ = run_filter(definition)
    assert isinstance(filter_, WholeLineFilter)
    return filter_


def _theirs(name: str, options: dict[str, str], lines: Sequence[str], folder: Path) -> list[object]:
    reference = name + "".join(f'[{option}="{value}"]' for option, value in options.items())
    answers = fail2ban.ask(reference, lines, folder, now=NOW, zone=ZONE)
    return [
        [(answer.identity, _seconds(answer.time), _told(answer.fields)) for answer in given]
        for given in answers
    ]


def _ours(filter_: WholeLineFilter, lines: Sequence[str]) -> list[object]:
    found = [filter_.find(line, NOW * SECOND) for line in lines]
    return [
        [] if one is None else [(one.identity, _seconds(one.at / SECOND), _told(one.fields))] for one in found
    ]


def _seconds(at: float | None) -> float | None:
    """Return a time to the millisecond; None for now, which is what a line without a date has."""
    return None if at is None or abs(at - NOW) < 60 else round(at, 3)


def _told(fields) -> dict[str, object]:
    """Return the fields that hold something; `users` is a set that Fail2ban keeps for itself."""
    return {name: text for name, text in fields.items() if text is not None and name != "users"}


def _differences(lines: Sequence[str], theirs: list[object], ours: list[object]) -> list[object]:
    return [(line, their, our) for line, their, our in zip(lines, theirs, ours, strict=True) if their != our]


@pytest.mark.usefixtures("local_time")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_our_lines_are_judged_as_fail2ban_judges_them(sample, tmp_path):
    """Decision, address, time and fields are equal; each file holds lines that match and others."""
    matched = unmatched = 0
    for options, lines in _sections(sample):
        theirs = _theirs(sample.stem, options, lines, tmp_path)
        ours = _ours(_open(sample.stem, options), lines)
        assert _differences(lines, theirs, ours) == []
        matched += sum(map(bool, theirs))
        unmatched += len(lines) - sum(map(bool, theirs))
    assert matched > 0
    assert unmatched > 0


@pytest.mark.usefixtures("local_time")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_bent_lines_are_judged_as_fail2ban_judges_them(sample, tmp_path):
    """Text that a stranger put in, bytes lost and doubled: both still say the same, and none is left out."""
    speller = Speller(20261123)
    options, lines = next(_sections(sample))
    filter_ = _open(sample.stem, options)
    made = [speller.bend(line) for line in lines for _ in range(2)] + list(_spelled(filter_, speller))
    made = [line for line in made if line.strip() and not line.startswith("#")]
    ours = _ours(filter_, made)
    assert _differences(made, _theirs(sample.stem, options, made, tmp_path), ours) == []
    candidates = Prefilter(filter_.needs())
    lost = [
        line
        for line, our in zip(made, ours, strict=True)
        if our and not any(candidates.candidates(line.encode() + b"\n"))
    ]
    assert lost == []


def _spelled(filter_: WholeLineFilter, speller: Speller) -> Iterator[str]:
    """Yield lines made from the filter's own expressions, with dates where dates may stand."""
    prefix = filter_.definition.whole_lines.prefix
    for pattern in filter_.definition.patterns:
        line = speller.spell(pattern.expression)
        if prefix:
            line = speller.spell(prefix, content=line)
        date = speller.random.choice(DATES).format(speller.random.randint(0, 9))
        if "[]" in line:
            line = line.replace("[]", f"[{date.strip(' []')}]", 1)
        else:
            line = date.rstrip() + line if line.startswith(" ") else date + line
        yield from (part.replace("\r", "") for part in line.split("\n"))


def test_every_stock_filter_loads():
    """What Debian's package brings is read whole, its parts that are no filters but included say so."""
    wrong = {}
    for path in sorted(fail2ban.FILTERS.glob("*.conf")):
        definition, _faults = open_filter(str(path))
        if (definition is None) is not (path.stem in NO_FILTERS):
            wrong[path.stem] = definition
    assert wrong == {}


def test_a_sample_is_there_for_every_stock_filter():
    """A filter nobody wrote lines for is a filter nobody has compared."""
    there = {path.stem for path in fail2ban.FILTERS.glob("*.conf")} - set(NO_FILTERS)
    assert {sample.stem for sample in SAMPLES} == there
