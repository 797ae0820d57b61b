"""What the correlator says about itself, for `status` and `sources`: sources, jails, what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from correlator.engine import Engine
from correlator.model import Micros, printable
from correlator.tailers.sources import Sources


def describe_sources(sources: Sources, engine: Engine, now: Micros) -> Iterator[dict[str, Any]]:
    """Yield one object a source: where we are in it, what came of it, what is wrong with it."""
    for source in sources.describe(now):
        counters = engine.origins.get(source["origin"])
        yield source if counters is None else {**source, **asdict(counters)}


def describe_engine(engine: Engine) -> dict[str, Any]:
    """Return what jails count, which patterns are in quarantine, and the latest unreadable lines."""
    return {
        "denied": engine.denied,
        "forgotten": engine.forgotten,
        "jails": [
            {
                "jail": jail.name,
                "sources": len(jail.windows),
                "waiting": jail.windows.strikes,
                "evicted": jail.windows.evicted,
                **asdict(jail.counters),
            }
            for jail in engine.jails.values()
        ],
        "quarantined": {
            name: filter_.quarantined for name, filter_ in engine.filters.items() if filter_.quarantined
        },
        "unreadable": [
            {"filter": item.filter, "reason": item.reason, "line": printable(item.evidence.line)}
            for item in engine.unreadable
        ],
    }
