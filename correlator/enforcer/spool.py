"""Keeps what the disk would not take in the enforcer's folder below /run: no death forgets anybody.

    1795356540000000 block {"verb":"block","id":0,"request":"portscan/192.0.2.9/17","source":"192.0.2.9",...}
    1795356543000000 end portscan/192.0.2.9/17

One line a fact, in the order in which they became true, each written before it is acted upon; a block is
spelled as the request that asked for it, and is read back as one: believed in nothing. It is memory of the
host, like what the kernel holds: both are gone after a reboot.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from correlator.enforcer.fields import REQUEST_NAME, RequestError
from correlator.enforcer.holdings import new_block
from correlator.enforcer.protocol import BlockRequest, encode_request, parse_request
from correlator.errors import PermissionDeniedError
from correlator.model import Micros
from correlator.store import atomic
from correlator.store.blocks import NewBlock

MOST_BYTES = 8 << 20
"""Of the file; that is memory of the host."""

_MODE = 0o600
_LONGEST_STAMP = 17
_OTHERS_MAY_WRITE = 0o022


class Fact(NamedTuple):
    """A block that was carried out, or the name of one that is over; and since when."""

    at: Micros
    block: NewBlock | None
    request: str


class Spool:
    """One file; `say` hears once of what is wrong with it."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._told = ""
        self._size = 0
        self._is_ours = True

    def read(self) -> list[Fact]:
        """Return what was kept, oldest first; lines that no request could be are left out, and said."""
        try:
            data = self._read()
        except FileNotFoundError:
            return []
        except OSError as exc:
            self._tell(f"cannot be read: {exc.strerror or exc}")
            return []
        self._size = len(data)
        *lines, rest = data.split(b"\n")
        facts = [fact for line in lines if (fact := _parse(line)) is not None]
        if left_out := len(lines) - len(facts) + bool(rest):
            self._tell(f"{left_out} lines are no requests of ours, they are left out")
        return facts

    def add(self, fact: Fact) -> bool:
        """Keep one more; false where there is no room, or no right, for it."""
        data = _spell(fact)
        if not self._is_ours or self._size + len(data) > MOST_BYTES:
            return False
        try:
            self._append(data)
        except OSError as exc:
            self._tell(f"cannot be written: {exc.strerror or exc}")
            return False
        self._size += len(data)
        return True

    def rewrite(self, facts: Iterable[Fact]) -> None:
        """Keep exactly these, as far as there is room."""
        parts: list[bytes] = []
        size = 0
        for data in map(_spell, facts):
            if size + len(data) <= MOST_BYTES:
                parts.append(data)
                size += len(data)
        if not self._is_ours or (not size and not self._size):
            return
        try:
            atomic.replace(self._path, b"".join(parts), _MODE, is_durable=False)
            self._size = size
        except (OSError, PermissionDeniedError) as exc:
            self._tell(f"cannot be written: {exc}")

    def _read(self) -> bytes:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            self._is_ours = (
                stat.S_ISREG(found.st_mode)
                and found.st_uid in (0, os.geteuid())
                and not found.st_mode & _OTHERS_MAY_WRITE
                and found.st_size <= MOST_BYTES
            )
            if not self._is_ours:
                self._tell("is not a file that only we could have written; it is left alone, remove it")
                return b""
            return file.read(MOST_BYTES)

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, _MODE)
        try:
            atomic.write_whole(descriptor, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)  # half a line would swallow the next one
            raise
        finally:
            os.close(descriptor)

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            self._say(f"{self._path}: {what}")


def _spell(fact: Fact) -> bytes:
    if fact.block is None:
        return f"{fact.at} end {fact.request}\n".encode()
    block = fact.block
    request = BlockRequest(
        id=0,
        request=block.request,
        source=block.source,
        jail=block.jail,
        until=block.until,
        port=block.port,
        protocol=block.protocol,
        reason=block.reason,
        actions=block.actions,
        mode=block.mode,
        name=block.name,
    )
    return f"{fact.at} block ".encode() + encode_request(request)


def _parse(line: bytes) -> Fact | None:
    stamp, _, rest = line.partition(b" ")
    what, _, said = rest.partition(b" ")
    if not stamp.isdigit() or len(stamp) > _LONGEST_STAMP:
        return None
    at = int(stamp)
    if what == b"end":
        name = said.decode("ascii", errors="replace")
        return Fact(at, None, name) if REQUEST_NAME.fullmatch(name) else None
    try:
        request = parse_request(said) if what == b"block" else None
    except RequestError:
        return None
    if not isinstance(request, BlockRequest):
        return None
    return Fact(at, new_block(request, at), request.request)
