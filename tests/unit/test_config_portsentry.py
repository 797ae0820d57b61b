"""portsentry.conf: what PortSentry sees in it, and every kind of fault, each with what PortSentry does."""

import os
from pathlib import Path

import pytest

from correlator.config.portsentry import PortSentryConf, parse_portsentry_conf, read_portsentry_conf
from correlator.config.portsentry_settings import settings_from_portsentry
from tests.unit.portsentry_confs import DEBIAN, FILES, PATH, ROOT, parse

FETCHED = ROOT / ".cache/peers/portsentry/etc/portsentry/portsentry.conf"


def told(faults):
    """The faults as a person reads them, without the file's name."""
    return [str(fault).removeprefix(f"{PATH}:") for fault in faults]


# What PortSentry sees: the table of its configuration syntax, row by row


@pytest.mark.parametrize(
    "line",
    [
        'BLOCK_TCP="1"',
        'BLOCK_TCP = "1"',
        'BLOCK_TCP "1"',
        'BLOCK_TCP="1" # comment',
        'BLOCK_TCP="1"#x',
        'BLOCK_TCP="1"\r',
        'BLOCK_TCP=\t"1"\t',
        'BLOCK_TCP \t= " 1"',
    ],
)
def test_what_portsentry_reads_is_read(line):
    """An = or a space behind the name, a value between double quotes, a comment behind it."""
    conf, faults = parse(line)
    assert (conf.block_tcp, faults) == (1, ())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (' BLOCK_TCP="1"', 'BLOCK_TCP="VALUE" from the first column; PortSentry does not see this line'),
        ('\tBLOCK_TCP="1"', "from the first column; PortSentry does not see this line"),
        ('BLOCK_TCP\t="1"', "with = or a space right behind the name; PortSentry does not see this line"),
        ('BLOCK_TCP"1"', "with = or a space right behind the name"),
        ("BLOCK_TCP", "with = or a space right behind the name"),
        ('block_tcp="1"', "in capitals; PortSentry does not see this line"),
        ('Block_TCP="1"', "in capitals"),
        ('export BLOCK_TCP="1"', "without export before it; PortSentry does not see this line"),
        ('\ufeffBLOCK_TCP="1"', "without a byte order mark before it"),
    ],
)
def test_a_line_that_portsentry_does_not_see_is_a_fault(line, expected):
    """It reads as if it were set, and never was; a later good line of the name counts."""
    conf, faults = parse(line)
    assert conf.block_tcp == 0
    assert [fault.key for fault in faults] == ["BLOCK_TCP"]
    assert faults[0].where == f"{PATH}:1"
    assert expected in faults[0].expected
    conf, faults = parse(line + '\nBLOCK_TCP="2"')
    assert (conf.block_tcp, len(faults)) == (2, 1)


@pytest.mark.parametrize("value", ["1", "'1'", " 1 # comment", "", '\0"1"'])
def test_without_quotes_the_option_is_skipped(value):
    """As PortSentry says itself in syslog; a later line with quotes does not count either."""
    conf, faults = parse(f'BLOCK_TCP={value}\nBLOCK_TCP="1"')
    assert conf.block_tcp == 0
    assert 'expected BLOCK_TCP="VALUE"; without double quotes PortSentry skips it' in told(faults)[0]
    assert told(faults)[1] == ("2: BLOCK_TCP: got a second value, expected one; the first, in line 1, counts")


