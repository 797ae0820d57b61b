"""What another hand did to our table on a real kernel is found, said and made right."""

import signal

import pytest

from correlator.enforcer.protocol import Mend, MendedEvent, WatchRequest
from correlator.model import SECOND
from tests.netns.enforcers import STRANGER4, Running

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(
    ("damage", "table"),
    [
        ("flush ruleset", "missing"),
        ("delete table inet portward", "missing"),
        ("flush chain inet portward prerouting", "altered"),
        ("insert rule inet portward prerouting accept", "altered"),
        ("delete element inet portward source4 { 198.51.100.7 }", "intact"),
        ("add element inet portward source6 { 2001:db8::99 }", "intact"),
        ("add table inet portward { flags dormant; }", "altered"),
        ("add chain inet portward prerouting { policy drop; }", "altered"),
        (
            "flush set inet portward prefix4\nadd element inet portward prefix4 { 203.0.113.9-203.0.113.20 }",
            "intact",
        ),
    ],
)
def test_another_hand_is_mended(running: Running, damage: str, table: str) -> None:
    """Whatever was done to our table, the next comparison makes it right and says so."""
    client = running.start()
    running.block(client, STRANGER4)
    running.block(client, "203.0.113.0/24")
    before = running.kernel()
    assert running.sync(client) == Mend("intact")
    running.nft(damage)
    watcher = running.connect()
    watcher.ask(WatchRequest(1))
    mend = running.sync(client)
    assert mend.table == table
    assert mend.is_needed
    assert running.kernel().keys() == before.keys()
    assert running.sync(client) == Mend("intact")
    running.wait_until(lambda: f"mended table={table}" in running.output.read_text())
    assert [event.mend for event in watcher.receive() if isinstance(event, MendedEvent)] == [mend]


def test_a_deleted_rule_is_mended_without_being_told(running: Running) -> None:
    """The periodic comparison finds by the ruleset's generation that there is something to read."""
    client = running.start(sync_every=SECOND // 10)
    running.block(client, STRANGER4)
    generation = running.generation()
    handle = running.lab.victim.run("nft", "-a", "list", "chain", "inet", "portward", "prerouting").stdout
    line = next(line for line in handle.splitlines() if "@source4" in line)
    running.nft(f"delete rule inet portward prerouting handle {line.rpartition(' ')[2]}")
    running.wait_until(lambda: "mended table=altered restored=1" in running.output.read_text())
    assert list(running.kernel()) == [STRANGER4]
    assert running.generation() == generation + 2


def test_sighup_compares_at_once(running: Running) -> None:
    """As a reload does; the ignore file is read again as well."""
    client = running.start()
    running.block(client, STRANGER4)
    running.block(client, "203.0.113.5")
    running.nft("flush ruleset")
    running.paths.ignore.write_text("203.0.113.0/24\n")
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    running.wait_until(lambda: "mended table=missing restored=1" in running.output.read_text())
    assert list(running.kernel()) == [STRANGER4]
    assert [str(block.source) for block in client.blocks()] == [STRANGER4]
