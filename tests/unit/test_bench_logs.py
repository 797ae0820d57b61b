"""What the benches measure on: the same log every time, of lines that the shipped filters know."""

from pathlib import Path

from correlator.config.filters import read_filter
from correlator.matching.filters import Filter
from correlator.model import SECOND, Chunk
from correlator.reading import Reader
from tests.bench.logs import make_auth_log

LOG = "/var/log/auth.log"


def test_a_log_is_the_same_every_time():
    """Figures of two runs can be compared; another seed is another log."""
    assert make_auth_log(500) == make_auth_log(500)
    assert make_auth_log(500) != make_auth_log(500, seed=8)
    assert make_auth_log(500).count(b"\n") == 500


def test_its_strangers_are_understood_and_its_household_is_not():
    """What is measured is work: lines that matter become events, the administrators' never."""
    definition, _faults = read_filter(Path(__file__).parents[2] / "filters/sshd.toml")
    reader = Reader({"sshd": Filter(definition)}, routes={LOG: ["sshd"]}, max_line=8192)
    data = make_auth_log(5000, share_of_strangers=0.1)
    events = list(reader.read(Chunk(LOG, 0, data, 1_795_500_000 * SECOND, is_live=False)))
    assert len(events) > 100
    assert {str(event.source).rpartition(".")[0].startswith("203.0.") for event in events} == {True}