def test_given_twice_the_first_counts():
    """And the second is said."""
    conf, faults = parse('SCAN_TRIGGER="2"\n#\nSCAN_TRIGGER="5"')
    assert conf.scan_trigger == 2
    assert told(faults) == ["3: SCAN_TRIGGER: got a second value, expected one; the first, in line 1, counts"]


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        (
            'SCAN_TRIGER="1"',
            "SCAN_TRIGER",
            "no such directive (did you mean SCAN_TRIGGER?); PortSentry passes",
        ),
        ('KILLROUTE="x"', "KILLROUTE", "did you mean KILL_ROUTE?"),
        ('TCP_PORT="1"', "TCP_PORT", "did you mean TCP_PORTS?"),
        ('NOTHING_LIKE_IT="x"', "NOTHING_LIKE_IT", "no such directive; PortSentry passes over it"),
        ("hello world", "hello", "no such directive"),
        ("= x", "line", 'a comment or NAME="VALUE"; PortSentry passes over it'),
        ("\x1b[2J", "line", "a comment"),
    ],
)
def test_an_unknown_directive_is_a_fault(line, key, expected):
    """PortSentry passes over it without a word."""
    (fault,) = parse(line)[1]
    assert fault.key == key
    assert expected in fault.expected
    assert str(fault).isprintable()


def test_a_name_that_begins_like_another_is_its_own():
    """KILL_RUN_CMD_FIRST above KILL_RUN_CMD is not taken for it."""
    conf, faults = parse('KILL_RUN_CMD_FIRST="1"\nKILL_RUN_CMD="/bin/echo $TARGET$"')
    assert (conf.kill_run_cmd_first, conf.kill_run_cmd, faults) == (True, "/bin/echo $TARGET$", ())


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        ('PORT_BANNER="go', "go", "a double quote at the end; PortSentry takes the whole line"),
        ('PORT_BANNER="go\r', "go", "a double quote at the end"),
        ('PORT_BANNER=the "go"', "go", 'only = before the value; PortSentry looks for the next "'),
        ('PORT_BANNER="go "away""', "go ", "nothing but a comment behind the second double quote"),
        ('PORT_BANNER="go\taway"', "go", "printable ASCII; PortSentry ends the value before any other byte"),
        ('PORT_BANNER="caf\xe9"', "caf", "printable ASCII"),
        ('PORT_BANNER="\x1b[2J"', "", "printable ASCII"),
        ('PORT_BANNER="a\0b"', "a", "printable ASCII"),
    ],
)
def test_a_value_is_what_portsentry_takes_and_what_it_drops_is_said(line, value, expected):
    """Tried on the real program: each of these begins or ends where it does."""
    conf, (fault, *_) = parse(line.encode("latin-1"))
    assert conf.port_banner == value
    assert expected in fault.expected
    assert str(fault).isprintable()


def test_a_line_longer_than_portsentry_reads_at_once():
    """The rest of it would be a line of its own there, also behind a comment: no value is hidden so."""
    conf, faults = parse('PORT_BANNER="' + "x" * 900_000 + '"\n#' + "x" * 1022 + 'BLOCK_TCP="1"')
    assert (conf.port_banner, conf.block_tcp) == ("x" * 1010, 0)
    assert [fault.got for fault in faults if fault.key == "line"] == ["900014 bytes", "1036 bytes"]
    assert "at most 1023 bytes; PortSentry takes what follows them for a line of its own" in told(faults)[0]
    assert parse("#" + "x" * 1022)[1] == ()


def test_comments_may_hold_anything():
    """Latin-1, UTF-8, controls, directives: nobody reads them; an indented one is one too."""
    conf, faults = parse(b'# caf\xe9 \xc3\xa9 \x01\n#BLOCK_TCP="1"\n  # "x"\n\xef\xbb\xbf# x\n\t\n\r\n')
    assert (conf.block_tcp, faults) == (0, ())


def test_a_last_line_without_line_feed_counts():
    """As in PortSentry."""
    assert parse_portsentry_conf(FILES + b'BLOCK_TCP="2"', PATH)[0].block_tcp == 2


