"""The command line: one `portward`, one module a group of commands.

Data goes to standard output, everything else to standard error. Exit status: 0 done, 1 a negative answer
(nothing known, not blocked, faults found), 2 usage, else as in sysexits.h. What a command needs is imported
when it runs, so that the first answer comes within 100 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from correlator import __version__
from correlator.cli import blocks, check, drill, explain, import_, processes, run, status, why
from correlator.errors import PortwardError

_GROUPS = (run, processes, status, blocks, why, explain, check, drill, import_)
_EPILOG = """\
start here:
  portward run --observe         watch this host, show what would be blocked, block nothing
  portward drill                 see a scan blocked, in two throw-away network namespaces
  portward status                what is watched, counted and blocked
  portward why 192.0.2.9         the lines that led to a decision
"""
_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; completion and man pages are made from it."""
    parser = argparse.ArgumentParser(
        prog="portward",
        description="Watches a host's ports and logs, and blocks the sources that attack it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"portward {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        type=Path,
        metavar="DIR",
        help="folder with portward.toml, jails.d and filters, or a portsentry.conf"
        " (default /etc/portward, else what we ship)",
    )
    common.add_argument("--json", action="store_true", help="print data as JSON, one object")
    for group in _GROUPS:
        group.add_commands(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except PortwardError as error:
        print(f"portward {options.command}: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # whoever read our output has seen enough; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
