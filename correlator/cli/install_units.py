"""`install-units`: the systemd units, users and folders, for who installed from a wheel.

Debian's package brings all of it by itself. What is written: the units and the target to
/etc/systemd/system, each with the path of this program in it; the users to /etc/sysusers.d; the folders below
/run and /var/log to /etc/tmpfiles.d.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from correlator.cli.output import complain
from correlator.config.vendor import vendor_folder
from correlator.errors import PermissionDeniedError, PortwardError

_PACKAGED = "/usr/bin/portward"
_STARTED = (
    "portward-probe.service",
    "portward-correlator.service",
    "portward-enforcer.service",
    "portward.target",
)
_UNITS = (*_STARTED, "portward-packet-log.service")
_PLACES = {
    **dict.fromkeys(_UNITS, "etc/systemd/system"),
    "portward.sysusers": "etc/sysusers.d",
    "portward.tmpfiles": "etc/tmpfiles.d",
}


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    del common
    units = commands.add_parser("install-units", help="for a wheel: install the systemd units and start them")
    units.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="write below this folder, and start nothing (default: /, and start them)",
    )
    units.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    is_here = options.root == Path("/")
    if is_here and Path(f"/lib/systemd/system/{_UNITS[0]}").exists():
        raise PortwardError("Debian's package is installed here, and its units are")
    if is_here and os.geteuid() != 0:
        raise PermissionDeniedError("needs root: it writes to /etc and starts units")
    for path in write_units(options.root, program=_find_program()):
        print(f"wrote {path}")
    if not is_here:
        return 0
    for command in (
        ("systemd-sysusers",),
        ("systemd-tmpfiles", "--create", "portward.conf"),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", "--now", *_STARTED),
    ):
        if shutil.which(command[0]) is None:
            complain(f"portward install-units: there is no {command[0]} here: do its part by hand")
            return 1
        subprocess.run(command, check=False)
    return 0


def write_units(root: Path, *, program: str) -> list[Path]:
    """Write everything below `root`, the units for `program`; return the files that were written."""
    folder = vendor_folder("units")
    written = []
    for name, place in _PLACES.items():
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except OSError as exc:
            raise PortwardError(f"{folder / name}: {exc.strerror}: this installation has no units") from exc
        suffix = Path(name).suffix
        target = root / place / (name if name in _UNITS else name.replace(suffix, ".conf"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(_PACKAGED, program), encoding="utf-8")
        written.append(target)
    return written


def _find_program() -> str:
    """Return the path of the `portward` that runs, as a unit can start it."""
    beside = Path(sys.executable).parent / "portward"
    found = str(beside) if beside.exists() else shutil.which("portward")
    if found is None:
        raise PortwardError("there is no program portward on the PATH that units could start")
    return str(Path(found).absolute())
