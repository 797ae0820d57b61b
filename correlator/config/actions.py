"""Reads actions: `actions/NAME.toml` of the vendor and the site, and `[action.NAME]` tables of the settings.

Root runs what stands here. So a file that somebody else than root (or us) could have written is a fault and
is not used, a token that does not exist is one, and so is a command that denies nobody by name.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from correlator.actions import (
    EVIDENCE,
    KINDS,
    RIGHTS,
    TOKENS,
    WAYS,
    ActionDefinition,
    Argv,
    Commands,
    unknown_tokens,
)
from correlator.config.reader import File, Table
from correlator.config.vendor import vendor_folder
from correlator.errors import Fault
from correlator.model import SECOND

if TYPE_CHECKING:
    from correlator.config.settings import SiteSettings

_FAIL2BAN = "fail2ban:"
_REFERENCE = (
    "a file of Fail2ban's action.d: fail2ban:/etc/fail2ban/action.d/xarf-login-attack.conf[name=sshd]"
)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_FAMILIES = {"ipv4": 4, "ipv6": 6}
_COMMANDS = ("check", "start", "stop", "block", "release", "present", "list", "restore")
_LONGEST_TIMEOUT = 600 * SECOND
_TARGET = "$TARGET$"


class ActionShelf:
    """The actions that there are: those of the settings, the site's files, ours; a site's wins whole."""

    def __init__(self, settings: SiteSettings) -> None:
        self.faults: list[Fault] = []
        self._given = dict(settings.actions)
        self._paths: dict[str, Path] = {}
        for folder in (vendor_folder("actions"), settings.where.parent / "actions"):
            self._paths |= {name[: -len(".toml")]: folder / name for name in _action_files(folder)}

    @property
    def names(self) -> list[str]:
        """The names of all actions, sorted."""
        return sorted({*self._given, *self._paths})

    @staticmethod
    def is_reference(name: str) -> bool:
        """Whether a name is no name but says where an action of Fail2ban is."""
        return name.startswith(_FAIL2BAN)

    def load(self, name: str) -> ActionDefinition | None:
        """Return an action; None where there is none, or where it has faults: they are noted.

        One of Fail2ban's has a name of ours: of its file, and of all that the reference says.
        """
        if self.is_reference(name) and name not in self._given:
            self._open(name)
        if name not in self._given and name in self._paths:
            path = self._paths[name]
            before = len(self.faults)
            file = File(path, self.faults)
            if path.parent != vendor_folder("actions"):  # ours are as trusted as our code
                self.faults += faults_of_owner(path)
            if len(self.faults) == before:
                table = file.table()
                definition = read_action(name, table)
                table.finish()
                if len(self.faults) == before:
                    self._given[name] = definition
        return self._given.get(name)

    def _open(self, reference: str) -> None:
        """Read an action of Fail2ban; noted under its reference, with a name that a request can hold."""
        from correlator.config.fail2ban.action_file import read_action as read_foreign
        from correlator.config.fail2ban.references import BadReferenceError, parse_reference

        try:
            parsed = parse_reference(reference.removeprefix(_FAIL2BAN))
        except BadReferenceError as exc:
            self.faults.append(Fault(reference, "action", str(exc), _REFERENCE))
            return
        path = Path(parsed.name)
        wrong: list[Fault] = list(faults_of_owner(path))
        stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40] or "action"
        name = f"f2b-{stem}-{zlib.crc32(reference.encode()):08x}"
        definition, _files = read_foreign(path, parsed, name=name, faults=wrong)
        self.faults += wrong
        if definition is not None and not wrong:
            self._given[reference] = definition

    def load_all(self, names: Iterable[str]) -> tuple[ActionDefinition, ...]:
        """Return those of these actions that can be used, but the kernel's own set, which is always there."""
        found = (self.load(name) for name in names)
        return tuple(action for action in found if action is not None and action.kind != "nftables")


def with_actions(settings: SiteSettings) -> tuple[SiteSettings, tuple[Fault, ...]]:
    """Return the settings with every action in the enforcer's part that a jail names, and what is wrong."""
    shelf = ActionShelf(settings)
    named = sorted({name for jail in settings.jails.values() for name in jail.actions})
    enforcer = replace(settings.enforcer, actions=shelf.load_all(named))
    return replace(settings, enforcer=enforcer), tuple(shelf.faults)


