"""The package on Debian's own kernel, in a virtual machine: AppArmor confines it, and its log reaches us.

The processor is imitated: a minute to boot, and everything ten times as slow as here.
"""

import pytest

from tests.package import living
from tests.package.virtual import VirtualMachine

pytestmark = pytest.mark.package

RULES = """
table inet host {
    chain input {
        type filter hook input priority 0
        tcp dport 1000-1020 log prefix "drop: " drop
        tcp dport 1021-1040 log group 5 prefix "group: " drop
    }
}
"""
START = "import os; os.execv('{0}', ['{0}'])"
PACKET_LOG = "portward-packet-log.service"


@pytest.fixture
def machine(disk, tmp_path, wait_until):
    """A machine on which AppArmor is on."""
    made = VirtualMachine(disk, tmp_path, wait_until)
    try:
        assert made.read("/sys/module/apparmor/parameters/enabled") == "Y\n"
        living.join_scanner(made)
        yield made
    finally:
        made.close()


def denials(machine):
    """What the kernel has denied to our profiles."""
    log = machine.run(
        "journalctl", "--boot", "--no-pager", "--output=cat", "--grep", "apparmor=", check=False
    )
    return [line for line in log.stdout.splitlines() if '"DENIED"' in line and '"portward' in line]


def confinement_of(machine, unit):
    """The profile that a unit's process runs under."""
    return machine.read(f"/proc/{living.process_of(machine, unit)}/attr/current").strip()


def test_the_package_lives_confined(machine):
    """From installation to purge, with every process under its profile and none of them in its way."""
    living.whole_life(machine)
    assert denials(machine) == []


def test_actions_have_their_rights_under_their_profile(machine):
    """Firewalls, wrappers, ufw and an imported PortSentry's commands."""
    living.actions_with_rights(machine)
    assert denials(machine) == []


def test_profiles_are_enforced_and_hold(machine):
    """Each process runs under its own; what none needs is denied even to root under it."""
    living.install(machine, "new")
    names = [unit.removesuffix(".service") for unit in living.SERVICES]
    assert [confinement_of(machine, unit) for unit in living.SERVICES] == [
        f"{name} (enforce)" for name in names
    ]
    living.choose_every_mode(machine)
    assert denials(machine) == []
    for profile, forbidden in (
        ("portward-probe", START.format("/bin/sh")),
        ("portward-packet-log", START.format("/usr/bin/portward")),
        ("portward-correlator", START.format("/bin/sh")),
        ("portward-correlator", "open('/etc/shadow')"),
        ("portward-correlator", "open('/etc/hosts.deny', 'a')"),
        ("portward-enforcer", "open('/etc/shadow')"),
        ("portward-enforcer", "open('/etc/portward/portward.toml', 'a')"),
        ("portward-enforcer", "open('/etc/hosts.deny', 'a')"),
        ("portward-enforcer-as-root", "open('/etc/shadow', 'a')"),
        ("portward-enforcer-as-root", "open('/etc/sudoers', 'w')"),
        ("portward-enforcer-as-root", "open('/etc/portward/portward.toml', 'a')"),
    ):
        done = machine.run("aa-exec", "--profile", profile, "--", "python3", "-c", forbidden, check=False)
        assert "PermissionError" in done.stdout, (profile, forbidden, done.stdout)


def test_the_kernels_log_its_groups_and_a_vlan_reach_us(machine):
    """Rules that log to the kernel's log or to a group, and a device of a VLAN, all on the real thing."""
    living.install(machine, "new")
    machine.write("/etc/portward/jails.d/debian.toml", 'enabled = ["netfilter"]\n')
    settings = machine.read(living.SETTINGS).partition("[jail.portscan]")[0]
    machine.write(living.SETTINGS, settings.replace("[probe]", "[probe]\nnflog = [5]"))
    machine.run("nft", "-f", "-", stdin=RULES)
    machine.run("portward", "enable")
    machine.run("systemctl", "enable", "--now", PACKET_LOG)
    assert confinement_of(machine, PACKET_LOG) == "portward-packet-log (enforce)"
    status = machine.read(f"/proc/{living.process_of(machine, PACKET_LOG)}/status")
    assert "CapEff:\t0000000000000000\n" in status

    for port in range(1000, 1006):
        living.knock(machine, port)
    machine.wait(
        lambda: living.SCANNER in living.blocked(machine), what="six lines of the kernel's log block"
    )
    log = machine.run("journalctl", "--no-pager", "--output=cat", "_TRANSPORT=kernel").stdout
    assert "drop: IN=inside OUT= MAC=" in log
    assert f"block source={living.SCANNER} jail=netfilter " in living.journal_of(machine)
    machine.run("portward", "release", "--all")

    for port in range(1021, 1027):
        living.knock(machine, port)
    machine.wait(lambda: living.SCANNER in living.blocked(machine), what="six packets of the group block")
    assert "kernel: group: IN=inside OUT= MAC=" in machine.read("/var/log/portward/packets.log")
    assert machine.run("portward", "status").returncode == 0
    machine.run("portward", "release", "--all")
    machine.run("logrotate", "--force", "/etc/logrotate.d/portward")
    living.knock(machine, 1030)
    machine.wait(lambda: "DPT=1030" in machine.read("/var/log/portward/packets.log"), what="a new file")

    machine.write("/etc/portward/jails.d/debian.toml", "enabled = []\n")
    machine.write(
        living.SETTINGS, machine.read(living.SETTINGS) + '[jail.portscan]\nfilters = ["portsentry"]\n'
    )
    machine.run("systemctl", "reload", *living.SERVICES)
    for inside in ("", "scanner"):
        ip = ("ip", "-n", inside) if inside else ("ip",)
        device, address = ("outside", "198.51.100.2/24") if inside else ("inside", "198.51.100.1/24")
        machine.run(*ip, "link", "add", "link", device, "name", "v5", "type", "vlan", "id", "5")
        machine.run(*ip, "address", "add", address, "dev", "v5")
        machine.run(*ip, "link", "set", "v5", "up")
    assert living.knock(machine, 79, "198.51.100.1") == "ConnectionRefusedError"
    machine.wait(lambda: "198.51.100.2" in living.blocked(machine), what="a scanner in a VLAN is blocked")
    alerts = machine.read("/var/log/portward/alert.log")
    assert alerts.count("from host: 198.51.100.2/198.51.100.2 to TCP port: 79") == 1
    assert living.knock(machine, 80, "198.51.100.1") == "TimeoutError"
    assert living.active(machine) == ["active"] * 4, living.journal_of(machine)
    assert denials(machine) == []
