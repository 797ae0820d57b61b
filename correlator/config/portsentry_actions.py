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
from correlator.model import SECOND, Micros

ROUTE, WRAPPERS, COMMAND = "kill-route", "kill-hosts-deny", "kill-run-cmd"
RECORD, NO_RESPONSE = "record", "no-response"
COMMAND_TIMEOUT: Micros = 60 * SECOND
"""PortSentry waits for ever, and sees no packet meanwhile."""

_ADDS = {"-I": "-D", "-A": "-D", "--insert": "--delete", "--append": "--delete"}
_ONLY_IPV4 = ("ipchains", "ipfwadm", "route", "iptables-legacy", "iptables-nft", "iptables")
_SHELL = re.compile(r"[|&;<>()`\n]")
_PLAIN = re.compile(r"(?:[\w@%+=:,./!-]|\$(?:TARGET|PORT|MODE)\$)+", re.ASCII)
_SEPARATORS = re.compile(r"&&|;")


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


def undo_route(command: str) -> str:
    """Return the command that takes back what `command` does, or nothing where that is not known.

    Known are iptables, ip6tables, ipchains, route, ip route, ip rule, ipset, nft and firewall-cmd, several
    of them joined by `&&` or `;` too.
    """
    undone: list[str] = []
    for part in _SEPARATORS.split(command):
        if not part.strip():
            continue
        opposite = "" if _SHELL.search(part) else _undo_one(part)
        if not opposite:
            return ""
        undone.insert(0, opposite)
    return "; ".join(undone)


def _route_commands(command: str) -> dict[int, Commands]:
    """Return KILL_ROUTE by version of IP: a program for IPv4 is not tried on IPv6."""
    undo = undo_route(command)
    commands = Commands(block=(_shell(command),), release=(_shell(undo),) if undo else ())
    program = os.path.basename(command.split(maxsplit=1)[0])
    if program not in _ONLY_IPV4:
        return {4: commands, 6: commands}
    if not program.startswith("iptables"):
        return {4: commands}
    other = _for_ipv6(command)
    other_undo = undo_route(other)
    return {
        4: commands,
        6: Commands(block=(_shell(other),), release=(_shell(other_undo),) if other_undo else ()),
    }


def _for_ipv6(command: str) -> str:
    return re.sub(r"\biptables(?=-nft\b|-legacy\b|\b)", "ip6tables", command)


def _undo_one(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    if len(words) < 3:
        return ""
    program = os.path.basename(words[0])
    if program.startswith(("iptables", "ip6tables")) or program == "ipchains":
        found = _undo_chain(words)
    elif program == "route" and words[1] == "add":
        found = [words[0], "del", *words[2:]]
    elif (
        program == "ip"
        and (index := _index(words, "add", "replace", "append"))
        and set(words) & {"route", "rule"}
    ):
        found = [*words[:index], "del", *words[index + 1 :]]
    elif program == "ipset" and words[1] in ("add", "-A", "--add"):
        found = [words[0], "del", *words[2:4]]
    elif program == "nft" and words[1:3] == ["add", "element"]:
        found = [words[0], "delete", *words[2:]]
    elif program == "firewall-cmd":
        found = [re.sub(r"^--add-", "--remove-", word) for word in words]
        found = found if found != words else []
    else:
        found = []
    return " ".join(map(_quote, found))


def _undo_chain(words: list[str]) -> list[str]:
    """Return the deletion of a rule that was put in, without its number: that may differ by then."""
    index = _index(words, *_ADDS)
    if not index or index + 1 >= len(words):
        return []
    rest = words[index + 2 :]
    if rest and rest[0].isdigit():
        rest = rest[1:]
    return [*words[:index], _ADDS[words[index]], words[index + 1], *rest]


def _index(words: list[str], *wanted: str) -> int:
    """Return where the first of `wanted` stands; 0 where none does."""
    return next((index for index, word in enumerate(words) if index and word in wanted), 0)


def _quote(word: str) -> str:
    """Return a word as the shell takes it back; tokens stay tokens."""
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)


def _shell(command: str) -> Argv:
    return ("/bin/sh", "-c", command)
