"""Commands beside a loop: real processes, none waited for."""

import contextlib
import shutil
from pathlib import Path

import pytest

from correlator.actions import ActionDefinition, Commands, Order
from correlator.enforcer.action import Ending, Result
from correlator.enforcer.command import CommandAction
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.runner import MOST_WAITING, Ran
from correlator.model import SECOND, parse_prefix
from tests.unit.command_loop import SECONDS


def test_what_a_command_gets_and_gives(loop, monkeypatch):
    """A fixed environment, `/`, the evidence on its input; its output comes back."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("PATH", "/nowhere")
    assert loop.run("sh", "-c", "pwd; env | sort; cat", stdin=b"in\n") == Ran(
        "",
        "/\nHOME=/\nLC_ALL=C\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\n"
        "SHELL=/bin/sh\nin\n",
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("sh", "-c", "echo no such chain >&2; exit 3"), "exit status 3: no such chain"),
        (("sh", "-c", "kill -9 $$"), "ended by signal 9"),
        (
            ("/nonexistent/iptables", "x"),
            "/nonexistent/iptables x: cannot be started: No such file or directory",
        ),
        (("no-such-program",), "no-such-program: cannot be started: No such file or directory"),
    ],
)
def test_why_a_command_failed_is_said(loop, argv, expected):
    """With its own words."""
    assert loop.run(*argv).problem.endswith(expected)


def test_a_hung_command_is_killed_with_its_children(loop, tmp_path):
    """All that it started in its session; the others were not kept waiting."""
    hung: list[Ran] = []
    loop.runner.run(("sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/pid; wait"), hung.append, seconds=0.5)
    assert loop.run("true") == Ran("", "")
    loop.turn_until(lambda: hung)
    assert hung[0].problem.endswith("no end within 0.5 s, killed")
    child = int((tmp_path / "pid").read_text())
    # gone, or a zombie whose new parent has not looked yet
    loop.turn_until(lambda: not _is_alive(child))


def test_a_flood_of_output_is_bounded_and_stops_nobody(loop):
    """What is over the bound is read and dropped."""
    ran = loop.run("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert (ran.problem, len(ran.output)) == ("", 1 << 20)


def test_more_commands_than_may_run_at_once_wait(loop):
    """Each is run once; past the bound one is refused, with a word."""
    ended: list[Ran] = []
    for _ in range(30):
        loop.runner.run(("true",), ended.append, seconds=SECONDS)
    loop.turn_until(lambda: len(ended) == 30)
    assert set(ended) == {Ran("", "")}
    for _ in range(MOST_WAITING + 10):
        loop.runner.run(("sleep", "1000"), ended.append, seconds=0.01)
    assert "commands wait already" in ended[-1].problem
    loop.runner._waiting.clear()
    loop.turn_until(lambda: len(loop.runner) == 0)


def _is_alive(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def make(loop, **commands):
    """An action that is commands, for IPv4."""
    commands = {name: tuple(map(tuple, argvs)) for name, argvs in commands.items()}
    denies = commands.pop("denies", True)
    definition = ActionDefinition("try", "", commands={4: Commands(**commands)}, denies=bool(denies))
    return CommandAction(definition, loop.runner)


def carry_out(loop, method, source="192.0.2.9", **more):
    """How an order ended."""
    ended: list[Result] = []
    method(Order("r", parse_prefix(source), "scan", 0, None, port=79), 0, ended.append, **more)
    loop.turn_until(lambda: ended)
    return ended[0]


def test_an_action_starts_once_and_blocks_each_time(loop, tmp_path):
    """`start` before the first block, and again after a failure: somebody may have cleared what it made.

    What failed with a part of it done is undone.
    """
    log = tmp_path / "log"
    action = make(
        loop,
        start=[("sh", "-c", f"echo start >> {log}")],
        block=[("sh", "-c", f"echo block $TARGET$ $PORT$ >> {log}"), ("test", "!", "-e", f"{tmp_path}/no")],
        release=[("sh", "-c", f"echo release $TARGET$ >> {log}")],
    )
    assert carry_out(loop, action.block).ending is Ending.DONE
    (tmp_path / "no").touch()
    failed = carry_out(loop, action.block)
    assert (failed.ending, failed.detail) == (Ending.FAILED, f"test '!' -e {tmp_path}/no: exit status 1")
    (tmp_path / "no").unlink()
    assert carry_out(loop, action.block).ending is Ending.DONE
    assert carry_out(loop, action.release).ending is Ending.DONE
    block = "block 192.0.2.9 79"
    assert log.read_text().splitlines() == [
        "start", block, block, "release 192.0.2.9", "start", block, "release 192.0.2.9",
    ]  # fmt: skip


def test_after_a_death_what_was_done_is_not_done_twice(loop, tmp_path):
    """`present` is asked; without denying anybody it is not run again at all."""
    log = tmp_path / "log"
    action = make(loop, block=[("sh", "-c", f"echo block >> {log}")], present=[("test", "-e", str(log))])
    assert carry_out(loop, action.block, is_again=True).ending is Ending.DONE
    assert carry_out(loop, action.block, is_again=True).detail == "done before"
    assert log.read_text() == "block\n"
    teller = make(loop, block=[("sh", "-c", f"echo told >> {log}")], denies=())
    assert carry_out(loop, teller.block, is_again=True).ending is Ending.UNKNOWN
    assert log.read_text() == "block\n"


@pytest.mark.parametrize("second", ["false", "sleep 1000"])
def test_a_block_that_fails_or_hangs_half_way_leaves_nothing(loop, tmp_path, second):
    """Debian's own example of KILL_ROUTE puts in one rule, and its second fails: tried again for ever."""
    rules = tmp_path / "rules"
    rules.write_text("")
    shell = ("/bin/sh", "-c")
    commands = Commands(
        block=((*shell, f"echo $TARGET$ >> {rules} && {second}"),),
        release=((*shell, f"sed -i '1{{/$TARGET$/d}}' {rules}"),),
    )
    definition = ActionDefinition("try", "", commands={4: commands}, timeout=SECOND // 2)
    for _ in range(2):
        assert carry_out(loop, CommandAction(definition, loop.runner).block).ending is Ending.FAILED
        assert rules.read_text() == ""


def test_after_a_death_a_rule_that_may_be_there_is_not_there_twice(loop, tmp_path):
    """KILL_ROUTE cannot be asked what it did: its opposite comes first."""
    rules = tmp_path / "rules"
    rules.write_text("192.0.2.9\n")
    action = make(
        loop,
        block=[("sh", "-c", f"echo $TARGET$ >> {rules}")],
        release=[("sh", "-c", f"sed -i '1{{/$TARGET$/d}}' {rules}")],
    )
    assert carry_out(loop, action.block, is_again=True).ending is Ending.DONE
    assert rules.read_text() == "192.0.2.9\n"


def test_a_release_of_what_is_gone_is_done(loop):
    """A hand took it away: the command fails, `present` says why."""
    gone = make(loop, block=[("true",)], release=[("false",)], present=[("false",)])
    assert carry_out(loop, gone.release) == Result(Ending.DONE, "gone before")
    stuck = make(loop, block=[("true",)], release=[("false",)], present=[("true",)])
    assert carry_out(loop, stuck.release) == Result(Ending.FAILED, "false: exit status 1")
    assert carry_out(loop, make(loop, block=[("true",)]).release).ending is Ending.FAILED


def test_a_version_of_ip_that_is_not_served_is_not_tried(loop):
    """Nothing is run, nothing is tried again."""
    action = make(loop, block=[("false",)])
    result = carry_out(loop, action.block, source="2001:db8::1")
    assert (result.ending, result.detail) == (Ending.UNKNOWN, "try does not take IPv6")


def test_the_time_limit_is_the_actions_own(loop):
    """In microseconds in the definition."""
    commands = {4: Commands(block=(("sleep", "1000"),))}
    action = CommandAction(ActionDefinition("try", "", commands=commands, timeout=SECOND // 5), loop.runner)
    assert "no end within 0.2 s" in carry_out(loop, action.block).detail


def test_nft_gets_neither_our_environment_nor_our_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts us chooses no library, no language and no file beside us for what runs as root."""
    fake = tmp_path / "nft"
    fake.write_text("#!/bin/sh\necho $(pwd) $(/usr/bin/env | /usr/bin/sort) $@\ncat\n")
    fake.chmod(0o755)
    monkeypatch.setenv("LD_PRELOAD_OF_SOMEBODY", "evil.so")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(NftablesBackend()) as backend:
        backend._nft = str(fake)
        said = backend.run("text\n").split()
        assert said[:1] + said[-3:] == ["/", "-f", "-", "text"]
        names = {word.partition("=")[0] for word in said[1:-3]}
        assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
        assert "LC_ALL=C" in said
        assert not [word for word in said if str(tmp_path) in word and "_=" not in word]
    assert NftablesBackend()._find_nft() == shutil.which("nft", path="/usr/sbin:/sbin")
