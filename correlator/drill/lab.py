"""Two throw-away network namespaces, a victim and a scanner, joined by one veth pair.

A namespace here is an open descriptor and nothing else: no name under /run/netns, no process that holds
it. So there is nothing to tidy up, and nothing stays behind when this process is killed: the kernel
takes a namespace back when its last descriptor and its last inhabitant are gone.

Invariants: only the main thread enters a namespace (`/proc/self` and `/proc/net` mean the main thread,
and children must not start in another's namespace by accident); whoever enters is always brought back;
the host's own namespace is never changed. Source: network_namespaces(7), veth(4), ip-sysctl.rst.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from correlator.errors import KernelError, MissingToolError, PermissionDeniedError, PortwardError

VICTIM4 = "192.0.2.1"
VICTIM6 = "2001:db8::1"
SCANNER4 = "192.0.2.2"
SCANNER6 = "2001:db8::2"
GATEWAY4 = "192.0.2.254"
GATEWAY6 = "2001:db8::fe"
VICTIM_DEVICE = "v0"
SCANNER_DEVICE = "s0"

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_RUN_SECONDS = 60.0
_LONGEST_LINK_SECONDS = 10.0
_POLL_SECONDS = 0.002
_ROUNDS_OF_KILLING = 50
_IFA_F_TENTATIVE = 0x40

_KERNEL_SETTINGS = (
    # Addresses count at once, and the kernel sends nothing that no test asked for.
    ("net/ipv6/conf/{name}/accept_dad", "0"),
    ("net/ipv6/conf/{name}/router_solicitations", "0"),
    # Forged sources must reach the victim as they would on a network without source validation.
    ("net/ipv4/conf/{name}/rp_filter", "0"),
)
_UNLIMITED_ANSWERS = (
    # A closed UDP port answers every probe: a missing answer then means "blocked" and nothing else.
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv4/icmp_msgs_per_sec", "1000000"),
    ("net/ipv4/icmp_msgs_burst", "1000000"),
)


class LabError(PortwardError):
    """A command inside a throw-away namespace failed; says which, and what it wrote."""

    exit_status = 71


class Namespace:
    """One network namespace without a name, kept by an open descriptor of this process.

    Raises: PermissionDeniedError where we may not make one; RuntimeError outside the main thread.
    """

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        self._children: list[subprocess.Popen[str]] = []
        self._descriptor = _new_namespace()
        self._identity = os.stat(self._descriptor).st_ino

    @property
    def path(self) -> str:
        """A path that `ip ... netns PATH` and `nsenter --net=PATH` take while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside: sockets and child processes that are made meanwhile belong to this namespace.

        They stay there afterwards, and so may be used from outside. Nests.
        """
        _demand_main_thread()
        home = _current_namespace()
        try:
            _enter(self._descriptor)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a child inside, in text mode and without standard input unless `options` say otherwise.

        The kernel kills it when this process dies, and `close` kills it at the latest.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        with self.entered():
            child: subprocess.Popen[str] = subprocess.Popen(
                argv,
                text=True,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 - one prepared system call, no Python locks
                **options,
            )
        self._children.append(child)
        return child

    def run(
        self,
        *argv: str,
        text: str | None = None,
        must_succeed: bool = True,
        seconds: float = _LONGEST_RUN_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, with `text` on its standard input; return what it wrote.

        Raises: LabError where it ends with another status than 0 (unless told otherwise) or takes too
        long; MissingToolError where there is no such program.
        """
        environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":" + _TOOL_PATH, "LC_ALL": "C"}
        program = shutil.which(argv[0], path=environment["PATH"])
        if program is None:
            raise MissingToolError(f"{argv[0]}: not installed, and the lab needs it")
        child = self.popen(
            program,
            *argv[1:],
            env=environment,
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        command = " ".join(argv)
        try:
            output, complaint = child.communicate(text, timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise LabError(f"{command} ({self.purpose}): did not end within {seconds} s") from exc
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()
            self._children.remove(child)
        if must_succeed and child.returncode != 0:
            raise LabError(f"{command} ({self.purpose}): status {child.returncode}: {complaint.strip()}")
        return subprocess.CompletedProcess(argv, child.returncode, output, complaint)

    def set_kernel(self, name: str, value: str) -> bool:
        """Set one network setting of this namespace (`net/ipv4/ip_forward`); false where it has none."""
        with self.entered():
            try:
                with open(f"/proc/sys/{name}", "w", encoding="ascii") as setting:
                    setting.write(value)
            except FileNotFoundError:
                return False
            except OSError as exc:
                raise KernelError(f"{name}={value} ({self.purpose}): {exc.strerror}") from exc
        return True

    def inhabitants(self) -> tuple[int, ...]:
        """Return the process ids of everything that lives inside."""
        return tuple(int(name) for name in os.listdir("/proc") if name.isdigit() and self._holds(int(name)))

    def close(self) -> None:
        """Kill what still lives inside and let the namespace go. May be called twice.

        There is no other way in than through our descriptor, so whoever is inside was started by us or by
        our children. A child that outlived its parent would keep the namespace alive for ever.
        """
        if self._descriptor < 0:
            return
        for _ in range(_ROUNDS_OF_KILLING):  # a bound, should something inside fork faster than we kill
            living = self.inhabitants()
            if not living:
                break
            for process in living:
                self._kill(process)
            for child in self._children:
                child.poll()
        for child in self._children:
            child.kill()  # it may have gone into a namespace of its own
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    with suppress(OSError):  # unsent text for a child that is dead
                        stream.close()
        self._children.clear()
        os.close(self._descriptor)
        self._descriptor = -1

    def _holds(self, process: int) -> bool:
        try:
            return os.stat(f"/proc/{process}/ns/net").st_ino == self._identity
        except OSError:  # it ended meanwhile
            return False

    def _kill(self, process: int) -> None:
        """Kill one inhabitant; the descriptor makes sure that its number did not pass to another."""
        try:
            descriptor = os.pidfd_open(process)
        except OSError:
            return
        try:
            if self._holds(process):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


class Lab:
    """A victim (192.0.2.1, 2001:db8::1 on v0) and a scanner (.2, ::2 on s0) on one veth pair.

    Whatever the victim does not know it sends to the scanner, so answers to forged sources are seen there.

    Raises: PermissionDeniedError where we may not make namespaces; MissingToolError without iproute2.
    """

    def __init__(self) -> None:
        self.victim = Namespace("victim")
        try:
            self.scanner = Namespace("scanner")
            try:
                self._connect()
            except BaseException:
                self.scanner.close()
                raise
        except BaseException:
            self.victim.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything inside and let both namespaces go; each dies when our sockets inside are closed."""
        self.scanner.close()
        self.victim.close()

    @functools.cached_property
    def has_ipv6(self) -> bool:
        """False on a kernel that was started without IPv6; the lab then has IPv4 only."""
        return os.path.exists("/proc/sys/net/ipv6")

    def add_scanner_address(self, *texts: str) -> None:
        """Give the scanner further addresses, hundreds at once if need be; ready when this returns.

        Any address will do: the victim answers to those outside its own networks through the scanner.
        """
        lines = [f"addr add {text}/{_bits(text)} dev {SCANNER_DEVICE}{_nodad(text)}" for text in texts]
        _ip(self.scanner, *lines)

    def _connect(self) -> None:
        for namespace in (self.victim, self.scanner):
            for name in ("all", "default"):
                for setting, value in _KERNEL_SETTINGS:
                    namespace.set_kernel(setting.format(name=name), value)
            for setting, value in _UNLIMITED_ANSWERS:
                # Linux before 6.13 keeps some of these for the whole machine, out of our reach.
                with suppress(KernelError):
                    namespace.set_kernel(setting, value)
        # Different indexes, or the kernel takes the ends for devices without a peer, whose link changes it
        # makes known once a second only (linkwatch_urgent_event in net/core/link_watch.c).
        _ip(
            self.victim,
            f"link add {VICTIM_DEVICE} index 10 type veth"
            f" peer name {SCANNER_DEVICE} index 11 netns {self.scanner.path}",
            "link set lo up",
            f"link set {VICTIM_DEVICE} up",
        )
        _ip(self.scanner, "link set lo up", f"link set {SCANNER_DEVICE} up")
        self._wait_for_links()
        for namespace, device, address4, address6 in (
            (self.scanner, SCANNER_DEVICE, SCANNER4, SCANNER6),
            (self.victim, VICTIM_DEVICE, VICTIM4, VICTIM6),
        ):
            lines = [f"addr add {address4}/24 dev {device}"]
            if self.has_ipv6:
                lines.append(f"addr add {address6}/64 dev {device} nodad")
            if namespace is self.victim:
                # The gateway has addresses of its own: it is never blocked, and the scanner must be.
                lines.append(f"route add default via {GATEWAY4}")
                if self.has_ipv6:
                    lines.append(f"route add default via {GATEWAY6}")
            else:
                lines.append(f"addr add {GATEWAY4}/24 dev {device}")
                if self.has_ipv6:
                    lines.append(f"addr add {GATEWAY6}/64 dev {device} nodad")
            _ip(namespace, *lines)

    def _wait_for_links(self) -> None:
        """Wait until both ends have their link-local address, which the kernel gives them a little later.

        Before that a device answers no neighbour solicitation, and the victim asks again only a second later.
        """
        deadline = time.monotonic() + _LONGEST_LINK_SECONDS
        for namespace in (self.victim, self.scanner) if self.has_ipv6 else ():
            with namespace.entered():
                while not _has_link_local_address():
                    if time.monotonic() > deadline:
                        raise LabError(f"{namespace.purpose}: its link did not come up")
                    time.sleep(_POLL_SECONDS)


def _ip(namespace: Namespace, *lines: str) -> None:
    """Run lines of iproute2's batch language in one process."""
    namespace.run("ip", "-batch", "-", text="\n".join(lines) + "\n")


def _has_link_local_address() -> bool:
    with open("/proc/thread-self/net/if_inet6", encoding="ascii") as table:
        lines = [line.split() for line in table]
    return any(line[0].startswith("fe80") and not int(line[4], 16) & _IFA_F_TENTATIVE for line in lines)


def _bits(address: str) -> int:
    return 128 if ":" in address else 32


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def _new_namespace() -> int:
    """Return a descriptor of a new namespace, being back in the old one."""
    _demand_main_thread()
    home = _current_namespace()
    try:
        if _libc().unshare(_CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            hint = "run as root (CAP_SYS_ADMIN)" if number == errno.EPERM else "this kernel has none to give"
            raise PermissionDeniedError(f"network namespaces: {os.strerror(number)}: {hint}")
        try:
            return _current_namespace()
        finally:
            _enter(home)
    finally:
        os.close(home)


def _current_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(descriptor: int) -> None:
    if _libc().setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"setns: {os.strerror(number)}")


def _demand_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("only the main thread may enter a network namespace")


def _end_with_parent() -> Callable[[], None]:
    """Return what a child calls before it becomes its program: die by SIGKILL with this process."""
    prctl = _libc().prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel knew of our wish
            os._exit(1)

    return prepare


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
