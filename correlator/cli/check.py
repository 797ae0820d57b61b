"""`check`: the effective configuration, and all faults at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from correlator.cli.output import complain, print_json, print_table
from correlator.errors import Fault

if TYPE_CHECKING:
    from correlator.counting.jail_definition import JailDefinition
    from correlator.matching.filter_definition import FilterDefinition


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add this group's command."""
    check = commands.add_parser(
        "check", parents=[common], help="the effective configuration, all faults at once"
    )
    check.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from correlator.config.site import load_site
    from correlator.config.vendor import vendor_folder
    from correlator.counting.jail_definition import format_span
    from correlator.ignores import parse_ignore_file

    site = load_site(options.config)
    faults = list(site.faults)
    has_ignore = site.paths.ignore.exists()
    if has_ignore:
        try:
            text = site.paths.ignore.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            faults.append(
                Fault(str(site.paths.ignore), "file", exc.strerror or str(exc), "a file we may read")
            )
        else:
            faults += parse_ignore_file(text, str(site.paths.ignore))[1]
    if not site.jails and not faults:
        expected = "at least one [jail.NAME] here or in jails.d: nothing else blocks anybody"
        faults.append(Fault(str(site.where), "jail", "no jail", expected))
    ours = str(vendor_folder("filters"))
    warnings = [
        {"filter": name, "pattern": pattern, "warning": warning}
        for name, definition in site.filters.items()
        if definition.whole_lines is None and not definition.where.startswith(ours)
        for pattern, warning in _review(definition)
    ]
    if options.json:
        print_json(
            "check",
            settings=str(site.where),
            paths={name: str(path) for name, path in asdict(site.paths).items()},
            filters={name: definition.where for name, definition in site.filters.items()},
            jails=site.jails,
            faults=faults,
            notes=site.notes,
            warnings=warnings,
        )
        return 1 if faults else 0
    print(f"settings  {site.where}")
    print(f"alert log {site.paths.alert_log}")
    print(f"ignore    {site.paths.ignore}" + ("" if has_ignore else " (not there)"))
    for name, definition in site.filters.items():
        print(
            f"filter    {name}: {len(definition.patterns)} patterns, {len(definition.tests)} tests passed,"
            f" {definition.where}"
        )
    print_table(
        ("JAIL", "MODE", "FILTERS", "KEY", "COUNT", "THRESHOLD", "SPAN", "BLOCK FOR", "SPOOFABLE", "ACTIONS"),
        (
            (
                jail.name,
                "block" if jail.is_blocking else "observe",
                ",".join(jail.filters),
                jail.key.value,
                ", ".join((f"{jail.count.value} {jail.field}".strip(), *_only(jail))),
                f"{jail.threshold}, all of {', '.join(jail.all_of)}" if jail.all_of else jail.threshold,
                format_span(jail.span),
                ", ".join(
                    "forever" if length is None else format_span(length)
                    for length in jail.escalate or (jail.block_for,)
                ),
                f"{format_span(jail.spoofable_block_for)}, {jail.spoofable_a_minute}/m",
                ",".join(jail.actions),
            )
            for jail in site.jails.values()
        ),
    )
    for note in site.notes:
        complain(f"note: {note}")
    for item in warnings:
        of = f", pattern {item['pattern']!r}" if item["pattern"] else ""
        complain(f"warning: filter {item['filter']}{of}: {item['warning']}")
    for fault in faults:
        complain(f"fault: {fault}")
    print(f"{len(faults)} faults" if len(faults) != 1 else "1 fault")
    return 1 if faults else 0


def _review(definition: FilterDefinition) -> list[tuple[str, str]]:
    """Return (pattern, warning) for what a site's own filter should not do; ours were looked at before."""
    from correlator.matching.pattern_review import review_filter
    from correlator.reading import review_files

    return [
        *(("", warning) for warning in review_files(definition)),
        *sorted(set(review_filter(definition))),
    ]


def _only(jail: JailDefinition) -> Iterator[str]:
    """Yield what alone counts: `only signature 1000001 2010935`."""
    for name, values in jail.only.items():
        yield f"only {name} {' '.join(sorted(values))}"