@pytest.mark.parametrize(
    ("value", "expected", "fault"),
    [
        ("1,11,15", (1, 11, 15), None),
        ("1, 11, 15", (1, 11, 15), None),
        ("1,11,", (1, 11), None),
        ("11-15", (11, 12, 13, 14, 15), None),
        ("1,7,512-515", (1, 7, 512, 513, 514, 515), None),
        ("7,7,1", (7, 1), None),
        ("", (), None),
        (
            "abc",
            (),
            "'abc', expected ports from 1 to 65535; PortSentry takes text for 0, and opens any free port",
        ),
        ("0", (), "'0', expected ports from 1 to 65535; PortSentry takes text for 0"),
        ("70000,5", (5,), "'70000', expected ports from 1 to 65535; PortSentry opens 4464 and reports 70000"),
        ("15-11", (), "'15-11', expected ports from 1 to 65535"),
        ("-5", (), "'-5', expected ports from 1 to 65535"),
        ("1 2", (), "'1 2', expected ports"),
        ("9" * 900, (), f"'{'9' * 77}...', expected ports from 1 to 65535"),
        ("1-65535,1-65535", tuple(range(1, 65536)), "expected 65536 ports at most"),
    ],
)
def test_ports(value, expected, fault):
    """Lists as 1.2 has them, ranges as 2.x has them; what is no port is said, and what PortSentry does."""
    conf, faults = parse(f'TCP_PORTS="{value}"')
    assert conf.tcp_ports == expected
    assert len(faults) == (fault is not None)
    assert fault is None or fault in told(faults)[0]


@pytest.mark.parametrize(
    ("name", "value", "default", "hint"),
    [
        ("BLOCK_TCP", "3", 0, "from 0 to 2; PortSentry takes anything else for 0"),
        ("BLOCK_UDP", "yes", 0, "from 0 to 2; PortSentry takes anything else for 0"),
        ("BLOCK_UDP", "", 0, "from 0 to 2"),
        ("SCAN_TRIGGER", "-1", 0, "from 0 to 50; PortSentry takes text and less for 0"),
        ("SCAN_TRIGGER", "51", 0, "with more warns at each packet and alarms at once"),
        ("SCAN_TRIGGER", "9" * 1000, 0, "from 0 to 50"),
        ("SCAN_TRIGGER", "abc", 0, "from 0 to 50"),
        ("SCAN_TRIGGER", "\u0661".encode().decode("latin-1"), 0, "printable ASCII"),
        ("ADVANCED_PORTS_TCP", "0", 1024, "from 1 to 65536; PortSentry watches no port for 0 or text"),
        ("ADVANCED_PORTS_TCP", "66000", 1024, "from 1 to 65536"),
        ("ADVANCED_PORTS_UDP", "-5", 1024, "from 1 to 65536"),
        ("ADVANCED_PORTS_UDP", "1e3", 1024, "from 1 to 65536"),
        ("RESOLVE_HOST", "yes", False, "0 or 1; PortSentry takes text for 0"),
        ("KILL_RUN_CMD_FIRST", "2", False, "from 0 to 1"),
    ],
)
def test_absurd_numbers(name, value, default, hint):
    """The fault says the limits and what PortSentry makes of it; the default stands."""
    conf, faults = parse(f'{name}="{value}"'.encode("latin-1"))
    assert getattr(conf, name.lower()) == default
    assert hint in faults[0].expected
    assert faults[0].key == name


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True), ("2", True)])
def test_resolve_host_is_any_number_but_zero(value, expected):
    """As in PortSentry."""
    conf, faults = parse(f'RESOLVE_HOST="{value}"')
    assert (conf.resolve_host, faults) == (expected, ())


@pytest.mark.parametrize("name", ["KILL_ROUTE", "KILL_HOSTS_DENY"])
def test_a_response_must_name_its_target(name):
    """PortSentry skips it, logs the error for ever, and blocks nobody."""
    assert told(parse(f'{name}="/bin/false"')[1]) == [
        f"1: {name}: got '/bin/false', expected $TARGET$ in it; PortSentry skips it and blocks nobody"
    ]
    assert parse(f'{name}=""')[1] == ()
    assert parse('KILL_RUN_CMD="/bin/true"')[1] == ()


def test_excluded_ports_may_hold_port_0():
    """The advanced modes watch it."""
    conf, faults = parse('ADVANCED_EXCLUDE_TCP="113,0,99999"')
    assert conf.advanced_exclude_tcp == (113, 0)
    assert told(faults) == ["1: ADVANCED_EXCLUDE_TCP: got '99999', expected ports from 0 to 65535"]


