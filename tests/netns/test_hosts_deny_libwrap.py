"""What stands in our hosts.deny, asked of the real libwrap."""

import shutil
import subprocess
from pathlib import Path

import pytest

from correlator.actions import ActionDefinition, Order
from correlator.enforcer.hosts_deny import HostsDeny
from correlator.model import parse_prefix

pytestmark = pytest.mark.netns

TCPDMATCH = shutil.which("tcpdmatch", path="/usr/sbin:/usr/bin")
STAGE = """
mount --bind {folder}/hosts.deny /etc/hosts.deny
mount --bind {folder}/hosts.allow /etc/hosts.allow
exec tcpdmatch sshd {client}
"""


def is_granted(folder: Path, client: str) -> bool:
    """Return what libwrap says of a client, with our files in the place of the host's."""
    for name in ("hosts.allow", "hosts.deny"):
        (folder / name).touch()
        if not Path("/etc", name).exists():
            pytest.skip(f"/etc/{name} is not there to be covered")
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            STAGE.format(folder=folder, client=client),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    (access,) = (line for line in done.stdout.splitlines() if line.startswith("access:"))
    return access.split()[1] == "granted"


@pytest.mark.skipif(TCPDMATCH is None, reason="tcpdmatch is not there (package tcpd)")
@pytest.mark.parametrize("line", ["ALL: $TARGET$", "ALL: $TARGET$ : DENY", "sshd: $TARGET$"])
@pytest.mark.parametrize(
    ("blocked", "denied", "others"),
    [
        ("192.0.2.9", ["192.0.2.9"], ["192.0.2.90", "192.0.2.8"]),
        ("192.0.2.0/25", ["192.0.2.1", "192.0.2.127"], ["192.0.2.128"]),
        ("2001:db8::9", ["2001:db8::9"], ["2001:db8::90"]),
        ("2001:db8:1::/64", ["2001:db8:1::1"], ["2001:db8:2::1"]),
    ],
)
def test_libwrap_denies_whom_we_block(
    tmp_path: Path, line: str, blocked: str, denied: list[str], others: list[str]
) -> None:
    """IPv4 and IPv6, single and prefixes; nobody else; and nobody any more after the release."""
    path = tmp_path / "hosts.deny"
    action = HostsDeny(ActionDefinition("hosts-deny", "", "hosts-deny", file=str(path), line=line))
    order = Order("r", parse_prefix(blocked), "scan", 0, None)
    action.block(order, 0, lambda _result: None)
    assert [is_granted(tmp_path, client) for client in denied] == [False] * len(denied)
    assert [is_granted(tmp_path, client) for client in others] == [True] * len(others)
    action.release(order, 0, lambda _result: None)
    assert all(is_granted(tmp_path, client) for client in denied)


@pytest.mark.skipif(TCPDMATCH is None, reason="tcpdmatch is not there (package tcpd)")
@pytest.mark.parametrize(
    "last", [b"sshd: 203.0.113.1 \\\n", b"sshd: 203.0.113.1", b"# a comment that goes on \\\n"]
)
def test_whatever_stands_last_ours_is_a_line_of_its_own(tmp_path: Path, last: bytes) -> None:
    """Cut, or to be gone on with: libwrap denies whom we block all the same."""
    path = tmp_path / "hosts.deny"
    path.write_bytes(last)
    action = HostsDeny(ActionDefinition("hosts-deny", "", "hosts-deny", file=str(path), line="ALL: $TARGET$"))
    action.block(Order("r", parse_prefix("192.0.2.9"), "scan", 0, None), 0, lambda _result: None)
    assert not is_granted(tmp_path, "192.0.2.9")
    assert is_granted(tmp_path, "192.0.2.8")


@pytest.mark.skipif(TCPDMATCH is None, reason="tcpdmatch is not there (package tcpd)")
def test_libwrap_reads_a_list_of_its_own(tmp_path: Path) -> None:
    """`ALL: /path/list`: addresses and networks of both versions, each taken away alone."""
    (tmp_path / "hosts.deny").write_text(f"ALL: {tmp_path}/denied\n")
    path = tmp_path / "denied"
    action = HostsDeny(ActionDefinition("list", "", "hosts-deny", file=str(path), line="$TARGET$"))
    clients = {
        "192.0.2.9": "192.0.2.9",
        "198.51.100.0/25": "198.51.100.127",
        "2001:db8::9": "2001:db8::9",
        "2001:db8:1::/64": "2001:db8:1::1",
    }
    for source in clients:
        action.block(Order("r", parse_prefix(source), "scan", 0, None), 0, lambda _result: None)
    assert [is_granted(tmp_path, client) for client in clients.values()] == [False] * 4
    assert [is_granted(tmp_path, other) for other in ("192.0.2.8", "198.51.100.128", "2001:db8:2::1")] == [
        True
    ] * 3
    action.release(Order("r", parse_prefix("2001:db8:1::/64"), "scan", 0, None), 0, lambda _result: None)
    assert [is_granted(tmp_path, client) for client in clients.values()] == [False, False, False, True]
