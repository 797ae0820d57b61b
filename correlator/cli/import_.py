"""`import`: turn an existing installation's files into ours, and say what could not be carried over.

Exit status: 0 all of it is carried over, 1 something is not, 73 the file to write is there already or cannot
be made, 78 the file to read is at fault.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli.output import complain, print_json
from correlator.errors import ConfigError, Fault, PortwardError
from correlator.model import printable

if TYPE_CHECKING:
    from correlator.config.gaps import Gap

_NOT_CARRIED_OVER = 1
_MODES = ("tcp", "udp", "stcp", "sudp", "atcp", "audp", "stealth", "connect")


_OBSERVING = """\
# Jails stand in jails.d, each with its own mode; every other setting has its default.
mode = "observe"
"""


class CannotCreateError(PortwardError):
    """The file that a command should write is there already, or cannot be made."""

    exit_status = 73  # EX_CANTCREAT


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    import_ = commands.add_parser("import", help="turn PortSentry's or Fail2ban's configuration into ours")
    kinds = import_.add_subparsers(dest="kind", metavar="KIND", required=True)
    portsentry = kinds.add_parser(
        "portsentry", parents=[common], help="print the portward.toml that does what a portsentry.conf does"
    )
    portsentry.add_argument("path", type=Path, metavar="PATH", help="portsentry.conf, or its folder")
    portsentry.add_argument(
        "--out", type=Path, metavar="DIR", help="write DIR/portward.toml instead; never overwrites one"
    )
    portsentry.add_argument(
        "--modes",
        type=_modes,
        metavar="MODE[,MODE]",
        help="how PortSentry is started: tcp udp stcp sudp atcp audp, or 2.x's stealth connect"
        " (default: as Debian's default/portsentry says, else atcp,audp)",
    )
    portsentry.add_argument(
        "--compat", action="store_true", help="do as PortSentry also where we would do better"
    )
    portsentry.set_defaults(run=_run_portsentry)
    fail2ban = kinds.add_parser(
        "fail2ban", parents=[common], help="print the jails that do what an /etc/fail2ban does"
    )
    fail2ban.add_argument("path", type=Path, metavar="PATH", help="Fail2ban's folder, such as /etc/fail2ban")
    fail2ban.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write DIR/jails.d/fail2ban.toml instead; never overwrites one",
    )
    fail2ban.add_argument(
        "--run",
        dest="in_place",
        action="store_true",
        help="run from the folder in place and follow its changes, as `portward run --config PATH` does",
    )
    fail2ban.set_defaults(run=_run_fail2ban, mode=None)


def _modes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().removeprefix("-") for name in text.split(","))
    if unknown := [name for name in names if name not in _MODES]:
        raise argparse.ArgumentTypeError(f"no mode {unknown[0]!r}; there are {', '.join(_MODES)}")
    return names


def _run_portsentry(options: argparse.Namespace) -> int:
    from correlator.config.portsentry_import import format_portward_toml
    from correlator.config.portsentry_settings import load_portsentry

    conf, settings, gaps = load_portsentry(options.path, modes=options.modes, compat=options.compat)
    path = settings.where
    if settings.faults:
        if options.json:
            print_json("import", file=printable(str(path)), faults=_printable(settings.faults))
            return ConfigError.exit_status
        raise ConfigError(settings.faults)
    text = format_portward_toml(settings, conf, gaps)
    target = _write(options.out, text) if options.out else None
    if options.json:
        print_json(
            "import",
            file=printable(str(path)),
            modes=settings.probe.modes,
            written=None if target is None else printable(str(target)),
            settings=text,
            gaps=_printable(gaps),
            faults=(),
        )
    else:
        _show(text, target, gaps)
    return _NOT_CARRIED_OVER if any(gap.is_lost for gap in gaps) else 0


def _run_fail2ban(options: argparse.Namespace) -> int:
    from correlator.config.fail2ban.jail_import import format_jails_toml
    from correlator.config.fail2ban.jail_settings import load_fail2ban_settings

    folder = options.path.absolute()
    if options.in_place:
        from correlator.cli import run

        options.config = folder
        return run.run_all(options)
    settings, gaps, disabled = load_fail2ban_settings(folder)
    if settings.faults and not settings.jails:
        raise ConfigError(settings.faults)
    text = format_jails_toml(settings, folder, gaps, disabled)
    target = _write(options.out / "jails.d", text, name="fail2ban.toml") if options.out else None
    if target is not None and not os.path.lexists(options.out / "portward.toml"):
        _write(options.out, _OBSERVING)
    if options.json:
        print_json(
            "import",
            file=printable(str(folder)),
            jails=sorted(settings.jails),
            disabled=list(disabled),
            written=None if target is None else printable(str(target)),
            settings=text,
            gaps=_printable(gaps),
            faults=_printable(settings.faults),
        )
    else:
        _show(text, target, gaps)
        for fault in settings.faults:
            complain(f"not carried over: {printable(str(fault))}")
    return _NOT_CARRIED_OVER if settings.faults or any(gap.is_lost for gap in gaps) else 0


def _printable(items: Iterable[Fault | Gap]) -> list[Any]:
    """Return them with file names that JSON can hold: a name on a disk need not be UTF-8."""
    return [replace(item, where=printable(item.where)) for item in items]


def _show(text: str, target: Path | None, gaps: tuple[Gap, ...]) -> None:
    """Print the settings, or where they are; what is missing or other goes to standard error."""
    if target is None:
        print(text, end="")
    else:
        home = target.parent.parent if target.parent.name == "jails.d" else target.parent
        place, folder = printable(str(target)), printable(str(home))
        print(f"{place}: written; next: portward check --config {folder}")
    for gap in gaps:
        complain(f"{'not carried over' if gap.is_lost else 'done otherwise'}: {printable(str(gap))}")


def _write(folder: Path, text: str, *, name: str = "portward.toml") -> Path:
    """Make the file, whole or not at all.

    Raises: CannotCreateError where something stands in its place, or the folder cannot be written.
    """
    from correlator.store import atomic

    target = folder / name
    if os.path.lexists(target):
        raise CannotCreateError(
            f"{target}: is there already, and is not overwritten; move it away or choose another DIR"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.replace(target, text.encode(), mode=0o644)
    except OSError as exc:
        raise CannotCreateError(f"{target}: cannot be written: {exc.strerror or exc}") from exc
    return target
