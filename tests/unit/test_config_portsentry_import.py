"""What a portsentry.conf means to us, and `portward import portsentry`, which writes that down."""

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.config.actions import with_actions
from correlator.config.filters import load_filter
from correlator.config.portsentry import (
    find_static_ignore_file,
    parse_portsentry_conf,
    read_debian_modes,
    read_portsentry_conf,
)
from correlator.config.portsentry_actions import response_actions
from correlator.config.portsentry_import import format_portward_toml
from correlator.config.portsentry_settings import expand_modes, map_threshold, settings_from_portsentry
from correlator.config.route_commands import ask_route, undo_route
from correlator.config.site import load_site
from correlator.matching.filter_tests import failed_tests
from correlator.matching.filters import Filter
from correlator.model import SECOND

ROOT = Path(__file__).parents[2]
PATH = Path("/etc/portsentry/portsentry.conf")
DEBIAN = (ROOT / "tests/golden/portsentry/portsentry.conf").read_bytes()
FILES = b"""\
IGNORE_FILE="/etc/portsentry/portsentry.ignore"
HISTORY_FILE="/var/lib/portsentry/portsentry.history"
BLOCKED_FILE="/var/lib/portsentry/portsentry.blocked"
"""


def parse(text):
    """Read lines behind the three that PortSentry cannot do without; line 1 is the first of `text`."""
    return parse_portsentry_conf(text.encode() + b"\n" + FILES, PATH)


def blocking(protocols="TCP UDP", **directives):
    """A configuration that denies, of the protocols given."""
    lines = [f'BLOCK_{protocol}="1"' for protocol in protocols.split()]
    lines += ['KILL_ROUTE="/bin/true -I INPUT -s $TARGET$ -j DROP"'] if "KILL_ROUTE" not in directives else []
    conf, faults = parse("\n".join([*lines, *(f'{name}="{value}"' for name, value in directives.items())]))
    assert faults == ()
    return conf


@pytest.mark.parametrize("count", [64, 65, 70])
def test_more_than_64_ports_all_count_but_under_compat(count):
    """PortSentry takes the first 64 without a word; ours is right by default, and says so."""
    conf, faults = parse('TCP_PORTS="' + ",".join(str(2001 + index) for index in range(count)) + '"')
    assert faults == ()
    settings, gaps = settings_from_portsentry(conf, modes=("stcp",))
    compat, _ = settings_from_portsentry(conf, modes=("stcp",), compat=True)
    assert len(settings.probe.tcp_list) == count
    assert len(compat.probe.tcp_list) == 64
    assert ("TCP_PORTS" in [gap.directive for gap in gaps]) is (count > 64)


def test_a_range_is_a_range_but_under_compat():
    """PortSentry 1.2 takes `11-15` for port 11."""
    conf = parse('TCP_PORTS="1,11-15"')[0]
    settings, gaps = settings_from_portsentry(conf, modes=("tcp",))
    assert settings.probe.tcp_list == (1, 11, 12, 13, 14, 15)
    assert "PortSentry 1.2 takes 64, and of a range the first" in gaps[0].note
    assert settings_from_portsentry(conf, modes=("tcp",), compat=True)[0].probe.tcp_list == (1, 11)


def test_debians_own_file_means_what_portsentry_does():
    """Below 1024 means 0 to 1023; nothing is blocked; its files are kept."""
    conf, _ = parse_portsentry_conf(DEBIAN, PATH)
    settings, gaps = settings_from_portsentry(conf)
    assert settings.faults == ()
    probe = settings.probe
    assert (probe.tcp_ports, probe.udp_ports) == (((0, 1023),), ((0, 1023),))
    assert (probe.exclude_tcp, probe.exclude_udp) == ((113, 139), (520, 138, 137, 67))
    assert (probe.modes, probe.tcp_list, probe.banner) == (("atcp", "audp"), conf.tcp_ports, "")
    assert str(settings.paths.history) == "/var/lib/portsentry/portsentry.history"
    assert str(settings.paths.ignore) == "/etc/portsentry/portsentry.ignore"
    jail = settings.jails["portscan"]
    assert (jail.filters, jail.threshold, jail.block_for, jail.is_blocking) == (
        ("portsentry",),
        1,
        None,
        False,
    )
    assert not settings.enforcer.is_enforcing
    assert gaps == ()  # it blocks nobody: its commands are never run


