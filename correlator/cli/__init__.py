"""The command line: one `portward`, one module a group of commands.

Data goes to standard output, everything else to standard error. Exit status: 0 done, 1 a negative answer
(nothing known, not blocked, faults found), 2 usage, else as in sysexits.h. What a command needs is imported
when it runs, and its own module when it is asked for, so that the first answer comes within 100 ms; and
nothing is imported before `main` looks after Ctrl-C.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence

TYPE_CHECKING = False  # typing is slow to import, and Ctrl-C would be unheard meanwhile
if TYPE_CHECKING:
    import argparse

_SERVICES = frozenset({"run", "probe", "correlate", "enforce"})
"""Commands that work whether or not anybody reads what they print."""
_EPILOG = """\
start here:
  portward run --observe         watch this host, show what would be blocked, block nothing
  portward drill                 see a scan blocked, in two throw-away network namespaces
  portward status                what is watched, counted and blocked
  portward why 192.0.2.9         the lines that led to a decision
"""
_STANDARD_ERROR = 2
_INPUT_OUTPUT = 74  # EX_IOERR
_NO_PERMISSION = 77  # EX_NOPERM
_LOOKED_THROUGH = 100_000
"""Objects after which a command that ends soon looks for garbage: looking after 700 costs a tenth of it."""
_INTERRUPTED = 130


_GROUPS = {
    "run": ("run",),
    "processes": ("probe", "correlate", "enforce"),
    "status": ("status",),
    "sources": ("sources", "reload"),
    "blocks": ("blocks", "block", "release", "history"),
    "ignore": ("ignore",),
    "why": ("why", "why-not"),
    "explain": ("explain",),
    "replay": ("replay",),
    "filters": ("filter",),
    "check": ("check",),
    "drill": ("drill",),
    "action": ("action",),
    "import_": ("import",),
    "switch": ("enable", "disable"),
    "install_units": ("install-units",),
}
"""The modules here, in the order of the help, and the commands that each adds."""


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands; completion and man pages are made from it.

    With `only` one that knows this command alone, if it is one: the modules of the others cost more time
    than most commands take.
    """
    import argparse
    import importlib
    from pathlib import Path

    from correlator import __version__

    groups = [name for name, commands in _GROUPS.items() if only in commands] or [*_GROUPS]
    if only == "--version":
        groups = []
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
        help="folder with portward.toml, jails.d and filters, a portsentry.conf, or Fail2ban's folder"
        " (default /etc/portward, else what we ship)",
    )
    common.add_argument("--json", action="store_true", help="print data as JSON, one object")
    for name in groups:
        importlib.import_module(f"correlator.cli.{name}").add_commands(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        from correlator.cli.output import silence

        _open_missing_descriptors()
        try:
            return _run(arguments)
        finally:
            silence(sys.stdout)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except RuntimeError as error:
        # Ctrl-C while a class with a cached property is being made, as Python before 3.12 tells it
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _INTERRUPTED
        raise


def _run(arguments: Sequence[str] | None) -> int:
    from correlator.cli.output import complain, escape_what_cannot_be_shown
    from correlator.errors import PortwardError

    escape_what_cannot_be_shown()
    command = "portward"
    is_service = False
    try:
        try:
            given = sys.argv[1:] if arguments is None else arguments
            if arguments is None and not _SERVICES.intersection(given[:1]):
                gc.set_threshold(_LOOKED_THROUGH)
                atexit.register(gc.freeze)  # nor is there anything to gain by looking at the exit
            options = build_parser(next(iter(given), None)).parse_args(given)
        except SystemExit:
            if sys.stdout is not None:
                sys.stdout.flush()  # of the help
            raise
        command = f"portward {options.command}"
        is_service = options.command in _SERVICES
        if sys.stdout is None:
            if not is_service:
                complain(f"{command}: standard output is closed")
                return _INPUT_OUTPUT
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as we live
        status = int(options.run(options))
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk shows here
    except PortwardError as error:
        complain(f"{command}: {error}")
        return error.exit_status
    except BrokenPipeError as error:
        if not is_service:
            return 0  # whoever read our output has seen enough
        complain(f"{command}: {error.strerror}")
        return _INPUT_OUTPUT
    except OSError as error:
        where = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        complain(f"{command}: {error.strerror or error}{where}")
        return _NO_PERMISSION if isinstance(error, PermissionError) else _INPUT_OUTPUT
    return status


def _open_missing_descriptors() -> None:
    """Take those of the first three that are closed, or a file of ours would stand in their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
