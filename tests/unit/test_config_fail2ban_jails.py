"""Fail2ban's jails as ours: what carries over, what is told to be other, how far a fault reaches."""

import json
import subprocess
import sys

import pytest

from correlator.config.fail2ban.bans import escalation, find_action
from correlator.config.fail2ban.ignore_list import read_ignore_list
from correlator.config.fail2ban.jail_import import format_jails_toml
from correlator.config.fail2ban.jail_settings import load_fail2ban_settings
from correlator.config.fail2ban.references import parse_reference
from correlator.config.fail2ban.times import parse_time
from correlator.config.site import load_site
from correlator.daemon.reload import WatchedFiles
from correlator.model import SECOND, parse_source

FILTER = "[Definition]\nfailregex = ^ fail from <HOST>$\n"
DEFAULTS = (
    "[DEFAULT]\nenabled = true\nfilter = x\naction = iptables-multiport[port=ssh]\nlogpath = /var/log/x\n"
)


def _etc(folder, jails):
    """Write an installation; `jails` is jail.conf after the defaults."""
    etc = folder / "fail2ban"
    for name in ("filter.d", "action.d"):
        (etc / name).mkdir(parents=True, exist_ok=True)
    (etc / "filter.d/x.conf").write_text(FILTER)
    (etc / "jail.conf").write_text(DEFAULTS + jails)
    return etc


def _only(folder, jails):
    settings, gaps, _disabled = load_fail2ban_settings(_etc(folder, jails))
    assert [str(fault) for fault in settings.faults] == []
    (jail,) = settings.jails.values()
    return jail, [f"{gap.directive}: {gap.note}" for gap in gaps if gap.is_lost]


