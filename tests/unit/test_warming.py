"""Being ready for the first line of a log before it comes."""

from pathlib import Path

import pytest

from correlator.config.filters import read_filter
from correlator.daemon.warming import Warming
from correlator.engine import Engine
from correlator.matching.whole_line_filters import run_filter
from correlator.model import JOURNAL, SECOND, Chunk

SSHD = Path(__file__).parents[2] / "filters/sshd.toml"
LINE = b"Nov 22 14:29:22 vm sshd[7]: Failed password for root from 192.0.2.9 port 22 ssh2\n"


@pytest.fixture
def engine_for():
    """Build an engine whose filter reads these origins."""
    definition, _faults = read_filter(SSHD)

    def build(origins):
        routes = {origin: ["sshd"] for origin in origins}
        return Engine([run_filter(definition)], [], routes=routes, ignored_by=lambda _source: None)

    return build


def _made_ready(monkeypatch, engine, warming):
    """Return the logs for which it made ready, in as many quiet moments as it needs."""
    found, warm = [], engine.warm
    monkeypatch.setattr(engine, "warm", lambda origin: (found.append(origin), warm(origin)))
    for _ in range(9):
        before = len(found)
        warming.go_on(engine)
        assert len(found) <= before + 1
    return found


def test_each_log_that_is_there_is_made_ready_for_once(tmp_path, monkeypatch, engine_for):
    """One in a moment; what is not there, and the journal, cost nothing."""
    logs = [str(tmp_path / name) for name in ("auth.log", "secure")]
    for log in logs:
        Path(log).touch()
    origins = [*logs, str(tmp_path / "missing.log"), JOURNAL, "-"]
    engine, warming = engine_for(origins), Warming()
    warming.begin(origins)
    assert sorted(_made_ready(monkeypatch, engine, warming)) == sorted(logs)


def test_what_is_understood_is_the_same_as_without(tmp_path, monkeypatch, engine_for):
    """Also by an engine that came with a reload in between."""
    log = str(tmp_path / "auth.log")
    Path(log).touch()
    chunk = Chunk(log, 0, LINE, 1_795_357_762 * SECOND, is_live=False)
    cold, warm, warming = engine_for([log]), engine_for([log]), Warming()
    warming.begin([log, log])
    warming.go_on(engine_for([log]))
    warming.begin([log])
    assert _made_ready(monkeypatch, warm, warming) == [log]
    assert list(warm.read(chunk)) == list(cold.read(chunk)) != []
