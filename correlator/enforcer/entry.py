"""How the enforcer begins: its socket, and no right more than it needs."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterable

from correlator.actions import ActionDefinition
from correlator.errors import PermissionDeniedError, PortwardError
from correlator.kernel.process import (
    ALL_CAPABILITIES,
    CAP_DAC_OVERRIDE,
    CAP_NET_ADMIN,
    is_root_among_others,
    keep_capabilities,
)
from correlator.kernel.socket_path import reachable
from correlator.settings import Paths


def listen(paths: Paths) -> socket.socket:
    """Return a bound socket; what a dead enforcer left at its place is removed, anything else is refused."""
    path = paths.enforcer_socket
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise PermissionDeniedError(f"{path}: is not a socket; remove it")
        os.unlink(path)  # we hold the lock: nobody listens there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o117)
    try:
        with reachable(path) as name:
            listener.bind(name)
    except OSError as exc:
        listener.close()
        raise PortwardError(f"{path}: cannot listen there: {exc.strerror or exc}") from exc
    finally:
        os.umask(before)
    return listener


def keep_what_is_needed(paths: Paths, actions: Iterable[ActionDefinition] = ()) -> None:
    """Keep what nftables needs, and root's right over files only where a folder belongs to somebody else.

    As root we keep all that we have where a command does not say that the firewall's right is enough: what it
    starts may have to become another user, and root again, as Exim does.
    """
    if os.geteuid() == 0 and any(action.kind == "command" and action.rights == "root" for action in actions):
        keep_capabilities(*ALL_CAPABILITIES, for_children=True, may_be_gained=True)
        return
    folders = (paths.enforcer_run, paths.state, paths.history.parent, paths.blocked.parent)
    if is_root_among_others(*folders):
        keep_capabilities(CAP_NET_ADMIN, CAP_DAC_OVERRIDE, for_children=True)
    else:
        keep_capabilities(CAP_NET_ADMIN, for_children=True)
