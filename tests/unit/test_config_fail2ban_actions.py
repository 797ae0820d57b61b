"""Fail2ban's actions as ours: their scripts stay, and no text of a stranger becomes a part of them."""

import os
import subprocess

import pytest

from correlator.actions import Order, environment_for, expand_argv
from correlator.config.actions import ActionShelf
from correlator.config.fail2ban.action_file import put_in_values, read_action
from correlator.config.fail2ban.references import Reference
from correlator.config.settings import load_settings
from correlator.model import SECOND, parse_source

HOSTILE = 'x\'; touch /tmp/portward-was-here; $(id) `id` "${PATH}" \\ * ?\n#'
ORDER = Order(
    request="sshd:1",
    source=parse_source("192.0.2.9"),
    jail="sshd",
    created=1000 * SECOND,
    until=1600 * SECOND,
    name="host.example",
    reason=f"5 strikes in 600s, last: {HOSTILE}",
)


def _read(folder, text, parameters=None, suffix=".conf"):
    path = folder / f"own{suffix}"
    path.write_text(text)
    faults = []
    action, _files = read_action(path, Reference(str(path), parameters or {}), name="f2b-own", faults=faults)
    return action, [str(fault) for fault in faults]


def _script(folder, text, parameters=None, version=4):
    action, faults = _read(folder, f"[Definition]\nactionban = {text}\n", parameters)
    assert faults == []
    return action.commands[version].block[0][-1], action


def _run(action, commands):
    """Run commands as the enforcer does; return what they print."""
    printed = ""
    for argv in commands:
        environment = environment_for(action.variables, ORDER, hostname="here")
        done = subprocess.run(
            expand_argv(argv, ORDER, 1000 * SECOND),
            env={**environment, "PATH": os.environ["PATH"]},
            capture_output=True,
            check=True,
            text=True,
        )
        printed += done.stdout
    return printed


def test_parameters_and_sections_are_put_in_and_what_a_block_tells_becomes_tokens(tmp_path):
    """Addresses and numbers may stand in a script; they cannot be anything else."""
    script, _ = _script(
        tmp_path,
        "fw <table> <ip> <fid> <failures> <time> <bantime> <ip-rev> <jail.name> <unknown> <name>\n"
        "[Init]\ntable = <known/table>\n[Init?family=inet6]\ntable = t6\n",
        {"table": "t4", "name": "sshd"},
    )
    assert script == (
        "fw t4 $TARGET$ $TARGET$ $STRIKES$ $CREATED$ $BANTIME$ $REVERSED$ $JAIL$ <unknown> sshd"
    )


def test_each_family_has_its_own_commands(tmp_path):
    """`[Init?family=inet6]` wins over [Init] for IPv6 addresses alone."""
    text = "fw <tool> <family> <ip>\n[Init]\ntool = ip4\n[Init?family=inet6]\ntool = ip6"
    assert [_script(tmp_path, text, version=version)[0] for version in (4, 6)] == [
        "fw ip4 inet4 $TARGET$",
        "fw ip6 inet6 $TARGET$",
    ]


def test_text_of_a_stranger_is_a_value_and_never_a_part_of_the_script(tmp_path):
    """In no quotes, in single and in double ones it is one word, whatever stands in it."""
    script, action = _script(
        tmp_path, "printf '[%%s]' <matches> '<matches>' \"<matches>\" 'a<F-USER>b' <ip-host> <sh-hostname>"
    )
    assert "<" not in script
    words = [HOSTILE, HOSTILE, HOSTILE, "ab", "host.example", "here"]
    assert _run(action, action.commands[4].block) == "".join(f"[{word}]" for word in words)
    assert not os.path.exists("/tmp/portward-was-here")


def test_numbers_and_addresses_are_what_the_block_says(tmp_path):
    """Seconds since 1970, seconds that it lasts, strikes, and the address as DNS has it."""
    _, action = _script(tmp_path, "echo <ip> '<time>' <bantime> <failures> <ip-rev>x <bancount> <restored>")
    assert _run(action, action.commands[4].block) == "192.0.2.9 1000 600 5 9.2.0.192.x 1 0\n"


def test_a_start_is_done_where_the_check_fails_and_only_there(tmp_path):
    """After a restart of ours the chain stands already: what a second start would do twice is left alone."""
    mark = tmp_path / "mark"
    action, faults = _read(
        tmp_path,
        f"[Definition]\nactionstart = echo start >> {mark}\nactioncheck = test -e {mark}\n"
        "actionban = echo <ip>\nactionunban = echo gone <ip>\nactionstop = rm <x>\nactionflush = echo all\n",
    )
    assert faults == []
    commands = action.commands[4]
    _run(action, (*commands.start, *commands.start))
    assert mark.read_text() == "start\n"
    assert _run(action, (*commands.block, *commands.release)) == "192.0.2.9\ngone 192.0.2.9\n"
    assert (commands.stop[0][-1], commands.flush[0][-1]) == ("rm <x>", "echo all")
    assert (action.denies, action.timeout) == (True, 60 * SECOND)


def test_what_undoes_nothing_denies_nobody(tmp_path):
    """A mail is sent once; a block with only such an action is a report."""
    assert not _script(tmp_path, "mail <ip>")[1].denies


@pytest.mark.parametrize(
    ("text", "suffix", "expected"),
    [
        ("class Action: pass", ".py", "an action of commands"),
        ("[Definition]\nactionunban = x\n", ".conf", "actionban"),
        ("[Definition]\nactionban = %(none)s\n", ".conf", "no such option"),
        ("[Definition]\nactionban = <a>\n[Init]\na = <a>\n", ".conf", "contains itself"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason(tmp_path, text, suffix, expected):
    """Root runs what stands in an action."""
    action, faults = _read(tmp_path, text, suffix=suffix)
    assert action is None
    assert expected in faults[0]


def test_a_file_that_others_can_write_is_not_used(tmp_path):
    """Whoever can write it would be root."""
    path = tmp_path / "own.conf"
    path.write_text("[Definition]\nactionban = echo <ip>\n")
    path.chmod(0o666)
    shelf = ActionShelf(load_settings())
    assert shelf.load(f"fail2ban:{path}[name=x]") is None
    assert [fault.key for fault in shelf.faults] == ["mode"]
    path.chmod(0o644)
    found = ActionShelf(load_settings()).load(f"fail2ban:{path}[name=x]")
    assert found.name.startswith("f2b-own-")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo <matches>", 'echo "${f2bV_matches}"'),
        ("echo '<matches>'", "echo ''\"${f2bV_matches}\"''"),
        ('echo "it\'s <matches>"', 'echo "it\'s ${f2bV_matches}"'),
        (r"echo \"<matches>", r'echo \""${f2bV_matches}"'),
        ("echo '\\'<matches>", "echo '\\'\"${f2bV_matches}\""),
        ("echo a<br>b<sp>c", "echo a\nb c"),
    ],
)
def test_a_variable_is_quoted_as_its_place_needs(script, expected):
    """One that the script's author put into single quotes would be its own name there."""
    assert put_in_values(script, family="inet4", variables={}) == expected
