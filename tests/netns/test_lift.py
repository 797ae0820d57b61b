"""`portward enforce --lift`: a host as it was before us, in the kernel, in chains and in files."""

import subprocess
import sys

import pytest

from correlator.model import SECOND, parse_source
from correlator.store.blocks import BlockState, BlockStore, NewBlock
from tests.site_folders import ENFORCER_PATHS, paths_table

SOURCE = "198.51.100.7"


@pytest.fixture
def site(tmp_path):
    """A site whose jail blocks by the kernel's set, by iptables and in hosts.deny."""
    (tmp_path / "hosts.deny").write_text("# the site's own\nALL: 203.0.113.1\n")
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions/denied.toml").write_text(f'kind = "hosts-deny"\nfile = "{tmp_path}/hosts.deny"\n')
    (tmp_path / "portward.toml").write_text(
        f'mode = "block"\n{paths_table(tmp_path, ENFORCER_PATHS)}[jail.scan]\nfilters = ["portsentry"]\n'
        'actions = ["nftables", "iptables", "denied"]\n'
    )
    return tmp_path


def portward(lab, site, *arguments):
    """Run a command of ours at the victim's; return its exit status and all that it said."""
    with lab.victim.popen(
        sys.executable,
        *("-m", "correlator", *arguments, "--config", str(site)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        said = process.communicate(timeout=60)[0]
    return process.returncode, said


def inside(lab, *argv):
    """What a program at the victim's prints."""
    with lab.victim.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        return process.communicate(timeout=20)[0]


def test_everything_of_ours_is_taken_away_and_nothing_else(lab, site, wait_until):
    """Blocks, tables, chains and lines of ours go; a line of the site and the history stay."""
    enforcer = lab.victim.popen(
        *(sys.executable, "-m", "correlator", "enforce", "--config", str(site)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: portward(lab, site, "blocks")[0] == 0, 20)
    status, said = portward(lab, site, "enforce", "--lift")
    assert (status, "another enforcer runs here already" in said) == (75, True)
    enforcer.terminate()
    assert enforcer.wait(20) == 0
    store = BlockStore.open(site / "state/blocks.sqlite")
    actions = ("nftables", "iptables", "denied")
    block = NewBlock("r", parse_source(SOURCE), "scan", 1 * SECOND, None, 0, "", "why", actions)
    store.request(block)  # asked for and not carried out: the next start does
    store.close()
    enforcer = lab.victim.popen(
        *(sys.executable, "-m", "correlator", "enforce", "--config", str(site)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: f"-s {SOURCE}/32 -j DROP" in inside(lab, "iptables", "-S"), 20)
    wait_until(lambda: SOURCE in (site / "hosts.deny").read_text(), 20)
    wait_until(lambda: SOURCE in inside(lab, "nft", "list", "ruleset"), 20)
    enforcer.terminate()
    assert enforcer.wait(20) == 0
    assert SOURCE in inside(lab, "nft", "list", "ruleset")

    assert portward(lab, site, "enforce", "--lift") == (0, "blocks lifted: 1\n")
    assert "PORTWARD" not in inside(lab, "iptables", "-S") + inside(lab, "ip6tables", "-S")
    assert "portward" not in inside(lab, "nft", "list", "tables")
    assert (site / "hosts.deny").read_text() == "# the site's own\nALL: 203.0.113.1\n"
    store = BlockStore.open(site / "state/blocks.sqlite")
    assert [row.state for row in store.since(0)] == [BlockState.RELEASED]
    store.close()
    assert SOURCE in (site / "history").read_text()
    assert portward(lab, site, "enforce", "--lift") == (0, "nothing was blocked\n")
