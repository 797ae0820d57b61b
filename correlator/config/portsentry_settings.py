"""Says what a portsentry.conf means in our own settings, and where that is less or other than PortSentry's.

Right by default: SCAN_TRIGGER counts as its manual says, forged evidence blocks briefly, ranges are ranges.
With `compat` each of these is as in the real program. Whatever has no place in our settings yet is a `Gap`,
never dropped in silence. A configuration in, settings and gaps out; of the host only which programs it has.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from correlator.actions import unknown_tokens
from correlator.config.gaps import Gap
from correlator.config.portsentry import (
    CONF_FILE,
    PortSentryConf,
    find_static_ignore_file,
    read_debian_modes,
    read_portsentry_conf,
    take_as_version_1,
)
from correlator.config.portsentry_actions import (
    COMMAND,
    ROUTE,
    actions_for,
    missing_program,
    response_actions,
)
from correlator.config.route_commands import undo_route
from correlator.config.settings import SiteSettings, needs_table
from correlator.counting.jail_definition import JailDefinition
from correlator.errors import Fault
from correlator.model import SECOND, Micros
from correlator.settings import (
    PROBE_MODES,
    CorrelatorSettings,
    EnforcerSettings,
    Paths,
    ProbeSettings,
)

DEFAULT_MODES = ("atcp", "audp")
VERSION_2_MODES = {"stealth": ("stcp", "sudp"), "connect": ("tcp", "udp")}
"""PortSentry 2.x watches TCP and UDP together, in one of two modes."""

_DAY: Micros = 86_400 * SECOND
SPAN: Micros = _DAY
"""PortSentry keeps hits for ever; a day still joins a slow scan, and frees who was unlucky once."""
COMPAT_SPAN: Micros = 364 * _DAY
COMPAT_SPOOFABLE_BLOCK: Micros = 7000 * _DAY
COMPAT_SPOOFABLE_A_MINUTE = 1_000_000
IN_ITS_PLACE = "nft add element inet portward source4 { $TARGET$ }, which nftables does by itself"


def expand_modes(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return PortSentry's modes for names of either version, each once.

    Raises: ValueError for a name that is neither's.
    """
    modes = tuple(mode for name in names for mode in VERSION_2_MODES.get(name, (name,)))
    if unknown := set(modes) - set(PROBE_MODES):
        raise ValueError(f"no mode of PortSentry: {', '.join(sorted(unknown))}")
    return tuple(dict.fromkeys(modes))


def load_portsentry(
    path: Path, *, modes: tuple[str, ...] | None = None, compat: bool = False
) -> tuple[PortSentryConf, SiteSettings, tuple[Gap, ...]]:
    """Read a portsentry.conf (or the one in a folder) and return what it means.

    Without `modes` they are those of Debian's /etc/default/portsentry, else advanced stealth mode.
    """
    if path.is_dir():
        path = path / CONF_FILE
    conf, faults = read_portsentry_conf(path)
    conf = replace(conf, ignore_file=find_static_ignore_file(conf) or conf.ignore_file)
    known = tuple(mode for mode in read_debian_modes(path) if mode in PROBE_MODES)
    settings, gaps = settings_from_portsentry(
        conf, modes=modes or known or DEFAULT_MODES, compat=compat, faults=faults
    )
    return conf, settings, gaps


def settings_from_portsentry(
    conf: PortSentryConf,
    *,
    modes: tuple[str, ...] = DEFAULT_MODES,
    compat: bool = False,
    faults: tuple[Fault, ...] = (),
) -> tuple[SiteSettings, tuple[Gap, ...]]:
    """Return the settings that do what PortSentry does with this file in these modes, and the gaps.

    `faults` are those of reading; the settings hold them, and one for each list of ports that a mode needs.
    """
    modes = expand_modes(modes)
    paths = map_paths(conf)
    jails = map_jails(conf, modes, compat=compat)
    is_blocking = any(jail.is_blocking for jail in jails.values())
    settings = SiteSettings(
        where=conf.path,
        paths=paths,
        probe=map_probe(conf, paths, modes, compat=compat),
        enforcer=EnforcerSettings(
            paths=paths,
            is_enforcing=needs_table(jails),
            blocked_modes=modes if conf.blocked_file is not None else (),
        ),
        correlator=CorrelatorSettings(paths=paths, is_blocking=is_blocking, response_lines=True),
        jails=jails,
        actions=response_actions(conf),
        faults=(*faults, *_missing_ports(conf, modes)),
    )
    return settings, find_gaps(conf, modes, compat=compat)


