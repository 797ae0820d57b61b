"""The package's whole life on a Debian 12 with a real systemd, from installation to purge."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.package import building, living
from tests.package.container import Machine, unpack

pytestmark = pytest.mark.package


@pytest.fixture
def machine(base, package, older, tmp_path, wait_until):
    """A booted container with a neighbour to scan from, both versions of the package lying in /root."""
    root = unpack(base, tmp_path / "root")
    living.prepare(root, package, older)
    made = Machine(root, wait_until)
    living.join_scanner(made)
    yield made
    made.close()
    shutil.rmtree(root)  # a quarter of a gigabyte


def test_the_package_from_installation_to_purge(machine):
    """One machine, one life: each step stands on the one before, as a user's does."""
    living.whole_life(machine)


def test_actions_have_the_rights_they_need_and_no_more(machine):
    """With iptables the enforcer is no root; others make it root, and it is let go of that."""
    living.actions_with_rights(machine)


def test_every_mode_of_the_probe_works_in_its_unit_and_no_right_is_kept(machine):
    """A user who is no root opens ports below 1024; afterwards only the enforcer has a capability left."""
    living.install(machine, "new")
    living.choose_every_mode(machine)
    kept = {}
    for unit in living.SERVICES:
        status = machine.run("cat", f"/proc/{living.process_of(machine, unit)}/status").stdout
        kept[unit] = {
            int(value, 16) for value in re.findall(r"^Cap(?:Eff|Prm|Amb):\s+(\w+)", status, re.MULTILINE)
        }
    assert kept == {living.SERVICES[0]: {0}, living.SERVICES[1]: {0}, living.SERVICES[2]: {1 << 12}}


def test_it_works_without_systemd(machine):
    """Another supervisor starts `portward run`, as root, on the folders that the package made."""
    living.install(machine, "new")
    machine.run("systemctl", "disable", "--now", "portward.target", *living.SERVICES)
    running = machine.popen("portward", "run", "--block")
    machine.wait(lambda: machine.run("portward", "status", check=False).returncode == 0, what="all three run")
    living.knock(machine, 94)
    machine.wait(lambda: living.SCANNER in living.blocked(machine), what="the scanner is blocked")
    machine.run("pkill", "--full", "portward run --block")
    said = running.communicate()[0]
    assert f"block source={living.SCANNER}" in said
    machine.run("systemctl", "start", "portward.target", *living.SERVICES)
    assert living.active(machine) == ["active"] * 4, living.journal_of(machine)
    assert living.SCANNER in living.blocked(machine)


def test_a_wheel_brings_its_units(machine, tmp_path):
    """Another distribution: after pip, `portward install-units` makes users, folders and units."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, building.ROOT)
    subprocess.run([*pip, *wheel], check=True)
    # into the machine's /usr/local, for the interpreter that both have
    place = ("--root", machine.root, "--no-deps", "--no-index", "--ignore-installed")
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    made = next(tmp_path.glob("*.whl"))
    subprocess.run(["/usr/bin/python3", *pip[1:], "install", *place, made], env=environment, check=True)
    said = machine.run("portward", "install-units").stdout
    assert "wrote /etc/systemd/system/portward-probe.service" in said
    assert living.active(machine) == ["active"] * 4, living.journal_of(machine)
    living.knock(machine, 95)
    machine.wait(
        lambda: f"observe source={living.SCANNER}" in living.journal_of(machine), what="the scan is seen"
    )
    assert "portward" in machine.run("portward", "enable").stdout
    assert living.active(machine) == ["active"] * 4, living.journal_of(machine)
    living.knock(machine, 96)
    machine.wait(lambda: living.SCANNER in living.blocked(machine), what="the scanner is blocked")
