"""Writes the portward.toml that does what a portsentry.conf does, each line with the directive it comes from.

Reading it back gives the settings that `settings_from_portsentry` makes of the same file: what has no key
there is a `Gap`, and stands in the text as a comment. Pure: settings in, text out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from correlator.actions import ActionDefinition, Commands
from correlator.config.gaps import Gap
from correlator.config.portsentry import PortSentryConf
from correlator.config.settings import SiteSettings
from correlator.counting.jail_definition import JailDefinition, format_span
from correlator.model import printable

_SHORTEST_RANGE = 3


def format_portward_toml(settings: SiteSettings, conf: PortSentryConf, gaps: Iterable[Gap]) -> str:
    """Return the text of a portward.toml; all of it is printable but for the line feeds."""
    lines = [
        *_head(settings, conf, tuple(gaps)),
        "",
        _line("mode", _text("block" if settings.correlator.is_blocking else "observe"), _blocks(conf)),
        "",
        *_probe(settings, conf),
        "",
        "[correlator]",
        _line(
            "response_lines",
            json.dumps(settings.correlator.response_lines),
            "PortSentry's lines about what it did",
        ),
        "",
        "[enforcer]",
        _line(
            "blocked_modes",
            json.dumps(list(settings.enforcer.blocked_modes)),
            "a blocked file for each, as PortSentry",
        ),
        "",
        *_paths(settings, conf),
    ]
    for jail in settings.jails.values():
        lines += ["", *_jail(jail, conf, is_blocking=settings.correlator.is_blocking)]
    used = {name for jail in settings.jails.values() for name in jail.actions}
    for action in settings.actions.values():
        if action.name in used:
            lines += ["", *_action(action, conf)]
    return "\n".join(lines) + "\n"


def _head(settings: SiteSettings, conf: PortSentryConf, gaps: tuple[Gap, ...]) -> list[str]:
    lines = [
        f"# From {printable(str(conf.path))}, for the modes {', '.join(settings.probe.modes)};",
        "# each line says which directive it comes from. Check it with:  portward check --config DIR",
    ]
    for title, is_lost in (("Not carried over:", True), ("Done otherwise:", False)):
        notes = [gap for gap in gaps if gap.is_lost is is_lost]
        if notes:
            lines += ["#", f"# {title}"]
            lines += [f"#   {_origin(gap.directive, conf)}: {printable(gap.note)}" for gap in notes]
    return lines


def _probe(settings: SiteSettings, conf: PortSentryConf) -> list[str]:
    probe = settings.probe
    lines = ["[probe]", _line("modes", json.dumps(list(probe.modes)), "how PortSentry was started")]
    for key, ports, name in (
        ("tcp_ports", range(probe.tcp_ports[0][1] + 1), "ADVANCED_PORTS_TCP"),
        ("udp_ports", range(probe.udp_ports[0][1] + 1), "ADVANCED_PORTS_UDP"),
        ("exclude_tcp", probe.exclude_tcp, "ADVANCED_EXCLUDE_TCP"),
        ("exclude_udp", probe.exclude_udp, "ADVANCED_EXCLUDE_UDP"),
        ("tcp_list", probe.tcp_list, "TCP_PORTS"),
        ("udp_list", probe.udp_list, "UDP_PORTS"),
    ):
        lines.append(_line(key, _text(_ports(ports)), _origin(name, conf)))
    lines.append(_line("banner", _text(probe.banner), _origin("PORT_BANNER", conf)))
    origin = _origin("RESOLVE_HOST", conf)
    lines.append(_line("resolve_names", json.dumps(probe.resolve_names), origin))
    if probe.compat:
        lines.append(_line("scan_trigger", str(probe.scan_trigger), _origin("SCAN_TRIGGER", conf)))
    lines.append(_line("compat", json.dumps(probe.compat), "true: do as PortSentry where we would do better"))
    return lines


def _paths(settings: SiteSettings, conf: PortSentryConf) -> list[str]:
    return [
        "[paths]",
        _line("history", _text(str(settings.paths.history)), _origin("HISTORY_FILE", conf)),
        _line("blocked", _text(str(settings.paths.blocked)), _origin("BLOCKED_FILE", conf)),
        _line("ignore", _text(str(settings.paths.ignore)), _origin("IGNORE_FILE", conf)),
    ]


def _jail(jail: JailDefinition, conf: PortSentryConf, *, is_blocking: bool) -> list[str]:
    lines = [
        f"[jail.{jail.name}]",
        _line("filters", json.dumps(list(jail.filters)), "PortSentry's own lines"),
        _line("threshold", str(jail.threshold), _origin("SCAN_TRIGGER", conf)),
        _line("span", _text(format_span(jail.span)), "PortSentry forgets a hit when 50 others have come"),
        _line("block_for", _text("forever"), "PortSentry never unblocks"),
        _line(
            "spoofable_block_for",
            _text(format_span(jail.spoofable_block_for)),
            "for packets that anybody can forge; PortSentry does not tell them apart",
        ),
        _line("spoofable_a_minute", str(jail.spoofable_a_minute), "new sources on such packets alone"),
        _line("actions", json.dumps(list(jail.actions)), "in this order"),
    ]
    if jail.is_blocking is not is_blocking:
        lines.append(_line("mode", _text("block" if jail.is_blocking else "observe"), _blocks(conf)))
    return lines


def _action(action: ActionDefinition, conf: PortSentryConf) -> list[str]:
    """Return the table of an action that is not one of ours."""
    lines = [f"[action.{action.name}]", _line("kind", _text(action.kind), "see portward-action(5)")]
    lines.append(_line("description", _text(action.description), "for people"))
    if action.says:
        lines.append(_line("says", _text(action.says), "how the log tells of it"))
    if action.kind == "hosts-deny":
        lines.append(_line("line", _text(action.line), _origin("KILL_HOSTS_DENY", conf)))
    if action.kind != "command":
        return lines
    directive = "KILL_ROUTE" if action.denies else "KILL_RUN_CMD"
    families = [f"ipv{version}" for version in sorted(action.commands)]
    lines += [
        _line("families", json.dumps(families), "what the program can do"),
        _line("denies", json.dumps(action.denies), "false: it tells somebody, and has nothing to undo"),
        _line("timeout", _text(format_span(action.timeout)), "then it is killed; PortSentry waits for ever"),
    ]
    first, *others = (action.commands[version] for version in sorted(action.commands))
    lines += _commands(first, _origin(directive, conf))
    for other in others:
        if other != first:
            lines += [f"[action.{action.name}.ipv6]", *_commands(other, "the same for IPv6")]
    return lines


def _commands(commands: Commands, origin: str) -> list[str]:
    """Return the commands of PortSentry's kind: one line for the shell each."""
    lines = [_line("block", _text(commands.block[0][-1]), origin)]
    if commands.release:
        lines.append(_line("release", _text(commands.release[0][-1]), "ours: PortSentry undoes nothing"))
    if commands.present:
        lines.append(_line("present", _text(commands.present[0][-1]), "ours: asked whether it still stands"))
    return lines


def _line(key: str, value: str, comment: str) -> str:
    return f"{key} = {value}  # {comment}"


def _origin(name: str, conf: PortSentryConf) -> str:
    directive = conf.given.get(name)
    return f"{name}, line {directive.line}" if directive else f"{name}, not given"


def _blocks(conf: PortSentryConf) -> str:
    return f"{_origin('BLOCK_TCP', conf)}; {_origin('BLOCK_UDP', conf)}"


def _text(text: str) -> str:
    """Return TOML's basic string; JSON's escapes are among TOML's, and `DEL` the only one JSON lacks."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def _ports(ports: Iterable[int]) -> str:
    """Return ports in their order, runs of them as ranges: `1,7,512-515`."""
    runs: list[list[int]] = []
    for port in ports:
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ",".join(
        f"{first}-{last}" if last - first + 1 >= _SHORTEST_RANGE else ",".join(map(str, {first: 0, last: 0}))
        for first, last in runs
    )
