"""Our own side of the benches: the real three processes in a lab's victim."""

from pathlib import Path

from correlator.drill.lab import Lab, LabError
from correlator.drill.rig import PROCESSES, Rig

# The shipped jail, but for one number: the breaker stops blocking past 60 spoofable sources a minute, and
# the bench shows it more than that. PortSentry has no such limit.
_SETTINGS = """\
[jail.portscan]
filters = ["portsentry"]
spoofable_a_minute = 1000000
"""


class Portward:
    """`portward run` in mode block, with its files in a folder of the bench."""

    name = "Portward"

    settings = _SETTINGS
    scans_at_most = 1000

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self._rig = Rig(lab, folder, settings=self.settings)
        self._rig.start()

    def demand_running(self) -> None:
        """Raise LabError where one of the three processes is missing."""
        if missing := set(PROCESSES) - set(self._rig.process_ids()):
            raise LabError(f"Portward: {', '.join(sorted(missing))} ended: {self._rig.printed()[-2000:]}")

    def release(self, source: str) -> None:
        """Leave the source in its set: what a set holds does not slow it down."""

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        self._rig.stop()


class PortwardWithTripwire(Portward):
    """The same with the kernel holding a source from its second packet."""

    name = "Portward, tripwire"
    # nmap takes half a minute to find out that nobody answers
    scans_at_most = 2
    settings = "[tripwire]\nenabled = true\n" + _SETTINGS
