"""Remembers what the lines of one connection said, so that they count together.

`Connection from 192.0.2.1 [7]` and later `Disconnecting: too many failures [7]` are one failure: a match that
names its connection (group `mlfid`) is merged with what was known of it. A match can be information alone
(`nofail`), say that access was gained (`mlfgained`), or that the connection ends (`mlfforget`). Bounded: 100
connections, the longest silent leaves first, each for five minutes after its last line.

Source: what Fail2ban 1.0.2 of Debian answers to such lines.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from correlator.model import SECOND, Micros

Value = str | tuple[str | None, ...]
_MOST_CONNECTIONS = 100
_LIFETIME: Micros = 300 * SECOND
_MOST_LINES = 100
_MOST_USERS = 100
_MARKS = ("nofail", "mlfgained")
_IDENTITIES = ("fid", "ip4", "ip6", "dns")


@dataclass(slots=True)
class _Connection:
    seen: Micros
    fields: dict[str, Value] = field(default_factory=dict)
    users: set[Value] = field(default_factory=set)
    is_nofail: bool = False
    """The last match was information alone."""
    is_pending: bool = False
    """A failure waits for the line that brings an address."""
    nofail_lines: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure, with all that its connection told."""

    fields: Mapping[str, Value]
    lines: tuple[str, ...]
    """The lines that led to it, the last one last."""


class Connections:
    """The connections of one log."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Connection] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def merge(self, name: str, fields: Mapping[str, Value], line: str, now: Micros) -> Failure | None:
        """Take what one match on connection `name` told; return the failure that follows, if one does."""
        self._forget_old(now)
        is_gained = bool(fields.get("mlfgained"))
        is_forget = bool(fields.get("mlfforget"))
        is_nofail = is_gained or bool(fields.get("nofail"))
        known = self._known.get(name)
        was_pending = False
        if known is None:
            known = _Connection(now)
            if not is_forget:
                self._known[name] = known
        else:
            was_pending = known.is_pending
            if is_gained:
                was_pending = known.is_pending = False
            if not known.is_nofail and not known.is_pending:
                known.nofail_lines.clear()
                known.lines.clear()
            self._known.move_to_end(name)
            if is_forget:
                del self._known[name]
        known.seen = now
        for mark in _MARKS:
            known.fields.pop(mark, None)
        known.fields.update(fields)
        known.fields.pop("mlfforget", None)
        user = fields.get("user")
        if user and len(known.users) < _MOST_USERS:
            known.users.add(user)
        if was_pending or len(known.users) > 1:
            # a good login of one user must not wash away the failures of another
            is_nofail = False
            for mark in _MARKS:
                known.fields.pop(mark, None)
        known.is_nofail = is_nofail
        if is_nofail:
            _note(known.nofail_lines, line)
            return None
        _note(known.lines, line)
        if not any(known.fields.get(group) is not None for group in _IDENTITIES):
            known.is_pending = True
            return None
        known.is_pending = False
        return Failure(dict(known.fields), (*known.nofail_lines, *known.lines))

    def _forget_old(self, now: Micros) -> None:
        while len(self._known) >= _MOST_CONNECTIONS:
            self._known.popitem(last=False)
        while self._known:
            name, oldest = next(iter(self._known.items()))
            if now - oldest.seen < _LIFETIME:
                return
            del self._known[name]


def _note(lines: list[str], line: str) -> None:
    if len(lines) >= _MOST_LINES:
        del lines[0]
    lines.append(line)
