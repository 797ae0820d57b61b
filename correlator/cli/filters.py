"""`filter test`, `filter new`, `filter list`: write a filter, try it, and see which there are."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.cli.output import colour, complain, print_json, print_table
from correlator.errors import Fault, PortwardError
from correlator.model import json_ready, printable

if TYPE_CHECKING:
    from correlator.config.filter_shelf import FilterShelf
    from correlator.matching.filter_definition import FilterDefinition

_LONGEST_SAMPLE = 1 << 20
_LOGS = Path("/var/log")


class SampleError(PortwardError):
    """Sample lines that no filter can be drafted from; says why."""

    exit_status = 65  # EX_DATAERR


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's commands."""
    group = commands.add_parser("filter", help="write filters, try them, and see which there are")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    test = actions.add_parser(
        "test",
        parents=[common],
        help="run the tests inside filters, and warn of what is dangerous or slow in them",
    )
    test.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a filter's name, a filter file, or a folder of them (default: all that there are)",
    )
    test.set_defaults(run=_run_tests)
    new = actions.add_parser("new", parents=[common], help="draft a filter file from sample lines")
    new.add_argument("--from", dest="samples", required=True, metavar="FILE", help="sample lines; - is stdin")
    new.add_argument("name", nargs="?", metavar="NAME", help="the filter's name (default: the file's)")
    new.set_defaults(run=_run_new)
    listing = actions.add_parser("list", parents=[common], help="which filters there are, what they read")
    listing.add_argument("--markdown", action="store_true", help="as the table in docs/filters.md")
    listing.set_defaults(run=_run_list)


def _run_tests(options: argparse.Namespace) -> int:
    results = [_test(name, path) for name, path in _chosen(options)]
    if options.json:
        print_json("filter-test", filters=[result for result, _faults in results])
    else:
        for result, faults in results:
            _show(result, faults)
    failed = sum(bool(faults) for _result, faults in results)
    warned = sum(len(result["warnings"]) for result, _faults in results)
    if not options.json:
        print(f"{_several(len(results), 'filter')}, {failed} with faults, {_several(warned, 'warning')}")
    return 1 if failed or not results else 0


