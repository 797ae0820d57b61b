"""The package's whole life on a Debian 12 with a real systemd, from installation to purge."""

import json
import re
import shutil

import pytest

from tests.package.container import Machine, unpack

pytestmark = pytest.mark.package

SERVICES = ("portward-probe.service", "portward-correlator.service", "portward-enforcer.service")
VICTIM, SCANNER, LOGGED = "192.0.2.1", "192.0.2.2", "203.0.113.9"
OTHERS = re.compile(r"/var/(log/journal|log/dpkg\.log|lib/(dpkg|systemd|logrotate)|cache)|.*/__pycache__")
"""What dpkg, systemd and logrotate write down for themselves."""
KNOCK = (
    "import socket, sys\n"
    "with socket.socket() as knocking:\n"
    "    knocking.settimeout(1)\n"
    "    try:\n"
    "        knocking.connect((sys.argv[1], int(sys.argv[2])))\n"
    "        print('open')\n"
    "    except OSError as exc:\n"
    "        print(type(exc).__name__)\n"
)


@pytest.fixture
def machine(base, package, older, tmp_path, wait_until):
    """A booted Debian with a neighbour to scan from, both versions of the package lying in /root."""
    root = unpack(base, tmp_path / "root")
    shutil.copy(package, root / "root/new.deb")
    shutil.copy(older, root / "root/old.deb")
    users = root / "etc/passwd"
    users.write_text(users.read_text() + "watcher:x:4242:4242::/:/bin/sh\n")
    group = root / "etc/group"
    group.write_text(
        re.sub(r"^(adm:.*)$", r"\1,watcher", group.read_text(), flags=re.MULTILINE).replace(":,", ":")
    )
    made = Machine(root, wait_until)
    for command in (
        "ip netns add scanner",
        "ip link add inside type veth peer name outside netns scanner",
        f"ip address add {VICTIM}/24 dev inside",
        "ip link set inside up",
        f"ip -n scanner address add {SCANNER}/24 dev outside",
        "ip -n scanner link set outside up",
    ):
        made.run(*command.split())
    yield made
    made.close()
    shutil.rmtree(root)  # a quarter of a gigabyte


def install(machine, name):
    """Install one of the packages as a person would; return what dpkg and the package said."""
    return machine.run(
        "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", f"/root/{name}.deb"
    ).stdout


def knock(machine, port):
    """Connect from the scanner; how that ended."""
    done = machine.run("ip", "netns", "exec", "scanner", "python3", "-c", KNOCK, VICTIM, port)
    return done.stdout.strip()


def blocked(machine):
    """The sources in the kernel's own set."""
    done = machine.run("nft", "-j", "list", "set", "inet", "portward", "source4", check=False)
    if done.returncode:
        return set()
    sets = [item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item]
    elements = [element for found in sets for element in found.get("elem", [])]
    return {element["elem"]["val"] if isinstance(element, dict) else element for element in elements}


def active(machine):
    """The state of each unit."""
    return machine.run("systemctl", "is-active", *SERVICES, "portward.target", check=False).stdout.split()


def process_of(machine, unit):
    """The number of a unit's process, 0 where it has none."""
    return machine.run("systemctl", "show", "--value", "-p", "MainPID", unit).stdout.strip()


def log_attacks(machine, count):
    """Have root write what sshd writes of failed logins; only the journal is there to read it."""
    for number in range(count):
        line = f"Failed password for invalid user oracle from {LOGGED} port {4000 + number} ssh2"
        machine.run("logger", "--tag", f"sshd[{700 + number}]", line)


def journal_of(machine):
    """What the units said, for a failure's sake."""
    return machine.run("journalctl", "--no-pager", "--unit", "portward*", check=False).stdout


