"""Lines in a hosts.deny: put there once, taken away alone, everything else left as it is."""

import os
import stat

import pytest

from correlator.actions import ActionDefinition, Order
from correlator.enforcer.action import Ending, Survey
from correlator.enforcer.hosts_deny import HostsDeny, spell_client
from correlator.model import SECOND, parse_prefix


def order(source):
    """An order about a source."""
    return Order("r", parse_prefix(source), "scan", 0, None)


class Bench:
    """An action on a file of its own."""

    def __init__(self, folder, line="ALL: $TARGET$ : DENY"):
        self.path = folder / "hosts.deny"
        self.action = HostsDeny(
            ActionDefinition("hosts-deny", "", "hosts-deny", file=str(self.path), line=line)
        )

    def block(self, source, *, is_again=False):
        """How a block ended."""
        ended = []
        self.action.block(order(source), 0, ended.append, is_again=is_again)
        (result,) = ended
        return result.ending, result.detail

    def release(self, source):
        """How a release ended."""
        ended = []
        self.action.release(order(source), 0, ended.append)
        (result,) = ended
        return result.ending


@pytest.fixture
def bench(tmp_path):
    """No file yet."""
    return Bench(tmp_path)


def test_only_a_whole_line_is_found(bench):
    """Whose it is must be known before we add one, and a file that cannot be read tells nothing."""
    finds = bench.action.finds
    assert not finds(order("192.0.2.9"))
    bench.path.write_text("# ALL: 192.0.2.9 : DENY\nALL: 192.0.2.8 : DENY\nALL: 192.0.2.9 : DENY, really\n")
    assert not finds(order("192.0.2.9"))
    assert finds(order("192.0.2.8"))
    bench.path.write_text("ALL: 192.0.2.9 : DENY")
    assert finds(order("192.0.2.9"))
    bench.path.unlink()
    bench.path.mkdir()
    assert not finds(order("192.0.2.9"))


def test_a_line_comes_and_goes_alone(bench):
    """Comments, order, a last line without its line feed, owner and mode are as before."""
    bench.path.write_bytes(b"# mine\nsshd: 203.0.113.1\nALL: 192.0.2.90 : DENY")
    bench.path.chmod(0o604)
    assert bench.block("192.0.2.9") == (Ending.DONE, "ALL: 192.0.2.9 : DENY")
    assert bench.path.read_bytes().endswith(b"192.0.2.90 : DENY\nALL: 192.0.2.9 : DENY\n")
    assert bench.release("192.0.2.9") is Ending.DONE
    assert bench.path.read_bytes() == b"# mine\nsshd: 203.0.113.1\nALL: 192.0.2.90 : DENY\n"
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o604
    assert os.listdir(bench.path.parent) == ["hosts.deny"]


def test_a_line_that_was_there_is_not_ours(bench):
    """It exists and is not written twice; after a death of ours it is the one that we had written."""
    bench.path.write_text("ALL: 192.0.2.9 : DENY\n")
    assert bench.block("192.0.2.9")[0] is Ending.EXISTS
    assert bench.block("192.0.2.9", is_again=True)[0] is Ending.DONE
    assert bench.path.read_text() == "ALL: 192.0.2.9 : DENY\n"


def test_a_file_that_is_not_there_is_made(bench):
    """And readable for everybody, as libwrap needs it. What is gone is released."""
    assert bench.block("2001:db8::1") == (Ending.DONE, "ALL: [2001:db8::1] : DENY")
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o644
    bench.path.unlink()
    assert bench.release("2001:db8::1") is Ending.DONE


def test_a_link_or_a_folder_is_not_touched(bench, tmp_path):
    """Somebody's trap: nothing is written through it, and the ending says why."""
    target = tmp_path / "target"
    target.write_text("")
    bench.path.symlink_to(target)
    ending, detail = bench.block("192.0.2.9")
    assert (ending, "symbolic link" in detail) == (Ending.FAILED, True)
    assert target.read_text() == ""
    bench.path.unlink()
    bench.path.mkdir()
    assert bench.block("192.0.2.9")[0] is Ending.FAILED
    assert bench.release("192.0.2.9") is Ending.FAILED


def test_missing_lines_are_found(bench):
    """What a hand took away, among any number."""
    for source in ("192.0.2.1", "192.0.2.2"):
        bench.block(source)
    bench.path.write_text("ALL: 192.0.2.2 : DENY\n")
    orders = [order("192.0.2.1"), order("192.0.2.2")]
    found = []
    bench.action.survey(orders, 0, found.append)
    bench.path.unlink()
    bench.path.mkdir()
    bench.action.survey(orders, 0, found.append)
    assert found == [Survey((orders[0],)), Survey(problem=f"{bench.path}: is not a plain file; remove it")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/255.255.255.0"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("2001:db8::/64", "[2001:db8::]/64"),
    ],
)
def test_sources_are_spelled_as_hosts_access_wants_them(source, expected):
    """hosts_access(5)."""
    assert spell_client(parse_prefix(source)) == expected


def test_what_is_left_of_a_block_is_in_no_line(tmp_path):
    """A line that told the seconds left would be another one when it is to be taken away."""
    bench = Bench(tmp_path, line="ALL: $TARGET$ # $SECONDS$ $UNTIL$")
    told = Order("r", parse_prefix("192.0.2.9"), "scan", 100 * SECOND, 700 * SECOND)
    ended = []
    bench.action.block(told, 100 * SECOND, ended.append)
    assert bench.path.read_text() == "ALL: 192.0.2.9 # 600 700\n"
    bench.action.survey([told], 400 * SECOND, ended.append)
    assert ended[-1] == Survey()
    bench.action.release(told, 500 * SECOND, ended.append)
    assert bench.path.read_text() == ""


def test_a_line_that_goes_on_is_not_gone_on_with(bench):
    """hosts_access(5): a backslash at its end makes the next line a part of it."""
    bench.path.write_bytes(b"sshd: 203.0.113.1 \\\n")
    assert bench.block("192.0.2.9")[0] is Ending.DONE
    assert bench.path.read_bytes() == b"sshd: 203.0.113.1 \\\n\nALL: 192.0.2.9 : DENY\n"
