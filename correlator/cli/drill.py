"""`drill`: proves the whole chain with a real scan between two throw-away network namespaces."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import closing
from typing import Any

from correlator.cli.output import colour, print_json
from correlator.model import printable


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    drill = commands.add_parser(
        "drill", parents=[common], help="prove the chain: a real scan, blocked, shown step by step"
    )
    drill.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from correlator.drill.story import tell

    signal.signal(signal.SIGTERM, _interrupt)
    steps = []
    with closing(tell()) as story:
        for step in story:
            steps.append(step)
            if not options.json:
                mark = colour("proved", "good") if step.is_proved else colour("FAILED", "bad")
                print(f"{mark}  {step.name:<11} {printable(step.seen)}", flush=True)
    is_proved = all(step.is_proved for step in steps)
    if options.json:
        print_json("drill", proved=is_proved, steps=steps)
    elif is_proved:
        print("the chain works: seen, counted, decided, dropped, released; nothing is left behind")
    else:
        print("the chain is broken at the steps marked FAILED", file=sys.stderr)
    return 0 if is_proved else 1


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