@pytest.mark.parametrize(("trigger", "ours"), [(0, 1), (1, 2), (2, 3), (3, 4), (50, 51)])
def test_scan_trigger(trigger, ours):
    """N connects are allowed, the next blocks, as the manual says; with compat the probe counts instead."""
    assert map_threshold(trigger) == ours
    conf = blocking(SCAN_TRIGGER=trigger)
    settings, _ = settings_from_portsentry(conf)
    assert (settings.jails["portscan"].threshold, settings.probe.scan_trigger) == (ours, 0)
    compat, _ = settings_from_portsentry(conf, compat=True)
    assert {jail.threshold for jail in compat.jails.values()} == {1}
    assert compat.probe.scan_trigger == trigger


def test_responses_of_one_protocol_make_a_jail_each():
    """BLOCK_TCP=1 with BLOCK_UDP=0 blocks on TCP alone."""
    settings, _ = settings_from_portsentry(blocking("TCP"))
    assert {name: (jail.filters, jail.is_blocking) for name, jail in settings.jails.items()} == {
        "portscan-tcp": (("portsentry-tcp",), True),
        "portscan-udp": (("portsentry-udp",), False),
    }
    assert settings.enforcer.is_enforcing
    assert list(settings_from_portsentry(blocking("TCP"), modes=("atcp",))[0].jails) == ["portscan"]
    assert list(settings_from_portsentry(blocking())[0].jails) == ["portscan"]


def test_forged_evidence_blocks_briefly_but_under_compat():
    """Anybody could otherwise have anybody blocked for ever; the difference is said."""
    conf = blocking()
    settings, gaps = settings_from_portsentry(conf)
    jail = settings.jails["portscan"]
    assert (jail.spoofable_block_for, jail.spoofable_a_minute) == (600 * SECOND, 60)
    assert any("forge" in gap.note for gap in gaps)
    settings, gaps = settings_from_portsentry(conf, compat=True)
    assert settings.jails["portscan-udp"].spoofable_block_for > 365 * 86_400 * SECOND
    assert not any("forge" in gap.note for gap in gaps)
    assert not any("forge" in gap.note for gap in settings_from_portsentry(conf, modes=("tcp",))[1])


@pytest.mark.parametrize("value", ["0", "2"])
def test_block_0_and_2_only_observe(value):
    """2 runs the external command alone; where there is none, that is said."""
    conf, _ = parse(f'BLOCK_TCP="{value}"\nKILL_ROUTE="x $TARGET$"')
    settings, gaps = settings_from_portsentry(conf, modes=("atcp",))
    assert not settings.jails["portscan"].is_blocking
    assert ("BLOCK_TCP" in [gap.directive for gap in gaps if gap.is_lost]) is (value == "2")


def test_block_1_without_a_response_denies_nobody():
    """As in PortSentry, which only writes the host down."""
    settings, gaps = settings_from_portsentry(parse('BLOCK_TCP="1"')[0], modes=("atcp",))
    assert not settings.jails["portscan"].is_blocking
    assert "PortSentry denies nobody" in next(gap.note for gap in gaps if gap.directive == "BLOCK_TCP")


@pytest.mark.parametrize(
    ("modes", "keys"),
    [
        (("tcp",), ["TCP_PORTS"]),
        (("stcp", "sudp"), ["TCP_PORTS", "UDP_PORTS"]),
        (("connect",), ["TCP_PORTS", "UDP_PORTS"]),
        (("atcp", "audp"), []),
    ],
)
def test_a_mode_without_its_ports_is_a_fault(modes, keys):
    """PortSentry forks, ends in syslog alone, and exits with 0."""
    faults = settings_from_portsentry(parse("")[0], modes=modes)[0].faults
    assert [fault.key for fault in faults] == keys
    assert all("PortSentry ends without them" in fault.expected for fault in faults)


def test_modes_of_either_version():
    """Each once, in the order given; a name of nobody's is our own mistake."""
    assert expand_modes(("stealth", "stcp", "atcp")) == ("stcp", "sudp", "atcp")
    with pytest.raises(ValueError, match="no mode of PortSentry: xtcp"):
        expand_modes(("xtcp",))


