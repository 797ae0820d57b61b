"""What can go wrong outside Portward, each as one type that says what, where, got and expected.

Our own mistakes are not here: they raise what Python raises. Text that a stranger wrote never raises
beyond the module that reads it: it becomes a value (not ours, understood, unreadable).
"""

from __future__ import annotations

from dataclasses import dataclass


class PortwardError(Exception):
    """The base of every error that a user may see as one line on standard error."""

    exit_status = 70  # EX_SOFTWARE of sysexits.h


class SourceError(PortwardError, ValueError):
    """Text that should be an address or a prefix is not one."""

    exit_status = 2


class JournalMatchError(PortwardError, ValueError):
    """Text that should be a condition on journal fields is none."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a file that a user wrote."""

    where: str
    """File, and the line where it is known: `portward.toml:12`."""
    key: str
    got: str
    expected: str

    def __str__(self) -> str:
        """One line that a person can act on."""
        return f"{self.where}: {self.key}: got {self.got}, expected {self.expected}"


class ConfigError(PortwardError):
    """Files that users write hold faults; all of them are listed at once."""

    exit_status = 78  # EX_CONFIG

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        # One thing said for each version of IP is still one thing.
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ProtocolError(PortwardError, ValueError):
    """A request or answer on one of our sockets breaks the protocol."""

    exit_status = 76  # EX_PROTOCOL


class KernelError(PortwardError):
    """The kernel refused what we asked of it: names the request, the errno and its meaning."""

    exit_status = 71  # EX_OSERR


class UnreachableError(PortwardError):
    """A process of ours does not answer on its socket."""

    exit_status = 69  # EX_UNAVAILABLE


class PermissionDeniedError(PortwardError):
    """A capability or a file permission is missing; says which and how to get it."""

    exit_status = 77  # EX_NOPERM


class MissingToolError(PortwardError):
    """A program or a library that a command needs is not installed; says which package has it."""

    exit_status = 69


class CaptureFileError(PortwardError):
    """A file of packets cannot be read; says what it is and what was expected."""

    exit_status = 65  # EX_DATAERR


class BusyError(PortwardError):
    """Another process of ours already does this work."""

    exit_status = 75  # EX_TEMPFAIL
