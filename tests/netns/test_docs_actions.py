"""docs/actions.md says what is so: its examples are tried as it tells to, its table names every action."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.cli.switch import needs_root
from correlator.config.actions import ActionShelf
from correlator.config.settings import load_settings
from tests.netns.blocking import ROOT

pytestmark = pytest.mark.netns

GUIDE = (ROOT / "docs/actions.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: ([\w-]+) -->\n```toml\n(.*?)```", GUIDE, re.DOTALL))
TABLE = re.findall(r"^\| (`.*?) \|.*\| (.*?) ?\|$", GUIDE, re.MULTILINE)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with the guide's actions."""
    (tmp_path / "actions").mkdir()
    for name, text in EXAMPLES.items():
        (tmp_path / f"actions/{name}.toml").write_text(text)
    (tmp_path / "portward.toml").write_text("")
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_can_be_proved(site: Path, name: str) -> None:
    """With the command that the guide gives, which says what the guide shows."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "correlator", "action", "test", name, "--config", str(site), "--json"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    assert [step for step in found["steps"] if not step["is_proved"]] == []
    assert found["proved"]
    if name == "no-ssh":
        lines = [f"proved  {step['name']:<13} {step['seen']}" for step in found["steps"]]
        shown = re.findall(r"^    (proved  .*)$", GUIDE, re.MULTILINE)
        assert len(shown) == 4
        assert set(shown) <= set(lines)


def test_the_table_names_every_action_and_what_it_needs() -> None:
    """None is missing, none is made up, and root is where `enable` gives it."""
    settings = load_settings(None)
    shelf = ActionShelf(settings)
    named = {name: needs for names, needs in TABLE for name in re.findall(r"`([\w-]+)`", names)}
    assert set(named) == set(shelf.names)
    untried = {"ipchains", "pf", "ipfw"}
    for name in set(named) - untried:
        action = shelf.load(name)
        assert action is not None
        is_said = named[name].startswith("root") and name not in ("hosts-deny-list", "webhook")
        assert needs_root(action, settings) == is_said, name
