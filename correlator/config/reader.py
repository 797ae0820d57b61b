"""Reads one TOML file with all its faults: typed values by key, and whatever nobody asked for.

A reader never stops at the first fault: it notes it, goes on with the default, and whoever loads the
files decides what a faulty one means. Each fault names file, line, key, what it got and what it expected.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from correlator.errors import Fault, SourceError
from correlator.model import SECOND, Micros, Source, parse_prefix

_DURATION = re.compile(r"(\d{1,9})\s*(ms|s|m|h|d|w)?")
_UNITS: dict[str, Micros] = {
    "ms": SECOND // 1000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 604_800 * SECOND,
}
_HIGHEST_PORT = 65535
LARGEST_FILE = 1 << 20
FOREVER = "forever"
_AT_LINE = re.compile(r"at line (\d+)")
_EXPECTED_TOML = "TOML; text with backslashes, such as an expression, stands in single quotes"
_HEADER = re.compile(r"\s*\[(\[?)\s*([^\]]+?)\s*\]")
_FIRST_TABLE = re.compile(rb"^[ \t]*\[", re.MULTILINE)
_KEY = re.compile(r'\s*"?([^"=\s.]+)"?\s*[=.]')

Known = Callable[[bytes], dict[str, Any] | None]
"""Knows what some files say, by their bytes."""


class File:
    """One TOML file and the faults found in it so far."""

    def __init__(self, path: Path, faults: list[Fault], *, known: Known = lambda _data: None) -> None:
        """Read the file; one that cannot be read or parsed is a fault and empty.

        What `known` returns for the file's bytes is what they say; where that is None they are parsed.
        """
        self.path = path
        self.faults = faults
        self.text = ""
        self.root: dict[str, Any] = {}
        try:
            data = read_bounded(path)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            faults.append(Fault(str(path), "file", reason, "a file we may read"))
            return
        if len(data) > LARGEST_FILE:
            faults.append(
                Fault(str(path), "file", f"more than {LARGEST_FILE} bytes", f"at most {LARGEST_FILE}")
            )
            return
        try:
            self.text = data.decode("utf-8")
            value = known(data)
            self.root = _parse(self.text) if value is None else value
        except UnicodeDecodeError as exc:
            where = f"{path}:{data.count(10, 0, exc.start) + 1}"
            faults.append(
                Fault(where, "file", f"byte 0x{data[exc.start]:02x}, which is no UTF-8", "UTF-8 text")
            )
        except _NoTomlError as exc:
            line = _AT_LINE.search(str(exc))
            where = f"{path}:{line.group(1)}" if line else str(path)
            faults.append(Fault(where, "file", f"no TOML: {exc}", _EXPECTED_TOML))
        except (ValueError, RecursionError) as exc:  # a number of thousands of digits, lists in lists
            faults.append(Fault(str(path), "file", f"no TOML that we can read: {exc}", "TOML"))

    def table(self) -> Table:
        """Return the whole file as a table."""
        return Table(self, "", self.root)

    def line_of(self, path: str) -> int | None:
        """Return the line where a key stands, as far as reading the text line by line can tell."""
        return self._lines.get(path)

    def place_of(self, path: str) -> str:
        """Return where a key stands, or should: file and line, as far as the line can be told."""
        line = self._lines.get(path) or self._lines.get(path.rpartition(".")[0])
        return f"{self.path}:{line}" if line else str(self.path)

    @functools.cached_property
    def _lines(self) -> dict[str, int]:
        """The line of each table and key, the first of the name."""
        found: dict[str, int] = {}
        current = ""
        seen: dict[str, int] = {}
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := _HEADER.match(line):
                current = header.group(2).replace('"', "")
                if header.group(1):
                    seen[current] = seen.get(current, 0) + 1
                    current = f"{current}[{seen[current]}]"
                found.setdefault(current, number)
            elif key := _KEY.match(line):
                found.setdefault(f"{current}.{key.group(1)}" if current else key.group(1), number)
        return found


class Table:
    """One table of a file: ask for each key you know, then `finish` names the rest."""

    def __init__(self, file: File, path: str, values: dict[str, Any]) -> None:
        self.file = file
        self.path = path
        self._values = values
        self._known: list[str] = []

    def over(self, values: Mapping[str, Any]) -> Table:
        """Return the same table with `values` for the keys that it does not have."""
        return Table(self.file, self.path, {**values, **self._values})

    def name_of(self, key: str) -> str:
        """Return the dotted name of a key."""
        return f"{self.path}.{key}" if self.path else key

    def place(self, key: str) -> str:
        """Return where a key stands, or should: file and line, as far as the line can be told."""
        line = self.file.line_of(self.name_of(key)) or self.file.line_of(self.path)
        return f"{self.file.path}:{line}" if line else str(self.file.path)

    def fault(self, key: str, got: Any, expected: str) -> None:
        """Note a fault at a key."""
        shown = got if isinstance(got, str) and got.startswith("no ") else _shown(got)
        self.file.faults.append(Fault(self.place(key), self.name_of(key), shown, expected))

    def has(self, key: str) -> bool:
        """Whether the key is written at all."""
        self._known.append(key)
        return key in self._values

    def text(self, key: str, default: str, *, choices: Iterable[str] = ()) -> str:
        """Return text, one of `choices` where there are any."""
        allowed = tuple(choices)
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, str) or (allowed and value not in allowed):
            expected = "one of " + ", ".join(map(repr, allowed)) if allowed else "text"
            self.fault(key, value, expected)
            return default
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of text."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(key, value, 'a list of text, such as ["a", "b"]')
            return default
        return tuple(value)

    def truth(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(key, value, "true or false")
            return default
        return value

    def number(self, key: str, default: int, *, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.fault(key, value, f"a whole number from {least} to {most}")
            return default
        return value

    def duration(
        self, key: str, default: Micros, *, least: Micros = SECOND // 1000, most: Micros | None = None
    ) -> Micros:
        """Return a length of time in microseconds, from `least` to `most`."""
        value = self._take(key)
        if value is None:
            return default
        found = parse_duration(value)
        if found is None or found < least or (most is not None and found > most):
            limit = "" if most is None else f", {most // SECOND} seconds at most"
            self.fault(key, value, f'a length of time such as "30s", "10m", "1h", "1d", "1w"{limit}')
            return default
        return found

    def duration_or_forever(self, key: str, default: Micros | None) -> Micros | None:
        """Return a length of time, or None for `forever`."""
        if self._values.get(key) == FOREVER:
            self._known.append(key)
            return None
        return self.duration(key, default or 0) or default

    def path_at(self, key: str, default: Path) -> Path:
        """Return an absolute path."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
            self.fault(key, value, "an absolute path")
            return default
        return Path(value)

    def ports(self, key: str, default: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Return ranges of ports, from `"1-1024"`, `"1,7,512-515"` or `[1, 7, "512-515"]`."""
        value = self._take(key)
        if value is None:
            return default
        found = parse_ports(value)
        if found is None:
            self.fault(key, value, 'ports from 0 to 65535, such as "1-1024" or [1, 7, "512-515"]')
            return default
        return found

    def sources(self, key: str) -> tuple[Source, ...]:
        """Return addresses and prefixes."""
        found = []
        for text in self.texts(key):
            try:
                found.append(parse_prefix(text))
            except SourceError:
                self.fault(key, text, "addresses or prefixes, such as 192.0.2.1 or 2001:db8::/32")
        return tuple(found)

    def table(self, key: str) -> Table:
        """Return a table below this one; empty where it is not written."""
        value = self._take(key)
        if value is None:
            value = {}
        elif not isinstance(value, dict):
            self.fault(key, value, f"a table [{self.name_of(key)}]")
            value = {}
        return Table(self.file, self.name_of(key), value)

    def tables(self, key: str) -> list[Table]:
        """Return a list of tables, `[[key]]`."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fault(key, value, f"tables [[{self.name_of(key)}]]")
            return []
        name = self.name_of(key)
        return [Table(self.file, f"{name}[{index}]", item) for index, item in enumerate(value, start=1)]

    def named_tables(self, key: str) -> dict[str, Table]:
        """Return the tables `[key.NAME]` by name."""
        parent = self.table(key)
        return {name: parent.table(name) for name in parent._values}  # noqa: SLF001  a table of ours

    def any_value(self, key: str) -> Any:
        """Return whatever stands there."""
        return self._take(key)

    def any_values(self) -> Mapping[str, Any]:
        """Return whatever stands in the table, by key."""
        return dict(self._values)

    def require(self, key: str, expected: str) -> bool:
        """Whether the key is there; a fault where it is not."""
        if key in self._values:
            return True
        self._known.append(key)
        self.fault(key, "no value", expected)
        return False

    def finish(self) -> None:
        """Note every key that nobody asked for, with the nearest one that exists."""
        for key, value in self._values.items():
            if key in self._known:
                continue
            self.fault(key, value, f"no such key{near_miss(key, self._known)}")

    def _take(self, key: str) -> Any:
        self._known.append(key)
        return self._values.get(key)


class _NoTomlError(Exception):
    """Says what is wrong, and in which line."""


def read_head(data: bytes) -> dict[str, Any] | None:
    """Return the keys that stand before the first table of a file; None where it cannot be told.

    What stands there parses by itself only if no text and no list goes on behind it: then these are all.
    """
    found = _FIRST_TABLE.search(data)
    try:
        return _parse(data[: found.start() if found else len(data)].decode("utf-8"))
    except (_NoTomlError, ValueError, RecursionError):
        return None


def _parse(text: str) -> dict[str, Any]:
    """Return what TOML says; what parses it is imported for that. Raises: _NoTomlError, and as `tomllib`."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _NoTomlError(str(exc)) from exc


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return what to add to "no such thing": the nearest name that there is, and all of them."""
    import difflib

    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{hint}; known here: {', '.join(names) or 'none'}"


def parse_duration(value: Any) -> Micros | None:
    """Return microseconds for `"90s"`, `"10m"`, `"1w"` or a number of seconds; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * SECOND if value >= 0 else None
    if not isinstance(value, str):
        return None
    found = _DURATION.fullmatch(value.strip())
    return int(found.group(1)) * _UNITS[found.group(2) or "s"] if found else None


def parse_ports(value: Any) -> tuple[tuple[int, int], ...] | None:
    """Return inclusive ranges; None where the text is none."""
    items = value if isinstance(value, list) else str(value).split(",") if value != "" else []
    found = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int | str):
            return None
        if isinstance(item, int) and not 0 <= item <= _HIGHEST_PORT:
            return None
        low, dash, high = str(item).strip().partition("-")
        if not (low.isascii() and low.isdigit()) or (dash and not (high.isascii() and high.isdigit())):
            return None
        first, last = int(low), int(high) if dash else int(low)
        if not 0 <= first <= last <= _HIGHEST_PORT:
            return None
        found.append((first, last))
    return tuple(found)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # written in hexadecimal, a number may have more digits than Python spells
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def read_bounded(path: Path) -> bytes:
    """Return the file's bytes; of one that is larger, one byte more than `LARGEST_FILE`.

    Raises: OSError; ValueError for what is no file, such as a pipe, on which reading would wait.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("a folder" if stat.S_ISDIR(found.st_mode) else "no regular file")
        data = file.read(
            min(found.st_size, LARGEST_FILE) + 1
        )  # room for the largest costs more than to read it
        if len(data) > found.st_size:
            data += file.read(LARGEST_FILE + 1 - len(data))  # it grows, or has no size, as in /proc
        return data