def map_paths(conf: PortSentryConf) -> Paths:
    """Return our files, with PortSentry's in their place where the file names them."""
    default = Paths()
    return Paths(
        history=conf.history_file or default.history,
        blocked=conf.blocked_file or default.blocked,
        ignore=conf.ignore_file or default.ignore,
    )


def map_probe(
    conf: PortSentryConf, paths: Paths, modes: tuple[str, ...], *, compat: bool = False
) -> ProbeSettings:
    """Return what the probe watches."""
    return ProbeSettings(
        paths=paths,
        modes=modes,
        tcp_ports=((0, conf.advanced_ports_tcp - 1),),
        udp_ports=((0, conf.advanced_ports_udp - 1),),
        exclude_tcp=conf.advanced_exclude_tcp,
        exclude_udp=conf.advanced_exclude_udp,
        tcp_list=_listed(conf, "TCP_PORTS", conf.tcp_ports, compat=compat),
        udp_list=_listed(conf, "UDP_PORTS", conf.udp_ports, compat=compat),
        banner=conf.port_banner,
        compat=compat,
        scan_trigger=conf.scan_trigger if compat else 0,
        resolve_names=conf.resolve_host,
    )


def map_jails(
    conf: PortSentryConf, modes: tuple[str, ...], *, compat: bool = False
) -> dict[str, JailDefinition]:
    """Return one jail, or one a protocol where TCP and UDP are answered otherwise or counted apart.

    PortSentry is one process a protocol, each with its own count; one jail adds them up, which sees more.
    """
    protocols = _protocols(modes)
    actions = {protocol: runnable_actions(conf, protocol, compat=compat) for protocol in protocols}
    if compat or len(set(actions.values())) > 1:
        return {
            f"portscan-{protocol}": _jail(
                conf, f"portscan-{protocol}", f"portsentry-{protocol}", actions[protocol], compat=compat
            )
            for protocol in protocols
        }
    answers = next(iter(actions.values()), ())
    return {"portscan": _jail(conf, "portscan", "portsentry", answers, compat=compat)}


def runnable_actions(conf: PortSentryConf, protocol: str, *, compat: bool) -> tuple[str, ...]:
    """Return the actions of a protocol whose program is on this host; with `compat` all of them."""
    missing = set()
    if missing_program(conf.kill_route):
        missing.add(ROUTE)
    if missing_program(conf.kill_run_cmd):
        missing.add(COMMAND)
    names = actions_for(conf, protocol, compat=compat)
    return names if compat else tuple(name for name in names if name not in missing)


def map_threshold(scan_trigger: int, *, compat: bool = False) -> int:
    """Return how many strikes block.

    SCAN_TRIGGER="2" says that two connects are allowed: the third blocks. With `compat` the probe counts, as
    PortSentry does, and writes no line before the trigger is reached: the first one blocks.
    """
    return 1 if compat else scan_trigger + 1


def _jail(
    conf: PortSentryConf, name: str, filter_: str, actions: tuple[str, ...], *, compat: bool
) -> JailDefinition:
    default = JailDefinition(name="", where="", filters=())
    return JailDefinition(
        name=name,
        where=str(conf.path),
        filters=(filter_,),
        threshold=map_threshold(conf.scan_trigger, compat=compat),
        span=COMPAT_SPAN if compat else SPAN,
        block_for=None,
        spoofable_block_for=COMPAT_SPOOFABLE_BLOCK if compat else default.spoofable_block_for,
        spoofable_a_minute=COMPAT_SPOOFABLE_A_MINUTE if compat else default.spoofable_a_minute,
        actions=actions or default.actions,
        is_blocking=bool(actions),
    )


def find_gaps(conf: PortSentryConf, modes: tuple[str, ...], *, compat: bool = False) -> tuple[Gap, ...]:
    """Return what is not done, or done otherwise, in the order of the file."""
    found = [*_lost(conf, modes), *_different(conf, modes, compat=compat)]
    lines = {name: directive.line for name, directive in conf.given.items()}
    return tuple(sorted(found, key=lambda gap: lines.get(gap.directive, 0)))


