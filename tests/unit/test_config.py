"""What users write: defaults, every kind of fault with its place, and that one fault stops nothing else."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.config.reader import LARGEST_FILE, read_bounded
from correlator.config.site import load_site
from correlator.settings import CorrelatorSettings, EnforcerSettings, Paths, ProbeSettings
from tests.site_folders import write_site

ROOT = Path(__file__).parents[2]


def test_the_shipped_settings_are_the_defaults(tmp_path):
    """What the commented file shows as defaults is what the code does without it."""
    shipped = load_site()
    text = (ROOT / "correlator/config/portward.toml").read_text()
    uncommented = re.sub(r"(?m)^#(?=\w+ +=)", "", text)
    written = write_site(tmp_path, uncommented)
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
    probe = write_site(tmp_path, "[probe]\n" + text).probe
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
    site = write_site(tmp_path, f"[probe]\n{line}\n")
    assert site.probe == ProbeSettings(paths=site.paths)
    assert [expected in str(fault) for fault in site.faults] == [True]


def test_one_line_turns_blocking_on(tmp_path):
    """`mode = "block"` is all it takes, and the command line overrules it."""
    site = write_site(tmp_path, 'mode = "block"\n[jail.portscan]\nfilters = ["portsentry"]\n')
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
    assert expected in "\n".join(map(str, write_site(tmp_path, text).faults))


def test_all_faults_are_listed_at_once(tmp_path):
    """Nobody has to mend one to see the next."""
    site = write_site(tmp_path, 'mode = 3\n[probe]\nsyslog = "yes"\n[nothing]\n')
    assert len(site.faults) == 3
    assert site.fatal == site.faults


def test_a_missing_settings_file_is_fatal(tmp_path):
    """Pointing at a folder without one is a mistake, not the defaults."""
    site = load_site(tmp_path / "nowhere")
    assert "got No such file or directory, expected a file we may read" in str(site.fatal[0])


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


@pytest.mark.parametrize("size", [0, 1, 5000, LARGEST_FILE, LARGEST_FILE + 1])
def test_a_file_is_read_whole_up_to_the_bound(tmp_path, size):
    """And of a larger one a byte more, which tells it apart."""
    (tmp_path / "file").write_bytes(os.urandom(size) + b"rest" * (size > LARGEST_FILE))
    assert read_bounded(tmp_path / "file") == (tmp_path / "file").read_bytes()[: LARGEST_FILE + 1]


def test_a_file_that_says_no_size_is_read_whole():
    """As those that the kernel makes up; so is one that grows meanwhile."""
    assert os.stat("/proc/version").st_size == 0
    assert read_bounded(Path("/proc/version")) == Path("/proc/version").read_bytes() != b""
