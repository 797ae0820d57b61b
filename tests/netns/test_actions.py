"""The shipped actions on throw-away ground: each does what it says, both ways, or says what it lacks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.config.actions import ActionShelf
from correlator.config.settings import load_settings

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {
    "nftables": "nft",
    "iptables": "iptables",
    "ipset": "ipset",
    "route": "ip",
    "blackhole": "ip",
    "ufw": "ufw",
    "hosts-deny": "true",
    "hosts-deny-list": "true",
}


def run(*arguments: str) -> tuple[int, dict]:
    """Run a command of the command line; return its status and what it says as JSON."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "correlator", *arguments, "--json"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_an_action_denies_and_lets_go(name: str) -> None:
    """A connection comes through before and after and not between, IPv4 and IPv6; it lists it."""
    if shutil.which(TOOLS[name], path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"{TOOLS[name]} is not on this host")
    status, found = run("action", "test", name)
    assert [step for step in found["steps"] if not step["is_proved"]] == []
    names = [step["name"] for step in found["steps"]]
    assert {"IPv4 block", "IPv4 release", "IPv4 after", "IPv6 block", "IPv6 after"} <= set(names)
    assert (status, found["proved"]) == (0, True)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """ipchains, which no system of today has, names what does the same; a program its package."""
    status, found = run("action", "test", "ipchains")
    assert status == 1
    assert found["steps"][-1]["seen"].endswith("the action nftables does the same")
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions/mine.toml").write_text(
        'package = "no-such-package"\ncheck = ["no-such-program"]\nblock = ["no-such-program", "$TARGET$"]\n'
    )
    (tmp_path / "portward.toml").write_text("")
    status, found = run("action", "test", "mine", "--config", str(tmp_path))
    assert status == 1
    expected = "no-such-program: cannot be started: No such file or directory (it needs no-such-package)"
    assert found["steps"][-1]["seen"] == expected


def test_nothing_of_the_host_is_changed_by_a_trial(tmp_path: Path) -> None:
    """An action that writes into /etc writes into a copy."""
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions/mine.toml").write_text(
        "block = '''echo $TARGET$ > /etc/portward-trial'''\nrelease = '''rm /etc/portward-trial'''\n"
    )
    (tmp_path / "portward.toml").write_text("")
    _, found = run("action", "test", "mine", "--config", str(tmp_path))
    steps = {step["name"]: step["is_proved"] for step in found["steps"]}
    assert steps["IPv4 block"]
    assert not steps["IPv4 blocked"]  # writing a file denies nobody, and that is what it says
    assert not Path("/etc/portward-trial").exists()


def test_every_shipped_action_is_sound() -> None:
    """It loads without a fault, says what it is, and what it denies it can undo."""
    shelf = ActionShelf(load_settings(None))
    actions = [shelf.load(name) for name in shelf.names]
    assert shelf.faults == []
    assert len(actions) >= 20
    for action in actions:
        assert action is not None
        assert action.description
        for commands in action.commands.values():
            assert bool(commands.release) == action.denies, action.name
            assert commands.check, action.name


def test_open_connections_are_ended() -> None:
    """Also a client of IPv4 at a service that serves both versions, where ss counts it among IPv6's."""
    status, found = run("action", "test", "tcp-reset")
    seen = {step["name"]: step["seen"] for step in found["steps"]}
    assert seen["IPv4 open"] == "an open connection from 192.0.2.2 is ended"
    assert seen["IPv6 open"] == "an open connection from 2001:db8::2 is ended"
    assert (status, found["proved"]) == (0, True)


@pytest.mark.skipif(shutil.which("conntrack", path="/usr/sbin") is None, reason="no conntrack here")
def test_what_is_tracked_is_forgotten() -> None:
    """It denies nobody by itself; that there is nothing to forget is no failure."""
    status, found = run("action", "test", "conntrack")
    assert {"IPv4 block", "IPv6 block"} <= {step["name"] for step in found["steps"]}
    assert (status, found["proved"]) == (0, True)


@pytest.mark.skipif(shutil.which("tcpdmatch", path="/usr/sbin:/usr/bin") is None, reason="no tcpdmatch here")
@pytest.mark.parametrize("name", ["hosts-deny", "hosts-deny-list"])
def test_libwrap_is_asked(name: str) -> None:
    """Of the line itself, and of the list that /etc/hosts.deny names."""
    _, found = run("action", "test", name)
    seen = {step["name"]: step["seen"] for step in found["steps"]}
    for version, source in (("IPv4", "192.0.2.2"), ("IPv6", "2001:db8::2")):
        assert seen[f"{version} blocked"] == f"libwrap: denied for {source}"
        assert seen[f"{version} after"] == f"libwrap: granted for {source}"


def test_who_is_only_told_is_told_when_asked_to(tmp_path: Path) -> None:
    """On throw-away ground nobody can be; `--tell` does it on this host, once."""
    (tmp_path / "actions").mkdir()
    block = f"cat >> {tmp_path}/told"
    (tmp_path / "actions/mine.toml").write_text(f'denies = false\nevidence = true\nblock = "{block}"\n')
    (tmp_path / "portward.toml").write_text("")
    status, found = run("action", "test", "mine", "--config", str(tmp_path))
    assert (status, [step["name"] for step in found["steps"]][-1]) == (0, "not told")
    assert not (tmp_path / "told").exists()
    status, found = run("action", "test", "mine", "--tell", "--config", str(tmp_path))
    assert (status, [step["name"] for step in found["steps"]]) == (0, ["check", "told"])
    (line,) = (tmp_path / "told").read_text().splitlines()
    assert "this is a trial" in json.loads(line)["reason"]


def test_what_denies_nobody_on_purpose_is_no_failure() -> None:
    """The action `record`."""
    status, found = run("action", "test", "record")
    assert (status, found["proved"]) == (0, True)
