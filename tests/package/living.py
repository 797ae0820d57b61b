"""What a person does with the package on a machine, and sees there; a container's or a virtual one's."""

import json
import re
import shutil
from pathlib import Path

SERVICES = ("portward-probe.service", "portward-correlator.service", "portward-enforcer.service")
VICTIM, SCANNER, LOGGED = "192.0.2.1", "192.0.2.2", "203.0.113.9"
OTHERS = re.compile(r"/var/(log/journal|log/dpkg\.log|lib/(dpkg|systemd|logrotate)|cache)|.*/__pycache__")
"""What dpkg, systemd and logrotate write down for themselves."""
SETTINGS, OURS = "/etc/portward/portward.toml", "/etc/portward/jails.d/ours.toml"
DENIED = "/etc/hosts.deny"
PORTSENTRY = """\
TCP_PORTS="1,11,15,79"
UDP_PORTS="1,7,9"
IGNORE_FILE="/etc/portsentry/portsentry.ignore"
HISTORY_FILE="/var/lib/portsentry/portsentry.history"
BLOCKED_FILE="/var/lib/portsentry/portsentry.blocked"
RESOLVE_HOST="0"
BLOCK_UDP="1"
BLOCK_TCP="1"
KILL_ROUTE="/sbin/iptables -I INPUT -s $TARGET$ -j DROP"
KILL_HOSTS_DENY="ALL: $TARGET$"
KILL_RUN_CMD="/usr/local/bin/note $TARGET$ $PORT$"
SCAN_TRIGGER="0"
"""
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


def join_scanner(machine) -> None:
    """Give the machine a neighbour, in a network namespace of its own, to be scanned from."""
    for command in (
        "ip netns add scanner",
        "ip link add inside type veth peer name outside netns scanner",
        f"ip address add {VICTIM}/24 dev inside",
        "ip link set inside up",
        f"ip -n scanner address add {SCANNER}/24 dev outside",
        "ip -n scanner link set outside up",
    ):
        machine.run(*command.split())


def prepare(root: Path, package: Path, older: Path) -> None:
    """Lay both versions of the package into /root of an unpacked system, and give it a user of group adm."""
    shutil.copy(package, root / "root/new.deb")
    shutil.copy(older, root / "root/old.deb")
    users = root / "etc/passwd"
    users.write_text(users.read_text() + "watcher:x:4242:4242::/:/bin/sh\n")
    group = root / "etc/group"
    group.write_text(
        re.sub(r"^(adm:.*)$", r"\1,watcher", group.read_text(), flags=re.MULTILINE).replace(":,", ":")
    )


def install(machine, name):
    """Install one of the packages as a person would; return what dpkg and the package said."""
    return machine.run(
        "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", f"/root/{name}.deb"
    ).stdout


def knock(machine, port, address=VICTIM):
    """Connect from the scanner; how that ended."""
    done = machine.run("ip", "netns", "exec", "scanner", "python3", "-c", KNOCK, address, port)
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


