"""What Debian's archive does with a package: lintian reads it, piuparts and autopkgtest install it."""

import shutil
import subprocess

import pytest

from tests.package import building, container

pytestmark = pytest.mark.package


@pytest.fixture(scope="module")
def minimal(tmp_path_factory):
    """The archive of a Debian 12 with apt and nothing of what we depend on."""
    if reason := container.why_none():
        pytest.skip(reason)
    archive = tmp_path_factory.mktemp("minimal") / "minimal.tar.gz"
    if reason := container.make_base(archive, packages=()):
        pytest.skip(reason)
    return archive


def tool(name):
    """The path of a program, or the test is skipped and says so."""
    return shutil.which(name) or pytest.skip(f"needs {name}")


def run(*argv, **options):
    """Run a program; return its exit status and all that it said."""
    done = subprocess.run(
        list(map(str, argv)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    return done.returncode, done.stdout


def test_lintian_has_nothing_to_say(package):
    """Every tag is shown; what is overridden has its reason beside it."""
    changes = next(package.parent.glob("*.changes"))
    options = ("-EIL", "+pedantic", "--profile", "debian", "--allow-root")
    assert run(tool("lintian"), *options, changes) == (0, "")


def test_piuparts_installs_and_purges_it(package, minimal):
    """On a system without any of its dependencies; what is left then is systemd's."""
    changes = next(package.parent.glob("*.changes"))
    options = ("--distribution=bookworm", "--no-eatmydata", "--keep-sources-list")
    status, said = run(
        tool("piuparts"), f"--basetgz={minimal}", *options, "--warn-on-leftovers-after-purge", changes
    )
    assert status == 0, said[-4000:]
    assert "PASS: All tests" in said
    left = said.partition("Package purging left files on system:")[2].partition("INFO: PASS")[0]
    assert "portward" not in left


def test_autopkgtest_passes(package, minimal, tmp_path):
    """The package's own tests, on what was installed, from another folder than the sources."""
    root = container.unpack(minimal, tmp_path / "root")
    changes = next(package.parent.glob("*.changes"))
    begin = 'mount -t proc proc "$1/proc" && chroot "$1" apt-get --quiet update && shift'
    status, said = run(
        *("unshare", "-m", "--propagation", "private", "sh", "-c", f'{begin} && exec "$@"', "sh", root),
        *(tool("autopkgtest"), changes, building.ROOT, "--", "chroot", root),
    )
    shutil.rmtree(root)
    skipped = 2  # autopkgtest(1): what needs a machine of its own was left out
    assert status == skipped, said[-4000:]
    results = said.partition("@ summary")[2].splitlines()
    passed = [line.split()[0] for line in results if " PASS" in line]
    assert passed == ["installed", "command1"], said[-4000:]
