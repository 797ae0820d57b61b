"""Reaches Unix sockets in folders whose names are longer than a socket's address may be.

Such an address holds 107 bytes (unix(7)). A longer one is reached through a descriptor of its folder, which
the kernel takes for the folder itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 107


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a name of `path` that fits into a socket's address, for as long as the block lasts.

    Raises: OSError where the folder is not there or may not be entered.
    """
    name = os.fspath(path)
    if len(os.fsencode(name)) <= _LONGEST:
        yield name
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
