"""The package builds twice to the same bytes, with its tests; the wheel has what it needs."""

import hashlib
import os
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.package import building

pytestmark = pytest.mark.package


def test_two_builds_give_the_same_bytes(package, tmp_path):
    """Anybody can check that it was built from these sources: in another folder, zone, language and umask."""
    before = os.umask(0o027)
    try:
        folder = tmp_path / "a-much-longer-name-of-a-folder"
        other = building.build(folder, TZ="Pacific/Chatham", LC_ALL="C", HOME="/nonexistent")
    finally:
        os.umask(before)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (package, other)}
    assert len(digests) == 1


def test_the_build_runs_its_tests(tmp_path):
    """As a build server does it; what fails there fails here."""
    building.build(tmp_path / "build", options="")


def test_its_filters_are_proved_and_parsed(package, tmp_path):
    """The code that it installs believes what it says of them: a first start tries and parses none."""
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    share = tmp_path / "usr/share/portward"
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from correlator.config.proofs import Proofs
from correlator.config.filter_shelf import FilterShelf
from pathlib import Path
shelf = FilterShelf(Path("/nowhere"))
for name in shelf.paths:
    assert shelf.load(name) is not None, name
print(len(shelf.paths), shelf.proofs.is_news, "tomllib" in sys.modules)
"""
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-B", "-c", code, share], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{len(list(share.glob('filters/*.toml')))} False False\n", done.stderr


def test_a_wheel_carries_filters_actions_and_units(tmp_path):
    """Installed from it alone, in a place of its own, portward finds all that belongs to it."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", tmp_path, building.ROOT),
        ],
        check=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for kind, suffix in (("filters", ".toml"), ("actions", ".toml"), ("units", ".service")):
        assert any(f"share/portward/{kind}/" in name and name.endswith(suffix) for name in names), kind
    home = tmp_path / "venv"
    venv.create(home, system_site_packages=True, with_pip=True)
    subprocess.run(
        [home / "bin/python", "-m", "pip", "--quiet", "install", "--no-index", "--no-deps", wheel], check=True
    )
    for command in (["filter", "list"], ["action", "list"], ["install-units", "--root", tmp_path / "root"]):
        done = subprocess.run(
            [home / "bin/portward", *command], cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip(), command
    unit = (tmp_path / "root/etc/systemd/system/portward-probe.service").read_text()
    assert f"ExecStart={home / 'bin/portward'} probe\n" in unit
