"""`probe`, `correlate`, `enforce`: one process each, as the units start them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from correlator.cli import site as sites

_MODES = {
    "tcp": "open the TCP ports of the list, report who connects",
    "udp": "open the UDP ports of the list, report who sends",
    "stcp": "stealth: watch the TCP ports of the list, open none",
    "sudp": "stealth: watch the UDP ports of the list, open none",
    "atcp": "advanced: watch all TCP ports of the ranges that are not in use",
    "audp": "advanced: watch all UDP ports of the ranges that are not in use",
}


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    probe = commands.add_parser("probe", parents=[common], help="see packets and write attackalert lines")
    for mode, meaning in _MODES.items():
        probe.add_argument(
            f"-{mode}", dest="modes", action="append_const", const=mode, help=f"{meaning}; any may be joined"
        )
    probe.add_argument("--echo", action="store_true", help="show each line on standard output too")
    probe.set_defaults(run=_run_probe)
    correlate = commands.add_parser("correlate", parents=[common], help="read logs, count, decide")
    _add_mode(correlate)
    correlate.set_defaults(run=_run_correlator)
    enforce = commands.add_parser("enforce", parents=[common], help="carry out blocks")
    _add_mode(enforce)
    enforce.set_defaults(run=_run_enforcer)


def _add_mode(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--observe", dest="mode", action="store_const", const="observe", help="block nothing")
    mode.add_argument("--block", dest="mode", action="store_const", const="block", help="block")


def _run_probe(options: argparse.Namespace) -> int:
    from correlator.probe.service import run_probe

    settings = sites.load_settings(options).probe
    if options.modes:
        settings = replace(settings, modes=tuple(dict.fromkeys(options.modes)))
    return run_probe(settings, echo=options.echo)


def _run_correlator(options: argparse.Namespace) -> int:
    from correlator.daemon import run_correlator

    return run_correlator(sites.load(options, mode=options.mode))


def _run_enforcer(options: argparse.Namespace) -> int:
    from correlator.enforcer.service import run_enforcer

    return run_enforcer(sites.load_settings(options, mode=options.mode).enforcer)
