"""A daemon `doord` whose failures name no address, so that other lines have to: its filter, lines, engine."""

from correlator.config.filters import load_filter
from correlator.counting.jails import Jail, JailDefinition
from correlator.engine import Engine
from correlator.lines.syslog import format_instant
from correlator.matching.filter_definition import FilterDefinition
from correlator.matching.filter_tests import make_line
from correlator.matching.pattern_review import review_filter
from correlator.model import JOURNAL, SECOND, Chunk

NOW = 1_795_357_762 * SECOND
LOG = "/log/x"


def define_door(*patterns, programs=("doord",), **settings):
    """Return a filter `door` of what these programs write."""
    return FilterDefinition("door", "", "test", frozenset(programs), (LOG,), patterns, **settings)


def load_door(folder, text):
    """Return a filter whose file says this, which has no fault and deserves no warning."""
    path = folder / "door.toml"
    path.write_text(text)
    definition, faults = load_filter(path)
    assert faults == []
    assert list(review_filter(definition)) == []
    return definition


def write_line(program, body, *, seconds=0, pid="7", origin=LOG, host="vm"):
    """Return a line that a program wrote so many seconds after NOW; `pid` may be empty."""
    at = NOW + int(seconds * SECOND)
    header = f"{format_instant(at)} {host} {program}{f'[{pid}]' if pid else ''}: "
    return make_line(header + body, arrived=at, origin=origin)


def write_chunk(*lines, offset=0):
    """Return lines as a log has them, each with its program, all of them written NOW."""
    data = "".join(f"{format_instant(NOW)} vm {line}\n" for line in lines).encode()
    return Chunk(LOG, offset, data, NOW)


def make_engine(filter_):
    """Return an engine that reads the log and the journal with a filter, whose second strike blocks."""
    jail = JailDefinition("door", "test", ("door",), threshold=2, is_blocking=True)
    return Engine(
        [filter_],
        [Jail(jail, max_sources=100)],
        routes={LOG: ["door"], JOURNAL: ["door"]},
        ignored_by=lambda _source: None,
    )
