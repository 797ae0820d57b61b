"""`make bench`: Portward and those it is compared with, measured in turn, in one run.

`reaction` on real packets, beside real PortSentry; `matching` on logs, beside fail2ban-regex, SSHGuard's
parser and GNU grep; `journal`, from an entry of a real journald to a decision, beside journalctl; `restore`,
how long 50,000 and 100,000 blocks take to be in force again; `commands`, how soon those that only ask
answer. Prints one table; nothing here fails because of a time. The first row of each measurement is what
the others are compared with.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from correlator.drill.lab import Lab
from correlator.errors import PortwardError
from tests import journald
from tests.bench import commands, journal, matching, nmap_learned, restore
from tests.bench.figures import Figures, format_table, summarise
from tests.bench.guard import Guard
from tests.bench.peer_portsentry import PortSentry
from tests.bench.portward import Portward, PortwardWithTripwire
from tests.bench.reaction import Reaction
from tests.peers.portsentry import why_not

REACTION = "first packet to drop"
UNCERTAIN = "of which uncertain"
LEARNED = "nmap -T5 learns of 514"
OPEN = "of these open services"
_WARM_UP = 3
_PARTS = ("reaction", "matching", "journal", "restore", "commands")
_TOOLS: dict[str, Callable[[Lab, Path], Guard]] = {
    "portsentry": PortSentry,
    "portward": Portward,
    "tripwire": PortwardWithTripwire,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=100, help="reactions and journal entries measured of each tool (100)"
    )
    parser.add_argument("--scans", type=int, default=12, help="nmap scans of each tool (12)")
    parser.add_argument(
        "--tool", choices=sorted(_TOOLS), action="append", help="only this one; may be repeated"
    )
    parser.add_argument(
        "--part", choices=_PARTS, action="append", help="only this part; may be repeated (all of them)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each tool at each log (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every sample")
    arguments = parser.parse_args(argv)
    if arguments.runs + arguments.scans + _WARM_UP > 250:
        parser.error("more than 247 runs and scans: one network of addresses does not hold them")
    parts = arguments.part or _PARTS
    tools = (arguments.tool or list(_TOOLS)) if "reaction" in parts else []
    if "portsentry" in tools and (reason := why_not()) is not None:
        print(f"bench: PortSentry is left out: {reason}", file=sys.stderr)
        tools.remove("portsentry")
    if "matching" in parts:
        for reason in matching.why_not():
            print(f"bench: {reason}", file=sys.stderr)
    why_no_journal = journald.why_none() if "journal" in parts else None
    if why_no_journal is not None:
        print(f"bench: {why_no_journal}", file=sys.stderr)
    try:
        samples = _measure(tools, arguments.runs, arguments.scans) if tools else {}
        if "matching" in parts:
            samples |= matching.measure(arguments.rounds)
        if "journal" in parts and why_no_journal is None:
            samples |= journal.measure(arguments.runs)
        if "restore" in parts:
            samples |= restore.measure(arguments.rounds)
        if "commands" in parts:
            samples |= commands.measure(arguments.rounds)
    except PortwardError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return exc.exit_status
    rows = [
        summarise(what, tool, unit, values)
        for (what, unit), by_tool in samples.items()
        for tool, values in by_tool.items()
    ]
    if arguments.json:
        print(json.dumps(_as_json(rows, samples)))
    else:
        print(f"{platform.release()}, {platform.machine()}; both tools in turn in this one run\n")
        print(format_table(rows))
    return 0


Samples = dict[tuple[str, str], dict[str, list[float | None]]]


def _measure(tools: Sequence[str], runs: int, scans: int) -> Samples:
    """Return the samples of each measurement and tool; each tool guards a lab of its own."""
    addresses = [f"198.51.100.{number}" for number in range(1, _WARM_UP + runs + scans + 1)]
    samples: Samples = {
        (REACTION, "ms"): {},
        (UNCERTAIN, "ms"): {},
        (LEARNED, "ports"): {},
        (OPEN, "ports"): {},
    }
    reactions, uncertain, learned, opened = samples.values()
    with ExitStack() as stack:
        guards = []
        for tool in tools:
            lab = stack.enter_context(Lab())
            lab.add_scanner_address(*addresses)
            stack.enter_context(nmap_learned.services(lab))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portward-bench-")))
            guard = _TOOLS[tool](lab, folder)
            stack.callback(guard.stop)
            guards.append(guard)
        meters = [stack.enter_context(Reaction(guard)) for guard in guards]
        for number, address in enumerate(addresses[: _WARM_UP + runs]):
            for meter in meters:
                value = meter.measure(address)
                if number >= _WARM_UP:
                    name = meter.guard.name
                    reactions.setdefault(name, []).append(value and value.reaction)
                    uncertain.setdefault(name, []).append(value and value.uncertain)
        for number, address in enumerate(addresses[_WARM_UP + runs :]):
            for guard in guards:
                if number >= guard.scans_at_most:
                    continue
                found = nmap_learned.scan(guard, address)
                learned.setdefault(guard.name, []).append(found.opened + found.closed)
                opened.setdefault(guard.name, []).append(found.opened)
    return samples


def _as_json(rows: Sequence[Figures], samples: Samples) -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "figures": [row.as_json() for row in rows],
        "samples": {what: by_tool for (what, _), by_tool in samples.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
