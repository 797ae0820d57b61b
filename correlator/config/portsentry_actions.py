"""Makes actions of PortSentry's responses: which run for TCP and for UDP, in which order, and back.

The commands are run as they are written, by the shell, with tokens that can only be an address, a port and
a mode. PortSentry never undoes one; for the usual commands the opposite is known, so that a block can end.
Pure, but for asking whether a program is there.

Source: PortSentry 1.2 as run; portsentry.conf(5).
"""

from __future__ import annotations

import os
import re
import shlex
from types import MappingProxyType

from correlator.actions import ActionDefinition, Argv, Commands
from correlator.config.portsentry import PortSentryConf
from correlator.config.route_commands import ask_route, undo_route
from correlator.model import SECOND, Micros

ROUTE, WRAPPERS, COMMAND = "kill-route", "kill-hosts-deny", "kill-run-cmd"
RECORD, NO_RESPONSE = "record", "no-response"
COMMAND_TIMEOUT: Micros = 60 * SECOND
"""PortSentry waits for ever, and sees no packet meanwhile."""

_ONLY_IPV4 = ("ipchains", "ipfwadm", "route", "iptables-legacy", "iptables-nft", "iptables")


def response_actions(conf: PortSentryConf) -> dict[str, ActionDefinition]:
    """Return the actions that the file's responses come to, by name."""
    where = str(conf.path)
    actions = {
        RECORD: ActionDefinition(
            RECORD, where, kind="record", description="writes the source down, and denies nobody"
        ),
        NO_RESPONSE: ActionDefinition(
            NO_RESPONSE,
            where,
            kind="record",
            says="nothing",
            description="writes the source down, as BLOCK 0 does",
        ),
    }
    if conf.kill_route:
        actions[ROUTE] = ActionDefinition(
            ROUTE,
            where,
            description="KILL_ROUTE",
            says="route",
            commands=MappingProxyType(_route_commands(conf.kill_route)),
        )
    if conf.kill_hosts_deny:
        actions[WRAPPERS] = ActionDefinition(
            WRAPPERS,
            where,
            kind="hosts-deny",
            description="KILL_HOSTS_DENY",
            says="wrappers",
            line=conf.kill_hosts_deny,
        )
    if conf.kill_run_cmd:
        commands = Commands(block=(_shell(conf.kill_run_cmd),))
        actions[COMMAND] = ActionDefinition(
            COMMAND,
            where,
            description="KILL_RUN_CMD",
            denies=False,
            says="command",
            commands=MappingProxyType({4: commands, 6: commands}),
            timeout=COMMAND_TIMEOUT,
        )
    return actions


def actions_for(conf: PortSentryConf, protocol: str, *, compat: bool) -> tuple[str, ...]:
    """Return the actions that answer a probe of `tcp` or `udp`, in PortSentry's order; none: only observe.

    Where PortSentry would deny anybody nftables does so first, within milliseconds; not with `compat`, which
    does what stands in the file and no more.
    """
    block = conf.block_tcp if protocol == "tcp" else conf.block_udp
    commands = (COMMAND,) if conf.kill_run_cmd else ()
    if block == 0:
        return (NO_RESPONSE,) if compat else ()
    if block == 2:
        return commands or ((RECORD,) if compat else ())
    denials = (*((WRAPPERS,) if conf.kill_hosts_deny else ()), *((ROUTE,) if conf.kill_route else ()))
    if denials and not compat:
        denials = ("nftables", *denials)
    if not denials and not commands:
        return (RECORD,) if compat else ()
    return (*commands, *denials) if conf.kill_run_cmd_first else (*denials, *commands)


def missing_program(command: str) -> str:
    """Return the program that a command begins with where it is not on this host, else nothing."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    program = words[0] if words else ""
    return program if program.startswith("/") and not os.access(program, os.X_OK) else ""


def _route_commands(command: str) -> dict[int, Commands]:
    """Return KILL_ROUTE by version of IP: a program for IPv4 is not tried on IPv6."""
    program = os.path.basename(command.split(maxsplit=1)[0])
    if program not in _ONLY_IPV4:
        return dict.fromkeys((4, 6), _undoable(command))
    if not program.startswith("iptables"):
        return {4: _undoable(command)}
    return {4: _undoable(command), 6: _undoable(_for_ipv6(command))}


def _undoable(command: str) -> Commands:
    """Return a command with what undoes it, and what asks whether it stands, where these are known."""
    undo, question = undo_route(command), ask_route(command)
    return Commands(
        block=(_shell(command),),
        release=(_shell(undo),) if undo else (),
        present=(_shell(question),) if question else (),
    )


def _for_ipv6(command: str) -> str:
    return re.sub(r"\biptables(?=-nft\b|-legacy\b|\b)", "ip6tables", command)


def _shell(command: str) -> Argv:
    return ("/bin/sh", "-c", command)
