"""What several commands need first: the site's configuration, or a clear refusal to go on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from correlator.cli.output import complain
from correlator.errors import ConfigError

if TYPE_CHECKING:
    from correlator.config.settings import SiteSettings
    from correlator.config.site import Site


def load(options: argparse.Namespace, *, mode: str | None = None) -> Site:
    """Return the site; faults that take out only a filter or a jail are said on standard error.

    Raises: ConfigError where the settings file itself is at fault.
    """
    from correlator.config.site import load_site

    site = load_site(options.config, mode=mode)
    if site.fatal:
        raise ConfigError(site.faults)
    for fault in site.faults:
        complain(f"portward: {fault}")
    return site


def load_settings(
    options: argparse.Namespace, *, mode: str | None = None, probe_modes: tuple[str, ...] | None = None
) -> SiteSettings:
    """Return the settings without the filters; for what must be light or quick.

    Raises: ConfigError where the settings file itself is at fault.
    """
    from correlator.config.settings import load_settings as read

    settings = read(options.config, mode=mode, probe_modes=probe_modes)
    if settings.fatal:
        raise ConfigError(settings.faults)
    return settings
