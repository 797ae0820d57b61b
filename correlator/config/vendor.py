"""Where Portward's own filters, actions and units are."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_CHECKOUT = {"units": "debian"}
"""Folders that have another name in a checkout."""


def vendor_folder(kind: str) -> Path:
    """Return where Portward's own `filters`, `actions` or `units` are.

    In a checkout, in Debian's package (beside the modules), or where a wheel puts them: below the prefix
    that its modules stand in, `PREFIX/lib/python3.N/site-packages`.
    """
    candidates = (
        _PACKAGE.parent / kind,
        _PACKAGE.parent / _CHECKOUT.get(kind, kind),
        *(parent / "share/portward" / kind for parent in _PACKAGE.parents[2:4]),
        Path(sys.prefix) / "share/portward" / kind,
        Path("/usr/share/portward") / kind,
    )
    return next((folder for folder in candidates if folder.is_dir()), candidates[-1])
