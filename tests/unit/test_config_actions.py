"""Action files: what is taken from them, what is wrong with them, and whose they must be."""

import os
from pathlib import Path

import pytest

from correlator.actions import Commands
from correlator.config.actions import ActionShelf, with_actions
from correlator.config.settings import load_settings

SOUND = 'block = ["ip", "route", "add", "unreachable", "$TARGET$"]\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's folder, with settings in which one jail uses the action `mine`."""
    (tmp_path / "actions").mkdir()
    (tmp_path / "portward.toml").write_text(
        '[jail.scan]\nfilters = ["portsentry"]\nactions = ["nftables", "mine"]\n'
    )
    return tmp_path


def load(site: Path, text: str, name: str = "mine") -> tuple[object, list[str]]:
    """Return the action of that text, and what is wrong with it."""
    (site / f"actions/{name}.toml").write_text(text)
    shelf = ActionShelf(load_settings(site))
    return shelf.load(name), [str(fault).replace(str(site), "SITE") for fault in shelf.faults]


def test_commands_are_lists_or_one_line_for_the_shell(site: Path) -> None:
    """Several are run in turn; a family's table overrules the general one, key by key."""
    action, faults = load(
        site,
        'block = [["one", "$TARGET$"], ["two"]]\nrelease = "three $TARGET$ | four"\n'
        '[ipv6]\nblock = ["six", "$TARGET$"]\n',
    )
    assert faults == []
    release = (("/bin/sh", "-c", "three $TARGET$ | four"),)
    assert action.commands == {
        4: Commands(block=(("one", "$TARGET$"), ("two",)), release=release),
        6: Commands(block=(("six", "$TARGET$"),), release=release),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "SITE/actions/mine.toml: block: got no command for IPv4, expected one or more commands"),
        (
            'block = ["deny"]\n',
            "block: got no command with the target, expected $TARGET$ in it, or denies = false",
        ),
        (
            'block = ["deny", "$TARGTE$", "$TARGET$"]\n',
            "mine.toml:1: block: got '$TARGTE$', expected one of $TARGET$",
        ),
        ('block = ["deny", 5]\n', "block: got ['deny', 5], expected a command such as"),
        ('block = ["", "$TARGET$"]\n', "block: got ['', '$TARGET$'], expected a program and its arguments"),
        (f'{SOUND}kind = "magic"\n', "mine.toml:2: kind: got 'magic', expected one of 'nftables'"),
        (f'{SOUND}timeout = "1h"\n', "timeout: got 3600, expected at most 10m"),
        (f'{SOUND}families = ["ipx"]\n', "families: got ['ipx'], expected some of"),
        (f'{SOUND}list_source = "("\n', "list_source: got '(', expected an expression that compiles"),
        (
            f'{SOUND}list_source = "x"\n',
            "list_source: got 'x', expected an expression with a group (?P<source>...)",
        ),
        (f'{SOUND}relase = ["x"]\n', "relase: got ['x'], expected no such key (did you mean 'release'?)"),
        (
            'kind = "hosts-deny"\nline = "ALL: all"\n',
            "line: got 'ALL: all', expected one line with $TARGET$ in it",
        ),
        ('kind = "hosts-deny"\nfile = "hosts.deny"\n', "file: got 'hosts.deny', expected an absolute path"),
        ("block = [", "mine.toml: file: got no TOML"),
    ],
)
def test_what_is_wrong_is_said(site: Path, text: str, expected: str) -> None:
    """With file, key, what it got and what it expected; the action is not used."""
    action, faults = load(site, text)
    assert action is None
    assert any(expected in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("mode", "owner", "expected"),
    [(0o666, 0, "mode: got 666"), (0o620, 0, "mode: got 620"), (0o644, 12345, "owner: got user 12345")],
)
def test_what_others_may_write_is_not_run(site: Path, mode: int, owner: int, expected: str) -> None:
    """Root runs what stands in an action file."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = site / "actions/mine.toml"
    path.write_text(SOUND)
    path.chmod(mode)
    os.chown(path, owner, -1)
    shelf = ActionShelf(load_settings(site))
    assert shelf.load("mine") is None
    assert expected in str(shelf.faults[0])


def test_an_action_of_the_settings_file_wins_whole(site: Path) -> None:
    """Over the site's own file, and that over ours; the enforcer is given those that jails name."""
    load(site, SOUND)
    with (site / "portward.toml").open("a") as file:
        file.write('[action.mine]\ndenies = false\nblock = ["tell"]\n')
    settings, faults = with_actions(load_settings(site))
    assert faults == ()
    (action,) = settings.enforcer.actions
    assert (action.name, action.denies, action.commands[6].block) == ("mine", False, (("tell",),))


def test_a_settings_file_that_others_may_write_defines_no_action(site: Path) -> None:
    """It is a fault of the settings file, which stops a start."""
    path = site / "portward.toml"
    path.write_text(path.read_text() + f"[action.mine]\n{SOUND}")
    path.chmod(0o666)
    assert [fault.key for fault in load_settings(site).fatal] == ["mode"]
