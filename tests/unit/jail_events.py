"""Events and jails for tests of what is counted: a probe of one port, unless it is said otherwise."""

from correlator.counting.jails import Jail, JailDefinition
from correlator.model import SECOND, Event, Evidence, parse_source

START = 1_795_357_762 * SECOND


def make_event(
    source="192.0.2.9",
    *,
    at=START,
    port=1,
    spoofable=False,
    weight=1,
    count=1,
    kind="portsentry/scan",
    **fields,
):
    """Return an event of the pattern that `kind` names as FILTER/PATTERN, with its port among its fields."""
    filter_, _, pattern = kind.partition("/")
    return Event(
        at=at,
        filter=filter_,
        pattern=pattern,
        source=parse_source(source),
        evidence=Evidence(at, "alert.log", 0, f"probe of {port}"),
        is_spoofable=spoofable,
        weight=weight,
        count=count,
        port=port,
        protocol="TCP",
        fields={"port": str(port), **fields},
    )


def make_jail(*, max_sources=100, **settings):
    """Return a jail that the first strike decides, where the settings say nothing else."""
    definition = JailDefinition(name="portscan", where="test", filters=("portsentry",), **settings)
    return Jail(definition, max_sources=max_sources)


def judge(jail, event, *, ignored=None, denied=False):
    """Return what a jail makes of an event; `ignored` is the entry of the ignore list that names it."""
    return jail.judge(event, ignored_by=lambda _source: ignored, is_denied=lambda _source: denied)
