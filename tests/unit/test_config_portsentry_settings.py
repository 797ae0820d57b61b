"""What a portsentry.conf means to us: ports, modes, when it is enough, and for how long."""

import pytest

from correlator.config.portsentry import parse_portsentry_conf
from correlator.config.portsentry_settings import expand_modes, map_threshold, settings_from_portsentry
from correlator.model import SECOND
from tests.unit.portsentry_confs import DEBIAN, PATH, blocking, parse


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
