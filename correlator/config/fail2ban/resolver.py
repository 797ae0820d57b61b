"""Puts the options of a filter or an action together: [Definition], over it [Init], over it the parameters.

After that every `<tag>` is replaced by what stands there, or in another section; with a family in force,
`tag?family=inet6` comes before `tag`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from correlator.config.fail2ban.sections import Sections, SubstitutionError
from correlator.config.fail2ban.tags import TagError, replace_tags
from correlator.errors import Fault

DEFINITION = "Definition"
INIT = "Init"
KNOWN = "known"


class Resolver:
    """The options of one filter or action; what cannot be put together becomes a fault."""

    def __init__(
        self,
        sections: Sections,
        names: Sequence[str],
        parameters: Mapping[str, str],
        *,
        variables: Mapping[str, str],
        faults: list[Fault],
        dynamic: Collection[str] = (),
    ) -> None:
        """Take a reference's parameters; `variables`: what else `%(...)s` sees; `dynamic` tags stay."""
        self._sections = sections
        self._names = names
        self._variables = {name.lower(): value for name, value in {**variables, **parameters}.items()}
        self._faults = faults
        self._dynamic = frozenset(dynamic)
        self._family = ""
        self._init: dict[str, str] = {}
        own: dict[str, str] = {}
        for name in names:
            self._take(DEFINITION, name, own)
        for name in sections.names(INIT):
            self._take_own(name)
        self.combined: dict[str, str] = {**own, **self._init, **parameters}

    @property
    def is_family_dependent(self) -> bool:
        """Whether any option has another value for a family of addresses."""
        return any("?family=" in name for name in self.combined)

    def resolve(self, family: str = "") -> dict[str, str]:
        """Return the options by their names, final."""
        self._family = family
        final = {}
        for name in self._names:
            raw = self._value(name)
            if raw is None:
                continue
            try:
                final[name] = replace_tags(raw, self._look_up)
            except (TagError, SubstitutionError) as exc:
                self._note(DEFINITION, name, exc)
        return final

    def _value(self, name: str) -> str | None:
        if self._family and f"{name}?family={self._family}" in self.combined:
            return self.combined[f"{name}?family={self._family}"]
        return self.combined.get(name)

    def _take(self, section: str, name: str, into: dict[str, str]) -> None:
        try:
            value = self._sections.read(section, name, self._variables)
        except SubstitutionError as exc:
            self._note(section, name, exc)
            return
        if value is not None:
            into[name] = value

    def _take_own(self, name: str) -> None:
        """Take what [Init] itself says, also where a parameter replaces it: `<known/name>` is that."""
        found = self._sections.find(INIT, name)
        try:
            if found is not None:
                self._init[name] = self._sections.substitute(INIT, found.raw, self._variables)
        except SubstitutionError as exc:
            self._note(INIT, name, exc)

    def _look_up(self, tag: str) -> str | None:
        if tag in self._dynamic:
            return None
        value = self._value(tag)
        if value is not None:
            # `chain = <known/chain>`: whatever the action itself says
            return self._known(tag) if value == f"<{KNOWN}/{tag}>" else value
        value = self._sections.read(DEFINITION, tag, self._variables)
        if value is not None:
            return value
        section, slash, option = tag.partition("/")
        if not slash or not option:
            return None
        if section == KNOWN:
            return self._known(option)
        if self._sections.has(section):
            return self._sections.read(section, option, self._variables)
        return None

    def _known(self, option: str) -> str | None:
        if option in self._init:
            return self._init[option]
        found = self._sections.known.get(DEFINITION, {}).get(option.lower())
        if found is not None:
            return self._sections.substitute(DEFINITION, found.raw, self._variables)
        return self._sections.read(DEFINITION, option, {})

    def _note(self, section: str, name: str, exc: Exception) -> None:
        where = self._sections.where_is(section, name)
        self._faults.append(Fault(where, f"[{section}] {name}", str(exc), "a value that can be put together"))
