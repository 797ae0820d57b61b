"""`probe`, `correlate`, `enforce`: one process each, as the units start them."""

from __future__ import annotations

import argparse
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from correlator.cli import site as sites
from correlator.cli.output import complain, print_json
from correlator.model import parse_source
from correlator.settings import EnforcerSettings, ProbeSettings

_STANDARD_INPUT = 0
_HIGHEST_GROUP = 65535
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
    probe.add_argument(
        "--read", type=Path, metavar="FILE", help="print what a probe would have written about a capture file"
    )
    probe.add_argument(
        "--own",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="with --read: an address of the host that was probed (default: the one in most packets)",
    )
    probe.add_argument(
        "--echo",
        action="store_true",
        help="show each line on standard output too; with --json as one JSON object a line",
    )
    probe.add_argument(
        "--nflog",
        nargs="*",
        type=int,
        metavar="GROUP",
        help="instead of probing, write what rules log to these groups of NFLOG (default: the settings')"
        " to the packet log; needs CAP_NET_ADMIN at its start",
    )
    probe.set_defaults(run=_run_probe, refuse=probe.error)
    correlate = commands.add_parser("correlate", parents=[common], help="read logs, count, decide")
    _add_mode(correlate)
    correlate.add_argument(
        "--stdin", action="store_true", help="read standard input too, all filters at it; its end is ours"
    )
    correlate.add_argument(
        "--as",
        dest="identifier",
        metavar="PROGRAM",
        help="with --stdin: each line is a message of this program, without a header",
    )
    correlate.set_defaults(run=_run_correlator, refuse=correlate.error)
    enforce = commands.add_parser("enforce", parents=[common], help="carry out blocks")
    _add_mode(enforce)
    enforce.add_argument(
        "--lift",
        action="store_true",
        help="release every block, take our tables and chains away, and end; with no enforcer running",
    )
    enforce.set_defaults(run=_run_enforcer)


def _add_mode(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--observe", dest="mode", action="store_const", const="observe", help="block nothing")
    mode.add_argument("--block", dest="mode", action="store_const", const="block", help="block")


def _run_probe(options: argparse.Namespace) -> int:
    modes = tuple(dict.fromkeys(options.modes or ())) or None
    settings = sites.load_settings(options, probe_modes=modes).probe
    if options.nflog is not None:
        return _log_packets(options, settings)
    if options.read is not None:
        return _read_capture(options, settings)
    from correlator.probe.service import run_probe

    if options.json:
        settings = replace(settings, echo="json")
    elif options.echo and settings.echo == "none":
        settings = replace(settings, echo="lines")
    return run_probe(settings)


def _log_packets(options: argparse.Namespace, settings: ProbeSettings) -> int:
    from correlator.probe.nflog import run_packet_log

    groups = tuple(dict.fromkeys(options.nflog)) or settings.nflog
    if not groups or not all(0 <= group <= _HIGHEST_GROUP for group in groups):
        options.refuse(f"--nflog: got {list(groups)}, expected groups from 0 to {_HIGHEST_GROUP}, such as 5")
    return run_packet_log(replace(settings, nflog=groups))


def _read_capture(options: argparse.Namespace, settings: ProbeSettings) -> int:
    from correlator.alerts.stamps import Stamps
    from correlator.attackalert import SYSLOG_IDENTIFIER
    from correlator.probe.ignored import IgnoreFile
    from correlator.probe.replay import replay_capture, survey_capture
    from correlator.probe.shown import spell_json
    from correlator.probe.watch import Counters, spell_address

    survey = survey_capture(
        options.read, [parse_source(text).network.network_address.packed for text in options.own]
    )
    own = ", ".join(sorted(map(spell_address, survey.own))) or "none"
    if not options.own:
        complain(f"portward probe: own addresses taken to be {own}; else say --own")
    stamps = Stamps()
    found = 0
    counters = Counters()
    ignored = IgnoreFile(settings.paths.ignore, complain, must_exist=settings.compat)
    for at, text in replay_capture(options.read, settings, survey, counters, ignored.covers):
        found += 1
        stamp = stamps.alert_log(at)
        if options.json:
            print(spell_json(stamp, text))
        else:
            print(f"{stamp} {socket.gethostname()} {SYSLOG_IDENTIFIER}[{os.getpid()}]: {text}")
    if counters.bad_checksums:
        complain(f"portward probe: {counters.bad_checksums} packets left out for a wrong checksum")
    return 0 if found else 1


def _run_correlator(options: argparse.Namespace) -> int:
    from correlator.config.site import load_site
    from correlator.daemon.loop import run_correlator

    stream = None
    if options.stdin:
        from correlator.tailers.stream import StreamTailer

        stream = StreamTailer(_STANDARD_INPUT, options.identifier or "")
    elif options.identifier is not None:
        options.refuse("--as says whose lines standard input brings: expected --stdin too")
    return run_correlator(
        sites.load(options, mode=options.mode),
        load=lambda: load_site(options.config, mode=options.mode),
        stream=stream,
    )


def _run_enforcer(options: argparse.Namespace) -> int:
    from correlator.config.actions import with_actions
    from correlator.enforcer.service import run_enforcer

    settings, faults = with_actions(sites.load_settings(options, mode=options.mode))
    for fault in faults:
        complain(f"portward: {fault}")
    if options.lift:
        return _lift(settings.enforcer, as_json=options.json)
    return run_enforcer(settings.enforcer)


def _lift(settings: EnforcerSettings, *, as_json: bool) -> int:
    from correlator.enforcer.lift import lift_all

    lifted = lift_all(settings)
    if as_json:
        print_json("lift", lifted=lifted.count, problems=lifted.problems)
        return 1 if lifted.problems else 0
    for problem in lifted.problems:
        complain(f"portward enforce --lift: {problem}")
    print(f"blocks lifted: {lifted.count}" if lifted.count else "nothing was blocked")
    return 1 if lifted.problems else 0
