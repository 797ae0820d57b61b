"""Write the manual pages into a folder, from the sources beside this file and the tables of the program.

    python3 docs/man/render.py FOLDER

A source is roff with a few lines of ours: `@TITLE summary` (the heading and NAME), `@COMMANDS` (every
command with its help), `@OPTIONS COMMAND...` (synopsis, arguments and options of a command), `@COMMON` (the
options that all take), `@SETTINGS` (portward.toml as it is shipped). So a page cannot say other options than
the program takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from correlator import __version__  # noqa: E402  it stands beside this folder, not on the path
from correlator.cli import build_parser  # noqa: E402

DATE = "2026-11-23"
_COMMON = ("help", "config", "json")


def write_pages(folder: Path) -> None:
    """Write every page; its file name is that of its source, `NAME.SECTION`."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(HERE.glob("*.[158]")):
        (folder / source.name).write_text(render(source), encoding="utf-8")


def render(source: Path) -> str:
    """Return one page as roff."""
    return "\n".join(_lines(source)) + "\n"


def _lines(source: Path) -> Iterator[str]:
    directives: dict[str, Callable[[str], Iterator[str]]] = {
        "@TITLE": lambda text: _title(source, text),
        "@COMMANDS": lambda _text: _commands(build_parser()),
        "@OPTIONS": lambda text: _options(_find(text.split())),
        "@COMMON": lambda _text: _common(),
        "@SETTINGS": lambda _text: _settings(),
    }
    for line in source.read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word in directives:
            yield from directives[word](rest)
        else:
            yield line


def _title(source: Path, summary: str) -> Iterator[str]:
    section = source.suffix[1:]
    kind = {"1": "User Commands", "5": "File Formats", "8": "System Administration"}[section]
    yield f'.TH {source.stem.upper()} {section} "{DATE}" "portward {__version__}" "{kind}"'
    yield ".SH NAME"
    yield f"{escape(source.stem)} \\- {escape(summary)}"


def _find(words: list[str]) -> argparse.ArgumentParser:
    parser = build_parser()
    for word in words:
        parser = _subparsers(parser).choices[word]
    return parser


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for choice in _subparsers(parser)._choices_actions:
        yield ".TP"
        yield f".B {escape(choice.dest)}"
        yield escape(choice.help or "")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the synopsis of a command, then what it takes besides the common options."""
    shown = [action for action in parser._actions if action.dest not in _COMMON]
    yield ".PP"
    parts = [f"\\fB{escape(parser.prog)}\\fR", *(_spell(action, brief=True) for action in shown)]
    yield " ".join([*parts[:1], "[\\fIcommon options\\fR]", *parts[1:]])
    for action in shown:
        if action.help:
            yield ".TP"
            yield _spell(action, brief=False)
            yield escape(action.help.replace("%%", "%"))


def _spell(action: argparse.Action, *, brief: bool) -> str:
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    value = "" if action.nargs == 0 else f"\\fI{escape(str(value))}\\fR"
    if not action.option_strings:
        return f"[{value}]" if brief and action.nargs in ("?", "*") else value
    names = action.option_strings[:1] if brief else action.option_strings
    text = ", ".join(f"\\fB{escape(name)}\\fR" for name in names) + (f" {value}" if value else "")
    return f"[{text}]" if brief and not action.required else text


def _common() -> Iterator[str]:
    for action in _find(["status"])._actions:
        yield ".TP"
        yield _spell(action, brief=False)
        yield escape(action.help or "")


def _settings() -> Iterator[str]:
    text = (ROOT / "correlator/config/portward.toml").read_text(encoding="utf-8")
    yield ".nf"
    yield from (_break(escape(line)) for line in text.splitlines())
    yield ".fi"


def _break(line: str) -> str:
    """Let a list of numbers that is wider than any terminal be broken."""
    return line.replace(",", ",\\:") if len(line) > 120 else line


def escape(text: str) -> str:
    """Return text as roff shows it, no character of it a command."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{plain}" if plain.startswith((".", "\\(aq")) else plain


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