def _lost(conf: PortSentryConf, modes: tuple[str, ...]) -> list[Gap]:
    """Return what is not done."""
    found = []
    used = {name for protocol in _protocols(modes) for name in actions_for(conf, protocol, compat=False)}
    if (
        ROUTE in used
        and not (missing := missing_program(conf.kill_route))
        and not undo_route(conf.kill_route)
    ):
        note = "how to undo it is not known: a release leaves what it did in place, and says so"
        found.append(Gap(conf.where("KILL_ROUTE"), "KILL_ROUTE", note, True))
    for name, command, instead in (
        ("KILL_ROUTE", conf.kill_route, f"; in its place: {IN_ITS_PLACE}"),
        ("KILL_RUN_CMD", conf.kill_run_cmd, ""),
    ):
        missing = missing_program(command)
        if missing and {"KILL_ROUTE": ROUTE, "KILL_RUN_CMD": COMMAND}[name] in used:
            note = f"{missing} is not on this host, so it is not run{instead}"
            found.append(Gap(conf.where(name), name, note, True))
    for name, text in (
        ("KILL_ROUTE", conf.kill_route),
        ("KILL_HOSTS_DENY", conf.kill_hosts_deny),
        ("KILL_RUN_CMD", conf.kill_run_cmd),
    ):
        for token in unknown_tokens(text):
            note = f"${token}$ is no token, so it stays as it stands; a portward.toml with it is refused"
            found.append(Gap(conf.where(name), name, note, True))
    for protocol in _protocols(modes):
        if _block(conf, protocol) == 2 and not conf.kill_run_cmd:
            name = f"BLOCK_{protocol.upper()}"
            note = "2 runs KILL_RUN_CMD alone, and there is none; we only observe"
            found.append(Gap(conf.where(name), name, note, True))
    return found


def _different(conf: PortSentryConf, modes: tuple[str, ...], *, compat: bool) -> list[Gap]:
    """Return what we do otherwise."""
    notes: dict[str, str] = {}
    for protocol in ("tcp", "udp"):
        name = f"{protocol.upper()}_PORTS"
        ports = conf.tcp_ports if protocol == "tcp" else conf.udp_ports
        if not compat and _take_first(conf, name) != ports:
            notes[name] = (
                f"all its {len(ports)} ports count; PortSentry 1.2 takes 64, and of a range the first"
            )
        if _watches(modes, protocol) and _block(conf, protocol) == 1 and not _denies(conf, protocol):
            notes[f"BLOCK_{protocol.upper()}"] = (
                "without KILL_ROUTE and KILL_HOSTS_DENY PortSentry denies nobody; we only observe"
            )
    if conf.scan_trigger and not compat:
        notes["SCAN_TRIGGER"] = (
            f"{conf.scan_trigger} probes are allowed within a day and the next blocks, as the manual says;"
            f" PortSentry alarms at number {conf.scan_trigger} and counts for ever"
        )
    if conf.resolve_host:
        notes["RESOLVE_HOST"] = (
            "names are looked up in the background: a line never waits for one, and the first has the address"
        )
    written = conf.given.get("IGNORE_FILE")
    if written is not None and conf.ignore_file not in (None, Path(written.text or "")):
        notes["IGNORE_FILE"] = f"{conf.ignore_file} is read, from which Debian's init script built it"
    forgeable = [mode[-3:] for mode in modes if mode != "tcp" and _denies(conf, mode[-3:])]
    if forgeable and not compat:
        note = "a packet that anybody can forge blocks for 10 minutes, 60 new sources a minute at most"
        notes.setdefault(f"BLOCK_{forgeable[0].upper()}", note)
    return [Gap(conf.where(name), name, note, False) for name, note in notes.items()]


def _missing_ports(conf: PortSentryConf, modes: tuple[str, ...]) -> list[Fault]:
    found = []
    for protocol, ports in (("tcp", conf.tcp_ports), ("udp", conf.udp_ports)):
        name = f"{protocol.upper()}_PORTS"
        users = [mode for mode in modes if mode in (protocol, f"s{protocol}")]
        if users and not ports:
            expected = f"ports, which mode {users[0]} needs; PortSentry ends without them, with exit status 0"
            got = "no ports" if name in conf.given else "no value"
            found.append(Fault(conf.where(name), name, got, expected))
    return found


def _listed(conf: PortSentryConf, name: str, ports: tuple[int, ...], *, compat: bool) -> tuple[int, ...]:
    return _take_first(conf, name) if compat else ports


def _take_first(conf: PortSentryConf, name: str) -> tuple[int, ...]:
    directive = conf.given.get(name)
    taken = take_as_version_1(directive.text or "") if directive else ()
    return tuple(port for port in taken if 1 <= port <= 65535)


def _protocols(modes: tuple[str, ...]) -> list[str]:
    return [protocol for protocol in ("tcp", "udp") if _watches(modes, protocol)]


def _watches(modes: tuple[str, ...], protocol: str) -> bool:
    return any(mode.endswith(protocol) for mode in modes)


def _block(conf: PortSentryConf, protocol: str) -> int:
    return conf.block_tcp if protocol == "tcp" else conf.block_udp


def _denies(conf: PortSentryConf, protocol: str) -> bool:
    """True where PortSentry would keep a source of this protocol out."""
    return _block(conf, protocol) == 1 and bool(conf.kill_route or conf.kill_hosts_deny)
