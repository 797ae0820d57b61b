"""The nouns that all stages share: sources, chunks, events, strikes, decisions, outcomes.

Everything here is frozen and knows nothing of files, sockets or clocks; what is made for each line of a log
is a tuple with names, which takes a third of the time. Times are `Micros`: integer microseconds since
1970-01-01 UTC. An address becomes a `Source` exactly once, at the edge where text enters; whatever holds a
`Source` afterwards cannot hold anything but an address.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from correlator.errors import SourceError

Micros = int
SECOND: Micros = 1_000_000
NO_FIELDS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Who sent something: one address or one prefix, IPv4 or IPv6, in canonical form.

    Build one with `parse_source` or `parse_prefix`. An IPv4-mapped IPv6 address is the IPv4 address.
    """

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    version: int = field(init=False, repr=False)
    """4 or 6."""
    _text: str = field(init=False, repr=False)
    """Spelled once: each strike of a flood asks for it, and `ipaddress` spells slowly."""
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Spell it."""
        network = self.network
        text = str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        object.__setattr__(self, "version", network.version)
        object.__setattr__(self, "_text", text)
        object.__setattr__(self, "_hash", hash(text))

    def __eq__(self, other: object) -> bool:
        """Whether both are the same addresses."""
        return self is other or (isinstance(other, Source) and self._text == other._text)

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_single(self) -> bool:
        """True for one address, false for a prefix."""
        return self.network.prefixlen == self.network.max_prefixlen

    @property
    def packed(self) -> bytes:
        """The (first) address in network byte order, 4 or 16 bytes."""
        return self.network.network_address.packed

    def covers(self, other: Source) -> bool:
        """True where every address of `other` is one of ours."""
        return self.network.version == other.network.version and other.network.subnet_of(
            self.network  # type: ignore[arg-type]
        )

    def prefix(self, length: int) -> Source:
        """Return the prefix of `length` bits around this source; itself where that is not wider."""
        if length >= self.network.prefixlen:
            return self
        return _prefix(self, length)

    def __str__(self) -> str:
        """Write `192.0.2.1`, `2001:db8::1` or `2001:db8::/64`."""
        return self._text


@functools.lru_cache(maxsize=8192)
def _prefix(source: Source, length: int) -> Source:
    return Source(source.network.supernet(new_prefix=length))


@functools.lru_cache(maxsize=8192)
def parse_source(text: str) -> Source:
    """Return the single address that `text` spells.

    Raises: SourceError for anything else: names, prefixes, zones (`fe80::1%eth0`), octal or short forms.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise SourceError(f"not an address: {text[:64]!r}") from exc
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise SourceError(f"an address with a zone names nobody elsewhere: {text[:64]!r}")
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
    number = (int(address), address.max_prefixlen)  # else the library spells the address and reads it again
    if address.version == 4:
        return Source(ipaddress.IPv4Network(number))
    return Source(ipaddress.IPv6Network(number))


def parse_prefix(text: str) -> Source:
    """Return the address or prefix that `text` spells; host bits may be set (`192.0.2.77/24`).

    Raises: SourceError for anything that is neither.
    """
    if "/" not in text:
        return parse_source(text)
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise SourceError(f"not an address or prefix: {text[:64]!r}") from exc
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return Source(ipaddress.ip_network((mapped, network.prefixlen - 96)))
    return Source(network)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A block of whole lines as bytes, from one origin, that arrived together."""

    origin: str
    """What it was read from: a path, `journal`, `stdin`."""
    offset: int
    """Position of its first byte in the origin; with it every line can be named again."""
    data: bytes
    """Whole lines, each with its line feed."""
    arrived: Micros
    is_live: bool = True
    """False for what lay there before we came (a restart, a replay): its own stamps are taken."""
    identifier: str = ""
    """The program whose messages these are, where the lines have no header and are not searched for one."""


JOURNAL = "journal"
"""The origin of what comes from the systemd journal."""
STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the systemd journal, however many lines its writer put into it."""

    at: Micros
    """When journald received it; with it the entry can be named again."""
    host: str
    identifier: str
    """What the writer calls itself, which may be a lie; its command's name where it says nothing."""
    pid: str
    body: str
    """One line: control characters but the tab stand as `#012`, which is how rsyslog writes them."""
    fields: Mapping[str, str] = field(default_factory=lambda: NO_FIELDS)
    """Of the fields that journald vouches for (`_UID`, `_TRANSPORT`, ...) those that anybody asks for."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Journal entries that arrived together, oldest first; what a `Chunk` is for files."""

    origin: str
    entries: tuple[Entry, ...]
    arrived: Micros
    is_live: bool = True


