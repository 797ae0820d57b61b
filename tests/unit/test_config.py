"""What users write: defaults, every kind of fault with its place, and that one fault stops nothing else."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.config.reader import parse_duration, parse_ports
from correlator.config.site import load_site
from correlator.counting.jail_definition import MOST_KINDS
from correlator.counting.jails import Count, Key
from correlator.model import SECOND
from correlator.settings import CorrelatorSettings, EnforcerSettings, Paths, ProbeSettings

ROOT = Path(__file__).parents[2]


def _site(folder, text, **files):
    (folder / "portward.toml").write_text(text)
    for name, content in files.items():
        path = folder / name.replace("jails__d", "jails.d").replace("__", "/").replace("_toml", ".toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return load_site(folder)


def test_the_shipped_settings_are_the_defaults(tmp_path):
    """What the commented file shows as defaults is what the code does without it."""
    shipped = load_site()
    text = (ROOT / "correlator/config/portward.toml").read_text()
    uncommented = re.sub(r"(?m)^#(?=\w+ +=)", "", text)
    written = _site(tmp_path, uncommented)
    assert written.faults == ()
    assert shipped.probe == ProbeSettings()
    assert shipped.paths == Paths()
    assert shipped.correlator == CorrelatorSettings()
    assert shipped.enforcer == EnforcerSettings()
    assert written.probe == shipped.probe
    assert written.correlator == shipped.correlator
    assert written.paths == shipped.paths
    assert written.enforcer == shipped.enforcer
    assert replace(written.jails["portscan"], where="") == replace(shipped.jails["portscan"], where="")
    assert uncommented != text
    assert list(shipped.jails) == ["portscan"]
    assert not shipped.jails["portscan"].is_blocking


def test_the_probes_modes_and_lists_keep_their_order(tmp_path):
    """The start lines follow the file; a mode named twice is one."""
    text = (
        'modes = ["udp", "stcp", "udp"]\ntcp_list = [79, 1, "5-6"]\nexclude_tcp = "139,113"\nbanner = "x"\n'
    )
    probe = _site(tmp_path, "[probe]\n" + text).probe
    assert (probe.modes, probe.tcp_list, probe.exclude_tcp) == (("udp", "stcp"), (79, 1, 5, 6), (139, 113))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("modes = []", "got [], expected one or more of 'tcp', 'udp', 'stcp', 'sudp', 'atcp', 'audp'"),
        ('modes = ["xtcp"]', "got ['xtcp'], expected one or more of 'tcp'"),
        ('interfaces = ["a/b"]', "got ['a/b'], expected at most 256 names of devices"),
        (f'banner = "{"x" * 1025}"', "expected text of at most 1024 bytes"),
        ('tcp_list = "1,70000"', "got '1,70000', expected ports from 0 to 65535"),
    ],
)
def test_what_the_probe_cannot_be_told(tmp_path, line, expected):
    """Each with the place, what stood there and what should; the default stays."""
    site = _site(tmp_path, f"[probe]\n{line}\n")
    assert site.probe == ProbeSettings(paths=site.paths)
    assert [expected in str(fault) for fault in site.faults] == [True]


def test_one_line_turns_blocking_on(tmp_path):
    """`mode = "block"` is all it takes, and the command line overrules it."""
    site = _site(tmp_path, 'mode = "block"\n[jail.portscan]\nfilters = ["portsentry"]\n')
    assert site.jails["portscan"].is_blocking
    assert site.enforcer.is_enforcing
    assert not load_site(tmp_path, mode="observe").jails["portscan"].is_blocking


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('mode = "blok"\n', "portward.toml:1: mode: got 'blok', expected one of 'observe', 'block'"),
        (
            "[probe]\nlines_a_secnd = 3\n",
            "toml:2: probe.lines_a_secnd: got 3, expected no such key (did you mean 'lines_a_second'?)",
        ),
        (
            "[probe]\nlines_a_second = 0\n",
            "probe.lines_a_second: got 0, expected a whole number from 1 to 1000000",
        ),
        ("[probe]\nlines_a_second = true\n", "got True, expected a whole number"),
        (
            '[probe]\ntcp_ports = "1-99999"\n',
            "probe.tcp_ports: got '1-99999', expected ports from 0 to 65535",
        ),
        ('[paths]\nstate = "here"\n', "paths.state: got 'here', expected an absolute path"),
        ('[enforcer]\nnever_block = ["nobody"]\n', "enforcer.never_block: got 'nobody', expected addresses"),
        ("[jail.x]\n", "jail.x.filters: got no value, expected the filters it listens to"),
        (
            '[jail.x]\nfilters = ["nope"]\n',
            "jail.x.filters: got 'nope', expected a filter that is there; known",
        ),
        ('[jail.x]\nfilters = ["portsentry"]\nspan = "soon"\n', "portward.toml:3: jail.x.span: got 'soon'"),
        (
            '[jail.x]\nfilters = ["portsentry"]\ncount = "ports"\n',
            'expected "strikes", "weight", or "distinct',
        ),
        (
            '[jail.x]\nfilters = ["portsentry"]\nactions = ["magic"]\n',
            "jail.x.actions: got 'magic', expected one of",
        ),
        ("mode = \n", "portward.toml:1: file: got no TOML"),
        ("jail = 3\n", "jail: got 3, expected a table [jail]"),
    ],
)
def test_each_fault_names_file_key_got_and_expected(tmp_path, text, expected):
    """A person can act on it without reading our code."""
    assert expected in "\n".join(map(str, _site(tmp_path, text).faults))


def test_all_faults_are_listed_at_once(tmp_path):
    """Nobody has to mend one to see the next."""
    site = _site(tmp_path, 'mode = 3\n[probe]\nsyslog = "yes"\n[nothing]\n')
    assert len(site.faults) == 3
    assert site.fatal == site.faults


def test_a_missing_settings_file_is_fatal(tmp_path):
    """Pointing at a folder without one is a mistake, not the defaults."""
    site = load_site(tmp_path / "nowhere")
    assert "got No such file or directory, expected a file we may read" in str(site.fatal[0])


def test_a_bad_filter_takes_out_only_itself(tmp_path):
    """The others go on, the fault is said, and the start is not stopped."""
    site = _site(
        tmp_path,
        '[jail.a]\nfilters = ["portsentry", "mine"]\n',
        filters__mine_toml="[[pattern]]\nname = 'x'\nregex = '('\n",
    )
    assert list(site.filters) == ["portsentry"]
    assert site.jails["a"].filters == ("portsentry",)
    assert site.fatal == ()
    assert "mine.toml:3: pattern 'x': got missing ), behind '('" in str(site.faults[0])


def test_a_filter_whose_tests_fail_does_not_load(tmp_path):
    """It says which line, what it got and what was expected."""
    path = tmp_path / "mine.toml"
    path.write_text(
        "identifiers = ['a']\n"
        "[[pattern]]\nname = 'x'\nregex = '''^from (?P<source>\\S+)$'''\n"
        "[[test]]\nline = 'Nov 22 14:29:22 vm a: from 192.0.2.1'\nexpect = { source = '192.0.2.2' }\n"
    )
    definition, faults = load_filter(path, alert_log=Path("/x"))
    assert definition is None
    assert "from 192.0.2.1" in str(faults[0])
    assert """got source='192.0.2.1', expected { source = "192.0.2.2" }""" in str(faults[0])


def test_a_pattern_without_source_is_refused(tmp_path):
    """A filter that cannot say who it was is of no use."""
    path = tmp_path / "mine.toml"
    path.write_text("[[pattern]]\nname = 'x'\nregex = 'abc'\n")
    assert "has no group (?P<source>...)" in str(load_filter(path, alert_log=Path("/x"))[1][0])


def test_a_sites_filter_wins_over_the_vendors(tmp_path):
    """A file of the same name replaces the shipped one whole."""
    site = _site(
        tmp_path,
        '[jail.a]\nfilters = ["portsentry"]\n',
        filters__portsentry_toml="[[pattern]]\nname = 'own'\nregex = '''^(?P<source>\\S+)$'''\n",
    )
    assert [pattern.name for pattern in site.filters["portsentry"].patterns] == ["own"]


def test_jails_of_their_own_files(tmp_path):
    """jails.d holds one or several jails a file."""
    (tmp_path / "jails.d").mkdir()
    (tmp_path / "jails.d/scan.toml").write_text(
        '[jail.scan]\nfilters = ["portsentry"]\ncount = "distinct port"\nblock_for = "forever"\n'
    )
    jail = _site(tmp_path, "").jails["scan"]
    assert (jail.count, jail.field, jail.block_for) == (Count.DISTINCT, "port", None)


KNOCK = """
[jail]
threshold = 4
span = "2m"
count = "distinct port"
[[pattern]]
name = 'x'
regex = '''^knock from (?P<source>\\S+)(?: at (?P<port>\\d+))?$'''
"""


def test_one_line_enables_a_filter(tmp_path):
    """`enabled` makes a jail of the filter's name, as the filter recommends and in the site's mode."""
    site = _site(tmp_path, 'mode = "block"\nenabled = ["knock"]\n', filters__knock_toml=KNOCK)
    assert site.faults == ()
    jail = site.jails["knock"]
    assert jail.filters == ("knock",)
    assert (jail.threshold, jail.span, jail.count, jail.field) == (4, 120 * SECOND, Count.DISTINCT, "port")
    assert jail.is_blocking
    assert list(site.filters) == ["knock"]


def test_a_jail_table_overrides_single_keys_of_a_recommendation(tmp_path):
    """Also from another file than the one that enables it; what it does not say stays recommended."""
    site = _site(
        tmp_path,
        "[jail.knock]\nthreshold = 9\n",
        filters__knock_toml=KNOCK,
        jails__d__knock_toml='enabled = ["knock"]\n',
    )
    assert site.faults == ()
    assert (site.jails["knock"].threshold, site.jails["knock"].span) == (9, 120 * SECOND)


@pytest.mark.parametrize("file", ["portward.toml", "jails.d/x.toml"])
def test_an_unknown_name_among_the_enabled_is_a_fault(tmp_path, file):
    """It names what comes nearest; the others are enabled."""
    (tmp_path / "jails.d").mkdir()
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/knock.toml").write_text(KNOCK)
    (tmp_path / "portward.toml").write_text("")
    (tmp_path / file).write_text('\nenabled = ["knok", "knock"]\n')
    site = load_site(tmp_path)
    assert str(site.faults[0]).startswith(
        f"{tmp_path / file}:2: enabled: got 'knok', expected a filter that is there (did you mean 'knock'?);"
    )
    assert len(site.faults) == 1
    assert list(site.jails) == ["knock"]


def test_an_enabled_filter_with_faults_takes_out_only_itself(tmp_path):
    """The start goes on without it, and the fault names the filter's file."""
    site = _site(
        tmp_path, 'enabled = ["knock", "portsentry"]\n', filters__knock_toml=KNOCK.replace("(?P", "(?Q")
    )
    assert list(site.jails) == ["portsentry"]
    assert [fault.where for fault in site.faults] == [f"{tmp_path}/filters/knock.toml:8"]
    assert site.fatal == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("threshhold = 3", "jail.threshhold: got 3, expected no such key (did you mean 'threshold'?)"),
        ("threshold = 0", "jail.threshold: got 0, expected a whole number from 1"),
        ('filters = ["knock"]', "jail.filters: got ['knock'], expected no such key here"),
        ('mode = "block"', "jail.mode: got 'block', expected no such key here"),
    ],
)
def test_a_recommendation_is_held_to_the_keys_of_a_jail(tmp_path, line, expected):
    """A filter cannot turn blocking on, nor make a jail of others."""
    path = tmp_path / "knock.toml"
    path.write_text(KNOCK.replace("threshold = 4", line))
    definition, faults = load_filter(path)
    assert definition is None
    assert [expected in str(fault) for fault in faults] == [True]


