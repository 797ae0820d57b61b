"""nft and the commands of actions that are not there, fail, or never end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from correlator.drill.scanner import Scanner
from correlator.enforcer.nftables import _TIMEOUT_SECONDS
from tests.faults.hosts import ROOT, Host

pytestmark = pytest.mark.netns

A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"
NFT = """#!/bin/sh
[ ! -e {0}/broken ] || {{ echo 'Error: No buffer space available' >&2; exit 1; }}
exec {0}/real-nft "$@"
"""
INSTEAD = "cp /usr/sbin/nft {0}/real-nft; mount --bind {0}/nft /usr/sbin/nft"
JAIL = """
[jail.portscan]
filters = ["portsentry"]
actions = ["hung", "nftables", "log"]
[action.hung]
timeout = "1s"
block = ": $TARGET$; sleep 1000 & sleep 1000"
release = "true $TARGET$"
[action.log]
block = "echo block $TARGET$ >> {0}/ran"
release = "echo release $TARGET$ >> {0}/ran"
"""


def test_without_nft_it_says_what_is_missing(make_host: Callable[..., Host]) -> None:
    """The program, where it was looked for, and the package that has it."""
    status, said = make_host().refuse("enforce", "mount -t tmpfs tmpfs /usr/sbin")
    assert status == 69
    assert said.startswith(
        "portward enforce: nft: not found in /usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin;"
    )
    assert said.endswith("; Debian's package nftables has it\n")


def test_an_nft_that_fails_is_said_in_its_own_words(
    make_host: Callable[..., Host], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """A block that cannot be is no block; once it works again all is as it should be, by itself."""
    host = make_host()
    (tmp_path / "nft").write_text(NFT.format(tmp_path))
    (tmp_path / "nft").chmod(0o755)
    host.start("enforce", INSTEAD.format(tmp_path))
    assert host.rig.ask("block", A)["outcome"]["kind"] == "done"
    (tmp_path / "broken").touch()
    assert host.rig.ask("block", B)["outcome"]["kind"] == "done"  # one element needs no nft
    host.lab.victim.run("nft", "flush", "ruleset")
    failed = host.rig.ask("block", C)["outcome"]
    assert failed["kind"] == "failed"
    assert failed["detail"].endswith("exit status 1: Error: No buffer space available")
    assert "No buffer space" in host.rig.ask("status")["enforcer"]["trouble"]
    assert {block["source"] for block in host.rig.ask("blocks")["blocks"]} == {A, B}
    host.end("enforce")
    status, said = host.refuse("enforce", INSTEAD.format(tmp_path))
    assert status == 71
    assert said.endswith("exit status 1: Error: No buffer space available\n")
    (tmp_path / "broken").unlink()
    host.start("enforce")
    wait_until(lambda: set(host.rig.denied()) == {A, B})


def test_a_command_that_never_ends_is_killed_and_the_others_have_their_turn(
    make_host: Callable[..., Host], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """The block waits no longer than its limit says; what hung and its children are gone."""
    host = make_host(JAIL.format(tmp_path))
    host.start_all()
    host.rig.ask("block", A)
    with Scanner(host.lab) as scanner:
        scanner.send_tcp(79)
        wait_until(lambda: len(host.rig.denied()) == 2, 30)
    wait_until((tmp_path / "ran").exists)
    assert "no end within 1 s, killed" in host.words()
    failing = host.rig.ask("status")["enforcer"]["failing"]
    assert [deed["action"] for deed in failing] == ["hung"]
    assert not [
        process
        for process in host.lab.victim.inhabitants()
        if b"sleep\x001000" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]
    assert host.rig.ask("release", "--all")["released"] == 2
    wait_until(lambda: "release" in (tmp_path / "ran").read_text())
    assert host.rig.denied() == {}


def test_a_hung_nft_ends_before_the_watchdog_ends_us() -> None:
    """Else the unit would be killed over it, and every other request with it."""
    unit = (ROOT / "debian/portward-enforcer.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("WatchdogSec=")]
    assert float(line.removeprefix("WatchdogSec=").removesuffix("s")) > _TIMEOUT_SECONDS
