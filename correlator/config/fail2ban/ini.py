r"""Reads one file of Fail2ban's ini dialect into raw sections; says all that makes it unreadable.

The dialect is Python's ConfigParser's: option names are lower case, `=` or `:` ends them, `#` and `;` begin
a comment line, a `;` after white space cuts the rest of a line (inside expressions too: authors write `\;`),
more indented lines continue a value, and an option given twice in one section loses the file. Nothing is
substituted here.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from correlator.errors import Fault

DEFAULT = "DEFAULT"
_LARGEST_FILE = 1 << 20
_SHOWN = 80

RawSections = Mapping[str, Mapping[str, str]]


def read_ini(path: Path, faults: list[Fault]) -> RawSections | None:
    """Return the sections of a file, values as written; None, and why as a fault, where it is unreadable."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as exc:
        faults.append(Fault(str(path), "file", exc.strerror or str(exc), "a file we may read"))
        return None
    if len(data) > _LARGEST_FILE:
        faults.append(
            Fault(str(path), "file", f"more than {_LARGEST_FILE} bytes", f"at most {_LARGEST_FILE}")
        )
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        faults.append(Fault(str(path), "file", f"a byte that is not UTF-8 at {exc.start}", "UTF-8 text"))
        return None
    return parse_ini(text, str(path), faults)


def parse_ini(text: str, where: str, faults: list[Fault]) -> RawSections | None:
    """Return the sections of a text, None where it is not in the dialect."""
    parser = configparser.RawConfigParser(
        inline_comment_prefixes=(";",),
        default_section="",  # no section can have this name: [DEFAULT] is read like any other
    )
    try:
        parser.read_string(text, where)
    except configparser.MissingSectionHeaderError as exc:
        faults.append(Fault(f"{where}:{exc.lineno}", "file", _shown(exc.line), "a [section] first"))
    except configparser.ParsingError as exc:
        faults += [
            Fault(f"{where}:{line}", "file", text_of_line[:_SHOWN], "option = value, [section], or a comment")
            for line, text_of_line in exc.errors
        ]
    except configparser.DuplicateSectionError as exc:
        faults.append(
            Fault(f"{where}:{exc.lineno}", f"[{exc.section}]", "a second time", "each section once")
        )
    except configparser.DuplicateOptionError as exc:
        faults.append(
            Fault(
                f"{where}:{exc.lineno}", f"[{exc.section}] {exc.option}", "a second time", "each option once"
            )
        )
    else:
        return {name: dict(parser.items(name)) for name in parser.sections()}
    return None


def _shown(line: str) -> str:
    return repr(line.rstrip("\n")[:_SHOWN])
