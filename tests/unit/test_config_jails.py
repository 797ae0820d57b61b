"""Jails as users write them, and as filters recommend them."""

from pathlib import Path

import pytest

from correlator.config.filters import load_filter
from correlator.config.site import load_site
from correlator.counting.jail_definition import MOST_KINDS
from correlator.counting.jails import Count, Key
from correlator.model import SECOND
from tests.site_folders import KNOCK, write_site

ROOT = Path(__file__).parents[2]


def test_jails_of_their_own_files(tmp_path):
    """jails.d holds one or several jails a file."""
    (tmp_path / "jails.d").mkdir()
    (tmp_path / "jails.d/scan.toml").write_text(
        '[jail.scan]\nfilters = ["portsentry"]\ncount = "distinct port"\nblock_for = "forever"\n'
    )
    jail = write_site(tmp_path, "").jails["scan"]
    assert (jail.count, jail.field, jail.block_for) == (Count.DISTINCT, "port", None)


def test_one_line_enables_a_filter(tmp_path):
    """`enabled` makes a jail of the filter's name, as the filter recommends and in the site's mode."""
    site = write_site(tmp_path, 'mode = "block"\nenabled = ["knock"]\n', filters__knock_toml=KNOCK)
    assert site.faults == ()
    jail = site.jails["knock"]
    assert jail.filters == ("knock",)
    assert (jail.threshold, jail.span, jail.count, jail.field) == (4, 120 * SECOND, Count.DISTINCT, "port")
    assert jail.is_blocking
    assert list(site.filters) == ["knock"]


def test_a_jail_table_overrides_single_keys_of_a_recommendation(tmp_path):
    """Also from another file than the one that enables it; what it does not say stays recommended."""
    site = write_site(
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
    site = write_site(
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
    site = write_site(tmp_path, FULL)
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
    site = write_site(tmp_path, FULL.replace(old, new))
    assert [expected in str(fault) for fault in site.faults] == [True]


def test_a_jail_may_ask_for_seven_kinds_of_evidence(tmp_path):
    """A strike has a bit for each, and one that says whether it proves its sender."""
    kinds = [
        "sshd",
        *(f"sshd/{pattern.name}" for pattern in load_filter(ROOT / "filters/sshd.toml")[0].patterns),
    ][:8]
    for count, is_fine in ((7, True), (8, False)):
        text = FULL.replace('["sshd", "portsentry/scan"]', str(kinds[:count]))
        faults = write_site(tmp_path, text).faults
        assert [f"at most {MOST_KINDS} kinds of evidence" in str(fault) for fault in faults] == [True] * (
            not is_fine
        )


def test_a_jail_that_could_never_decide_is_taken_out(tmp_path):
    """A kind of evidence that nobody writes would leave its sources alone for ever, in silence."""
    assert write_site(tmp_path, FULL.replace("portsentry/scan", "portsentry/skan")).jails == {}
    broken = KNOCK.replace("(?P", "(?Q")
    text = FULL.replace("portsentry/scan", "knock").replace(
        '"portsentry", "sshd"', '"knock", "sshd", "portsentry"'
    )
    site = write_site(tmp_path, text, filters__knock_toml=broken)
    assert (site.jails, [fault.where for fault in site.faults]) == (
        {},
        [f"{tmp_path}/filters/knock.toml:8"],
    )


def test_a_field_that_no_pattern_tells_cannot_be_counted(tmp_path):
    """Such a jail would never decide, in silence."""
    counted = KNOCK.replace("distinct port", "distinct pony")
    site = write_site(tmp_path, 'enabled = ["knock"]\n', filters__knock_toml=counted)
    assert site.jails == {}
    assert "jail.knock.count: got 'pony', expected one of port, source" in str(site.faults[0])