def test_what_has_no_place_yet_is_said():
    """Each with its line: a program that this host lacks, and what does its work; what nobody can undo."""
    conf = blocking(
        KILL_ROUTE="/sbin/no-ipchains -I input -s $TARGET$ -j DENY -l", KILL_RUN_CMD="/bin/no-mail $TARGET$"
    )
    settings, gaps = settings_from_portsentry(conf)
    lost = {gap.directive: str(gap) for gap in gaps if gap.is_lost}
    assert lost["KILL_ROUTE"].startswith(f"{PATH}:3: KILL_ROUTE: /sbin/no-ipchains is not on this host")
    assert "nft add element inet portward source4" in lost["KILL_ROUTE"]
    assert (
        lost["KILL_RUN_CMD"] == f"{PATH}:4: KILL_RUN_CMD: /bin/no-mail is not on this host, so it is not run"
    )
    assert list(lost) == ["KILL_ROUTE", "KILL_RUN_CMD"]
    assert settings.jails["portscan"].actions == ("nftables",)
    gaps = settings_from_portsentry(blocking(KILL_ROUTE="/bin/true block $TARGET$"))[1]
    assert "how to undo it is not known" in next(gap.note for gap in gaps if gap.directive == "KILL_ROUTE")


def test_what_only_looks_like_a_token_is_said():
    """PortSentry passes it on as it stands; a portward.toml with it would be refused at its first check."""
    gaps = settings_from_portsentry(blocking(KILL_RUN_CMD="/bin/true $TARGET$ $HOME$"))[1]
    (gap,) = [gap for gap in gaps if gap.directive == "KILL_RUN_CMD"]
    assert (gap.is_lost, gap.note.partition(",")[0]) == (True, "$HOME$ is no token")


