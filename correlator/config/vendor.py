"""Where Portward's own filters, actions, units and settings are, and where a site's settings are."""

from __future__ import annotations

import sys
from pathlib import Path

ETC = Path("/etc/portward")
SETTINGS_FILE = "portward.toml"
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


def built_file(name: str) -> Path:
    """Return where something is that was made of our filters: beside them, or where a checkout is built."""
    folder = vendor_folder("filters")
    built = folder.parent / "build" / name
    return built if built.exists() else folder / name


def settings_file(folder: Path | None) -> Path:
    """Return the settings file of `folder`, else of /etc/portward, else the one we ship."""
    if folder is not None:
        return folder / SETTINGS_FILE
    etc = ETC / SETTINGS_FILE
    return etc if etc.exists() else Path(__file__).with_name(SETTINGS_FILE)