FULL = """
[jail.both]
filters  = ["portsentry", "sshd"]
key      = "prefix"
count    = "weight"
weights  = { "sshd/invalid-user" = 4, portsentry = 0 }
all_of   = ["sshd", "portsentry/scan"]
escalate = ["10m", "1h", "forever"]
remember = "2w"
only     = { user = ["root", 7], port = 22 }
"""


def test_a_jail_says_all_it_can(tmp_path):
    """Each key arrives where it is meant."""
    site = _site(tmp_path, FULL)
    assert site.faults == ()
    jail = site.jails["both"]
    assert (jail.key, jail.prefix4, jail.prefix6) == (Key.PREFIX, 24, 48)
    assert dict(jail.weights) == {"sshd/invalid-user": 4, "portsentry": 0}
    assert jail.all_of == ("sshd", "portsentry/scan")
    assert jail.escalate == (600 * SECOND, 3600 * SECOND, None)
    assert jail.remember == 14 * 86_400 * SECOND
    assert dict(jail.only) == {"user": {"root", "7"}, "port": {"22"}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"prefix"', '"net"', "key: got 'net', expected one of 'source', 'prefix', 'user', 'destination'"),
        ("portsentry = 0", "smtp = 1", "weights.smtp: got 'smtp', expected FILTER or FILTER/PATTERN"),
        ("portsentry = 0", "portsentry = -1", "weights.portsentry: got -1, expected a whole number from 0"),
        ('"sshd", "portsentry/scan"', '"smtp"', "all_of: got 'smtp', expected FILTER or FILTER/PATTERN"),
        ("portsentry/scan", "portsentry/skan", "all_of: got 'portsentry/skan', expected one of portsentry/"),
        ("sshd/invalid-user", "sshd/x", "weights: got 'sshd/x', expected one of sshd/"),
        ("user = [", "uzer = [", "only: got 'uzer', expected one of "),
        ('"root", 7', "true", "only.user: got True, expected text, a number, or a list of them"),
        ('["root", 7]', "[]", "only.user: got [], expected text, a number, or a list of them"),
        ('"10m", "1h"', '"1h", "10m"', "escalate: got ['1h', '10m', 'forever'], expected at most 16 lengths"),
        ('"10m", "1h"', '"forever", "1h"', "escalate: got ['forever', '1h', 'forever'], expected"),
        ('"10m", "1h"', '"1h", "1h"', "escalate: got ['1h', '1h', 'forever'], expected"),
        ('"10m", "1h"', '"0s"', "escalate: got ['0s', 'forever'], expected"),
    ],
)
def test_what_a_jail_cannot_mean_is_a_fault(tmp_path, old, new, expected):
    """It names the key, what it got and what was expected."""
    site = _site(tmp_path, FULL.replace(old, new))
    assert [expected in str(fault) for fault in site.faults] == [True]


