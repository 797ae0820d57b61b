"""The filters that there are, the vendor's and the site's: which, and each as far as somebody asks for it.

Who only lists them imports nothing that runs one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.config.filter_references import is_path, open_filter
from correlator.config.filters import define_filter, open_file, prove_filter
from correlator.config.parsed import PARSED, ParsedTexts
from correlator.config.proofs import PROOFS, Proofs
from correlator.config.reader import File, near_miss, read_bounded, read_head
from correlator.config.vendor import built_file, vendor_folder
from correlator.errors import Fault
from correlator.matching.filter_definition import FilterDefinition, is_named

if TYPE_CHECKING:
    from correlator.counting.jail_definition import JailDefinition


class FilterShelf:
    """The filters that there are, each loaded when somebody asks for it; a site's file wins whole."""

    def __init__(self, site_folder: Path) -> None:
        """Look into the site's folder first, then into the vendor's."""
        self.faults: list[Fault] = []
        self.loaded: dict[str, FilterDefinition] = {}
        self.proofs = Proofs(built_file(PROOFS))
        """Whose tests need not be run."""
        self.paths: dict[str, Path] = {}
        for folder in (vendor_folder("filters"), site_folder):
            self.paths |= {name[: -len(".toml")]: folder / name for name in _filter_files(folder)}
        self._parsed = ParsedTexts(built_file(PARSED))
        self._asked: set[str] = set()
        self._read: dict[str, tuple[FilterDefinition | None, File, list[Fault]]] = {}

    def load_for(self, jail: JailDefinition, name: str) -> FilterDefinition | None:
        """Return a filter as a jail uses it; one of Fail2ban's reads what its jail says: each has its own."""
        if not is_path(name):
            return self.load(name)
        instance = f"{_short(name)}@{jail.name}"
        if instance not in self._asked:
            self._asked.add(instance)
            definition, wrong = open_filter(name, is_journal=not jail.files)
            self.faults += wrong
            if definition is not None:
                self.loaded[instance] = _of_jail(definition, instance, jail)
        return self.loaded.get(instance)

    def load(self, name: str) -> FilterDefinition | None:
        """Return a filter; None where there is none, or where it has faults: they are noted once."""
        if name not in self._asked and name in self.paths:
            definition, file, wrong = self._reading(name)
            if definition is not None:
                definition, wrong = prove_filter(definition, file, self.proofs)
            self.faults += wrong
            if definition is not None:
                self.loaded[name] = definition
        self._asked.add(name)
        return self.loaded.get(name)

    def recommend(self, name: str) -> Mapping[str, Any]:
        """Return what a filter recommends for its jail, nothing where its file has faults.

        Raises: UnknownFilterError where there is no such filter.
        """
        if name not in self.paths:
            from correlator.config.settings import UnknownFilterError

            raise UnknownFilterError(f"a filter that is there{near_miss(name, self.paths)}")
        definition, _file, _faults = self._reading(name)
        return {} if definition is None else definition.jail

    def read(self, name: str) -> tuple[FilterDefinition | None, list[Fault]]:
        """Return a filter without trying whether it runs, or None with its faults."""
        definition, _file, faults = self._reading(name)
        return definition, faults

    def may_read(self, name: str, identifier: str) -> bool:
        """Whether a filter may read lines of this program, as far as the head of its file tells."""
        try:
            data = read_bounded(self.paths[name])
        except (OSError, ValueError):
            return True
        head = self._parsed.find(data)
        if head is None:
            head = read_head(data)
        programs = [] if head is None else head.get("identifiers", [])
        if head is None or not isinstance(programs, list) or not all(map(_is_plain, programs)):
            return True
        return is_named(identifier, programs)

    def _reading(self, name: str) -> tuple[FilterDefinition | None, File, list[Fault]]:
        """Return what stands in a filter's file, read once: what is proved and what runs must be the same."""
        if name not in self._read:
            file, faults = open_file(self.paths[name], known=self._parsed.find)
            is_proved = not faults and self.proofs.has(name, file.text)
            definition = None if faults else define_filter(file, is_proved=is_proved)
            self._read[name] = (definition, file, faults)
        return self._read[name]


def _is_plain(program: Any) -> bool:
    """Whether a program's name stands for itself, and not for what a variable or a list says."""
    return isinstance(program, str) and "$" not in program


def _short(reference: str) -> str:
    """Return what a reference is called where it is shown: the name of its file."""
    return Path(reference.partition("[")[0]).name


def _of_jail(definition: FilterDefinition, name: str, jail: JailDefinition) -> FilterDefinition:
    """Return a filter that says nothing of its sources, with those of its jail."""
    how = definition.whole_lines
    return replace(
        definition,
        name=name,
        files=(*definition.files, *jail.files),
        journal=() if jail.files else definition.journal,
        whole_lines=None if how is None else replace(how, zone=jail.zone),
    )


def _filter_files(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    except (FileNotFoundError, NotADirectoryError):
        return []
