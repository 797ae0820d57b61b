"""Remembers which filter files have passed their own tests, so that a start need not run all of them again.

A proof is a digest of the filter's name and text. It holds for the code, the Python and the `regex` that ran
the tests; with any others nothing here is believed. Nor is a file of proofs that anybody but root and
ourselves can have written. A filter that failed leaves no trace: it is tried every time. Shipped filters are
proved where the package is built:

    python3 -m correlator.config.proofs filters > proved.json
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

from correlator import __version__
from correlator.config.trusted import read_trusted

PROOFS = "proved.json"
"""What the file is called, in the folder of the shipped filters and in the correlator's state."""
_PACKAGE = Path(__file__).resolve().parent.parent
_DECIDING = ("", "alerts", "config", "counting", "kernel", "lines", "matching")
"""The folders whose code can change what a filter's test says."""
_LARGEST = 1 << 20
_MOST = 4096
_DIGEST = re.compile("[0-9a-f]{64}")


class Proofs:
    """The digests that are believed, and those that were added since."""

    def __init__(self, *files: Path) -> None:
        """Take what the files hold that can be believed."""
        self._files = files
        self._found: set[str] = set()
        self._added: set[str] = set()

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset().union(*map(_read, self._files))

    def has(self, name: str, text: str) -> bool:
        """Whether the tests of this filter are known to pass."""
        digest = _digest(name, text)
        if digest not in self._known and digest not in self._added:
            return False
        self._found.add(digest)
        return True

    def add(self, name: str, text: str) -> None:
        """Note that the tests of this filter passed just now."""
        self._added.add(_digest(name, text))

    @property
    def is_news(self) -> bool:
        """Whether anything was added."""
        return bool(self._added)

    def dump(self) -> bytes:
        """Return what a file of proofs holds: what was added, and what was asked for and known."""
        return dump_proofs(self._found | self._added)


def dump_proofs(digests: Iterable[str]) -> bytes:
    """Return what a file of these proofs holds."""
    value = {"engine": engine_digest(), "passed": sorted(digests)[:_MOST]}
    return (json.dumps(value, indent=0) + "\n").encode()


@functools.cache
def engine_digest() -> str:
    """Return what names the code, the Python and the `regex` that run the tests."""
    parts = [__version__, sys.implementation.name, sys.version.split()[0]]
    for label, folder in (*((name, str(_PACKAGE / name)) for name in _DECIDING), *_regex()):
        for name in sorted(name for name in os.listdir(folder) if name.endswith(".py")):
            with open(f"{folder}/{name}", "rb", buffering=0) as file:
                parts += [f"{label}/{name}", hashlib.sha256(file.read()).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _regex() -> list[tuple[str, str]]:
    """Return the folder of the `regex` that would be imported: its files hold its version."""
    found = PathFinder.find_spec("regex")
    folders = [] if found is None else found.submodule_search_locations or []
    return [("regex", folder) for folder in folders]


def _digest(name: str, text: str) -> str:
    return hashlib.sha256(f"{name}\0{text}".encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> frozenset[str]:
    """Return the digests in a file; none where it cannot be believed, or is of another engine."""
    try:
        value = json.loads(read_trusted(path, most=_LARGEST))
    except (ValueError, RecursionError):
        return frozenset()
    if not isinstance(value, dict) or value.get("engine") != engine_digest():
        return frozenset()
    passed = value.get("passed")
    texts = passed if isinstance(passed, list) else []
    return frozenset(text for text in texts if isinstance(text, str) and _DIGEST.fullmatch(text))


def _main(folder: Path) -> int:
    """Prove each filter of a folder, and print the proofs; status 1 where one fails."""
    from correlator.config.filters import load_filter

    proofs = Proofs()
    faults = [
        fault for path in sorted(folder.glob("*.toml")) for fault in load_filter(path, proofs=proofs)[1]
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.stdout.buffer.write(proofs.dump())
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
