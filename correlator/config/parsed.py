"""Keeps what the TOML of filter files says, so that nobody waits for it to be parsed at each command.

A line a text: its SHA-256, and what it says as JSON. That follows from the text alone, whichever code asks,
so that nothing here can be out of date: a text that changed has another digest, and is parsed. What it means
as a filter, and what is wrong with it, is not kept: that is read from these values each time. Dates and
times, which JSON has not, are not kept. Made where the package is built, or the checkout:

    python3 -m correlator.config.parsed filters > parsed.json
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from correlator.config.reader import read_bounded
from correlator.config.trusted import read_trusted

PARSED = "parsed.json"
"""What the file is called, beside the proofs of the shipped filters."""
_LARGEST = 1 << 24
_DIGEST = 64
"""Characters before the value."""


class ParsedTexts:
    """The texts that are known, and what each says."""

    def __init__(self, *files: Path) -> None:
        """Take what the files hold that can be believed."""
        self._files = files

    @functools.cached_property
    def _known(self) -> Mapping[bytes, bytes]:
        lines = (line for file in self._files for line in read_trusted(file, most=_LARGEST).splitlines())
        return {line[:_DIGEST]: line[_DIGEST:] for line in lines}

    def find(self, data: bytes) -> dict[str, Any] | None:
        """Return what a file of these bytes says; None where it is not known."""
        if (line := self._known.get(_digest(data))) is None:
            return None
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def dump_parsed(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of such a file; none for what is no TOML."""
    import tomllib

    for data in texts:
        try:
            value = tomllib.loads(data.decode())
            line = json.dumps(value)
        except (TypeError, ValueError):
            continue
        if json.loads(line) == value:
            yield b"%b%b\n" % (_digest(data), line.encode())


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _main(folder: Path) -> None:
    """Print what the files of a folder say."""
    texts = map(read_bounded, sorted(folder.glob("*.toml")))
    sys.stdout.buffer.writelines(dump_parsed(texts))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