def test_a_jail_may_ask_for_seven_kinds_of_evidence(tmp_path):
    """A strike has a bit for each, and one that says whether it proves its sender."""
    kinds = [
        "sshd",
        *(f"sshd/{pattern.name}" for pattern in load_filter(ROOT / "filters/sshd.toml")[0].patterns),
    ][:8]
    for count, is_fine in ((7, True), (8, False)):
        text = FULL.replace('["sshd", "portsentry/scan"]', str(kinds[:count]))
        faults = _site(tmp_path, text).faults
        assert [f"at most {MOST_KINDS} kinds of evidence" in str(fault) for fault in faults] == [True] * (
            not is_fine
        )


def test_a_jail_that_could_never_decide_is_taken_out(tmp_path):
    """A kind of evidence that nobody writes would leave its sources alone for ever, in silence."""
    assert _site(tmp_path, FULL.replace("portsentry/scan", "portsentry/skan")).jails == {}
    broken = KNOCK.replace("(?P", "(?Q")
    text = FULL.replace("portsentry/scan", "knock").replace(
        '"portsentry", "sshd"', '"knock", "sshd", "portsentry"'
    )
    site = _site(tmp_path, text, filters__knock_toml=broken)
    assert (site.jails, [fault.where for fault in site.faults]) == (
        {},
        [f"{tmp_path}/filters/knock.toml:8"],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("10m", 600), ("1h", 3600), ("2d", 172800), ("1w", 604800), (30, 30), ("5", 5)],
)
def test_durations(text, expected):
    """Lengths of time as people write them."""
    assert parse_duration(text) == expected * SECOND


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1.5h", True, None, [], -5, "1y"])
def test_what_is_no_duration(text):
    """Anything else is none."""
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1-1024", ((1, 1024),)),
        ("1,7, 512-515", ((1, 1), (7, 7), (512, 515))),
        ([1, "5-9"], ((1, 1), (5, 9))),
        ("", ()),
        ("9-1", None),
        ("65536", None),
        ("-1", None),
        ("x", None),
        ([True], None),
    ],
)
def test_ports(value, expected):
    """Ranges, lists, and what is neither."""
    assert parse_ports(value) == expected


