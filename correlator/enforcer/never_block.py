"""Whom the enforcer never blocks, whoever asks, and which entry says so.

Loopback, unspecified, multicast and broadcast; this host's own addresses, gateways and resolvers; what
the settings list; and the ignore file. A prefix is refused as soon as one of these lies inside it.
What the host itself says is read again when it is older than a few seconds, the ignore file whenever it
changed; a file that cannot be read keeps what was read before, and its faults are told, never fatal.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from correlator.errors import Fault, KernelError
from correlator.ignores import IgnoreList, parse_ignore_file
from correlator.kernel.addresses import gateways, own_addresses, resolvers
from correlator.model import SECOND, Micros, Source, parse_prefix
from correlator.settings import EnforcerSettings

FRESH: Micros = 3 * SECOND
_FAULTS_SHOWN = 20
_REST_SHARE = 50
"""How old what the host says of itself may be."""
MAX_IGNORE_BYTES = 16 << 20

_FIXED = (
    ("127.0.0.0/8", "a loopback address"),
    ("::1", "the loopback address"),
    ("0.0.0.0/8", "an unspecified address"),
    ("::", "the unspecified address"),
    ("224.0.0.0/4", "a multicast address"),
    ("ff00::/8", "a multicast address"),
    ("255.255.255.255", "the broadcast address"),
)
_Stamp = tuple[int, int, int, int]
HostAddresses = Callable[[], frozenset[bytes]]


class NeverBlock:
    """Answers whether a source may be blocked; ask `find` before every block.

    `generation` grows whenever an entry came or went, so that blocks in force can be looked at again.
    """

    def __init__(
        self,
        settings: EnforcerSettings,
        *,
        own: HostAddresses = own_addresses,
        routers: HostAddresses = gateways,
        name_servers: HostAddresses = resolvers,
    ) -> None:
        self._host_parts = (
            (own, "this host's own address"),
            (routers, "a gateway of this host"),
            (name_servers, "a resolver of this host"),
        )
        self._ignore_path = settings.paths.ignore
        self._shown_path = str(settings.paths.ignore).replace("{", "{{").replace("}", "}}")
        self._fixed = IgnoreList((parse_prefix(text), what) for text, what in _FIXED)
        self._configured = IgnoreList(
            (source, f"{source} of never_block in the settings") for source in settings.never_block
        )
        self._host_known: tuple[frozenset[bytes], ...] = tuple(frozenset() for _ in self._host_parts)
        self._host = IgnoreList()
        self._host_read: Micros | None = None
        self._fresh_for = FRESH
        self._ignored = IgnoreList()
        self._stamp: _Stamp | None = None
        self._file_faults: tuple[Fault, ...] = ()
        self._host_faults: tuple[Fault, ...] = ()
        self.generation = 0

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong in the ignore file, or with reading it, or with asking the host."""
        return (*self._host_faults, *self._file_faults)

    def find(self, source: Source, now: Micros) -> str | None:
        """Return why `source` is never blocked, or None where it may be."""
        self.refresh(now)
        for entries, phrase in self._all():
            text = entries.find(source)
            if text is not None:
                return phrase.format(source=source, entry=text)
            inside = entries.find_within(source)
            if inside is not None:
                entry, text = inside
                return f"{source} would cover {entry}: " + phrase.format(source=entry, entry=text)
        return None

    def refresh(self, now: Micros, *, is_early: bool = False) -> None:
        """Read again what is too old or has changed.

        `is_early`, for quiet moments: also what soon will be too old, so that a request need not wait.
        """
        fresh_for = self._fresh_for // 2 if is_early else self._fresh_for
        if self._host_read is None or not 0 <= now - self._host_read <= fresh_for:
            before = time.monotonic_ns()
            self._read_host()
            self._host_read = now
            # a router's full table takes long to read: it must not fill our time
            self._fresh_for = max(FRESH, _REST_SHARE * (time.monotonic_ns() - before) // 1000)
        self._read_ignore_file()

    def sources(self) -> list[Source]:
        """Return every entry, also those that cover one another."""
        return [source for entries, _ in self._all() for source, _ in entries]

    def status(self) -> dict[str, Any]:
        """Return its state by name."""
        shown = [str(fault) for fault in self.faults[:_FAULTS_SHOWN]]
        return {"never_block": self.count(), "faults": shown, "fault_count": len(self.faults)}

    def count(self) -> int:
        """Return how many entries there are in all."""
        return sum(len(entries) for entries, _ in self._all())

    def _all(self) -> tuple[tuple[IgnoreList, str], ...]:
        return (
            (self._fixed, "{source} is {entry}"),
            (self._host, "{source} is {entry}"),
            (self._configured, "{source} is covered by {entry}"),
            (self._ignored, f"{{source}} is covered by {{entry}} in {self._shown_path}"),
        )

    def _read_host(self) -> None:
        known = list(self._host_known)
        faults: list[Fault] = []
        for index, (ask, _) in enumerate(self._host_parts):
            try:
                known[index] = ask()
            except (KernelError, OSError) as exc:
                # What was known stays: to forget our own address now could lock everybody out.
                faults.append(
                    Fault("this host", self._host_parts[index][1], str(exc), "an answer of the kernel")
                )
        self._host_faults = tuple(faults)
        if tuple(known) == self._host_known:
            return
        self._host_known = tuple(known)
        self._host = IgnoreList(
            (parse_prefix(str(ipaddress.ip_address(packed))), what)
            for (_, what), found in zip(self._host_parts, known, strict=True)
            for packed in sorted(found)
        )
        self.generation += 1

    def _read_ignore_file(self) -> None:
        path = self._ignore_path
        try:
            stamp = _stamp(path)
            if stamp == self._stamp:
                return
            text = _read_text(path) if stamp is not None else ""
        except OSError as exc:
            fault = Fault(
                str(path), "file", exc.strerror or str(exc), "a readable file; what was read before stays"
            )
            self._file_faults = (fault,)
            return
        self._ignored, self._file_faults = parse_ignore_file(text, str(path))
        self._stamp = stamp
        self.generation += 1


def _read_text(path: Path) -> str:
    with open(path, "rb") as file:
        data = file.read(MAX_IGNORE_BYTES + 1)
    if len(data) > MAX_IGNORE_BYTES:
        raise OSError(errno.EFBIG, f"more than {MAX_IGNORE_BYTES} bytes")
    return data.decode("utf-8", errors="replace")


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