def test_the_package_from_installation_to_purge(machine, wait_until):  # noqa: PLR0915  a life is long
    """One machine, one life: each step stands on the one before, as a user's does."""
    before = set(machine.run("find", "/etc", "/var", "/usr", "/lib/systemd", "-xdev").stdout.split("\n"))

    # installed: it runs, watches and blocks nothing
    said = install(machine, "old")
    assert "nothing is blocked; turn blocking on: portward enable" in said
    assert active(machine) == ["active"] * 4, journal_of(machine)
    status = machine.run("setpriv", "--reuid=4242", "--regid=4242", "--init-groups", "portward", "status")
    assert re.findall(r"^(\w+) +running", status.stdout, re.MULTILINE) == ["probe", "correlator", "enforcer"]
    owners = machine.run("ps", "-o", "user:20=", "-C", "portward").stdout.split()
    assert sorted(owners) == ["portward", "portward-enforcer", "portward-probe"]
    assert knock(machine, 79) == "ConnectionRefusedError"
    wait_until(lambda: f"observe source={SCANNER}" in journal_of(machine), what="the scan is seen")
    assert blocked(machine) == set()
    assert knock(machine, 80) == "ConnectionRefusedError"

    # enabled: a scan and logged failures are blocked
    machine.run("portward", "enable")
    assert active(machine) == ["active"] * 4, journal_of(machine)
    knock(machine, 81)
    wait_until(lambda: SCANNER in blocked(machine), what="the scanner is blocked")
    assert knock(machine, 82) == "TimeoutError"
    log_attacks(machine, 6)
    wait_until(lambda: LOGGED in blocked(machine), what="who failed to log in is blocked")

    # the probe dies and comes again; the correlator may be told to read anew
    process = process_of(machine, SERVICES[0])
    machine.run("kill", "-KILL", process)
    wait_until(lambda: process_of(machine, SERVICES[0]) not in ("0", process), what="the probe comes again")
    machine.run("systemctl", "reload", *SERVICES)
    assert active(machine) == ["active"] * 4

    # rotated: the probe goes on in the new file
    machine.run("portward", "release", SCANNER)
    machine.run("logrotate", "--force", "/etc/logrotate.d/portward")
    knock(machine, 83)
    wait_until(lambda: SCANNER in blocked(machine), what="blocked by a line of the new alert log")
    assert "port: 83" in machine.run("cat", "/var/log/portward/alert.log").stdout
    mode = machine.run("stat", "--format=%a %U %G", "/var/log/portward/alert.log").stdout.strip()
    assert mode == "664 portward-probe portward"

    # upgraded: settings, state and blocks stay; not one packet of a blocked source comes through
    machine.run("sh", "-c", "echo '# ours' >> /etc/portward/portward.toml")
    pinging = machine.popen("ip", "netns", "exec", "scanner", "ping", "-i", "0.01", "-w", "60", VICTIM)
    install(machine, "new")
    assert active(machine) == ["active"] * 4, journal_of(machine)
    machine.run("systemctl", "restart", "portward.target")
    assert blocked(machine) == {SCANNER, LOGGED}
    machine.run("pkill", "--signal", "INT", "--exact", "ping")
    assert ", 0 received" in pinging.communicate()[0]
    assert machine.run("tail", "-n", "1", "/etc/portward/portward.toml").stdout == "# ours\n"
    assert active(machine) == ["active"] * 4

    # removed: what was blocked is let go, and the package says so
    removed = machine.run("dpkg", "--remove", "portward").stdout
    assert "portward: blocks lifted: 2" in removed
    assert "portward" not in machine.run("nft", "list", "tables").stdout
    machine.run("ip", "netns", "exec", "scanner", "ping", "-c", "1", "-W", "2", VICTIM)
    assert machine.run("test", "-e", "/etc/portward/portward.toml").returncode == 0

    # purged: nothing is left but the users
    machine.run("dpkg", "--purge", "portward")
    after = set(machine.run("find", "/etc", "/var", "/usr", "/lib/systemd", "-xdev").stdout.split("\n"))
    left = {path for path in after - before if not OTHERS.match(path)}
    assert left <= {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}
    assert "portward" in machine.run("getent", "passwd", "portward").stdout


