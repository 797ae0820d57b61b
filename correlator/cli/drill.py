"""`drill`: proves the whole chain with a real scan between two throw-away network namespaces."""

from __future__ import annotations

import argparse
from typing import Any


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    drill = commands.add_parser(
        "drill", parents=[common], help="prove the chain: a real scan, blocked, shown step by step"
    )
    drill.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from correlator.drill.story import run_drill

    return run_drill(as_json=options.json)
