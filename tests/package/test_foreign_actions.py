"""Actions that need other programs, under the enforcer's own unit: what its sandbox lets them do."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.package import container, living
from tests.package.container import Machine, unpack

pytestmark = pytest.mark.package

PROGRAMS = ("firewalld", "shorewall", "shorewall6", "exim4-daemon-light", "curl")
NEEDED_BY_POSTFIX = ("libicu72", "libsasl2-2", "ssl-cert", "cpio", "e2fsprogs", "libnsl2", "libdb5.3")
HOOK = (
    "--customize-hook="
    'chroot "$1" sh -c "cd /root && apt-get --quiet download postfix"; '
    'systemctl --quiet --root="$1" mask firewalld.service shorewall.service shorewall6.service'
)
HOOK_SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open("/root/told", "ab").write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian with these programs; PORTWARD_PACKAGE_FURNISHED may name one that was made before."""
    if reason := container.why_none():
        pytest.skip(reason)
    if made := os.environ.get("PORTWARD_PACKAGE_FURNISHED"):
        return Path(made)
    archive = tmp_path_factory.mktemp("furnished") / "base.tar"
    packages = (*container.BASE_PACKAGES, *PROGRAMS, *NEEDED_BY_POSTFIX)
    if reason := container.make_base(archive, packages, (HOOK,)):
        pytest.skip(reason)
    return archive


@pytest.fixture
def machine(
    furnished: Path, package: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> Iterator[Machine]:
    """A booted one, with our package installed and a neighbour to scan from."""
    root = unpack(furnished, tmp_path / "root")
    shutil.copy(package, root / "root/new.deb")
    made = Machine(root, wait_until)
    living.join_scanner(made)
    living.install(made, "new")
    yield made
    made.close()
    shutil.rmtree(root)


def wait_for_ending(machine: Machine, action: str) -> None:
    """Wait until the enforcer says that it is done; show all that it said where it does not."""
    line = f"action={action} ending=done"
    try:
        machine.wait(lambda: line in living.journal_of(machine), 60, what=line)
    except BaseException:
        print(living.journal_of(machine))
        raise


@pytest.mark.parametrize("server", ["exim", "postfix"])
def test_mail_is_delivered(machine: Machine, server: str) -> None:
    """By Debian's own mail server, which becomes another user, and by Postfix, whose queue others own."""
    if server == "postfix":
        machine.run("sh", "-ec", "dpkg --purge exim4-daemon-light exim4-base exim4-config")
        machine.run("sh", "-ec", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/postfix_*.deb")
        machine.run("postconf", "-e", "inet_interfaces=loopback-only", "mydestination=localhost,$myhostname")
        machine.run("sh", "-ec", "echo 'root: mail' >> /etc/aliases; newaliases; systemctl restart postfix")
    assert "mail needs root" in living.enable_actions(machine, "nftables", "mail")
    assert living.enforcer_user(machine) == "root"
    assert living.knock(machine, 79) == "ConnectionRefusedError"
    wait_for_ending(machine, "mail")
    box = machine.root / "var/mail/mail"
    try:
        machine.wait(box.exists, 60, what="the message is in a mailbox")
    except BaseException:
        print(machine.run("sh", "-c", "mailq; cat /var/log/exim4/*log; journalctl --no-pager").stdout)
        raise
    machine.wait(lambda: "request" in box.read_text(), what="it is there as a whole")
    assert f"Subject: [portward] {living.SCANNER} blocked by portscan" in box.read_text()
    assert "attackalert: TCP SYN/Normal scan" in re.sub(r"\n {9}", "", box.read_text())


def test_a_webhook_needs_no_root(machine: Machine) -> None:
    """The enforcer stays its own user, and curl gets out of its sandbox."""
    (machine.root / "root/server.py").write_text(HOOK_SERVER)
    server = machine.popen("python3", "/root/server.py")
    assert "needs root" not in living.enable_actions(machine, "nftables", "webhook")
    assert living.enforcer_user(machine) == "portward-enforcer"
    living.knock(machine, 79)
    wait_for_ending(machine, "webhook")
    assert f'"source": "{living.SCANNER}"' in (machine.root / "root/told").read_text()
    machine.run("pkill", "--full", "/root/server.py")
    server.communicate()


def test_firewalld_is_asked_over_its_bus(machine: Machine) -> None:
    """As its policy lets root; its own reload is mended within the interval."""
    machine.run("systemctl", "unmask", "firewalld")
    machine.run("systemctl", "start", "firewalld")
    machine.run("firewall-cmd", "--zone=public", "--set-target=ACCEPT", "--permanent")
    machine.run("firewall-cmd", "--reload")
    assert "firewalld needs root" in living.enable_actions(machine, "firewalld")
    assert living.knock(machine, 79) == "ConnectionRefusedError"
    wait_for_ending(machine, "firewalld")
    assert living.knock(machine, 80) == "TimeoutError"
    machine.run("firewall-cmd", "--reload")
    assert living.knock(machine, 81) == "ConnectionRefusedError"
    sources = ("firewall-cmd", "--zone=drop", "--list-sources")
    machine.run("systemctl", "reload", "portward-enforcer")
    machine.wait(lambda: living.SCANNER in machine.run(*sources).stdout, 60, what="it is mended")
    assert living.knock(machine, 82) == "TimeoutError"
    machine.run("portward", "release", "--all")
    machine.wait(lambda: living.SCANNER not in machine.run(*sources).stdout, 60, what="the source is let in")
    assert living.knock(machine, 83) == "ConnectionRefusedError"


def test_shorewall_keeps_its_state_where_the_unit_may_write(machine: Machine) -> None:
    """Its dynamic blacklist is changed by the enforcer's commands, and survives its restart."""
    folder = machine.root / "etc/shorewall"
    (folder / "zones").write_text("fw firewall\nnet ipv4\n")
    (folder / "interfaces").write_text("net inside\n")
    (folder / "policy").write_text("$FW all ACCEPT\nnet all ACCEPT\nall all REJECT\n")
    machine.run("systemctl", "unmask", "shorewall")
    machine.run("systemctl", "start", "shorewall")
    assert "shorewall needs root" in living.enable_actions(machine, "shorewall")
    assert living.knock(machine, 79) == "ConnectionRefusedError"
    wait_for_ending(machine, "shorewall")
    machine.run("systemctl", "restart", "shorewall")
    assert living.knock(machine, 80) == "TimeoutError"
    machine.run("portward", "release", "--all")
    chain = ("iptables", "-S", "dynamic")
    machine.wait(lambda: living.SCANNER not in machine.run(*chain).stdout, 60, what="the source is let in")
    assert living.knock(machine, 81) == "ConnectionRefusedError"