def test_actions_have_the_rights_they_need_and_no_more(machine, wait_until):
    """With iptables the enforcer is no root; /etc/hosts.deny makes it root, and it is let go of that."""
    install(machine, "new")
    jails = machine.root / "etc/portward/jails.d/ours.toml"
    enforcer = "portward-enforcer.service"

    def choose(*actions):
        quoted = ", ".join(f'"{action}"' for action in actions)
        jails.write_text(f'[jail.portscan]\nfilters = ["portsentry"]\nactions = [{quoted}]\n')
        settings = machine.root / "etc/portward/portward.toml"
        settings.write_text(settings.read_text().partition("[jail.portscan]")[0])
        return machine.run("portward", "enable").stdout

    def user():
        return machine.run("ps", "-o", "user:20=", "-p", process_of(machine, enforcer)).stdout.strip()

    choose("iptables")
    assert user() == "portward-enforcer"
    knock(machine, 90)
    rule = f"-A PORTWARD -s {SCANNER}/32 -j DROP"
    wait_until(lambda: rule in machine.run("iptables", "-S").stdout, what="iptables drops the scanner")
    assert knock(machine, 91) == "TimeoutError"
    machine.run("portward", "release", "--all")
    wait_until(lambda: rule not in machine.run("iptables", "-S").stdout, what="iptables lets it go")

    assert "hosts-deny needs root" in choose("hosts-deny")
    assert user() == "root"
    knock(machine, 92)
    denied = machine.root / "etc/hosts.deny"
    wait_until(lambda: f"ALL: {SCANNER}" in denied.read_text(), what="hosts.deny names the scanner")
    machine.run("portward", "release", SCANNER)
    wait_until(lambda: SCANNER not in denied.read_text(), what="hosts.deny names it no longer")

    assert "no action needs root" in choose("nftables")
    assert user() == "portward-enforcer"
    assert active(machine) == ["active"] * 4, journal_of(machine)
    knock(machine, 93)
    wait_until(lambda: SCANNER in blocked(machine), what="the kernel's own set has it")
    left = machine.run(
        "find", "/var/lib/portward", "/run/portward", "/var/log/portward", "-user", "root", "-type", "f"
    )
    assert left.stdout == ""


def test_every_mode_of_the_probe_works_in_its_unit_and_no_right_is_kept(machine):
    """A user who is no root opens ports below 1024; afterwards only the enforcer has a capability left."""
    install(machine, "new")
    settings = machine.root / "etc/portward/portward.toml"
    modes = 'modes = ["tcp", "udp", "stcp", "sudp", "atcp", "audp"]'
    settings.write_text(settings.read_text().replace('#modes = ["atcp", "audp"]', modes))
    machine.run("systemctl", "restart", SERVICES[0])
    assert active(machine) == ["active"] * 4, journal_of(machine)
    assert knock(machine, 79) == "open"
    kept = {}
    for unit in SERVICES:
        status = machine.run("cat", f"/proc/{process_of(machine, unit)}/status").stdout
        kept[unit] = {
            int(value, 16) for value in re.findall(r"^Cap(?:Eff|Prm|Amb):\s+(\w+)", status, re.MULTILINE)
        }
    assert kept == {SERVICES[0]: {0}, SERVICES[1]: {0}, SERVICES[2]: {1 << 12}}


def test_it_works_without_systemd(machine, wait_until):
    """Another supervisor starts `portward run`, as root, on the folders that the package made."""
    install(machine, "new")
    machine.run("systemctl", "disable", "--now", "portward.target", *SERVICES)
    running = machine.popen("portward", "run", "--block")
    wait_until(
        lambda: machine.run("portward", "status", check=False).returncode == 0, 30, what="all three run"
    )
    knock(machine, 94)
    wait_until(lambda: SCANNER in blocked(machine), what="the scanner is blocked")
    machine.run("pkill", "--full", "portward run --block")
    said = running.communicate()[0]
    assert f"block source={SCANNER}" in said
    machine.run("systemctl", "start", "portward.target", *SERVICES)
    assert active(machine) == ["active"] * 4, journal_of(machine)
    assert SCANNER in blocked(machine)