@pytest.mark.parametrize(
    ("directives", "compat", "expected"),
    [
        ("BLOCK=1 ROUTE DENY RUN", False, "nftables kill-hosts-deny kill-route kill-run-cmd"),
        ("BLOCK=1 ROUTE DENY RUN FIRST", False, "kill-run-cmd nftables kill-hosts-deny kill-route"),
        ("BLOCK=1 ROUTE DENY RUN", True, "kill-hosts-deny kill-route kill-run-cmd"),
        ("BLOCK=1 DENY", False, "nftables kill-hosts-deny"),
        ("BLOCK=1 RUN", False, "kill-run-cmd"),
        ("BLOCK=1", False, ""),
        ("BLOCK=1", True, "record"),
        ("BLOCK=2 ROUTE DENY RUN", False, "kill-run-cmd"),
        ("BLOCK=2 ROUTE", False, ""),
        ("BLOCK=2 ROUTE", True, "record"),
        ("BLOCK=0 ROUTE DENY RUN", False, ""),
        ("BLOCK=0 ROUTE DENY RUN", True, "no-response"),
    ],
)
def test_which_responses_run_and_in_which_order(directives, compat, expected):
    """PortSentry's order; nftables ahead where PortSentry would deny; nothing means that we only observe."""
    texts = {
        "ROUTE": 'KILL_ROUTE="/bin/true $TARGET$"',
        "DENY": 'KILL_HOSTS_DENY="ALL: $TARGET$"',
        "RUN": 'KILL_RUN_CMD="/bin/true"',
        "FIRST": 'KILL_RUN_CMD_FIRST="1"',
    }
    block, *words = directives.split()
    conf, faults = parse("\n".join([f'BLOCK_TCP="{block[-1]}"', *(texts[word] for word in words)]))
    assert faults == ()
    settings, _ = settings_from_portsentry(conf, modes=("atcp",), compat=compat)
    (jail,) = settings.jails.values()
    assert (jail.actions if jail.is_blocking else ()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/sbin/iptables -I INPUT -s $TARGET$ -j DROP", "/sbin/iptables -D INPUT -s $TARGET$ -j DROP"),
        ("/sbin/iptables -I INPUT 1 -s $TARGET$ -j DROP", "/sbin/iptables -D INPUT -s $TARGET$ -j DROP"),
        ("/sbin/ipchains -I input -s $TARGET$ -j DENY -l", "/sbin/ipchains -D input -s $TARGET$ -j DENY -l"),
        ("/sbin/route add -host $TARGET$ reject", "/sbin/route del -host $TARGET$ reject"),
        ("ip route add unreachable $TARGET$", "ip route del unreachable $TARGET$"),
        ("ipset -A bad $TARGET$ timeout 60", "ipset del bad $TARGET$"),
        ("nft add element ip f bad { $TARGET$ }", "nft delete element ip f bad '{' $TARGET$ '}'"),
        (
            "iptables -I INPUT -s $TARGET$ -j DROP ; iptables -A INPUT -s $TARGET$ -j LOG --log-prefix 'a b'",
            "iptables -D INPUT -s $TARGET$ -j LOG --log-prefix 'a b'; iptables -D INPUT -s $TARGET$ -j DROP",
        ),
        ("iptables -I INPUT -s $TARGET$ -j DROP | tee /x", ""),
        ("/usr/local/bin/deny $TARGET$", ""),
        ("iptables -I", ""),
        ("iptables 'x $TARGET$", ""),
        ("", ""),
    ],
)
def test_how_the_usual_routes_are_undone(command, expected):
    """PortSentry never does; what we cannot be sure of has no opposite."""
    assert undo_route(command) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/sbin/iptables -I INPUT 1 -s $TARGET$ -j DROP", "/sbin/iptables -C INPUT -s $TARGET$ -j DROP"),
        (
            "iptables -I INPUT -s $TARGET$ -j DROP && iptables -A x -s $TARGET$ -j LOG --log-prefix 'a b'",
            "iptables -C INPUT -s $TARGET$ -j DROP && iptables -C x -s $TARGET$ -j LOG --log-prefix 'a b'",
        ),
        (
            "/sbin/route add -host $TARGET$ reject",
            'found=$(ip -4 route show exact $TARGET$) && test -n "$found"',
        ),
        ("/sbin/route add -net $TARGET$ netmask 255.255.255.0 reject", ""),
        (
            "ip route add table 7 blackhole $TARGET$",
            "",
        ),
        (
            "ip route add blackhole $TARGET$ table 7",
            'found=$(ip -$VERSION$ route show table 7 type blackhole exact $TARGET$) && test -n "$found"',
        ),
        ("ip route add unreachable $TARGET$/24", ""),
        (
            "ip rule add from $TARGET$ prohibit",
            'found=$(ip -$VERSION$ rule show from $TARGET$) && test -n "$found"',
        ),
        ("ipset -A bad $TARGET$ timeout 60", "ipset -q test bad $TARGET$"),
        ("nft add element ip f bad { $TARGET$ }", "nft get element ip f bad '{' $TARGET$ '}'"),
        ("nft add element ip f bad { $TARGET$ timeout 1h }", ""),
        (
            "firewall-cmd --zone=drop --add-source=$TARGET$",
            "firewall-cmd --quiet --zone=drop --query-source=$TARGET$",
        ),
        ("firewall-cmd --permanent --add-source=$TARGET$", ""),
        ("/sbin/ipchains -I input -s $TARGET$ -j DENY -l", ""),
        ("iptables -I INPUT -s $TARGET$ -j DROP; /usr/local/bin/deny $TARGET$", ""),
        ("", ""),
    ],
)
def test_how_the_usual_routes_are_asked_about(command, expected):
    """So that one that is taken away by hand is put back; where an answer may be wrong nothing is asked."""
    assert ask_route(command) == expected


def test_a_route_for_ipv4_is_not_tried_on_ipv6():
    """Iptables has a sister for IPv6; route(8) and ipchains have none here."""
    conf, _ = parse('KILL_ROUTE="/sbin/iptables -I INPUT -s $TARGET$ -j DROP"')
    commands = response_actions(conf)["kill-route"].commands
    assert commands[6].block == (("/bin/sh", "-c", "/sbin/ip6tables -I INPUT -s $TARGET$ -j DROP"),)
    assert commands[6].release == (("/bin/sh", "-c", "/sbin/ip6tables -D INPUT -s $TARGET$ -j DROP"),)
    conf, _ = parse('KILL_ROUTE="/sbin/route add -host $TARGET$ reject"')
    assert list(response_actions(conf)["kill-route"].commands) == [4]


