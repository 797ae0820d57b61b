"""What an action's commands say of what stands: a plain no, a yes, or nothing that can be relied on."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from correlator.actions import ActionDefinition, Commands, Order
from correlator.config.actions import ActionShelf
from correlator.config.settings import load_settings
from correlator.enforcer.action import Ending, Result, Survey
from correlator.enforcer.command import MOST_ASKED, CommandAction
from correlator.errors import SourceError
from correlator.model import parse_prefix
from tests.unit.command_loop import Loop

SHELL = ("/bin/sh", "-c")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A firewall that is a file: a source a line."""
    path = tmp_path / "rules"
    path.write_text("")
    return path


def make(loop: Loop, rules: Path, pattern: str = "", **more: str) -> CommandAction:
    """An action on that file; `more` are its commands in place of the usual ones, empty: none."""
    texts = {
        "block": f"echo $TARGET$ >> {rules}",
        "release": f"grep -qx $TARGET$ {rules} && sed -i '1{{/^$TARGET$$/d}}' {rules}",
        "present": f"grep -qx $TARGET$ {rules}",
        **more,
    }
    commands = Commands(**{name: ((*SHELL, text),) for name, text in texts.items() if text})
    definition = ActionDefinition("try", "", commands={4: commands}, list_pattern=pattern)
    return CommandAction(definition, loop.runner)


def order(source: str = "192.0.2.9") -> Order:
    """An order about a source."""
    return Order("r", parse_prefix(source), "scan", 0, None)


def carry_out(loop: Loop, method: Any, **more: bool) -> Result:
    """How an order ended."""
    ended: list[Result] = []
    method(order(), 0, ended.append, **more)
    loop.turn_until(lambda: ended)
    return ended[0]


def survey(loop: Loop, action: CommandAction, *sources: str) -> Survey:
    """What an action says of these."""
    found: list[Survey] = []
    action.survey([order(source) for source in sources], 0, found.append)
    loop.turn_until(lambda: found)
    return found[0]


def test_only_a_plain_no_says_that_a_source_is_let_go(loop: Loop, rules: Path) -> None:
    """A question that fails (a lock, a daemon that is away) leaves the rule in our books: it may stand."""
    broken = make(loop, rules, release="exit 4", present="exit 4")
    assert carry_out(loop, broken.release) == Result(Ending.FAILED, "exit 4: exit status 4")
    gone = make(loop, rules, release="exit 4")
    assert carry_out(loop, gone.release) == Result(Ending.DONE, "gone before")


def test_after_a_death_nothing_is_done_where_nobody_can_tell_what_stands(loop: Loop, rules: Path) -> None:
    """It would be done twice, and once undone."""
    action = make(loop, rules, present="echo locked; exit 4")
    result = carry_out(loop, action.block, is_again=True)
    assert (result.ending, result.detail) == (Ending.FAILED, "echo locked; exit 4: exit status 4: locked")
    assert rules.read_text() == ""


@pytest.mark.parametrize("first", ["", "192.0.2.9\n"])
def test_what_consists_of_two_is_undone_before_it_is_done_again(loop: Loop, rules: Path, first: str) -> None:
    """A hand took one of two rules away: both together are there once afterwards."""
    rules.write_text(first)
    action = make(loop, rules, present="exit 1")
    assert carry_out(loop, action.block, is_again=True).ending is Ending.DONE
    assert rules.read_text() == "192.0.2.9\n"