def _chosen(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) of each filter to test. Raises: SampleError for a path that is nothing."""
    from correlator.config.reader import near_miss

    shelf = _shelf(options).paths
    if not options.paths:
        yield from sorted(shelf.items())
    for text in options.paths:
        path = Path(text)
        if text in shelf:  # whatever lies in the folder where we stand
            yield text, shelf[text]
        elif path.is_dir():
            yield from ((file.stem, file) for file in sorted(path.glob("*.toml")))
        elif path.exists() or "/" in text:
            yield path.stem, path
        else:
            raise SampleError(f"no filter {text!r}{near_miss(text, shelf)}")


def _shelf(options: argparse.Namespace) -> FilterShelf:
    from correlator.config.filter_shelf import FilterShelf
    from correlator.config.vendor import settings_file

    return FilterShelf(settings_file(options.config).parent / "filters")


def _test(name: str, path: Path) -> tuple[dict[str, Any], list[Fault]]:
    from correlator.config.filter_references import open_filter
    from correlator.matching.pattern_review import review_filter
    from correlator.reading import review_files

    definition, faults = open_filter(str(path.absolute()))
    is_ours = definition is not None and definition.whole_lines is None
    warnings = sorted(set(review_filter(definition))) if is_ours and definition is not None else []
    warnings += [] if definition is None else [("", warning) for warning in review_files(definition)]
    result = {
        "filter": name,
        "file": str(path),
        "patterns": 0 if definition is None else len(definition.patterns),
        "tests": 0 if definition is None else len(definition.tests),
        "faults": faults,
        "warnings": [{"pattern": pattern, "warning": warning} for pattern, warning in warnings],
    }
    return result, faults


def _show(result: dict[str, Any], faults: Sequence[Fault]) -> None:
    if faults:
        print(colour(f"FAILED  {result['filter']}", "bad"))
    else:
        sound = f"{_several(result['patterns'], 'pattern')}, {_several(result['tests'], 'test')} passed"
        print(f"{colour('ok', 'good')}      {result['filter']}: {sound}")
        if not result["tests"]:
            print(colour("        no tests: nothing shows that it works, or whom it must not block", "warn"))
    for fault in faults:
        print(f"        {printable(fault.where)}: {printable(fault.key)}")
        print(f"          expected {printable(fault.expected)}")
        print(f"          got      {printable(fault.got)}")
    for item in result["warnings"]:
        of = f"pattern {item['pattern']!r}: " if item["pattern"] else ""
        print(f"        {colour('warning', 'warn')} {of}{printable(item['warning'])}")


def _run_new(options: argparse.Namespace) -> int:
    from correlator.config.filter_draft import DraftError
    from correlator.config.record_draft import draft_filter

    lines = _samples(options.samples)
    name = options.name or ("mine" if options.samples == "-" else Path(options.samples).stem)
    path = Path(options.samples).absolute()
    files = (str(path),) if path.is_relative_to(_LOGS) else ()
    try:
        draft = draft_filter(name, lines, files=files)
    except DraftError as exc:
        raise SampleError(f"{options.samples}: {exc}") from exc
    if options.json:
        print_json("filter-draft", name=name, text=draft)
    else:
        print(draft, end="")
    complain(f"save it as filters/{name}.toml beside your portward.toml, then: portward filter test {name}")
    return 0


def _samples(file: str) -> list[str]:
    """Return the sample lines. Raises: SampleError where there are none or too many."""
    if file == "-":
        if sys.stdin is None:
            raise SampleError("standard input is closed, expected sample lines")
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        text = sys.stdin.read(_LONGEST_SAMPLE + 1)
    else:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read(_LONGEST_SAMPLE + 1)
    if len(text) > _LONGEST_SAMPLE:
        raise SampleError(
            f"{file}: more than {_LONGEST_SAMPLE} bytes, expected only lines that the filter is to read"
        )
    return [line.rstrip("\r") for line in text.split("\n")]


def _run_list(options: argparse.Namespace) -> int:
    rows = []
    shelf = _shelf(options)
    for name in sorted(shelf.paths):
        definition, faults = shelf.read(name)
        for fault in faults:
            complain(f"portward: {fault}")
        if definition is not None:
            rows.append(definition)
    if options.json:
        print_json("filters", filters=[_as_data(definition) for definition in rows])
    elif options.markdown:
        print("| filter | reads | counts, and blocks for |\n|---|---|---|")
        for definition in rows:
            reads = ", ".join(f"`{text}`" for text in (*_programs(definition), *definition.files))
            print(
                f"| **{definition.name}** {definition.description} | {reads} | {_recommended(definition)} |"
            )
    else:
        print_table(
            ("FILTER", "PROGRAMS", "JAIL", "DESCRIPTION"),
            (
                (
                    definition.name,
                    ",".join(_programs(definition)) or "-",
                    _recommended(definition),
                    definition.description,
                )
                for definition in rows
            ),
        )
    return 0


def _programs(definition: FilterDefinition) -> list[str]:
    return sorted(identifier for identifier in definition.identifiers if identifier)


def _recommended(definition: FilterDefinition) -> str:
    """Return the recommended jail in words: `5 strikes in 10m: 1h`."""
    jail = definition.jail
    if not jail:
        return "-"
    unit = {"weight": "point", "strikes": "strike"}
    count = str(jail.get("count", "strikes"))
    what = unit.get(count, count.replace("distinct ", "different "))
    threshold = _several(jail.get("threshold", 1), what)
    return f"{threshold} in {jail.get('span', '1h')}: {jail.get('block_for', '1h')}"


def _several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _as_data(definition: FilterDefinition) -> dict[str, Any]:
    return {
        "filter": definition.name,
        "file": definition.where,
        "description": definition.description,
        "identifiers": sorted(definition.identifiers),
        "files": definition.files,
        "patterns": [pattern.name for pattern in definition.patterns],
        "tests": len(definition.tests),
        "jail": json_ready(definition.jail),
    }
