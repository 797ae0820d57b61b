"""Real PortSentry 1.2 as a guard: `-atcp`, blocking with iptables."""

from pathlib import Path

from correlator.drill.lab import Lab
from tests.peers import portsentry

OPTIONS = {
    "BLOCK_TCP": "1",
    "KILL_ROUTE": "/sbin/iptables -I INPUT -s $TARGET$ -j DROP",
    "SCAN_TRIGGER": "0",
    "RESOLVE_HOST": "0",
    "ADVANCED_EXCLUDE_TCP": "113,139",
}
"""What differs from the configuration that Debian ships; KILL_HOSTS_DENY stays as shipped."""

_UNRELATED_RULE = ("-s", "203.0.113.254", "-j", "ACCEPT")


class PortSentry(portsentry.PortSentry):
    """`portsentry -atcp` in the victim.

    The kernel's chain exists before, with one rule that has nothing to do with it, so that the first block
    does not pay for making the table.
    """

    scans_at_most = 1000

    def __init__(self, lab: Lab, folder: Path) -> None:
        lab.victim.run("iptables", "-A", "INPUT", *_UNRELATED_RULE)
        super().__init__(lab, folder, "atcp", OPTIONS)

    def release(self, source: str) -> None:
        """Take back the rule of one run."""
        self.lab.victim.run("iptables", "-D", "INPUT", "-s", source, "-j", "DROP", must_succeed=False)

    def stop(self) -> None:
        """End it at once, whatever it is doing."""
        self.kill()
