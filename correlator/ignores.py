"""Ignore files: which sources are never blocked, in PortSentry's syntax.

One address or prefix a line, host bits may be set; `#` starts a comment, also after an entry; empty
lines count for nothing. Unlike PortSentry's reader this one takes IPv6, leading spaces, a last line
without line feed, and `0.0.0.0/0` as what it says. Names are never resolved: they are faults, and a
fault never stops the other lines. Pure: text in, value and faults out.

Source: PortSentry 1.2 as run; portsentry.ignore.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from correlator.errors import Fault, SourceError
from correlator.model import Source, parse_prefix

_SHOWN = 64


class IgnoreList:
    """Sources that are never blocked; finding one costs a look-up for each prefix length in use."""

    def __init__(self, entries: Iterable[tuple[Source, str]] = ()) -> None:
        self._by_length: dict[tuple[int, int], dict[int, str]] = {}
        self._entries: list[tuple[Source, str]] = []
        for source, text in entries:
            network = source.network
            table = self._by_length.setdefault((source.version, network.prefixlen), {})
            if table.setdefault(int(network.network_address), text) is text:
                self._entries.append((source, text))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[Source, str]]:
        return iter(self._entries)

    def find(self, source: Source) -> str | None:
        """Return the text of the narrowest entry that covers the whole of `source`, or None."""
        network = source.network
        first, bits = int(network.network_address), network.max_prefixlen
        found: tuple[int, str] | None = None
        for (version, length), table in self._by_length.items():
            if version != source.version or length > network.prefixlen:
                continue
            text = table.get(first >> (bits - length) << (bits - length))
            if text is not None and (found is None or length > found[0]):
                found = (length, text)
        return None if found is None else found[1]

    def find_within(self, source: Source) -> tuple[Source, str] | None:
        """Return an entry that lies inside the prefix `source`, with its text, or None."""
        if source.is_single:
            return None
        for entry, text in self._entries:
            if source.covers(entry):
                return entry, text
        return None


def parse_ignore_file(text: str, where: str) -> tuple[IgnoreList, tuple[Fault, ...]]:
    """Return the entries of an ignore file, and a fault for each line that is not quite one.

    Of several words before a comment the first is taken, as PortSentry does, and the rest is a fault.
    """
    entries: list[tuple[Source, str]] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            entries.append((parse_prefix(words[0]), words[0]))
        except SourceError:
            faults.append(
                Fault(
                    f"{where}:{number}", "entry", repr(words[0][:_SHOWN]), "an IPv4 or IPv6 address or prefix"
                )
            )
            continue
        if len(words) > 1:
            rest = " ".join(words[1:])[:_SHOWN]
            faults.append(
                Fault(
                    f"{where}:{number}",
                    "entry",
                    f"{rest!r} after {words[0]}",
                    "one entry a line, then `#` text",
                )
            )
    return IgnoreList(entries), tuple(faults)