def test_what_somebody_else_put_there_exists_and_is_not_ours(loop: Loop, rules: Path) -> None:
    """`ip route add` fails where the route is there: the source is denied, and not by us."""
    action = make(loop, rules, block="exit 2")
    assert carry_out(loop, action.block).ending is Ending.FAILED
    rules.write_text("192.0.2.9\n")
    assert carry_out(loop, action.block) == Result(Ending.EXISTS, "there before us")


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("cat {}", Result(Ending.DONE, "gone before")),
        ("echo 192.0.2.9", Result(Ending.FAILED, "exit 2: exit status 2")),
        ("exit 1", Result(Ending.FAILED, "exit 2: exit status 2")),
    ],
)
def test_a_release_that_fails_looks_at_the_list(
    loop: Loop, rules: Path, listing: str, expected: Result
) -> None:
    """Of an action with no `present`: gone is what a list that could be read does not hold."""
    action = make(loop, rules, r"^(?P<source>\S+)$", release="exit 2", present="", list=listing.format(rules))
    assert carry_out(loop, action.release) == expected


def test_without_a_list_each_source_is_asked_about(loop: Loop, rules: Path) -> None:
    """What is missing is found, and nothing else; a question that fails is a problem, not a no."""
    rules.write_text("192.0.2.8\n192.0.2.9\n")
    action = make(loop, rules)
    assert action.can_survey
    found = survey(loop, action, "192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10")
    assert [str(missing.source) for missing in found.missing] == ["192.0.2.7", "192.0.2.10"]
    assert survey(loop, action, "2001:db8::1") == Survey()  # it does not serve IPv6
    assert survey(loop, action) == Survey()
    broken = make(loop, rules, present="exit 2")
    assert survey(loop, broken, "192.0.2.9") == Survey(problem="exit 2: exit status 2")


def test_so_many_are_asked_about_that_an_interval_suffices(loop: Loop, rules: Path) -> None:
    """The others are asked about the next time: each has its turn."""
    sources = [f"198.51.{number // 256}.{number % 256}" for number in range(MOST_ASKED + 50)]
    action = make(loop, rules, present="exit 1")
    first = {str(missing.source) for missing in survey(loop, action, *sources).missing}
    second = {str(missing.source) for missing in survey(loop, action, *sources).missing}
    assert (len(first), len(second)) == (MOST_ASKED, MOST_ASKED)
    assert first | second == set(sources)


def test_what_cannot_be_seen_is_not_surveyed(loop: Loop, rules: Path) -> None:
    """No list, no question: nothing can be said."""
    assert not make(loop, rules, present="").can_survey


LISTS = {
    "pf": "   192.0.2.9\n   198.51.100.0/24\n   2001:db8::9\n",
    "ipfw": "--- table(44), set(0) ---\n192.0.2.9/32 0\n198.51.100.0/24 0\n2001:db8::9/128 0\n",
    "firewalld": "192.0.2.9 ipset:mine 198.51.100.0/24 00:11:22:33:44:55 2001:db8::9\n",
    "shorewall": "-N dynamic\n-A dynamic -s 192.0.2.9/32 -j DROP\n-A dynamic -s 198.51.100.0/24 -j DROP\n"
    "-A dynamic -s 203.0.113.9/32 -j logdrop\n-A dynamic -s 2001:db8::9/128 -j DROP\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_of_other_firewalls_are_read(name: str) -> None:
    """As their manuals show them, where none is here; each source, and nothing that is none."""
    definition = ActionShelf(load_settings(None)).load(name)
    assert definition is not None
    found = []
    for match in re.finditer(definition.list_pattern, LISTS[name], re.MULTILINE):
        with contextlib.suppress(SourceError):
            found.append(str(parse_prefix(match["source"])))
    assert found == ["192.0.2.9", "198.51.100.0/24", "2001:db8::9"]


def test_what_may_be_ours_stays_ours(loop: Loop, rules: Path) -> None:
    """Tried again while a lock holds up everything: the rule is there, and will have to be taken away."""
    rules.write_text("192.0.2.9\n")
    asked = rules.with_name("asked")
    # not there when asked first, and there after the block has failed: put in a moment late
    present = f"test -e {asked} || {{ touch {asked}; exit 1; }}"
    action = make(loop, rules, block="exit 4", release="exit 4", present=present)
    assert carry_out(loop, action.block, is_again=True) == Result(Ending.DONE, "done before")