def test_mandatory_files():
    """PortSentry 1.2 does not start without; all three are named at once."""
    faults = parse_portsentry_conf(b"", PATH)[1]
    assert [(fault.where, fault.key) for fault in faults] == [
        (str(PATH), name) for name in ("IGNORE_FILE", "HISTORY_FILE", "BLOCKED_FILE")
    ]
    assert "a path; PortSentry 1.2 does not start without it" in faults[0].expected
    assert [fault.got for fault in parse("", files=FILES.replace(b'"/', b'"'))[1]] == [
        "'etc/portsentry/portsentry.ignore'",
        "'var/lib/portsentry/portsentry.history'",
        "'var/lib/portsentry/portsentry.blocked'",
    ]


def test_version_2_needs_no_state_files():
    """It has the same names without ADVANCED_*, and ranges; its blocked and history files are optional."""
    conf, faults = parse_portsentry_conf(b'TCP_PORTS="1,7,512-515"\nIGNORE_FILE="/etc/ignore"\n', PATH)
    assert faults == ()
    settings, _ = settings_from_portsentry(conf, modes=("stealth",))
    assert settings.probe.modes == ("stcp", "sudp")
    assert settings.paths.blocked == Path("/var/lib/portward/portward.blocked")


def test_all_faults_are_told_at_once_in_the_order_of_the_file():
    """Nobody has to mend one to see the next."""
    _, faults = parse('SCAN_TRIGGER="x"\nBLOCK_TCP=1\nKILL_ROUTE="x"\nhello\nTCP_PORTS="0,x"')
    assert [fault.where.rpartition(":")[2] for fault in faults] == ["1", "2", "3", "4", "5", "5"]


def test_a_hostile_file_does_not_drown_anybody():
    """Some faults are told, the rest is counted; the good line in it still counts."""
    conf, faults = parse(b"x\n" * 400_000 + b'BLOCK_TCP="1"')
    assert conf.block_tcp == 1
    assert len(faults) == 201
    assert faults[-1].got == "399800 more faults"
    conf, faults = parse_portsentry_conf(b"#\n" * 600_000, PATH)
    assert "more than 1048576 bytes" in told(faults)[0]


def test_utf16_is_said_once():
    """A file saved by a careless editor."""
    (fault, *_), *_ = [parse_portsentry_conf('BLOCK_TCP="1"\n'.encode("utf-16"), PATH)[1]]
    assert fault.got == "UTF-16 text"


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda _: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_read_is_one_fault(tmp_path, make, got):
    """And never a wait, as on a pipe."""
    path = tmp_path / "portsentry.conf"
    make(path)
    conf, faults = read_portsentry_conf(path)
    assert conf == PortSentryConf(path)
    assert told(faults) == [f"{path}: file: got {got}, expected a portsentry.conf we may read"]


@pytest.mark.skipif(not FETCHED.exists(), reason="PortSentry was not fetched for comparison")
def test_the_real_file_says_the_same():
    """Debian's own, comments and all."""
    conf, faults = read_portsentry_conf(FETCHED)
    texts = {name: directive.text for name, directive in conf.given.items()}
    assert faults == ()
    assert texts == {
        name: directive.text for name, directive in parse_portsentry_conf(DEBIAN, PATH)[0].given.items()
    }


def test_debians_own_file():
    """No fault; every option with its line."""
    conf, faults = parse_portsentry_conf(DEBIAN, PATH)
    assert faults == ()
    assert conf.tcp_ports[:3] == (1, 11, 15)
    assert len(conf.udp_ports) == 21
    assert (conf.advanced_ports_tcp, conf.advanced_exclude_udp) == (1024, (520, 138, 137, 67))
    assert conf.kill_hosts_deny == "ALL: $TARGET$ : DENY"
    assert conf.given["RESOLVE_HOST"].line == 14
    assert conf.where("SCAN_TRIGGER") == f"{PATH}:20"
    assert conf.where("PORT_BANNER") == str(PATH)
