"""Remembers from where an account is logged in, for programs that name the account alone.

`Accepted publickey for ops from 192.0.2.1 port 4 ssh2` and later, of sudo, `ops : 3 incorrect password
attempts`: the second line names the account, not the address. Each login is known by the log, the host and
the process that wrote its line, so that a line of the same process ends it and no other. Never guesses: a
failure is put down to an address only while every login of the account came from that one; else it is
nobody's, and that is no fault of the log. A login that ended counts for ten minutes more: who leaves a
process behind that guesses on must neither get away with it nor have the next one pay who logs in. What a
program says that is not named for logins begins and ends none, whatever text somebody had it write.

Pure; bounded: so many logins a filter and an account, those that ended leave first and then the oldest, none
counts a day after it began, and only so much text is kept of each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from correlator.matching.filter_definition import (
    SOURCE,
    ConnectionDefinition,
    LoginDefinition,
    PatternDefinition,
)
from correlator.matching.needs import Need
from correlator.matching.open_connections import Held, Known, OpenConnections
from correlator.matching.patterns import Line, PatternError, Search, TextPattern
from correlator.model import SECOND, Micros

ACCOUNT = "account"
"""The group that names an account."""
LOGIN = "login"
"""The name under which expressions about logins are put in quarantine."""
_MOST_LOGINS = 10_000
_MOST_OF_ACCOUNT = 64
_LIFETIME: Micros = 86_400 * SECOND
_AFTERWARDS: Micros = 600 * SECOND
_LONGEST_TEXT = 256
_LONGEST_NAME = 64

Process = tuple[str, str, str]
"""Where the line was read, whose host it names, and which process wrote it."""
Account = tuple[str, str, str]
"""Where the line was read, whose host it names, and the account."""


class Logins:
    """The logins that a filter knows of; what its patterns find needs one, see `find`."""

    names = (ACCOUNT,)
    """The groups by which a pattern without a source says whom it is about."""
    quarantine = LOGIN

    def __init__(self, definitions: Sequence[LoginDefinition]) -> None:
        self.tellers = frozenset[str]().union(*(one.identifiers for one in definitions))
        """The programs that tell of logins and of nothing else."""
        self.begins = [(one.identifiers, _pattern(one.begins, ACCOUNT, SOURCE)) for one in definitions]
        self.ends = [(one.identifiers, _pattern(one.ends, ACCOUNT)) for one in definitions if one.ends]
        self.patterns = tuple(pattern for _programs, pattern in (*self.begins, *self.ends))
        self._known: OrderedDict[Process, Known] = OrderedDict()
        self._ended: OrderedDict[Process, Micros] = OrderedDict()
        """Those of them that ended, and when."""
        self._of: dict[Account, dict[Process, Known]] = {}
        self.given_up: list[Held] = []
        """Empty: no line waits for a login."""

    def check(self) -> None:
        """Raise PatternError where an expression cannot run."""
        for pattern in self.patterns:
            pattern.check()
        if any(SOURCE in pattern.compiled.groupindex for _programs, pattern in self.ends):
            raise PatternError(f"only `begins` may have the group (?P<{SOURCE}>...)")

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def succeed(self, before: Logins) -> None:
        """Know what another has known, which read the same lines so far."""
        self._known, self._ended, self._of = before._known, before._ended, before._of

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._ended.clear()
        self._of.clear()

    def needs(self) -> Iterator[Need]:
        """Yield what every line has that tells of a login."""
        for programs, pattern in (*self.begins, *self.ends):
            yield pattern.need(programs)

    def advance(self, at: Micros) -> None:
        """Do nothing: how old a login is matters when its account is asked for."""

    def note(self, line: Line, search: Search) -> tuple[str, Sequence[Held]]:
        """Take what a line tells of a login; return in words what that is, empty for nothing."""
        fields = _find(self.begins, line, search, ACCOUNT, SOURCE)
        if fields is not None:
            return self._begin(line, fields), ()
        fields = _find(self.ends, line, search, ACCOUNT)
        if fields is None:
            return "", ()
        account, process = fields[ACCOUNT], _process(line)
        known = self._known.get(process)
        if known is None or known.fields[ACCOUNT] != account:
            return f"ends a login of {account} that was not read", ()
        self._ended.setdefault(process, line.evidence.at)
        return f"ends a login of {account} from {known.fields[SOURCE]}", ()

    def find(self, line: Line, fields: Mapping[str, str]) -> Known | None:
        """Return the newest login of the account that a line's fields name, if all are from one address."""
        found = self._logins_of(line, fields)
        return found[-1] if len({known.fields[SOURCE] for known in found}) == 1 else None

    def hold(self, held: Held) -> str:
        """Return in words why a line has no address."""
        account = held.fields.get(ACCOUNT)
        if account is None:
            return "is about an account that it does not name: nobody can be named"
        if self._logins_of(held.line, held.fields):
            return f"is about {account}, who is logged in from several addresses: nobody can be named"
        return f"is about {account}, of whom no login is known: nobody can be named"

    def _logins_of(self, line: Line, fields: Mapping[str, str]) -> list[Known]:
        at = line.evidence.at
        known = self._of.get((line.evidence.origin, line.header.host, fields.get(ACCOUNT, "")), {})
        return [
            login
            for process, login in known.items()
            if at - login.seen < _LIFETIME and at - self._ended.get(process, at) < _AFTERWARDS
        ]

    def _begin(self, line: Line, fields: Mapping[str, str]) -> str:
        name, at = fields[ACCOUNT], line.evidence.at
        if not line.header.pid or len(name) > _LONGEST_NAME:
            return "begins a login that nothing names"
        process, account = _process(line), (line.evidence.origin, line.header.host, name)
        if process in self._known:
            self._forget(process)
        if len(of_account := self._of.get(account, {})) >= _MOST_OF_ACCOUNT:
            self._forget(next((one for one in of_account if one in self._ended), next(iter(of_account))))
        told = {field: text[:_LONGEST_TEXT] for field, text in fields.items()}
        known = self._known[process] = Known(at, line.header.body[:_LONGEST_TEXT], told)
        self._of.setdefault(account, {})[process] = known
        self._make_room(at)
        return f"begins a login of {name} from {fields[SOURCE]}"

    def _forget(self, process: Process) -> None:
        known = self._known.pop(process)
        self._ended.pop(process, None)
        account = (*process[:2], known.fields[ACCOUNT])
        of_account = self._of[account]
        del of_account[process]
        if not of_account:
            del self._of[account]

    def _make_room(self, at: Micros) -> None:
        while len(self._known) > _MOST_LOGINS:
            oldest, known = next(iter(self._known.items()))
            is_over = at - known.seen >= _LIFETIME
            self._forget(oldest if is_over else next(iter(self._ended), oldest))


def remember(
    connections: Sequence[ConnectionDefinition], logins: Sequence[LoginDefinition]
) -> OpenConnections | Logins | None:
    """Return what keeps in mind who is where, for patterns whose lines do not say it."""
    if logins:
        return Logins(logins)
    return OpenConnections(connections) if connections else None


def _process(line: Line) -> Process:
    return line.evidence.origin, line.header.host, line.header.pid


def _pattern(expression: str, *needs: str) -> TextPattern:
    return TextPattern(PatternDefinition(LOGIN, expression), needs=needs)


def _find(
    patterns: Sequence[tuple[frozenset[str], TextPattern]], line: Line, search: Search, *groups: str
) -> dict[str, str] | None:
    """Return the fields of the first that is in a line with these groups: a choice may leave one out."""
    header = line.header
    for programs, pattern in patterns:
        if (
            header.identifier not in programs
            or pattern.literal not in header.body
            or not header.body.startswith(pattern.beginnings or "")
        ):
            continue
        fields = pattern.find(line, search)
        if fields is not None and all(group in fields for group in groups):
            return fields
    return None
