"""Building the Debian package from what git has, in a folder of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("dpkg-buildpackage", "dh", "dh_apparmor", "dh_python3", "dh_bash-completion", "git")


def why_none() -> str | None:
    """Return why nothing can be built here, or None."""
    missing = [name for name in TOOLS if shutil.which(name, path=_path()) is None]
    return f"needs {', '.join(missing)}" if missing else None


def build(folder: Path, *, version: str = "", options: str = "nocheck", **environment: str) -> Path:
    """Build in `folder`, with another version where one is given; return the .deb."""
    source = folder / "portward"
    source.mkdir(parents=True)
    names = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    if version:
        changelog = source / "debian/changelog"
        changelog.write_text(re.sub(r"\(.*?\)", f"({version})", changelog.read_text(), count=1))
    environment = {**os.environ, "PATH": _path(), "DEB_BUILD_OPTIONS": options, **environment}
    done = subprocess.run(
        [
            "dpkg-buildpackage",
            "--unsigned-source",
            "--unsigned-changes",
            "--build=binary",
            "--no-check-builddeps",
        ],
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return next(folder.glob("*.deb"))


def _path() -> str:
    return "/usr/sbin:/usr/bin:/sbin:/bin"