def read_action(name: str, table: Table) -> ActionDefinition:
    """Return the action that a table defines; faults are noted in the table's file."""
    default = ActionDefinition(name=name, where=str(table.file.path))
    if not _NAME.fullmatch(name):
        table.fault("name", name, "a name of small letters, digits and `-`, at most 64")
    kind = table.text("kind", default.kind, choices=KINDS)
    families = _families(table)
    definition = ActionDefinition(
        name=name,
        where=default.where,
        kind=kind,
        description=table.text("description", ""),
        denies=table.truth("denies", default=True),
        says=table.text("says", "", choices=WAYS),
        commands={},
        list_pattern=_list_pattern(table),
        owns=table.truth("owns", default=False),
        expires_by_itself=table.text("expires", "portward", choices=("portward", "kernel")) == "kernel",
        evidence=_evidence(table),
        rights=table.text("rights", default.rights, choices=RIGHTS),
        timeout=table.duration("timeout", default.timeout),
        package=table.text("package", ""),
        trial=_argvs(table, "trial") if table.has("trial") else (),
        file=str(table.path_at("file", Path(default.file))),
        line=table.text("line", default.line),
    )
    if definition.timeout > _LONGEST_TIMEOUT:
        table.fault("timeout", definition.timeout // SECOND, "at most 10m")
    if kind == "hosts-deny":
        if _TARGET not in definition.line or "\n" in definition.line:
            table.fault("line", definition.line, f"one line with {_TARGET} in it")
        _check_tokens(table, "line", definition.line)
    if kind != "command":
        return definition
    general = _commands(table, Commands())
    by_family = {
        version: _commands(table.table(family), general) if table.has(family) else general
        for family, version in _FAMILIES.items()
        if family in families
    }
    for version, commands in by_family.items():
        if not commands.block:
            table.fault("block", f"no command for IPv{version}", "one or more commands")
        elif definition.denies and not any(_TARGET in text for argv in commands.block for text in argv):
            table.fault("block", "no command with the target", f"{_TARGET} in it, or denies = false")
    has_list = any(commands.list for commands in by_family.values())
    if has_list and not definition.list_pattern:
        table.fault("list_source", "no value", "an expression that finds each source in what `list` prints")
    if definition.list_pattern and not has_list:
        table.fault("list", "no value", "a command that prints what is denied, for `list_source`")
    return replace(definition, commands=by_family)


def _evidence(table: Table) -> str:
    value = table.any_value("evidence")
    if value in (None, False, True):
        return EVIDENCE[0] if value else ""
    if value not in EVIDENCE:
        table.fault("evidence", value, 'true, false, "json" or "text"')
        return ""
    return str(value)


def _families(table: Table) -> tuple[str, ...]:
    families = table.texts("families", tuple(_FAMILIES))
    if not families or not set(families) <= set(_FAMILIES):
        table.fault("families", list(families), 'some of "ipv4", "ipv6"')
        return tuple(_FAMILIES)
    return families


def _commands(table: Table, general: Commands) -> Commands:
    """Return the commands of a table; those it does not name are the general ones."""
    found: dict[str, Any] = {name: _argvs(table, name) for name in _COMMANDS if table.has(name)}
    for name in ("restore_head", "restore_line", "restore_tail"):
        if table.has(name):
            found[name] = table.text(name, "")
    if table is not None and table.path and table.path.rpartition(".")[2] in _FAMILIES:
        table.finish()
    return replace(general, **found)


def _argvs(table: Table, name: str) -> tuple[Argv, ...]:
    """Return commands: one text for the shell, one list of arguments, or a list of such lists."""
    value = table.any_value(name)
    if isinstance(value, str):
        argvs: tuple[Argv, ...] = (("/bin/sh", "-c", value),) if value.strip() else ()
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        argvs = (tuple(value),)
    elif isinstance(value, list) and all(
        isinstance(item, list) and item and all(isinstance(text, str) for text in item) for item in value
    ):
        argvs = tuple(map(tuple, value))
    else:
        table.fault(
            name, value, 'a command such as ["ip", "route", "add", "unreachable", "$TARGET$"], or several'
        )
        return ()
    for argv in argvs:
        for text in argv:
            _check_tokens(table, name, text)
        if "\0" in "".join(argv) or not argv[0]:
            table.fault(name, list(argv), "a program and its arguments, without NUL bytes")
    return argvs


def _check_tokens(table: Table, key: str, text: str) -> None:
    for token in unknown_tokens(text):
        table.fault(key, f"${token}$", "one of " + ", ".join(f"${known}$" for known in TOKENS))


def _list_pattern(table: Table) -> str:
    text = table.text("list_source", "")
    if text:
        try:
            if "source" not in re.compile(text).groupindex:
                table.fault("list_source", text, "an expression with a group (?P<source>...)")
        except re.error as exc:
            table.fault("list_source", text, f"an expression that compiles ({exc})")
    return text


def faults_of_owner(path: Path) -> Iterable[Fault]:
    """Yield a fault where somebody else than root or we can write a file whose commands root will run."""
    try:
        found = os.stat(path)
    except OSError:
        return
    if found.st_uid not in (0, os.geteuid()):
        yield Fault(str(path), "owner", f"user {found.st_uid}", "root: its commands are run by root")
    elif stat.S_IMODE(found.st_mode) & 0o022:
        mode = f"{stat.S_IMODE(found.st_mode):o}"
        yield Fault(str(path), "mode", mode, "no right to write for group and others: root runs its commands")


def _action_files(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    except (FileNotFoundError, NotADirectoryError):
        return []
