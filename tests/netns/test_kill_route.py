"""PortSentry's KILL_ROUTE as it is imported: a rule that somebody takes away is put back, and let go of."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.drill.lab import SCANNER4, VICTIM4, Lab
from correlator.model import OutcomeKind
from tests.netns.blocking import Site, WaitUntil

pytestmark = pytest.mark.netns

ROUTES = {
    "/sbin/iptables -I INPUT -s $TARGET$ -j DROP": "iptables -F INPUT",
    "/sbin/iptables -I INPUT -s $TARGET$ -j DROP && /sbin/iptables -I FORWARD -s $TARGET$ -j DROP": (
        "iptables -F FORWARD"
    ),
    "/sbin/ip route add unreachable $TARGET$": f"ip route del unreachable {SCANNER4}",
    "/usr/sbin/ip rule add to $TARGET$ blackhole": f"ip rule del to {SCANNER4}",
    "nft add element ip raw bad { $TARGET$ }": "nft flush set ip raw bad",
}


@pytest.fixture
def blocked_by(
    lab: Lab, tmp_path: Path, wait_until: WaitUntil, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], Site]]:
    """The function that blocks the scanner with this KILL_ROUTE and nothing else."""
    with ExitStack() as stack:

        def block(command: str) -> Site:
            conf = tmp_path / "portsentry.conf"
            files = "".join(f'{name}_FILE="{tmp_path}/{name}"\n' for name in ("IGNORE", "HISTORY", "BLOCKED"))
            conf.write_text(f'BLOCK_TCP="1"\n{files}KILL_ROUTE="{command}"\n')
            main(["import", "portsentry", str(conf)])
            imported = capsys.readouterr().out
            table = re.search(r"^\[action\.kill-route\]\n(?:(?!\[(?!action)).*\n)*", imported, re.MULTILINE)
            assert table is not None
            site = Site(lab, lab.victim.popen, tmp_path, wait_until, "kill-route", settings=table[0])
            stack.callback(site.close)
            assert site.is_answered(VICTIM4)
            assert site.block(SCANNER4).kind is OutcomeKind.DONE
            assert site.is_silent(VICTIM4)
            return site

        lab.victim.run("nft", "-f", "-", text=SET)
        yield block


SET = """table ip raw {
    set bad { type ipv4_addr; }
    chain in { type filter hook prerouting priority -300; ip saddr @bad drop; }
}
"""


@pytest.mark.parametrize(("command", "by_hand"), ROUTES.items())
def test_a_rule_that_is_taken_away_is_put_back(
    blocked_by: Callable[[str], Site], lab: Lab, command: str, by_hand: str
) -> None:
    """Within the interval, once, and the release takes away all of it."""
    before = rules(lab)
    site = blocked_by(command)
    there = rules(lab)
    lab.victim.run("sh", "-ec", by_hand)
    assert rules(lab) != there
    site.wait_for(lambda: sorted(rules(lab)) == sorted(there), "it is put back")
    assert "mended action=kill-route restored=1 removed=0" in site.said()
    assert site.is_silent(VICTIM4)
    site.release(SCANNER4)
    site.wait_for(lambda: site.is_answered(VICTIM4), "let in again")
    site.wait_for(lambda: not set(rules(lab)) - set(before), "nothing of it is left")


def test_what_a_hand_took_away_is_let_go_at_once(blocked_by: Callable[[str], Site], lab: Lab) -> None:
    """Its deletion fails; that it is gone is known, and it is not tried for ever."""
    site = blocked_by("/sbin/ip route add unreachable $TARGET$")
    lab.victim.run("ip", "route", "del", "unreachable", SCANNER4)
    site.release(SCANNER4)
    site.wait_for(lambda: site.is_answered(VICTIM4), "let in again")
    assert site.status()["failing"] == []


def rules(lab: Lab) -> list[str]:
    """All that a KILL_ROUTE can have put there."""
    commands = ("iptables -S", "ip route show", "ip rule show", "nft list set ip raw bad")
    lines = [line for command in commands for line in lab.victim.run(*command.split()).stdout.splitlines()]
    return [re.sub(r"^\d+:\s+", "", line) for line in lines]
