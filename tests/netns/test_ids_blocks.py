"""What snort2iptables, Guardian and hogwash did: an alert of a chosen priority or signature blocks.

The jails are the guide's. Lines that a real Suricata wrote are appended to the log that the correlator
follows; the enforcer denies in the kernel. The victim has the address of the host that they are about.
"""

import json
import re
from pathlib import Path

import pytest

from correlator.drill.rig import Rig

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "tests/golden/filters/ids"
GUIDE = (ROOT / "docs/packet-logs.md").read_text()
JAILS = {
    name: text
    for text in re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    for name in re.findall(r"^\[jail\.([a-z-]+)\]$", text, re.MULTILINE)
}
CLIENT4, CLIENT6 = "192.0.2.10", "2001:db8::10"
OURS = ("198.51.100.1", "2001:db8:1::1")
EVE, FAST = "suricata-7.0-live-eve.json", "suricata-7.0-fast.log"
HIGH, LOW, ANSWERED, CALLS_OUT = 2999001, 2999002, 2999003, 2999023
TEN_MINUTES = 600


def _recorded(log, signature, address):
    """Return the first line that Suricata wrote about this rule and one of these sides."""
    spelled = {CLIENT6: "2001:0db8:0000:0000:0000:0000:0000:0010"}.get(address, address)
    mark = f'"signature_id":{signature},' if log.endswith(".json") else f"[1:{signature}:"
    lines = (LOGS / log).read_text().splitlines()
    return next(line for line in lines if mark in line and re.search(rf'[ "]{spelled}[:"]', line))


class _Alerts:
    """A running Portward in a victim that has the recorded host's addresses, and the log it follows."""

    def __init__(self, rig, log, wait_until):
        self.rig = rig
        self._log = log
        self._wait_until = wait_until

    def write(self, log, *alerts):
        """Append recorded lines."""
        with self._log.open("a") as file:
            file.write("".join(f"{_recorded(log, *alert)}\n" for alert in alerts))

    def await_denied(self, *addresses):
        """Wait until the kernel drops exactly these, and return the seconds left of each."""
        self._wait_until(
            lambda: set(self.rig.denied()) == set(addresses), what=f"{addresses}: {self.rig.printed()}"
        )
        return [self.rig.denied()[address] for address in addresses]

    def await_ignored(self, count):
        """Wait until it has counted so many alerts about sources that are never blocked."""
        status = self.rig.folder / "run/correlator/correlator.json"

        def jail():
            return json.loads(status.read_text())["jails"][0]

        self._wait_until(lambda: jail()["ignored"] == count, what=f"{count} ignored")
        assert self.rig.ask("why-not", OURS[0])["never_blocked"] == f"{OURS[0]} is this host's own address"


@pytest.fixture
def start(lab, tmp_path, wait_until):
    """Start Portward with a jail, its filter reading a log of the test's."""
    for address in OURS:
        lab.victim.run("ip", "address", "add", address, "dev", "lo")
    rigs = []

    def begin(jail, filter_="suricata-eve"):
        log = tmp_path / "alerts.log"
        log.write_text("")
        text = (ROOT / f"filters/{filter_}.toml").read_text()
        (tmp_path / "filters").mkdir()
        (tmp_path / f"filters/{filter_}.toml").write_text(
            re.sub(r"(?m)^files .*$", f'files = ["{log}"]', text)
        )
        rigs.append(Rig(lab, tmp_path, settings=jail))
        rigs[0].start()
        return _Alerts(rigs[0], log, wait_until)

    yield begin
    for rig in rigs:
        rig.stop()


def test_an_alert_of_the_chosen_priority_blocks(start):
    """The low one before it does not; over both IP versions, for the time that the jail says."""
    alerts = start(JAILS["ids-grave"])
    alerts.write(EVE, (LOW, CLIENT4), (LOW, CLIENT6), (HIGH, CLIENT4))
    (left,) = alerts.await_denied(CLIENT4)
    assert left > 86_400 - TEN_MINUTES
    alerts.write(EVE, (HIGH, CLIENT6))
    alerts.await_denied(CLIENT4, CLIENT6)


def test_an_alert_of_a_chosen_signature_blocks(start):
    """Whatever its priority, and one of the highest that was not chosen does not."""
    assert "2018358" in JAILS["ids-rules"]
    alerts = start(JAILS["ids-rules"].replace("2018358", str(LOW)))
    alerts.write(EVE, (HIGH, CLIENT4), (HIGH, CLIENT6), (LOW, CLIENT6))
    (left,) = alerts.await_denied(CLIENT6)
    assert left > 7 * 86_400 - TEN_MINUTES


def test_a_rule_about_our_answer_blocks_who_asked(start):
    """The alert's source is our own server; in a record the conversation's beginner is the one."""
    line = _recorded(EVE, ANSWERED, CLIENT4)
    assert f'"src_ip":"{OURS[0]}"' in line
    alerts = start(JAILS["ids-grave"])
    alerts.write(EVE, (ANSWERED, CLIENT4))
    alerts.await_denied(CLIENT4)


def test_our_own_host_is_never_blocked_for_what_it_asked(start):
    """It fetched something bad itself: nothing is counted, and what comes next is blocked as ever."""
    alerts = start(JAILS["ids-grave"])
    alerts.write("suricata-7.0-eve.json", (CALLS_OUT, OURS[0]), (HIGH, CLIENT6))
    alerts.await_denied(CLIENT6)
    alerts.await_ignored(1)


def test_our_own_host_on_the_left_of_an_alert_is_never_blocked(start):
    """fast.log names the sender of the packet, which of an answer are we."""
    line = _recorded(FAST, ANSWERED, CLIENT4)
    assert f"{OURS[0]}:80 -> {CLIENT4}:" in line
    jail = JAILS["ids-grave"].replace("suricata-eve", "suricata")
    alerts = start(jail, "suricata")
    alerts.write(FAST, (ANSWERED, CLIENT4), (ANSWERED, CLIENT6), (HIGH, CLIENT4))
    alerts.await_denied(CLIENT4)
    alerts.await_ignored(2)