@pytest.mark.parametrize("path", sorted((ROOT / "filters").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_filter_passes_its_own_tests(path):
    """What we ship loads, and proves both what it understands and what it must not."""
    definition, faults = load_filter(path, alert_log=Path("/var/log/portward/alert.log"))
    assert faults == []
    assert any(test.expect is None for test in definition.tests)
    assert any(test.expect is not None for test in definition.tests)
    assert definition.description != ""


def test_a_portsentry_conf_runs_in_the_place_of_a_folder(tmp_path):
    """`--config PATH/portsentry.conf`: the file as it stands; the command line overrules its BLOCK_*."""
    conf = tmp_path / "portsentry.conf"
    conf.write_text(
        'TCP_PORTS="1,11"\nUDP_PORTS="1,7"\nADVANCED_PORTS_TCP="1024"\nADVANCED_PORTS_UDP="1024"\n'
        f'IGNORE_FILE="{tmp_path}/ignore"\nHISTORY_FILE="{tmp_path}/history"\nBLOCKED_FILE="{tmp_path}/blocked"\n'
        'BLOCK_TCP="1"\nBLOCK_UDP="0"\nKILL_ROUTE="/sbin/route add -host $TARGET$ reject"\n'
    )
    site = load_site(conf)
    assert site.faults == ()
    assert {name: jail.is_blocking for name, jail in site.jails.items()} == {
        "portscan-tcp": True,
        "portscan-udp": False,
    }
    assert site.probe.tcp_ports == ((0, 1023),)
    assert site.paths.history == tmp_path / "history"
    assert not any(jail.is_blocking for jail in load_site(conf, mode="observe").jails.values())
    conf.write_text("TCP_PORTS=1\n")
    assert load_site(conf).fatal != ()


def test_a_field_that_no_pattern_tells_cannot_be_counted(tmp_path):
    """Such a jail would never decide, in silence."""
    counted = KNOCK.replace("distinct port", "distinct pony")
    site = _site(tmp_path, 'enabled = ["knock"]\n', filters__knock_toml=counted)
    assert site.jails == {}
    assert "jail.knock.count: got 'pony', expected one of port, source" in str(site.faults[0])
