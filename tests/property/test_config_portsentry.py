"""portsentry.conf: any bytes give a configuration and faults; what is written is read; imports load."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from correlator.config.actions import with_actions
from correlator.config.portsentry import PortSentryConf, parse_portsentry_conf
from correlator.config.portsentry_import import format_portward_toml
from correlator.config.portsentry_lines import DIRECTIVES
from correlator.config.portsentry_settings import settings_from_portsentry
from correlator.config.site import load_site
from correlator.settings import PROBE_MODES

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PATH = Path("/etc/portsentry/portsentry.conf")

VALUE = st.from_regex(r"[ !#-~]{0,60}", fullmatch=True)
PORTS = st.lists(st.integers(1, 65535), max_size=20, unique=True)
MODES = st.lists(st.sampled_from([*PROBE_MODES, "stealth", "connect"]), min_size=1, max_size=3).map(tuple)
NASTY = st.one_of(
    st.sampled_from(
        [b"", b'"', b"=", b" ", b"\t", b"\0", b"#", b"-", b"99999", b"$TARGET$", b"\xff", b"export "]
    ),
    st.integers(-10, 10**30).map(lambda number: str(number).encode()),
    st.binary(max_size=12),
)
LINE = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.sampled_from(DIRECTIVES), st.lists(NASTY, max_size=6)).map(
        lambda pair: pair[0].encode() + b"".join(pair[1])
    ),
    st.tuples(st.sampled_from(DIRECTIVES), st.lists(NASTY, max_size=4)).map(
        lambda pair: pair[0].encode() + b'="' + b",".join(pair[1]) + b'"'
    ),
)
FILE = st.lists(LINE, max_size=12).map(b"\n".join)


def check(data, modes, *, compat):
    """What must hold for any bytes at all."""
    conf, faults = parse_portsentry_conf(data, PATH)
    assert isinstance(conf, PortSentryConf)
    assert all(str(fault).isprintable() and str(fault).startswith(str(PATH)) for fault in faults)
    assert set(conf.given) <= set(DIRECTIVES)
    for ports in (conf.tcp_ports, conf.udp_ports):
        assert all(1 <= port <= 65535 for port in ports)
        assert len(set(ports)) == len(ports)
    assert 0 <= conf.scan_trigger <= 50
    assert conf.block_tcp in (0, 1, 2)
    ours, gaps = settings_from_portsentry(conf, modes=modes, compat=compat, faults=faults)
    text = format_portward_toml(ours, conf, gaps)
    assert all(line.isprintable() for line in text.split("\n"))
    return conf, faults, ours, text


@CALM
@given(st.binary(max_size=200) | FILE, MODES, st.booleans())
def test_any_bytes_give_a_configuration_and_faults(data, modes, compat):
    """Never an exception, and never a character that a terminal would obey."""
    check(data, modes, compat=compat)


def without_places(enforcer):
    """The same without the files that its actions stand in."""
    return replace(enforcer, actions=tuple(replace(action, where="") for action in enforcer.actions))


@CALM
@given(FILE, MODES, st.booleans())
def test_what_an_import_writes_loads_without_fault(data, modes, compat):
    """Also from a file that is half rubbish: what was understood is what is read back."""
    conf, _, ours, text = check(data, modes, compat=compat)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "portward.toml").write_text(text)
        site = load_site(Path(folder))
    # a file without the ports that a mode needs is refused before; the text then says so, too
    assert {fault.got for fault in site.faults} <= {"no ports"}
    assert site.probe == ours.probe
    assert (site.paths, site.correlator) == (ours.paths, ours.correlator)
    expected = with_actions(ours)[0].enforcer
    assert without_places(site.enforcer) == without_places(expected)
    assert {name: replace(jail, where=str(conf.path)) for name, jail in site.jails.items()} == ours.jails


@CALM
@given(
    st.fixed_dictionaries(
        {"IGNORE_FILE": VALUE.map("/{}".format), "HISTORY_FILE": VALUE.map("/{}".format)},
        optional={
            "BLOCKED_FILE": VALUE.map("/{}".format),
            "TCP_PORTS": PORTS.map(lambda ports: ",".join(map(str, ports))),
            "ADVANCED_PORTS_TCP": st.integers(1, 65536).map(str),
            "ADVANCED_EXCLUDE_UDP": PORTS.map(lambda ports: ", ".join(map(str, ports))),
            "BLOCK_TCP": st.integers(0, 2).map(str),
            "SCAN_TRIGGER": st.integers(0, 50).map(str),
            "KILL_ROUTE": VALUE.map("{} $TARGET$".format),
            "KILL_RUN_CMD": VALUE,
            "PORT_BANNER": VALUE,
        },
    ),
    st.sampled_from(["=", " = ", " ", "=\t"]),
    st.sampled_from(["\n", "\r\n", ' # "x"\n']),
    st.randoms(),
)
def test_written_is_read(directives, between, end, random):
    """In any order, with any of PortSentry's spellings, every value comes back as it stands."""
    names = list(directives)
    random.shuffle(names)
    text = "".join(f'{name}{between}"{directives[name]}"{end}' for name in names)
    conf, faults = parse_portsentry_conf(text.encode(), PATH)
    assert [fault for fault in faults if fault.key != "BLOCKED_FILE" or "BLOCKED_FILE" in directives] == []
    assert {name: directive.text for name, directive in conf.given.items()} == directives
    assert [directive.line for directive in conf.given.values()] == list(range(1, len(names) + 1))
    assert conf.port_banner == directives.get("PORT_BANNER", "")
    assert conf.kill_run_cmd == directives.get("KILL_RUN_CMD", "")
    assert str(conf.scan_trigger) == directives.get("SCAN_TRIGGER", "0")
    assert ",".join(map(str, conf.tcp_ports)) == directives.get("TCP_PORTS", "")
    assert conf.history_file == Path(directives["HISTORY_FILE"])
