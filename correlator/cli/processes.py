"""`probe`, `correlate`, `enforce`: one process each, as the units start them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from correlator.cli import site as sites


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    probe = commands.add_parser("probe", parents=[common], help="see packets and write attackalert lines")
    probe.add_argument("-atcp", action="store_true", help="advanced stealth mode, TCP only unless -audp too")
    probe.add_argument("-audp", action="store_true", help="advanced stealth mode, UDP only unless -atcp too")
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
    if options.atcp or options.audp:
        settings = replace(
            settings,
            tcp_ports=settings.tcp_ports if options.atcp else (),
            udp_ports=settings.udp_ports if options.audp else (),
        )
    return run_probe(settings, echo=options.echo)


def _run_correlator(options: argparse.Namespace) -> int:
    from correlator.daemon import run_correlator

    return run_correlator(sites.load(options, mode=options.mode))


def _run_enforcer(options: argparse.Namespace) -> int:
    from correlator.enforcer.service import run_enforcer

    return run_enforcer(sites.load_settings(options, mode=options.mode).enforcer)
