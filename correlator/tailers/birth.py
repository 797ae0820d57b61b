"""When a file came to be, which Python's own `stat` does not say.

By the kernel's clock, which may stand some milliseconds behind ours; of file systems that keep no such time
(NFS, for one) nothing is said. Source: statx(2), and include/uapi/linux/stat.h for the places of its fields.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import Any

from correlator.model import SECOND, Micros

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_BYTES = 256
_MASK = struct.Struct("=I")
_BIRTH = struct.Struct("=qI")
_BIRTH_AT = 80


def born_at(descriptor: int) -> Micros | None:
    """Return when an open file was made; None where that is not known."""
    statx = _statx()
    told = ctypes.create_string_buffer(_BYTES)
    if statx is None or statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, told) != 0:
        return None
    if not _MASK.unpack_from(told)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BIRTH.unpack_from(told, _BIRTH_AT)
    return int(seconds) * SECOND + int(nanoseconds) // 1000


@functools.cache
def _statx() -> Any:
    """Return the C library's function; None where it has none."""
    try:
        found = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    return found
