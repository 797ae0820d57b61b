"""`drill`: proves the whole chain with a real scan between two throw-away network namespaces."""

from __future__ import annotations

import argparse
import signal
from contextlib import closing
from typing import Any

from correlator.cli.output import colour, complain, print_json
from correlator.model import printable

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    drill = commands.add_parser(
        "drill", parents=[common], help="prove the chain: a real scan, blocked, shown step by step"
    )
    drill.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from correlator.drill.story import come_home, home_namespace, tell

    home = home_namespace()

    def interrupt(_signal: int, _frame: object) -> None:
        """End the story; once, or what it tidies up would be interrupted too."""
        for number in _INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)
        come_home(home)
        raise KeyboardInterrupt

    for number in _INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, interrupt)
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
        complain("the chain is broken at the steps marked FAILED")
    return 0 if is_proved else 1
