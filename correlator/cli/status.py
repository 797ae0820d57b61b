"""`status`: what is watched, counted and believed, and whether each process lives."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from correlator.cli import site as sites
from correlator.cli.output import colour, print_json, print_table
from correlator.errors import PortwardError
from correlator.model import SECOND, printable

_SILENCE = 10 * SECOND


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    status = commands.add_parser("status", parents=[common], help="what is watched, counted and blocked")
    status.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = sites.load_settings(options)
    paths = settings.paths
    probe = _left_behind(paths.probe_status)
    correlator = read_correlator(paths.correlator_status)
    enforcer = _ask_enforcer(paths.enforcer_socket)
    parts = {"probe": probe, "correlator": correlator, "enforcer": enforcer}
    if settings.probe.nflog:
        parts["packet_log"] = _with_way(_left_behind(paths.packet_log_status))
    if options.json:
        print_json("status", **parts)
    else:
        _print(**parts)
    return 0 if all(part["state"] == "running" for part in parts.values()) else 1


def read_correlator(path: Path) -> dict[str, Any]:
    """Return what the correlator left about itself: `state`, and its counters where it ever ran."""
    return _doubted(_left_behind(path))


def _left_behind(path: Path) -> dict[str, Any]:
    """Return what a process left about itself, and whether it still runs."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"state": "not running", "detail": f"{path} is not there"}
    except (OSError, ValueError) as exc:
        return {"state": "unknown", "detail": f"{path}: {exc}"}
    if not isinstance(found, dict):
        return {"state": "unknown", "detail": f"{path}: got {type(found).__name__}, expected an object"}
    is_alive = Path(f"/proc/{found.get('pid', 0)}").exists()
    return {"state": "running" if is_alive else "not running", **found}


def _with_way(part: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the packet log reader: nobody starts its unit until it is wanted."""
    if part["state"] != "not running":
        return part
    return {**part, "detail": "started by: systemctl enable --now portward-packet-log.service"}


def _doubted(part: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a process that writes every two seconds: who fell silent does not work."""
    age = time.time_ns() // 1000 - part.get("updated", 0)
    if part["state"] != "running" or abs(age) <= _SILENCE:
        return part
    return {**part, "state": "not answering", "detail": f"it wrote nothing for {age // SECOND} s"}


def _ask_enforcer(path: Path) -> dict[str, Any]:
    from correlator.enforcer.client import EnforcerClient
    from correlator.enforcer.protocol import ErrorAnswer, StatusAnswer, StatusRequest

    try:
        with closing(EnforcerClient(path)) as client:
            answer = client.ask(StatusRequest(1))
    except PortwardError as exc:
        return {"state": "not running", "detail": str(exc)}
    if not isinstance(answer, StatusAnswer):
        detail = answer.detail if isinstance(answer, ErrorAnswer) else f"got {type(answer).__name__}"
        return {"state": "unknown", "detail": detail}
    return {"state": "running", **answer.status}


def _print(
    probe: dict[str, Any],
    correlator: dict[str, Any],
    enforcer: dict[str, Any],
    packet_log: dict[str, Any] | None = None,
) -> None:
    parts = {"probe": probe, "correlator": correlator, "enforcer": enforcer}
    if packet_log is not None:
        parts["packet log"] = packet_log
    for name, part in parts.items():
        meaning = "good" if part["state"] == "running" else "bad"
        pid = f" pid {part['pid']}" if "pid" in part else ""
        detail = f" ({printable(str(part['detail']))})" if "detail" in part else ""
        print(f"{name:<11} {colour(part['state'], meaning)}{pid}{detail}")
    if "mode" in correlator:
        age = (time.time_ns() // 1000 - correlator["updated"]) // SECOND
        print(
            f"mode        {correlator['mode']}, {correlator['denied']} sources denied or observed, {age}s ago"
        )
    _print_counters("probe", probe)
    _print_counters("enforcer", enforcer)
    if packet_log is not None:
        _print_counters("packet log", packet_log)
    if "sources" in correlator:
        shown = [item for item in correlator["sources"] if item["state"] != "waiting"]
        awaited = len(correlator["sources"]) - len(shown)
        if awaited:
            print(f"sources     {len(shown)} followed, {awaited} not there yet: see `portward sources`")
        print()
        print_table(
            (
                "SOURCE",
                "OFFSET",
                "BACKLOG",
                "LINES",
                "EVENTS",
                "UNREADABLE",
                "DUPLICATES",
                "SKEWED",
                "TROUBLE",
            ),
            (
                (
                    item["origin"],
                    item.get("offset", "-"),
                    item.get("backlog", "-"),
                    item.get("lines", 0),
                    item.get("events", 0),
                    item.get("unreadable", 0),
                    item.get("duplicates", 0),
                    item.get("skewed", 0),
                    item["trouble"] or "-",
                )
                for item in shown
            ),
        )
        print()
        print_table(
            (
                "JAIL",
                "STRIKES",
                "BLOCKS",
                "IGNORED",
                "DENIED ALREADY",
                "WINDOWS",
                "WAITING",
                "EVICTED",
                "KEPT BACK",
            ),
            (
                (
                    item["jail"],
                    item["strikes"],
                    item["blocks"],
                    item["ignored"],
                    item["denied_already"],
                    item["sources"],
                    item["waiting"],
                    item["evicted"],
                    item["kept_back"],
                )
                for item in correlator["jails"]
            ),
        )
        for name, patterns in correlator["quarantined"].items():
            for pattern, reason in patterns.items():
                print(colour(f"quarantined: filter {name}, pattern {pattern}: {reason}", "bad"))
    _print_failing(enforcer)


def _print_failing(enforcer: dict[str, Any]) -> None:
    """Print what is wrong with actions: those that cannot work here, and what is tried again and for whom."""
    for name, problem in enforcer.get("action_problems", {}).items():
        print(colour(printable(f"action {name}: {problem}"), "bad"))
    if failing := enforcer.get("failing", []):
        print()
        print_table(
            ("FAILING", "SOURCE", "TO", "TRIES", "NEXT TRY", "DETAIL"),
            (
                (
                    deed["action"],
                    deed["source"],
                    "release" if deed["is_over"] else "block",
                    deed["tries"],
                    f"in {max(0, deed['next_try'] - time.time_ns() // 1000) // SECOND}s",
                    deed["detail"],
                )
                for deed in failing
            ),
        )


def _print_counters(name: str, part: dict[str, Any]) -> None:
    """Print what a process counts, one line, whatever it is."""
    skipped = {"state", "detail", "pid", "started", "updated"}
    plain = [
        f"{key.replace('_', ' ')} {value}"
        for key, value in part.items()
        if key not in skipped and isinstance(value, int | str) and value != ""
    ]
    if plain:
        print(f"{name:<11} " + ", ".join(plain))
