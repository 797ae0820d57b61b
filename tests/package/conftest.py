"""What the package's tests share: one build, one base system, machines made of both."""

import os
from pathlib import Path

import pytest

from tests.package import building, container, virtual
from tests.package.living import prepare


def pytest_collection_modifyitems(items):
    """Leave out what takes minutes, unless it was asked for: make test-package."""
    if not os.environ.get("PORTWARD_PACKAGE_TESTS"):
        skip = pytest.mark.skip(reason="takes minutes: make test-package")
        for item in items:
            if item.get_closest_marker("package"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The .deb of this tree."""
    if reason := building.why_none():
        pytest.skip(reason)
    return building.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def older(tmp_path_factory):
    """The .deb that an upgrade comes from: the same, under an earlier version."""
    if reason := building.why_none():
        pytest.skip(reason)
    return building.build(tmp_path_factory.mktemp("older"), version="0.0.9-1")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The archive of a minimal Debian 12; PORTWARD_PACKAGE_BASE may name one that was made before."""
    if reason := container.why_none():
        pytest.skip(reason)
    if made := os.environ.get("PORTWARD_PACKAGE_BASE"):
        return Path(made)
    archive = tmp_path_factory.mktemp("base") / "base.tar"
    if reason := container.make_base(archive):
        pytest.skip(reason)
    return archive


@pytest.fixture(scope="session")
def disk(package, older, tmp_path_factory):
    """The folder with kernel and disk of a virtual machine; PORTWARD_PACKAGE_KERNEL_BASE as with `base`."""
    if reason := virtual.why_none():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("disk")
    archive = Path(os.environ.get("PORTWARD_PACKAGE_KERNEL_BASE", folder / "base.tar"))
    if not archive.exists() and (reason := virtual.make_base(archive)):
        pytest.skip(reason)
    virtual.make_disk(archive, folder, lambda root: prepare(root, package, older))
    return folder