@pytest.mark.parametrize("half", ["tcp", "udp"])
def test_the_halves_of_the_filter_read_what_the_whole_reads(half):
    """Each understands its protocol's lines as `portsentry` does, and finds nothing in the other's."""

    def load(name):
        definition, faults = load_filter(ROOT / f"filters/{name}.toml", alert_log=Path("/x"))
        assert faults == []
        return definition

    whole, part = load("portsentry"), load(f"portsentry-{half}")
    other = "UDP" if half == "tcp" else "TCP"
    tests = [
        replace(test, expect=None if f" to {other} port: " in test.line else test.expect)
        for test in whole.tests
    ]
    assert list(failed_tests(Filter(replace(part, tests=tuple(tests))))) == []


# The import


@pytest.fixture
def installation(tmp_path):
    """Debian's layout, with PortSentry's configuration in it."""
    folder = tmp_path / "etc/portsentry"
    folder.mkdir(parents=True)
    (folder / "portsentry.conf").write_bytes(DEBIAN)
    return folder


def test_import_prints_settings_that_load_without_fault(installation, tmp_path, capsys):
    """Data on standard output, what is missing on standard error, 1 because something is."""
    assert main(["import", "portsentry", str(installation)]) == 0
    output, errors = capsys.readouterr()
    (tmp_path / "portward.toml").write_text(output)
    site = load_site(tmp_path)
    conf, _ = read_portsentry_conf(installation / "portsentry.conf")
    expected, _ = settings_from_portsentry(conf)
    assert site.faults == ()
    assert site.probe == expected.probe
    assert site.paths == expected.paths
    assert [replace(jail, where="") for jail in site.jails.values()] == [
        replace(jail, where="") for jail in expected.jails.values()
    ]
    assert 'tcp_ports = "0-1023"  # ADVANCED_PORTS_TCP, line 5' in output
    assert errors == ""


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("modes", ["tcp,udp", "stealth", "atcp", "atcp,sudp"])
def test_import_of_a_blocking_site_loads(tmp_path, modes, compat):
    """TCP blocks and UDP does not: in every mode what is written is what is meant."""
    conf = replace(blocking("TCP", TCP_PORTS="1", UDP_PORTS="7", PORT_BANNER="a\\b 'c' #"), path=PATH)
    settings, gaps = settings_from_portsentry(conf, modes=tuple(modes.split(",")), compat=compat)
    (tmp_path / "portward.toml").write_text(format_portward_toml(settings, conf, gaps))
    site = load_site(tmp_path)
    assert site.faults == ()
    expected = with_actions(settings)[0].enforcer
    assert (site.probe, site.correlator) == (settings.probe, settings.correlator)
    assert without_places(site.enforcer) == without_places(expected)
    assert {name: replace(jail, where="") for name, jail in site.jails.items()} == {
        name: replace(jail, where="") for name, jail in settings.jails.items()
    }


def without_places(enforcer):
    """The same without the files that its actions stand in."""
    return replace(enforcer, actions=tuple(replace(action, where="") for action in enforcer.actions))


def test_import_writes_into_a_folder_and_never_over_a_file(installation, tmp_path, capsys):
    """A second time it refuses, with 73, and leaves the file as it is."""
    out = tmp_path / "new/portward"
    assert main(["import", "portsentry", str(installation / "portsentry.conf"), "--out", str(out)]) == 0
    assert f"{out}/portward.toml: written" in capsys.readouterr().out
    (out / "portward.toml").write_text("mine")
    assert main(["import", "portsentry", str(installation), "--out", str(out)]) == 73
    assert "is there already, and is not overwritten" in capsys.readouterr().err
    assert (out / "portward.toml").read_text() == "mine"
    (out / "file").write_text("")
    assert main(["import", "portsentry", str(installation), "--out", str(out / "file")]) == 73
    assert "cannot be written" in capsys.readouterr().err


