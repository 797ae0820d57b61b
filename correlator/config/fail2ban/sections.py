"""Merges the files that make up one of Fail2ban's configurations, and reads options from the whole.

Which files: NAME.conf, NAME.d/*.conf, NAME.local, NAME.d/*.local, each with what it includes before and
after it and the `.local` beside it; later files win option by option. `%(name)s` is substituted while an
option is read. A file with faults is left out and said; the others count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from correlator.config.fail2ban.ini import DEFAULT, RawSections, read_ini
from correlator.errors import Fault

INCLUDES = "INCLUDES"
_DEEPEST = 10
_MOST_FILES = 500
_NAME = re.compile(r"%\(([^)]+)\)s")
_LONGEST_VALUE = 1 << 18  # a value that doubles itself ten times over must not eat the memory


class SubstitutionError(ValueError):
    """A value that cannot be substituted: an unknown name, a stray `%`, or one that contains itself."""


@dataclass(frozen=True, slots=True)
class Option:
    """A value as written, and the file it comes from."""

    raw: str
    where: str


@dataclass(slots=True)
class Sections:
    """The merged sections, with the values that were overwritten once."""

    where: str
    sections: dict[str, dict[str, Option]] = field(default_factory=dict)
    defaults: dict[str, Option] = field(default_factory=dict)
    known: dict[str, dict[str, Option]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """Every file that was read or looked for: what to watch for changes."""

    def has(self, section: str) -> bool:
        """Whether any file has this section."""
        return section in self.sections

    def names(self, section: str) -> Iterator[str]:
        """Yield the options that are written in a section itself."""
        yield from self.sections.get(section, {})

    def has_own(self, section: str, option: str) -> bool:
        """Whether an option is written in a section itself."""
        return option in self.sections.get(section, {})

    def find(self, section: str, option: str) -> Option | None:
        """Return an option of a section, else of [DEFAULT]."""
        return self.sections.get(section, {}).get(option) or self.defaults.get(option)

    def where_is(self, section: str, option: str) -> str:
        """Return the file that an option comes from."""
        found = self.find(section, option)
        return self.where if found is None else found.where

    def read(self, section: str, option: str, variables: Mapping[str, str]) -> str | None:
        """Return an option with every `%(name)s` put in; None where it is nowhere.

        Raises: SubstitutionError.
        """
        option = option.lower()
        raw = variables.get(option)
        if raw is None:
            found = self.find(section, option)
            if found is None:
                return None
            raw = found.raw
        return self.substitute(section, raw, variables)

    def substitute(self, section: str, raw: str, variables: Mapping[str, str]) -> str:
        """Return a value as this section sees it. Raises: SubstitutionError."""
        budget = [_LONGEST_VALUE]
        return "".join(self._pieces(section, raw, variables, 1, budget))

    def _pieces(
        self, section: str, raw: str, variables: Mapping[str, str], depth: int, budget: list[int]
    ) -> Iterator[str]:
        if depth > _DEEPEST:
            raise SubstitutionError(f"more than {_DEEPEST} levels of %(...)s, in {raw[:60]!r}")
        position = 0
        while (percent := raw.find("%", position)) >= 0:
            yield raw[position:percent]
            if raw.startswith("%%", percent):
                yield "%"
                position = percent + 2
                continue
            found = _NAME.match(raw, percent)
            if found is None:
                raise SubstitutionError(f"a single % (write %%) in {raw[percent : percent + 40]!r}")
            value = self._value_of(section, found[1], variables)
            budget[0] -= len(value)
            if budget[0] < 0:
                raise SubstitutionError(f"longer than {_LONGEST_VALUE} characters")
            if "%" in value:
                yield from self._pieces(section, value, variables, depth + 1, budget)
            else:
                yield value
            position = found.end()
        yield raw[position:]

    def _value_of(self, section: str, name: str, variables: Mapping[str, str]) -> str:
        """Return the raw value that `%(name)s` stands for."""
        lower = name.lower()  # sections too: one with a capital letter is out of reach
        if lower in variables:
            return variables[lower]
        if lower == "__name__":
            return section
        other, slash, option = lower.rpartition("/")
        if not slash:
            found = self.find(section, option)
        elif other == "known":
            found = self.known.get(section, {}).get(option) or self.defaults.get(option)
        elif other == "default":
            found = self.defaults.get(option)
        elif other in self.sections:
            found = self.find(other, option)
        else:
            raise SubstitutionError(f"%({name})s: no section [{other}]")
        if found is None:
            raise SubstitutionError(f"%({name})s: no such option")
        return found.raw


def load_sections(base: Path, faults: list[Fault]) -> Sections | None:
    """Return the configuration named `base` (a path without suffix), None where no file of it is there."""
    return _Loader(base, faults).load()


class _Loader:
    """Reads the files of one configuration, each once, and merges them in Fail2ban's order."""

    def __init__(self, base: Path, faults: list[Fault]) -> None:
        self._base = base
        self._faults = faults
        self._merged = Sections(f"{base}.conf")
        self._read: dict[Path, RawSections | None] = {}

    def load(self) -> Sections | None:
        """Return all files merged, None where there is none."""
        folder = Path(f"{self._base}.d")
        parts = [
            Path(f"{self._base}.conf"),
            *sorted(folder.glob("*.conf")),
            Path(f"{self._base}.local"),
            *sorted(folder.glob("*.local")),
        ]
        present = [part for part in parts if part.is_file()]
        self._merged.files += [folder, *parts]
        listed = frozenset(part.resolve() for part in present)
        for part in present:
            for path in self._expand(part, listed):
                self._merge(path)
        return self._merged if present else None

    def _expand(
        self, path: Path, listed: frozenset[Path], above: frozenset[Path] = frozenset()
    ) -> Iterator[Path]:
        """Yield a file with what it includes, in the order of merging; what is not there is passed over."""
        includes = (self._open(path) or {}).get(INCLUDES, {})
        inside = above | {path.resolve()}
        yield from self._included(path, includes.get("before", ""), listed, inside)
        yield path
        local = path.with_suffix(".local")
        if local.resolve() not in inside | listed:
            yield from self._included(path, local.name, listed, inside)
        yield from self._included(path, includes.get("after", ""), listed, inside)

    def _included(
        self, path: Path, names: str, listed: frozenset[Path], inside: frozenset[Path]
    ) -> Iterator[Path]:
        for name in filter(None, map(str.strip, names.splitlines())):
            other = path.parent / name
            if other not in self._merged.files:
                self._merged.files.append(other)
            if len(self._merged.files) > _MOST_FILES:
                self._faults.append(Fault(str(path), "[INCLUDES]", f"more than {_MOST_FILES} files", "fewer"))
                return
            if other.resolve() not in inside and other.is_file():
                yield from self._expand(other, listed, inside)

    def _open(self, path: Path) -> RawSections | None:
        if path not in self._read:
            self._read[path] = read_ini(path, self._faults)
        return self._read[path]

    def _merge(self, path: Path) -> None:
        merged = self._merged
        for header, options in (self._open(path) or {}).items():
            values = {name: Option(text, str(path)) for name, text in options.items()}
            if header == INCLUDES:
                continue
            if header == DEFAULT:
                merged.defaults |= values
                continue
            name, question, condition = header.partition("?")
            if question:
                values = {f"{option}?{condition}": value for option, value in values.items()}
            section = merged.sections.setdefault(name, {})
            merged.known.setdefault(name, {}).update(
                {option: section[option] for option in values if option in section}
            )
            section |= values