class Evidence(NamedTuple):
    """One line that counted, and where it stands."""

    at: Micros
    origin: str
    offset: int
    line: str


class Event(NamedTuple):
    """What one line says, and which filter and pattern understood it."""

    at: Micros
    filter: str
    pattern: str
    source: Source
    evidence: Evidence
    is_spoofable: bool = False
    """True where the evidence proves nothing about its sender (a lone SYN, a UDP datagram)."""
    weight: int = 1
    count: int = 1  # type: ignore[assignment]  # it hides the method of tuples, which nobody misses
    """How often the line says it happened ("message repeated N times")."""
    port: int | None = None
    """Destination port: which of ours."""
    protocol: str | None = None
    fields: Mapping[str, str] = NO_FIELDS
    """Every named group of the pattern, as text the stranger may have chosen."""


class Strike(NamedTuple):
    """An event that a jail counts, under the key it counts it by."""

    jail: str
    key: str
    source: Source
    at: Micros
    weight: int
    value: str
    """The counted field's value where the jail counts distinct values, else empty."""
    is_spoofable: bool
    port: int | None
    protocol: str | None
    evidence: Evidence
    filter: str = ""
    pattern: str = ""
    """Which filter and pattern understood the line: the kind of evidence."""


@dataclass(frozen=True, slots=True)
class Block:
    """A decision: deny this source until then, for this reason, on this evidence."""

    request: str
    """Names this decision for ever: the same evidence read again gives the same request."""
    source: Source
    jail: str
    at: Micros
    until: Micros | None
    """None: until it is released."""
    strikes: int
    span: Micros
    ports: tuple[int, ...]
    port: int
    protocol: str
    is_spoofable: bool
    is_observed: bool
    """True in mode observe: decided and recorded, not carried out."""
    actions: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    pattern: str = ""
    """Which pattern understood the last line."""
    key: str = ""
    """What its source is counted by."""
    step: int = 0
    """Which of the jail's growing lengths it got, from 1; 0 where it moves its key nowhere."""
    struck: str = ""
    """The account or address of ours that was struck, where the jail counts by those."""
    unit: str = "strikes"
    """What `strikes` is a sum of: `strikes`, or `points` where the jail adds up weights."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """How far a key has come on the growing lengths of a jail's blocks."""

    jail: str
    key: str
    step: int
    until: Micros | None
    """When its last block ends or ended; None: when somebody releases it."""


@dataclass(frozen=True, slots=True)
class Release:
    """A decision: deny this source no longer."""

    source: Source
    reason: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """A decision: strikes enough, and yet nothing is to be done."""

    source: Source
    jail: str
    at: Micros
    reason: str
    evidence: tuple[Evidence, ...]


Decision = Block | Release | Ignore


class OutcomeKind(enum.Enum):
    """How a request to the enforcer ended, or what became of a block later."""

    DONE = "done"
    EXISTS = "exists"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the enforcer did, read by the correlator as one more input."""

    kind: OutcomeKind
    source: Source
    request: str
    until: Micros | None = None
    detail: str = ""
    """For failed and refused: why, in one line."""


def printable(text: str) -> str:
    """Return foreign text fit for a terminal or one line: controls and stray bytes as backslash escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def json_ready(value: Any) -> Any:
    """Return what `json.dumps` should write for one of the nouns above, nested ones included.

    Sources become text, enumerations their value, dataclasses and named tuples objects of their fields, sets
    lists in order.
    """
    if isinstance(value, Source):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "_asdict"):
        return {name: json_ready(item) for name, item in value._asdict().items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: json_ready(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((json_ready(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value
