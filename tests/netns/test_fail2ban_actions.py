"""Fail2ban's own actions on throw-away ground: they deny and let go when our enforcer runs them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers import fail2ban

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not fail2ban.is_there(), reason="no real Fail2ban (make peer)"),
]

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DROPS = "[name=sshd][protocol=tcp][blocktype=DROP][blocktype?family=inet6=DROP]"
ACTIONS = {
    f"iptables.conf{DROPS}[type=allports]": "iptables",
    f"iptables-multiport-log.conf{DROPS}[port=0:65535]": "iptables",
    f"iptables-ipset.conf{DROPS}[type=allports]": "ipset",
    "nftables.conf[name=sshd][protocol=tcp][type=allports][blocktype=drop]": "nft",
    "route.conf[name=sshd]": "ip",
}


def _run(*arguments: str) -> tuple[int, dict]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "correlator", *arguments, "--json"],
        env={"PYTHONPATH": str(ROOT), "PATH": PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("action", sorted(ACTIONS), ids=lambda action: action.partition("[")[0])
def test_an_action_of_fail2ban_denies_and_lets_go(action: str) -> None:
    """A connection comes through before and after and not between, also where a block is tried twice."""
    if shutil.which(ACTIONS[action], path=PATH) is None:
        pytest.skip(f"{ACTIONS[action]} is not on this host")
    status, found = _run("action", "test", f"fail2ban:{fail2ban.CONFIG}/action.d/{action}")
    assert [step for step in found["steps"] if not step["is_proved"]] == []
    names = {step["name"] for step in found["steps"]}
    assert {"IPv4 blocked", "IPv4 again", "IPv4 after", "IPv6 blocked", "IPv6 after"} <= names
    assert (status, found["proved"]) == (0, True)


def test_what_an_action_prepared_can_be_taken_away(tmp_path: Path) -> None:
    """`action stop` runs its flush and its stop, and says what it ran."""
    action = tmp_path / "own.conf"
    action.write_text(
        f"[Definition]\nactionban = true\nactionunban = true\nactionflush = echo f >> {tmp_path}/ran\n"
        f"actionstop = echo s >> {tmp_path}/ran; exit 3\n"
    )
    status, found = _run("action", "stop", f"fail2ban:{action}[name=x]")
    assert (tmp_path / "ran").read_text() == "f\ns\nf\ns\n"
    assert [command["problem"] for command in found["commands"]] == ["", "exit status 3: "] * 2
    assert status == 1
