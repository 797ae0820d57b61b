"""Carries out blocks in nftables: single changes over netlink, everything at once through `nft -f -`.

A change of a few elements costs some ten microseconds on an open netlink socket, and hundreds of
times that as a program started. Whole tables go through nft itself, in one transaction: what is right
there is nft's business, and it is fast for many. Talks to the network namespace it was made in.

Works with nft 1.0.6 and Linux 6.1 (Debian 12) and later.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Sequence

from correlator.enforcer import nft_messages as nft
from correlator.enforcer.backend import Listing
from correlator.enforcer.plans import Until
from correlator.errors import KernelError, MissingToolError, PermissionDeniedError
from correlator.kernel.netlink import NLM_F_DUMP, NetlinkSocket, raise_for_error, read_messages
from correlator.kernel.process import CAP_NET_ADMIN, current_capabilities
from correlator.model import Micros, Source

FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
"""Where `nft` is looked for: never in a PATH that somebody handed to us."""

_ENVIRONMENT = {"PATH": FOLDERS, "LC_ALL": "C"}
_TIMEOUT_SECONDS = 20.0
"""Less than a unit's watchdog waits for us: who hangs is nft, and not we."""
_LARGEST_BATCH = 500
"""Elements that go over netlink in one transaction; more than that nft carries."""
_NETLINK_NETFILTER = 12
_BUFFER_BYTES = 1 << 20
_ANSWER_BYTES = 1 << 15
_SHOWN = 600
_NO_SUCH = os.strerror(errno.ENOENT)


class NftablesBackend:
    """The table `inet portward`. See `Backend` for what each method promises."""

    name = "nftables"

    def __init__(self) -> None:
        self._netlink: NetlinkSocket | None = None
        self._nft: str | None = None
        self._generation: int | None = None
        """The ruleset's generation as it must be if nobody but us changed anything; None: not known."""

    def close(self) -> None:
        """Give the socket back; the table stays in force."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def check(self) -> None:
        """Raise where nft is not installed, or the kernel would not let us."""
        self._find_nft()
        effective, _, _ = current_capabilities()
        if not effective & 1 << CAP_NET_ADMIN:
            raise PermissionDeniedError(
                "nftables: the capability CAP_NET_ADMIN is missing: run as root or start portward-enforcer"
            )
        self._ask_generation()

    def block(self, add: Sequence[tuple[Source, Until]], remove: Sequence[Source], *, now: Micros) -> None:
        """Deny `remove` no longer and `add` until their ends: both or neither."""
        if len(add) + len(remove) > _LARGEST_BATCH:
            self.run(nft.change_text(add, remove, now=now))
            self._moved_on()
        elif add or remove:
            self._send(add, remove, now)

    def release(self, sources: Sequence[Source]) -> None:
        """Deny these no longer."""
        self.block((), sources, now=0)

    def list(self, *, now: Micros) -> Listing:
        """Return what is really denied, and whether the rules around it stand."""
        generation = self._ask_generation()
        try:
            described = self.run("", "-j", "-t", "list", "table", "inet", nft.TABLE)
            elements: dict[Source, Until] = {}
            for name in nft.SETS:
                messages = self._socket().ask(
                    nft.GET_ELEMENTS,
                    nft.pack_element_dump(name),
                    flags=NLM_F_DUMP,
                    what=f"listing the set {name}",
                )
                elements.update(nft.read_elements(name, messages, now))
        except KernelError as exc:
            if _NO_SUCH not in str(exc):
                raise
            self._generation = None
            return Listing("altered", {}, "a set is missing") if self._has_table() else Listing("missing", {})
        try:
            alteration = nft.find_alteration(json.loads(described))
        except ValueError as exc:
            raise KernelError(f"nft -j list table: got {described[:_SHOWN]!r}, expected JSON") from exc
        # As it was before the listing: what changes meanwhile is found the next time.
        self._generation = generation
        return Listing("intact" if alteration is None else "altered", elements, alteration or "")

    def restore(self, denied: Iterable[tuple[Source, Until]], *, now: Micros) -> None:
        """Deny exactly these, rules and all, as one step without a gap."""
        before = self._ask_generation()
        self.run(nft.ruleset(denied, now=now))
        self._generation = before
        self._moved_on()

    def is_untouched(self) -> bool:
        """Return whether surely nobody but us changed any of the host's rules since the last look."""
        return self._generation is not None and self._ask_generation() == self._generation

    def _send(self, add: Sequence[tuple[Source, Until]], remove: Sequence[Source], now: Micros) -> None:
        netlink = self._socket()
        batch, last = nft.pack_change(add, remove, now=now, sequence=netlink.next_sequence())
        netlink.skip_to(last + 1)
        what = f"nftables: {len(add)} to add, {len(remove)} to remove in table inet {nft.TABLE}"
        try:
            netlink.socket.send(batch)
            # The kernel works through a batch before send() returns: its answers are all there by now.
            is_acknowledged = False
            while not is_acknowledged:
                for message in read_messages(netlink.socket.recv(_ANSWER_BYTES, socket.MSG_DONTWAIT)):
                    if nft.is_error(message):
                        raise_for_error(message, what)
                        is_acknowledged |= message.sequence == last
        except OSError as exc:
            self.close()
            raise KernelError(f"{what}: {exc.strerror}") from exc
        except KernelError:
            self.close()  # with whatever other answers still wait in it
            raise
        self._moved_on()

    def run(self, text: str, *arguments: str) -> str:
        """Run nft with `text` on its standard input; return what it printed."""
        argv = [self._find_nft(), *(arguments or ("-f", "-"))]
        what = f"nft {' '.join(argv[1:])}"
        try:
            done = subprocess.run(
                argv,
                input=text.encode(),
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                env=_ENVIRONMENT,
                cwd="/",
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise KernelError(f"{what}: no answer in {_TIMEOUT_SECONDS:.0f} s") from exc
        except OSError as exc:
            raise KernelError(f"{what}: cannot be started: {exc.strerror}") from exc
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", errors="replace").split())
            raise KernelError(f"{what}: exit status {done.returncode}: {said[:_SHOWN]}")
        return done.stdout.decode("utf-8", errors="replace")

    def _find_nft(self) -> str:
        if self._nft is None:
            self._nft = shutil.which("nft", path=FOLDERS)
        if self._nft is None:
            raise MissingToolError(f"nft: not found in {FOLDERS}; Debian's package nftables has it")
        return self._nft

    def _has_table(self) -> bool:
        tables = json.loads(self.run("", "-j", "list", "tables"))["nftables"]
        return any(
            entry.get("table", {}).get("name") == nft.TABLE and entry["table"].get("family") == "inet"
            for entry in tables
        )

    def _socket(self) -> NetlinkSocket:
        if self._netlink is None:
            try:
                self._netlink = NetlinkSocket(_NETLINK_NETFILTER)
            except OSError as exc:
                raise KernelError(f"nftables: no netlink socket: {exc.strerror}") from exc
            self._netlink.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        return self._netlink

    def _ask_generation(self) -> int:
        try:
            answers = self._socket().ask(
                nft.GET_GENERATION, nft.pack_generation_request(), what="nftables' generation"
            )
        except OSError as exc:
            self.close()
            raise KernelError(f"nftables: {exc.strerror}") from exc
        return nft.read_generation(answers[0])

    def _moved_on(self) -> None:
        if self._generation is not None:
            self._generation = (self._generation + 1) & 0xFFFFFFFF or 1
