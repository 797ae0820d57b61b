"""What the import contract cannot see: a pure module may reach a clock or a file without any import.

import-linter (make lint) holds the pure modules to their imports, the standard library's included; which
modules those are is read from its contract, so that there is one list.
"""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PURE = next(contract for contract in CONTRACTS if contract["name"] == "The core is pure")["source_modules"]
"""Modules, and folders of them."""
FILES = sorted(
    file
    for path in (ROOT.joinpath(*module.split(".")) for module in PURE)
    for file in (path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")])
)
CLOCKS = {"now", "today", "utcnow"}
"""Methods of `datetime` and `date` that read a clock."""
DOORS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
"""Built-in functions that reach the world, or import without an import statement."""


def find_impurities(source: str) -> list[str]:
    """Return what a module reads or does that it was not told, as `line: name`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            found.append(f"{node.lineno}: .{node.attr}")
        elif isinstance(node, ast.Name) and node.id in DOORS:
            found.append(f"{node.lineno}: {node.id}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                f"{node.lineno}: {name}" for name in names if name.split(".")[0] in {"importlib", "sys"}
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_pure_module_reads_no_clock_and_opens_nothing(path: Path) -> None:
    """Time and text are arguments: replaying a file gives the same decisions every time."""
    assert find_impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import datetime\nat = datetime.datetime.now(datetime.UTC)",
        "from datetime import date\ntoday = date.today",
        "text = open('/etc/passwd').read()",
        "time = __import__('time')",
        "import importlib",
        "from importlib import import_module",
        "import sys",
    ],
)
def test_what_would_break_the_rule_is_found(source: str) -> None:
    """The check itself bites."""
    assert find_impurities(source)
