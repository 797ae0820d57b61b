"""Configurations of PortSentry for tests of what becomes of them."""

from pathlib import Path

from correlator.config.portsentry import parse_portsentry_conf

ROOT = Path(__file__).parents[2]
PATH = Path("/etc/portsentry/portsentry.conf")
DEBIAN = (ROOT / "tests/golden/portsentry/portsentry.conf").read_bytes()
FILES = b"""\
IGNORE_FILE="/etc/portsentry/portsentry.ignore"
HISTORY_FILE="/var/lib/portsentry/portsentry.history"
BLOCKED_FILE="/var/lib/portsentry/portsentry.blocked"
"""


def parse(text, *, files=FILES):
    """Read lines behind the three that PortSentry cannot do without; line 1 is the first of `text`."""
    data = text if isinstance(text, bytes) else text.encode()
    return parse_portsentry_conf(data + b"\n" + files, PATH)


def blocking(protocols="TCP UDP", **directives):
    """A configuration that denies, of the protocols given."""
    lines = [f'BLOCK_{protocol}="1"' for protocol in protocols.split()]
    lines += ['KILL_ROUTE="/bin/true -I INPUT -s $TARGET$ -j DROP"'] if "KILL_ROUTE" not in directives else []
    conf, faults = parse("\n".join([*lines, *(f'{name}="{value}"' for name, value in directives.items())]))
    assert faults == ()
    return conf
