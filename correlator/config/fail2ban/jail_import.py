"""Writes the jails that do what an installation of Fail2ban does, as `jails.d/fail2ban.toml`.

Reading it back gives the jails that `load_fail2ban_settings` makes of the same folder; what has no place in
them stands in the text as a comment. Pure: settings in, text out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from correlator.config.gaps import Gap
from correlator.config.settings import SiteSettings
from correlator.counting.jail_definition import JailDefinition
from correlator.model import SECOND, Micros, printable

JAILS_FILE = "fail2ban.toml"


def format_jails_toml(
    settings: SiteSettings, folder: Path, gaps: Iterable[Gap], disabled: Iterable[str]
) -> str:
    """Return the text of a file for jails.d; all of it is printable but for the line feeds."""
    lines = [
        f"# From {printable(str(folder))}. The filters stay there and stay Fail2ban's: an edit counts here.",
        "# Check it with:  portward check --config DIR",
    ]
    notes = tuple(gaps)
    for title, is_lost in (("Not carried over:", True), ("Done otherwise:", False)):
        chosen = [gap for gap in notes if gap.is_lost is is_lost]
        if chosen:
            lines += ["#", f"# {title}"]
            lines += [f"#   {printable(gap.directive)}: {printable(gap.note)}" for gap in chosen]
    names = sorted(disabled)
    if names:
        lines += ["#", f"# There, and not enabled: {len(names)} jails. Enable one there, and import again."]
    for jail in settings.jails.values():
        lines += ["", *_jail(jail)]
    return "\n".join(lines) + "\n"


def _jail(jail: JailDefinition) -> Iterator[str]:
    default = JailDefinition(name="", where="", filters=())
    yield f"[jail.{_key(jail.name)}]"
    yield f"filters = {_texts(jail.filters)}"
    if jail.files:
        yield f"files = {_texts(jail.files)}"
    yield f"threshold = {jail.threshold}"
    yield f"span = {_text(_length(jail.span))}"
    yield f"block_for = {_text(_length(jail.block_for))}"
    if jail.escalate:
        yield f"escalate = {_texts(map(_length, jail.escalate))}"
        yield f"remember = {_text(_length(jail.remember))}"
    yield f"prefix6 = {jail.prefix6}"
    if jail.zone != default.zone:
        yield f"zone = {_text(jail.zone)}"
    if jail.ignore:
        yield f"ignore = {_texts(map(str, jail.ignore))}"
    yield f"actions = {_texts(jail.actions)}"
    yield f"mode = {_text('block' if jail.is_blocking else 'observe')}"


def _length(length: Micros | None) -> str:
    """Return a length of time as settings write it, exactly."""
    if length is None:
        return "forever"
    seconds = length // SECOND
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else _text(name)


def _texts(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(_text, texts)) + "]"


def _text(text: str) -> str:
    """Return TOML's basic string; JSON's escapes are among TOML's, and `DEL` the only one JSON lacks."""
    return json.dumps(text).replace("\x7f", "\\u007f")