def whole_life(machine):  # noqa: PLR0915  a life is long
    """One machine, one life: each step stands on the one before, as a user's does."""
    before = set(machine.run("find", "/etc", "/var", "/usr", "/lib/systemd", "-xdev").stdout.split("\n"))

    # installed: it runs, watches and blocks nothing
    said = install(machine, "old")
    assert "nothing is blocked; turn blocking on: portward enable" in said
    assert active(machine) == ["active"] * 4, journal_of(machine)
    unwanted = machine.run("systemctl", "is-enabled", "portward-packet-log.service", check=False)
    assert unwanted.stdout == "disabled\n"
    status = machine.run("setpriv", "--reuid=4242", "--regid=4242", "--init-groups", "portward", "status")
    assert re.findall(r"^(\w+) +running", status.stdout, re.MULTILINE) == ["probe", "correlator", "enforcer"]
    owners = machine.run("ps", "-o", "user:20=", "-C", "portward").stdout.split()
    assert sorted(owners) == ["portward", "portward-enforcer", "portward-probe"]
    assert knock(machine, 79) == "ConnectionRefusedError"
    machine.wait(lambda: f"observe source={SCANNER}" in journal_of(machine), what="the scan is seen")
    assert blocked(machine) == set()
    assert knock(machine, 80) == "ConnectionRefusedError"

    # enabled: a scan and logged failures are blocked
    machine.run("portward", "enable")
    assert active(machine) == ["active"] * 4, journal_of(machine)
    knock(machine, 81)
    machine.wait(lambda: SCANNER in blocked(machine), what="the scanner is blocked")
    assert knock(machine, 82) == "TimeoutError"
    log_attacks(machine, 6)
    machine.wait(lambda: LOGGED in blocked(machine), what="who failed to log in is blocked")

    # the probe dies and comes again; the correlator may be told to read anew
    process = process_of(machine, SERVICES[0])
    machine.run("kill", "-KILL", process)
    machine.wait(lambda: process_of(machine, SERVICES[0]) not in ("0", process), what="the probe comes again")
    machine.run("systemctl", "reload", *SERVICES)
    assert active(machine) == ["active"] * 4

    # proved and tried where nothing can be broken
    assert "proved  release" in machine.run("portward", "drill").stdout
    for name in ("nftables", "iptables"):
        machine.run("portward", "action", "test", name)

    # rotated: the probe goes on in the new file
    machine.run("portward", "release", SCANNER)
    machine.run("logrotate", "--force", "/etc/logrotate.d/portward")
    knock(machine, 83)
    machine.wait(lambda: SCANNER in blocked(machine), what="blocked by a line of the new alert log")
    assert "port: 83" in machine.run("cat", "/var/log/portward/alert.log").stdout
    mode = machine.run("stat", "--format=%a %U %G", "/var/log/portward/alert.log").stdout.strip()
    assert mode == "664 portward-probe portward"

    # upgraded: settings, state and blocks stay; not one packet of a blocked source comes through
    machine.run("sh", "-c", "echo '# ours' >> /etc/portward/portward.toml")
    pinging = machine.popen("ip", "netns", "exec", "scanner", "ping", "-i", "0.02", "-w", "900", VICTIM)
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


def actions_with_rights(machine):
    """Choose one action after the other; each blocks and releases the scanner, with the rights it needs."""
    install(machine, "new")
    settings = machine.read(SETTINGS)
    machine.write(SETTINGS, settings.partition("[jail.portscan]")[0])

    enable_actions(machine, "iptables")
    assert enforcer_user(machine) == "portward-enforcer"
    knock(machine, 90)
    rule = f"-A PORTWARD -s {SCANNER}/32 -j DROP"
    machine.wait(lambda: rule in machine.run("iptables", "-S").stdout, what="iptables drops the scanner")
    assert knock(machine, 91) == "TimeoutError"
    machine.run("portward", "release", "--all")
    machine.wait(lambda: rule not in machine.run("iptables", "-S").stdout, what="iptables lets it go")

    assert "hosts-deny needs root" in enable_actions(machine, "hosts-deny")
    assert enforcer_user(machine) == "root"
    knock(machine, 92)
    machine.wait(lambda: f"ALL: {SCANNER}" in machine.read(DENIED), what="hosts.deny names the scanner")
    machine.run("portward", "release", SCANNER)
    machine.wait(lambda: SCANNER not in machine.read(DENIED), what="hosts.deny names it no longer")

    machine.run("ufw", "default", "allow", "incoming")
    machine.run("ufw", "--force", "enable")
    enable_actions(machine, "ufw")
    knock(machine, 93)
    machine.wait(lambda: SCANNER in machine.run("ufw", "status").stdout, what="ufw denies the scanner")
    assert knock(machine, 94) == "TimeoutError"
    machine.run("portward", "release", SCANNER)
    machine.wait(lambda: SCANNER not in machine.run("ufw", "status").stdout, what="ufw lets it go")
    machine.run("ufw", "disable")

    machine.run("rm", OURS)
    responses_of_portsentry(machine)

    machine.write(SETTINGS, settings.partition("[jail.portscan]")[0])
    assert "no action needs root" in enable_actions(machine, "nftables")
    assert enforcer_user(machine) == "portward-enforcer"
    assert active(machine) == ["active"] * 4, journal_of(machine)
    knock(machine, 97)
    machine.wait(lambda: SCANNER in blocked(machine), what="the kernel's own set has it")
    left = machine.run(
        "find", "/var/lib/portward", "/run/portward", "/var/log/portward", "-user", "root", "-type", "f"
    )
    assert left.stdout == ""

    machine.run("portward", "release", "--all")
    enable_actions(machine, "hosts-deny", "iptables")
    knock(machine, 98)
    machine.wait(lambda: SCANNER in machine.run("iptables", "-S").stdout, what="both deny the scanner")
    assert SCANNER in machine.read(DENIED)
    assert "portward: blocks lifted: 1" in machine.run("dpkg", "--remove", "portward").stdout
    assert SCANNER not in machine.read(DENIED)
    assert "PORTWARD" not in machine.run("iptables", "-S").stdout


