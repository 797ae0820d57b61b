"""`enable`, `disable`: one line of portward.toml, and whatever runs told of it.

Where a jail's action needs root, the enforcer's unit is told so by a file of ours beside it; where none does
any more, that file is taken away again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli import site as sites
from correlator.cli.output import complain, print_json
from correlator.errors import PortwardError

if TYPE_CHECKING:
    from correlator.actions import ActionDefinition
    from correlator.config.settings import SiteSettings

DROP_IN = "enforcer-as-root.conf"
DROP_IN_FOLDER = Path("/etc/systemd/system/portward-enforcer.service.d")
SYSTEMD = Path("/run/systemd/system")


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    for name, mode, meaning in (
        ("enable", "block", "turn blocking on, now and at every start"),
        ("disable", "observe", "turn blocking off: detect, count and show"),
    ):
        command = commands.add_parser(name, parents=[common], help=meaning)
        command.set_defaults(run=_run, mode=mode)


def _run(options: argparse.Namespace) -> int:
    from correlator.config.mode_line import write_mode
    from correlator.config.settings import load_settings
    from correlator.config.vendor import ETC, SETTINGS_FILE
    from correlator.store import atomic

    path = (options.config or ETC) / SETTINGS_FILE
    if options.config is not None and options.config.is_file():
        raise PortwardError(
            f"{options.config}: is not ours to change; portward import makes a {SETTINGS_FILE} of it"
        )
    settings = sites.load_settings(options)
    text = settings.where.read_text(encoding="utf-8")
    changed = write_mode(text, options.mode)
    if changed != text or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        atomic.replace(path, changed.encode(), mode=mode)
    settings = load_settings(options.config)
    blocking = sorted(name for name, jail in settings.jails.items() if jail.is_blocking)
    observing = sorted(name for name, jail in settings.jails.items() if not jail.is_blocking)
    restarted = _tell_units(settings) if options.config is None else ()
    if options.json:
        print_json(
            options.command,
            file=str(path),
            changed=changed != text,
            blocking=blocking,
            observing=observing,
            restarted=restarted,
        )
        return 0
    print(f'{path}: mode = "{options.mode}"' + ("" if changed != text else ", as before"))
    print(f"blocking: {', '.join(blocking)}" if blocking else "nothing is blocked from now on")
    if blocking and observing:
        print(f"observing, by their own settings: {', '.join(observing)}")
    if options.mode == "observe":
        print("blocks in force stay until they end; portward release --all ends them now")
    print(f"restarted: {', '.join(restarted)}" if restarted else "restart what runs now, so that it counts")
    return 0


def _tell_units(settings: SiteSettings) -> tuple[str, ...]:
    """Restart the units that run and read the mode at their start; blocks stay in force meanwhile."""
    if not SYSTEMD.is_dir():
        return ()
    _settle_rights(settings)
    told = []
    for name in ("portward-enforcer.service", "portward-correlator.service"):
        if _systemctl("is-active", "--quiet", name) == 0:
            if _systemctl("restart", name) != 0:
                raise PortwardError(f"{name} does not start: systemctl status {name}")
            told.append(name)
    return tuple(told)


def _settle_rights(settings: SiteSettings) -> None:
    """Put our file beside the enforcer's unit where an action needs root, or take it away where none does."""
    from correlator.config.actions import with_actions
    from correlator.config.vendor import vendor_folder

    path = DROP_IN_FOLDER / DROP_IN
    named = {name for jail in settings.jails.values() if jail.is_blocking for name in jail.actions}
    actions = with_actions(settings)[0].enforcer.actions
    names = [action.name for action in actions if action.name in named and needs_root(action, settings)]
    if named:
        names += files_elsewhere(settings)
    if names and not os.path.lexists(path):
        DROP_IN_FOLDER.mkdir(parents=True, exist_ok=True)
        path.symlink_to((vendor_folder("units") / DROP_IN).absolute())  # so that it follows an upgrade
        complain(f"portward: {', '.join(names)} needs root: {path} lets the enforcer be root")
    elif not names and path.is_symlink():  # else it is the site's own by now
        path.unlink()
        _run_tool("systemd-tmpfiles", "--create", "portward.conf")  # what root left is the enforcer's again
        with contextlib.suppress(OSError):  # the site has files there too
            DROP_IN_FOLDER.rmdir()
        complain(f"portward: no action needs root: {path} is taken away")
    else:
        return
    _systemctl("daemon-reload")


def needs_root(action: ActionDefinition, settings: SiteSettings) -> bool:
    """True where the right to change the firewall may not be enough: a command may say that it is."""
    if action.kind == "hosts-deny":
        return not Path(action.file).is_relative_to(settings.paths.state)
    return action.kind == "command" and action.rights == "root"


def files_elsewhere(settings: SiteSettings) -> list[str]:
    """Return which of the enforcer's files lie in folders of others, as PortSentry's do after an import."""
    paths = settings.paths
    files = {"history": paths.history, "blocked": paths.blocked}
    return [f"[paths] {key}" for key, path in files.items() if not path.is_relative_to(paths.state)]


def _systemctl(*arguments: str) -> int:
    return _run_tool("systemctl", *arguments)


def _run_tool(*argv: str) -> int:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(argv, env=environment, check=False).returncode