def test_thresholds_times_logs_and_ignored_addresses_carry_over(tmp_path):
    """What a jail was before is what it is here."""
    jail, lost = _only(
        tmp_path,
        "[sshd]\nmaxretry = 3\nfindtime = 1h 30m\nbantime = -1\nlogpath = /var/log/a tail\n  /var/log/b*\n"
        "ignoreip = 127.0.0.1/8, 192.0.2.0/255.255.255.0\n  2001:db8::/32\nlogtimezone = UTC+0100\n",
    )
    assert lost == []
    assert (jail.name, jail.threshold, jail.span, jail.block_for) == ("sshd", 3, 5400 * SECOND, None)
    assert jail.files == ("/var/log/a", "/var/log/b*")
    assert [str(source) for source in jail.ignore] == ["127.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]
    assert (jail.zone, jail.prefix6, jail.actions, jail.is_blocking) == ("UTC+0100", 128, ("iptables",), True)
    assert jail.filters == (f"fail2ban:{tmp_path}/fail2ban/filter.d/x.conf",)


def test_a_jail_of_the_journal_reads_no_file(tmp_path):
    """Its filter then gets the journal's prefix and conditions."""
    jail, _ = _only(tmp_path, "[x]\nbackend = systemd\njournalmatch = _COMM=x\n")
    assert jail.files == ()
    site = load_site(tmp_path / "fail2ban")
    assert [definition.reads_journal for definition in site.filters.values()] == [True]


def test_where_no_log_is_there_the_journal_is_read(tmp_path):
    """Debian 12 writes no auth.log of itself, and Fail2ban's own sshd jail does not start there."""
    log = tmp_path / "x1.log"
    jails = f"[x]\nlogpath = {tmp_path}/x*.log\njournalmatch = _COMM=x\n"
    assert _only(tmp_path, jails)[0].files == ()
    assert _only(tmp_path, f"{jails}backend = polling\n")[0].files == (f"{tmp_path}/x*.log",)
    log.write_text("")
    assert _only(tmp_path, jails)[0].files == (f"{tmp_path}/x*.log",)


def test_what_a_jail_says_of_its_filter_is_read_through_the_jail(tmp_path):
    """`%(known/failregex)s` extends the filter, in the running site too."""
    jail, _ = _only(tmp_path, "[x]\nfailregex = %(known/failregex)s\n  ^ own <HOST>$\n")
    assert jail.filters == (f"fail2ban:{tmp_path}/fail2ban/jail.conf[jail=x]",)
    (definition,) = load_site(tmp_path / "fail2ban").filters.values()
    assert [pattern.expression[:7] for pattern in definition.patterns] == ["^ fail ", "^ own ("]
    assert definition.files == ("/var/log/x",)


def test_what_is_not_carried_over_is_said(tmp_path):
    """Nothing is lost in silence."""
    _, lost = _only(
        tmp_path,
        "[x]\nignorecommand = true <ip>\nlogencoding = latin-1\nignoreip = host.example\nignoreself = no\n"
        "bantime.increment = true\nbantime.rndtime = 5m\nbantime.overalljails = yes\nbantime.formula = 5\n",
    )
    assert [text.partition(": ")[0] for text in lost] == [
        "[x] bantime.formula", "[x] bantime.rndtime", "[x] bantime.overalljails", "[x] ignorecommand",
        "[x] logencoding", "[x] ignoreip", "[x] ignoreself",
    ]  # fmt: skip


def test_a_filter_that_strangers_have_fooled_is_named_with_ours(tmp_path):
    """And a jail whose two actions deny single ports is named once."""
    etc = _etc(
        tmp_path, "[a]\nfilter = murmur\naction = iptables-multiport[port=ssh]\n  iptables[port=1]\n[b]\n"
    )
    (etc / "filter.d/murmur.conf").write_text(FILTER)
    _settings, gaps, _disabled = load_fail2ban_settings(etc)
    told = [(gap.directive, gap.note.rpartition("; ")[2], gap.is_lost) for gap in gaps]
    assert told == [
        ("[a] filter", 'our own does not: filters = ["murmur"]', False),
        ("action", "in a, b", False),
        ("usedns", told[2][1], False),
    ]


def test_a_jail_with_a_fault_takes_no_other_with_it(tmp_path):
    """Real Fail2ban does not start at all; here the others go on, and the fault is named."""
    etc = _etc(
        tmp_path,
        "[a]\nfilter = none\n[b]\n[c]\nmaxretry = many\n[d]\nlogpath =\n[e]\nenabled = no\n"
        "[f]\naction = q[x\n",
    )
    settings, gaps, disabled = load_fail2ban_settings(etc)
    assert list(settings.jails) == ["b", "c"]
    assert disabled == ("e",)
    assert [fault.key for fault in settings.faults] == ["file", "[f] action", "[c] maxretry"]
    assert "[d] logpath" in [gap.directive for gap in gaps]
    assert settings.fatal == ()


def test_a_jail_that_lets_sources_in_is_not_taken_for_one_that_denies_them(tmp_path):
    """It would shut out who knocked rightly, and open the door to all others."""
    action = "iptables[blocktype=RETURN, returntype=DROP]"
    settings, gaps, _ = load_fail2ban_settings(_etc(tmp_path, f"[pass]\naction = {action}\n[x]\n"))
    assert list(settings.jails) == ["x"]
    assert [gap.directive for gap in gaps if gap.is_lost] == ["[pass] action"]


def test_a_folder_without_jails_is_refused_whole(tmp_path):
    """A wrong path must not start a site that guards nothing."""
    settings, _, _ = load_fail2ban_settings(tmp_path)
    assert settings.jails == {}
    assert settings.fatal != ()


def test_what_is_written_reads_back_as_the_same_jails(tmp_path):
    """The file for jails.d says all that the settings say."""
    etc = _etc(
        tmp_path,
        "[a]\nbantime = 90\nbantime.increment = true\nbantime.maxtime = 1h\nignoreip = 192.0.2.1\n"
        "[b]\nbackend = systemd\njournalmatch = _COMM=x\nlogtimezone = UTC\nbantime = -1\n"
        'filter = x[k="a, b"]\n'
        "action = own[name='q \"x', z=1]\n",
    )
    etc.joinpath("action.d/own.conf").write_text("[Definition]\nactionban = echo <ip>\nactionunban = true\n")
    settings, gaps, disabled = load_fail2ban_settings(etc)
    out = tmp_path / "out"
    (out / "jails.d").mkdir(parents=True)
    (out / "portward.toml").write_text('mode = "observe"\n')
    (out / "jails.d/fail2ban.toml").write_text(format_jails_toml(settings, etc, gaps, disabled))
    here, there = load_site(etc), load_site(out)
    assert there.faults == ()
    assert list(there.jails) == ["a", "b"]
    for name, jail in here.jails.items():
        read = there.jails[name]
        assert {key: getattr(read, key) for key in jail.__slots__ if key != "where"} == {
            key: getattr(jail, key) for key in jail.__slots__ if key != "where"
        }


def test_increments_become_growing_lengths():
    """The first ban lasts as the jail says; each further one longer, up to the longest."""
    minute = 60 * SECOND
    options = {"bantime.increment": "yes", "bantime.maxtime": "1h"}
    assert escalation(options, 10 * minute) == (tuple(n * minute for n in (10, 20, 40, 60)), [])
    options["bantime.multipliers"] = "1 5 30"
    assert escalation(options, minute)[0] == tuple(n * minute for n in (1, 5, 30))
    options = {
        "bantime.increment": "true",
        "bantime.formula": "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)",
        "bantime.factor": "2.885385",
        "bantime.maxtime": "1d",
    }
    assert escalation(options, 600 * SECOND)[0][:3] == (600 * SECOND, 10_746 * SECOND, 86_400 * SECOND)
    assert escalation({}, minute) == ((), [])
    assert escalation({"bantime.increment": "yes"}, -SECOND) == ((), [])


@pytest.mark.parametrize(
    ("reference", "ours"),
    [
        ("iptables-multiport[port=ssh]", "iptables"),
        ("iptables-allports", "iptables"),
        ("nftables[type=multiport]", "nftables"),
        ("iptables-ipset-proto6-allports", "ipset"),
        ("ufw", "ufw"),
        ("hostsdeny", "hosts-deny"),
        ("iptables[blocktype=DROP]", "iptables"),
        ('iptables[blocktype="REJECT --reject-with icmp-port-unreachable"]', "iptables"),
        ("iptables-multiport[blocktype=RETURN, returntype=DROP]", None),
        ("iptables[blocktype=ACCEPT]", None),
        ("iptables-xt_recent-echo", None),
        ("sendmail-whois[dest=x]", None),
    ],
)
def test_an_action_is_ours_only_where_it_denies_as_ours_does(reference, ours):
    """One that lets a source in would otherwise shut it out."""
    assert find_action(parse_reference(reference)) == ours


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("10m", 600), ("1d12h30m", 131_400), ("1h 2m", 3720), ("1year-6mo", 15_778_800),
     ("1.5h", 5400), ("2weeks", 1_209_600), ("1mm", 60), ("1mo", 2_629_800), ("-1", -1), ("1d 1", 86_401)],
)  # fmt: skip
def test_times_are_read_as_fail2ban_reads_them(text, seconds):
    """Each was asked of fail2ban-client --str2sec."""
    assert parse_time(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "x", "1x", "1m5", "m"])
