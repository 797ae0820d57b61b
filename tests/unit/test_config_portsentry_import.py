"""`portward import portsentry`, which writes down what a portsentry.conf means to us."""

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.config.actions import with_actions
from correlator.config.portsentry import find_static_ignore_file, read_debian_modes, read_portsentry_conf
from correlator.config.portsentry_import import format_portward_toml
from correlator.config.portsentry_settings import settings_from_portsentry
from correlator.config.site import load_site
from tests.unit.portsentry_confs import DEBIAN, FILES, PATH, blocking


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
