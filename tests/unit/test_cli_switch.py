"""`enable` and `disable`: a file changed with care, and who is told; never the host's own units."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.actions import ActionDefinition
from correlator.cli import main
from correlator.cli.switch import files_elsewhere, needs_root
from correlator.config.actions import ActionShelf
from correlator.config.settings import load_settings
from correlator.config.vendor import vendor_folder

ACTIONS = vendor_folder("actions")
WITHOUT_ROOT = {"iptables", "ipset", "blackhole", "route", "conntrack", "tcp-reset", "webhook"}
"""Of ours, those whose commands need no more than the right to change the firewall."""


@pytest.fixture
def folder(tmp_path):
    """A site whose second jail has a mode of its own."""
    text = '# ours\nmode = "observe"\n[jail.a]\nfilters = ["portsentry"]\n'
    text += '[jail.b]\nfilters = ["sshd"]\nmode = "observe"\n'
    (tmp_path / "portward.toml").write_text(text)
    (tmp_path / "portward.toml").chmod(0o640)
    return tmp_path


def test_enable_writes_one_line_and_keeps_the_rest(folder, capsys):
    """Comments, file mode and the jails' own modes stay; what blocks and what does not is said."""
    assert main(["enable", "--config", str(folder)]) == 0
    path = folder / "portward.toml"
    assert path.read_text().startswith('# ours\nmode = "block"\n[jail.a]')
    assert path.stat().st_mode & 0o777 == 0o640
    said = capsys.readouterr().out
    assert "blocking: a\n" in said
    assert "observing, by their own settings: b\n" in said
    assert main(["disable", "--config", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["changed"], told["blocking"], told["observing"]) == (True, [], ["a", "b"])
    assert tomllib.loads(path.read_text())["mode"] == "observe"


def test_settings_at_fault_are_not_touched(folder, capsys):
    """First they must be right."""
    text = (folder / "portward.toml").read_text() + "nonsense = 1\n"
    (folder / "portward.toml").write_text(text)
    assert main(["enable", "--config", str(folder)]) == 78
    assert "nonsense" in capsys.readouterr().err
    assert (folder / "portward.toml").read_text() == text


def test_another_programs_file_is_not_ours_to_change(tmp_path, capsys):
    """A portsentry.conf is read as it stands and never written."""
    conf = tmp_path / "portsentry.conf"
    conf.write_text('BLOCK_TCP="0"\n')
    assert main(["enable", "--config", str(conf)]) == 70
    assert "not ours to change" in capsys.readouterr().err
    assert conf.read_text() == 'BLOCK_TCP="0"\n'


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (ActionDefinition("own", "/etc/portward/actions/own.toml", rights="firewall"), False),
        (ActionDefinition("own", "/etc/portward/actions/own.toml"), True),
        (ActionDefinition("kill-run-cmd", "/etc/portward/portward.toml"), True),
        (ActionDefinition("hosts-deny", str(ACTIONS / "hosts-deny.toml"), kind="hosts-deny"), True),
        (ActionDefinition("own-list", "x", kind="hosts-deny", file="/var/lib/portward/hosts.denied"), False),
        (ActionDefinition("note", "/etc/portward/actions/note.toml", kind="record"), False),
    ],
)
def test_a_command_is_taken_to_need_root_unless_it_says_otherwise(definition, expected):
    """A command of the site may do anything."""
    settings = load_settings(None)
    settings = replace(settings, paths=replace(settings.paths, state=Path("/var/lib/portward")))
    assert needs_root(definition, settings) == expected


def test_our_own_actions_say_what_they_need():
    """As the package's tests prove it of each under the enforcer's unit."""
    shelf = ActionShelf(load_settings(None))
    actions = filter(None, map(shelf.load, shelf.names))
    found = {action.name for action in actions if action.kind == "command" and action.rights == "firewall"}
    assert found == WITHOUT_ROOT


def test_files_in_folders_of_others_are_taken_to_need_root(tmp_path):
    """PortSentry's history goes on where it was, in a folder that the enforcer's user may not write to."""
    assert files_elsewhere(load_settings(None)) == []
    text = '[paths]\nhistory = "/var/lib/portsentry/portsentry.history"\n'
    (tmp_path / "portward.toml").write_text(text)
    assert files_elsewhere(load_settings(tmp_path)) == ["[paths] history"]