def test_import_of_what_can_all_be_carried_over_is_0(installation, capsys):
    """Nothing is missing: a site that only reports."""
    (installation / "portsentry.conf").write_bytes(FILES)
    assert main(["import", "portsentry", str(installation)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        (b"", (), "HISTORY_FILE: got no value, expected a path; PortSentry 1.2 does not start without it"),
        (FILES, ("--modes", "tcp"), "TCP_PORTS: got no value, expected ports, which mode tcp needs"),
        (FILES + b'BLOCK_TCP="yes"', (), ":4: BLOCK_TCP: got 'yes', expected a whole number from 0 to 2"),
        (None, (), "portsentry.conf: file: got No such file or directory"),
        (b'KILL_ROUTE=" "\n', [], "KILL_ROUTE: got ' ', expected $TARGET$ in it"),
    ],
)
def test_import_of_a_faulty_file_is_78(installation, capsys, text, arguments, expected):
    """All faults on standard error, nothing on standard output, no traceback."""
    path = installation / "portsentry.conf"
    path.unlink() if text is None else path.write_bytes(text)
    assert main(["import", "portsentry", str(installation), *arguments]) == 78
    output, errors = capsys.readouterr()
    assert output == ""
    assert expected in errors
    assert main(["import", "portsentry", str(path), "--json", *arguments]) == 78
    assert json.loads(capsys.readouterr().out)["faults"][0]["where"].startswith(str(path))


def test_import_as_json(installation, capsys):
    """The settings as text, and each gap with its place."""
    main(["import", "portsentry", str(installation), "--json", "--compat"])
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["faults"], found["written"]) == ("import", [], None)
    assert tomllib.loads(found["settings"])["probe"]["compat"] is True
    assert found["gaps"] == []


def test_import_takes_the_modes_of_debians_init_script(installation, capsys):
    """And --modes overrules them; a word that is no mode is passed over, as the script refuses it."""
    default = installation.parent / "default"
    default.mkdir()
    (default / "portsentry").write_text('# x\nTCP_MODE="stcp"\nUDP_MODE=udp # y\n')
    assert read_debian_modes(installation / "portsentry.conf") == ("stcp", "udp")
    main(["import", "portsentry", str(installation)])
    assert 'modes = ["stcp", "udp"]' in capsys.readouterr().out
    main(["import", "portsentry", str(installation), "--modes=-atcp,audp"])
    assert 'modes = ["atcp", "audp"]' in capsys.readouterr().out
    (default / "portsentry").write_text('TCP_MODE="ATCP"\nUDP_MODE=""\n')
    main(["import", "portsentry", str(installation)])
    assert 'modes = ["atcp", "audp"]' in capsys.readouterr().out


def test_import_refuses_a_mode_that_there_is_not(installation, capsys):
    """Usage: 2."""
    with pytest.raises(SystemExit) as exit_:
        main(["import", "portsentry", str(installation), "--modes", "xtcp"])
    assert exit_.value.code == 2
    assert "no mode 'xtcp'" in capsys.readouterr().err


def test_import_reads_debians_static_ignore_file(installation, capsys):
    """The one people edit: nobody rebuilds the other once PortSentry is gone."""
    ignore = installation / "portsentry.ignore"
    path = installation / "portsentry.conf"
    path.write_bytes(FILES.replace(b"/etc/portsentry/portsentry.ignore", bytes(ignore)))
    conf, _ = read_portsentry_conf(path)
    assert find_static_ignore_file(conf) is None
    assert find_static_ignore_file(replace(conf, ignore_file=Path("/"))) is None
    assert find_static_ignore_file(replace(conf, ignore_file=Path("/" + "x" * 900))) is None
    ignore.with_name("portsentry.ignore.static").write_text("127.0.0.1/32\n")
    assert main(["import", "portsentry", str(path)]) == 0
    output, errors = capsys.readouterr()
    assert f'ignore = "{ignore}.static"' in output
    assert "from which Debian's init script built it" in errors


def test_import_of_a_file_with_a_name_that_is_no_utf8(tmp_path, capsys):
    """A name on a disk is bytes; it can neither break the output nor end a comment."""
    folder = tmp_path / os.fsdecode(b"caf\xe9\nmode = 1")
    folder.mkdir()
    (folder / "portsentry.conf").write_bytes(FILES)
    for arguments in ((), ("--json",)):
        assert main(["import", "portsentry", str(folder), *arguments]) == 0
        assert "\\udce9\\nmode = 1" in capsys.readouterr().out.replace("\\\\", "\\")
