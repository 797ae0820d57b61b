"""Where Portward's own filters and actions are."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def vendor_folder(kind: str) -> Path:
    """Return where Portward's own `filters` or `actions` are: in a checkout, a wheel, or Debian's package."""
    candidates = (
        _PACKAGE.parent / kind,
        Path(sys.prefix) / "share/portward" / kind,
        Path("/usr/share/portward") / kind,
    )
    return next((folder for folder in candidates if folder.is_dir()), candidates[-1])