def responses_of_portsentry(machine):
    """Import PortSentry's settings as README.Debian says; its responses do what they did there."""
    machine.run("mkdir", "-p", "/etc/portsentry", "/var/lib/portsentry")
    machine.write("/etc/portsentry/portsentry.conf", PORTSENTRY)
    machine.write("/usr/local/bin/note", '#!/bin/sh\necho "$1 knocked at $2" >>/var/log/knocks\n')
    machine.run("chmod", "755", "/usr/local/bin/note")
    machine.run("sh", "-c", f"portward import portsentry /etc/portsentry >{SETTINGS}")
    machine.run("portward", "enable")
    assert enforcer_user(machine) == "root"
    knock(machine, 95)
    machine.wait(lambda: SCANNER in machine.run("cat", "/var/log/knocks", check=False).stdout, what="noted")
    assert machine.read("/var/log/knocks") == f"{SCANNER} knocked at 95\n"
    assert f"ALL: {SCANNER}" in machine.read(DENIED)
    rule = f"-A INPUT -s {SCANNER}/32 -j DROP"
    assert rule in machine.run("iptables", "-S").stdout
    history = ("cat", "/var/lib/portsentry/portsentry.history")
    line = f"Host: {SCANNER}/{SCANNER} Port: 95"
    machine.wait(lambda: line in machine.run(*history, check=False).stdout, what="its history goes on")
    machine.run("portward", "release", "--all")
    machine.wait(lambda: rule not in machine.run("iptables", "-S").stdout, what="the route is free")
    assert SCANNER not in machine.read(DENIED)


def choose_every_mode(machine):
    """Have the probe watch in all six ways at once, and look names up in the process that does so."""
    modes = 'modes = ["tcp", "udp", "stcp", "sudp", "atcp", "audp"]\nresolve_names = true'
    machine.write(SETTINGS, machine.read(SETTINGS).replace('#modes = ["atcp", "audp"]', modes))
    machine.write("/etc/hosts", f"127.0.0.1 localhost\n{SCANNER} scanner.example\n")
    machine.run("systemctl", "restart", SERVICES[0])
    assert active(machine) == ["active"] * 4, journal_of(machine)
    assert knock(machine, 79) == "open"

    def is_named():
        knock(machine, 15)
        return f"host: scanner.example/{SCANNER} " in machine.read("/var/log/portward/alert.log")

    machine.wait(is_named, what="the scanner's name is known")


def enable_actions(machine, *actions):
    """Have scans answered by these actions; return what `portward enable` says."""
    quoted = ", ".join(f'"{action}"' for action in actions)
    machine.write(OURS, f'[jail.portscan]\nfilters = ["portsentry"]\nactions = [{quoted}]\n')
    return machine.run("portward", "enable").stdout


def enforcer_user(machine):
    """Who the enforcer is."""
    return machine.run("ps", "-o", "user:20=", "-p", process_of(machine, SERVICES[2])).stdout.strip()
