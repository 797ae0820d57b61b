"""Fail2ban's stock jails and actions as we read them, beside what fail2ban-client says it makes of them."""

import ast
import shutil
from pathlib import Path

import pytest

from correlator.config.actions import ActionShelf
from correlator.config.fail2ban.action_file import FAMILIES, read_action
from correlator.config.fail2ban.jail_file import load_fail2ban
from correlator.config.fail2ban.jail_settings import complete_action, load_fail2ban_settings
from correlator.config.fail2ban.tags import replace_tags
from correlator.config.fail2ban.times import parse_time
from correlator.config.site import load_site
from tests.peers import fail2ban

pytestmark = pytest.mark.skipif(not fail2ban.is_there(), reason="no real Fail2ban (make peer)")

COMMANDS = {"actionban": "block", "actionunban": "release", "actionstop": "stop", "actionflush": "flush"}
DYNAMIC = {
    "<ip>": "$TARGET$",
    "<fid>": "$TARGET$",
    "<failures>": "$STRIKES$",
    "<time>": "$CREATED$",
    "<bantime>": "$BANTIME$",
    "<ip-rev>": "$REVERSED$",
    "<br>": "\n",
    "<sp>": " ",
}


@pytest.fixture(scope="module")
def etc(tmp_path_factory):
    """Return a copy of Debian's /etc/fail2ban with every jail enabled."""
    folder = tmp_path_factory.mktemp("etc") / "fail2ban"
    shutil.copytree(fail2ban.CONFIG, folder)
    (folder / "jail.local").write_text("[DEFAULT]\nenabled = true\n")
    return folder


def _dump(folder: Path) -> dict[str, dict]:
    """Return what `fail2ban-client -d` would tell its server of each jail."""
    jails: dict[str, dict] = {}
    for line in fail2ban.run(["fail2ban-client", "-c", str(folder), "-d"]).splitlines():
        if not line.startswith("["):
            continue
        verb, *rest = ast.literal_eval(line)
        if verb == "add":
            jails[rest[0]] = {"actions": {}, "addfailregex": [], "addignoreregex": []}
        elif rest[0] not in jails or verb == "start":
            continue
        elif rest[1] in ("addfailregex", "addignoreregex"):
            jails[rest[0]][rest[1]] += rest[2] if verb == "multi-set" else [rest[2]]
        elif rest[1] == "action":
            options = rest[3] if verb == "multi-set" else [[rest[3], rest[4]]]
            jails[rest[0]]["actions"].setdefault(rest[2], {}).update(map(tuple, options))
        else:
            jails[rest[0]][rest[1]] = rest[2]
    return jails


def _expressions(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def test_every_stock_jail_says_to_us_what_it_says_to_fail2ban(etc):
    """Its filter's final expressions, its times, its actions: all 91 jails."""
    theirs = _dump(etc)
    site = load_fail2ban(etc)
    assert site.faults == ()
    assert [jail.name for jail in site.jails] == list(theirs)
    for jail in site.jails:
        dumped, options = theirs[jail.name], jail.filter_options.options
        assert options.get("prefregex", "") == dumped.get("prefregex", ""), jail.name
        assert options.get("datepattern", "") == dumped.get("datepattern", ""), jail.name
        assert _expressions(options.get("failregex", "")) == dumped["addfailregex"], jail.name
        assert _expressions(options.get("ignoreregex", "")) == dumped["addignoreregex"], jail.name
        assert [parse_time(jail.options[name]) for name in ("findtime", "bantime")] == [
            parse_time(str(dumped[name])) for name in ("findtime", "bantime")
        ], jail.name
        assert jail.options["maxretry"] == str(dumped["maxretry"]), jail.name
        assert len(jail.actions) == len(dumped["actions"]), jail.name


def test_every_stock_jail_runs_with_us(etc):
    """The folder in place, as `run --config` uses it, has no fault; one jail lets in, one asks a program."""
    site = load_site(etc)
    assert [str(fault) for fault in site.faults] == []
    names = {jail.name for jail in load_fail2ban(etc).jails}
    assert set(site.jails) == names - {"pass2allow-ftp"}
    assert all(definition.files or definition.reads_journal for definition in site.filters.values())
    _, gaps, _ = load_fail2ban_settings(etc)
    assert [gap.directive for gap in gaps if gap.is_lost] == [
        "[apache-fakegooglebot] ignorecommand",
        "[pass2allow-ftp] action",
    ]


def test_every_stock_action_of_commands_runs_what_fail2ban_would_run(etc, tmp_path):
    """For both families; Python's are refused."""
    parameters = {"port": "ssh", "protocol": "tcp", "chain": "<known/chain>"}  # as jail.conf's action_ does
    folder = tmp_path / "fail2ban"
    shutil.copytree(etc / "action.d", folder / "action.d")
    (folder / "filter.d").mkdir()
    (folder / "filter.d/x.conf").write_text("[Definition]\nfailregex = <HOST>\n")
    (folder / "fail2ban.conf").write_text("[Definition]\nlogtarget = STDOUT\n")
    names = sorted(path.stem for path in folder.glob("action.d/*.conf") if "common" not in path.stem)
    quoted = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    jails = (f"[j-{name}]\naction = {name}[name=j-{name}, {quoted}]\n" for name in names)
    (folder / "jail.conf").write_text(
        "[DEFAULT]\nenabled = true\nfilter = x\nlogpath = /nonexistent\n" + "".join(jails)
    )
    theirs = _dump(folder)
    assert len(names) > 50
    for jail in load_fail2ban(folder).jails:
        (properties,) = theirs[jail.name]["actions"].values()
        faults = []
        name = jail.actions[0].name
        reference = complete_action(jail.actions[0], jail, folder / "action.d")
        action, _ = read_action(Path(reference.name), reference, name="x", faults=faults)
        assert faults == [], name
        for version, family in FAMILIES.items():
            commands = action.commands[version]
            for option, ours in COMMANDS.items():
                argvs = getattr(commands, ours)
                script = argvs[0][-1] if argvs else ""
                if "f2bV_" not in script:
                    assert script == _final(properties, option, family), (name, option, family)


def _final(properties: dict, option: str, family: str) -> str:
    """Return a command as Fail2ban's server makes it from what it was told."""

    def look_up(tag: str) -> str | None:
        value = properties.get(f"{tag}?family={family}", properties.get(tag))
        if tag in ("timeout", "bantime") or value is None:
            return None
        return "INPUT" if value == "<known/chain>" else str(value)

    text = replace_tags(str(properties.get(option, "")), look_up).replace("<family>", family)
    for tag, token in DYNAMIC.items():
        text = text.replace(tag, token)
    return text.strip()


def test_a_python_action_is_refused_with_a_clear_message(etc):
    """It can run nowhere but in Fail2ban's own process."""
    settings = load_fail2ban_settings(etc)[0]
    shelf = ActionShelf(settings)
    assert shelf.load(f"fail2ban:{etc}/action.d/smtp.py[dest=x]") is None
    assert "written in Python" in str(shelf.faults[0])