def test_what_is_no_time_is_none(text):
    """`1m5` is: a minute and five seconds."""
    assert parse_time(text) == (65 * SECOND if text == "1m5" else None)


def test_an_ignore_list_may_stand_in_a_file(tmp_path):
    """With comments; what is no address is told."""
    listed = tmp_path / "list"
    listed.write_text("192.0.2.1 # us\n; nobody\n\n198.51.100.0/24, name.example\n")
    found = read_ignore_list(f"203.0.113.9 file:{listed} file:/nonexistent")
    assert [str(source) for source in found.sources] == ["203.0.113.9", "192.0.2.1", "198.51.100.0/24"]
    assert found.others == ("name.example", "file:/nonexistent (No such file or directory)")
    assert parse_source("203.0.113.9") in found.sources


def test_files_that_changed_are_told_once_they_are_at_rest(tmp_path):
    """An editor that is still writing must not make us read half a file."""
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    watched = WatchedFiles([file, other])
    assert not watched.have_changed()
    file.write_text("22")
    assert not watched.have_changed()
    assert watched.have_changed()
    assert not watched.have_changed()
    other.write_text("new")
    assert [watched.have_changed() for _ in range(3)] == [False, True, False]


def test_the_command_writes_jails_and_says_what_is_lost(tmp_path):
    """Exit status 1 where something is; nothing is ever overwritten."""
    etc = _etc(tmp_path, "[x]\nignorecommand = true\n")
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "correlator",
        "import",
        "fail2ban",
        str(etc),
        "--out",
        str(out),
        "--json",
    ]
    first = subprocess.run(command, capture_output=True, check=False)
    assert first.returncode == 1
    told = json.loads(first.stdout)
    assert told["jails"] == ["x"]
    assert [gap["directive"] for gap in told["gaps"] if gap["is_lost"]] == ["[x] ignorecommand"]
    assert list(load_site(out).jails) == ["x"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 73
