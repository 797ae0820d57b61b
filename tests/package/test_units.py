"""What systemd, AppArmor, logrotate and the package's files say of each other; cheap, in every run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from correlator import __version__
from correlator.cli import main
from correlator.config.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"
PROFILES = DEBIAN / "apparmor/portward"
SERVICES = sorted(path.name for path in DEBIAN.glob("*.service"))
LONGEST_EXPOSURE = 20
"""Tenths; Fail2ban's and SSHGuard's units have 96."""
LOOSENED = re.compile(
    r"^(User|Group|SupplementaryGroups|UMask|AmbientCapabilities|CapabilityBoundingSet|"
    r"ReadWritePaths|RestrictAddressFamilies|Nice|LimitNOFILE|LogRateLimitIntervalSec)=(.+)$"
)


def tool(name):
    """The path of a program, or the test is skipped and says so."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    return found or pytest.skip(f"needs {name}")


def run(*argv, **options):
    """Run a program; return its exit status and all that it said."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_hardened(name):
    """An exposure of 2.0 at most, as systemd counts it."""
    analyze = tool("systemd-analyze")
    status, said = run(
        analyze, "security", "--offline=true", f"--threshold={LONGEST_EXPOSURE}", str(DEBIAN / name)
    )
    assert status == 0, said


def test_units_are_sound(tmp_path):
    """Each line is understood; the program that they start is made up, since it is not installed here."""
    analyze = tool("systemd-analyze")
    program = tmp_path / "portward"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (*DEBIAN.glob("*.service"), DEBIAN / "portward.target"):
        (tmp_path / path.name).write_text(path.read_text().replace("/usr/bin/portward", str(program)))
    units = [str(tmp_path / name) for name in (*SERVICES, "portward.target")]
    assert run(analyze, "verify", "--man=no", *units) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_line_that_loosens_has_its_reason_above_it(name):
    """A comment says why, above the line or above the group of lines that it stands in."""
    reason = ""
    for line in (DEBIAN / name).read_text().splitlines():
        if line.startswith("#"):
            reason = line
        elif not line:
            reason = ""
        elif LOOSENED.match(line) and not line.startswith(("User=", "UMask=", "Nice=")):
            assert reason or line.startswith("Group="), f"{name}: {line}"


def test_users_and_folders_agree():
    """Users that units, tmpfiles or logrotate name are made by sysusers; every writable folder is made."""
    made = set(re.findall(r"^u (\S+)", (DEBIAN / "portward.sysusers").read_text(), re.MULTILINE))
    units = "".join((DEBIAN / name).read_text() for name in SERVICES)
    folders = (DEBIAN / "portward.tmpfiles").read_text()
    named = set(re.findall(r"^User=(\S+)", units, re.MULTILINE))
    named |= set(re.findall(r"^[df] \S+ +\d+ (\S+)", folders, re.MULTILINE)) - {"root"}
    named |= set(re.findall(r"(?:su|create \d+) (\S+)", (DEBIAN / "portward.logrotate").read_text()))
    assert named == made
    writable = {
        path for line in re.findall(r"^ReadWritePaths=(.*)$", units, re.MULTILINE) for path in line.split()
    }
    assert writable == set(re.findall(r"^d (\S+) +\d+ (?!root)", folders, re.MULTILINE))


def test_the_settings_believe_the_packages_users_and_folders():
    """Without any settings the processes find each other: paths and the user that may ask."""
    settings = load_settings(None)
    folders = (DEBIAN / "portward.tmpfiles").read_text()
    for folder in (
        settings.paths.probe_run,
        settings.paths.correlator_run,
        settings.paths.enforcer_run,
        settings.paths.state,
        settings.paths.alert_log.parent,
        settings.paths.alert_log,
    ):
        assert re.search(rf"^[df] {folder} ", folders, re.MULTILINE), folder
    assert settings.enforcer.allowed_users == {"root", "portward"}  # the correlator's; not the probe's
    assert (
        f"StateDirectory={settings.paths.correlator_state.relative_to('/var/lib')}\n"
        in (DEBIAN / "portward-correlator.service").read_text()
    )


def test_each_service_has_its_profile_and_no_program_has_one_by_its_path():
    """A profile that a unit names and nobody wrote would silently confine nothing."""
    units = [*(DEBIAN / name for name in SERVICES), DEBIAN / "enforcer-as-root.conf"]
    named = {
        name
        for unit in units
        for name in re.findall(r"^AppArmorProfile=-(\S+)$", unit.read_text(), re.MULTILINE)
    }
    written = re.findall(r"^profile (\S+) (\S+) \{$", PROFILES.read_text(), re.MULTILINE)
    assert len(named) == len(units)
    assert {name for name, _ in written} == named
    assert {flags for _, flags in written} == {"flags=(attach_disconnected)"}


def test_apparmor_understands_the_profiles():
    """Syntax only: whether they suit is told by test_kernel.py."""
    parser = tool("apparmor_parser")
    status, said = run(
        parser,
        "--skip-kernel-load",
        "--skip-cache",
        "--skip-read-cache",
        str(PROFILES),
    )
    assert status == 0, said


def test_the_changelog_has_the_version_of_the_program():
    """What is installed says which it is."""
    assert re.match(r"portward \((\d[^-)]*)-", (DEBIAN / "changelog").read_text())[1] == __version__


@pytest.mark.parametrize(
    "name", ["portward.postinst", "portward.prerm", "portward.postrm", "tests/installed", "tests/drill"]
)
def test_scripts_are_sound_shell(name):
    """Parsed by the shell that runs them, without running them."""
    assert run("/bin/sh", "-n", str(DEBIAN / name)) == (0, "")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("portsentry/portsentry.conf", "PortSentry is here too"),
        ("fail2ban/jail.conf", "Fail2ban is here too"),
    ],
)
def test_an_installation_beside_another_program_names_the_command_that_imports_it(tmp_path, settings, told):
    """In one line, at the first installation alone; nothing is said of what is not there."""
    script = (DEBIAN / "portward.postinst").read_text().replace("[ -e /etc/", f"[ -e {tmp_path}/")
    assert told not in run("/bin/sh", "-c", script, "postinst", "configure", "")[1]
    place = tmp_path / settings
    place.parent.mkdir()
    place.touch()
    status, said = run("/bin/sh", "-c", script, "postinst", "configure", "")
    command = f"portward import {place.parent.name} /etc/{place.parent.name}"
    lines = [line for line in said.splitlines() if "is here too" in line]
    assert (status, lines) == (0, [f"portward: {told}; see what its settings mean: {command}"])
    assert run("/bin/sh", "-c", script, "postinst", "configure", "0.0.1-1") == (0, "")


def test_install_units_writes_units_that_start_this_program(tmp_path, capsys):
    """For who has a wheel: the same units with another path; users and folders where systemd looks."""
    assert main(["install-units", "--root", str(tmp_path)]) == 0
    written = {line.removeprefix(f"wrote {tmp_path}/") for line in capsys.readouterr().out.splitlines()}
    units = {f"etc/systemd/system/{name}" for name in (*SERVICES, "portward.target")}
    assert written == units | {"etc/sysusers.d/portward.conf", "etc/tmpfiles.d/portward.conf"}
    started = re.findall(
        r"^ExecStart=(\S+) (\w+)$",
        "".join((tmp_path / name).read_text() for name in units),
        re.MULTILINE,
    )
    assert {word for _, word in started} == {"probe", "correlate", "enforce"}
    for program, _ in started:
        assert run(program, "--version") == (0, f"portward {__version__}\n")
