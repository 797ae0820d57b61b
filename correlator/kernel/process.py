"""What a process of ours asks of the kernel for itself: readiness, capabilities, a bounded life.

Source: sd_notify(3), capabilities(7), prctl(2). Imports only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from correlator.errors import BusyError, KernelError

CAP_DAC_OVERRIDE = 1
ALL_CAPABILITIES = range(64)
"""Whatever there is, in the kernels to come too."""
CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY_FILE = "/proc/sys/kernel/cap_last_cap"
_PARENT_VARIABLE = "PORTWARD_PARENT"
_AHEAD = -10


def notify(state: str) -> bool:
    """Tell the service manager `state` (`READY=1`, `STATUS=...`, `STOPPING=1`, `WATCHDOG=1`).

    Returns whether anybody listens: false outside a service manager, and nothing else happens then.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return False
    return True


class Watchdog:
    """Tells the service manager that we still work, twice in each of its periods; else it does nothing."""

    def __init__(self) -> None:
        period = os.environ.get("WATCHDOG_USEC", "")
        is_for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every = int(period) / 2e6 if period.isdecimal() and is_for_us else None
        self._due = 0.0

    def tend(self) -> None:
        """Say so where it is due; to be called between any two bounded pieces of work."""
        if self._every is not None and (now := time.monotonic()) >= self._due:
            self._due = now + self._every
            notify("WATCHDOG=1")


def die_with_parent() -> None:
    """End this process when the one that `portward run` named in the environment is gone.

    Does nothing for a process that a service manager or a person started.
    """
    parent = os.environ.pop(_PARENT_VARIABLE, "")
    if not parent:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)


def run_ahead() -> None:
    """Be scheduled before ordinary work: who reacts within a millisecond must not wait in a queue.

    Needs CAP_SYS_NICE or `Nice=` of a unit; without either nothing changes.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _AHEAD)


def child_environment() -> dict[str, str]:
    """Return the environment for a child that shall not outlive this process."""
    return {**os.environ, _PARENT_VARIABLE: str(os.getpid())}


def allow_descriptors(count: int) -> None:
    """Raise our soft limit of open files to `count`, as far as the hard one and the kernel allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def join_groups(*names: str) -> None:
    """Let root read what these groups may, once it has given up its rights; nothing for anybody else.

    A group that is not there, or that the kernel does not grant, is left out: what cannot be read is said
    where it is read.
    """
    if os.geteuid() != 0:
        return
    import grp

    groups = set(os.getgroups())
    for name in names:
        with contextlib.suppress(KeyError):
            groups.add(grp.getgrnam(name).gr_gid)
    with contextlib.suppress(OSError):
        os.setgroups(sorted(groups))


def keep_capabilities(*kept: int, for_children: bool = False, may_be_gained: bool = False) -> None:
    """Give up every capability but `kept`, for good: bounding set, ambient set and no_new_privs too.

    With `for_children` the kept ones also become inheritable and ambient, so that a program we start
    has them. Root keeps its user id; what is left are its file permissions. With `may_be_gained` a program
    that is setuid becomes again who it is (no_new_privs is left), within the bounding set.

    Raises: KernelError where the kernel refuses.
    """
    allowed = sum(1 << number for number in kept)
    _, permitted, _ = current_capabilities()
    allowed &= permitted
    if permitted & (1 << 8):  # CAP_SETPCAP: only with it may the bounding set shrink
        with open(_LAST_CAPABILITY_FILE, encoding="ascii") as file:
            last = int(file.read())
        for number in range(last + 1):
            if not allowed & (1 << number):
                _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(allowed, allowed if for_children else 0)
    if for_children:
        for number in kept:
            if allowed & (1 << number):
                _prctl(_PR_CAP_AMBIENT, 2, number)
    if not may_be_gained:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def is_root_among_others(*folders: Path) -> bool:
    """True where we are root and must write in a folder of another user: that takes CAP_DAC_OVERRIDE."""
    if os.geteuid() != 0:
        return False
    for folder in folders:
        with contextlib.suppress(OSError):  # its absence is told where it is needed
            if folder.stat().st_uid != 0:
                return True
    return False


@contextlib.contextmanager
def hold_lock(path: Path, name: str) -> Iterator[None]:
    """Hold the file `path` locked, so that there is one `name` at a time; freed when we die.

    Raises: BusyError where another one holds it, naming its process id.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(f"another {name} runs here already, process {holder} (lock file {path})") from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def current_capabilities() -> tuple[int, int, int]:
    """Return the effective, permitted and inheritable sets as bit masks."""
    found = {"CapEff": 0, "CapPrm": 0, "CapInh": 0}
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value, 16)
    return found["CapEff"], found["CapPrm"], found["CapInh"]


def _set_capabilities(allowed: int, inheritable: int) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = (1 << 32) - 1, 32
    sets = struct.pack(
        "=6I",
        allowed & low,
        allowed & low,
        inheritable & low,
        allowed >> high,
        allowed >> high,
        inheritable >> high,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, sets) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"capset: {os.strerror(number)}")


def _prctl(option: int, first: int, second: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_ulong(value) for value in (first, second, 0, 0))
    if libc.prctl(option, *arguments) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"prctl {option}: {os.strerror(number)}")
