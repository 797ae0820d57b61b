"""Programs of other packages, unpacked by `make peer`, where they belong: in a mount namespace of their own.

Installed they would start on this host and change it. Here they find themselves in /usr, their files in /etc
and /var/lib, and an empty /run; nobody else sees any of it, and it ends with the last process inside.
"""

import shutil
import subprocess
from pathlib import Path

from correlator.drill.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "peers"
PROGRAMS = {
    "firewalld": "usr/sbin/firewalld",
    "shorewall": "usr/share/doc/shorewall6",
    "exim": "usr/sbin/exim4",
    "msmtp": "usr/bin/msmtp",
}
_STAGE = """
mount -t tmpfs tmpfs {stage} && cd {stage} && mkdir tree upper work
for name in {names}; do cp -a {peers}/$name/. tree; done
for name in bin sbin lib; do [ ! -d tree/$name ] || cp -a tree/$name tree/usr; done
cp -a /etc etc && cp -a tree/etc/. etc && mount --bind etc /etc
mount -t overlay overlay -o lowerdir={stage}/tree/usr:/usr,upperdir={stage}/upper,workdir={stage}/work /usr
mkdir keep && mount --bind {root} keep
mount -t tmpfs tmpfs /var/lib
[ ! -d tree/var/lib ] || cp -a tree/var/lib/. /var/lib
mount -t tmpfs tmpfs /run && mkdir /run/lock
[ -e {root}/pyproject.toml ] || {{ mkdir -p {root} && mount --bind keep {root}; }}
cd / && echo ready && exec sleep infinity
"""


def why_not(*names: str) -> str | None:
    """Return why these cannot be used here, or None."""
    missing = [name for name in names if not (FOLDER / name / PROGRAMS[name]).exists()]
    missing += [tool for tool in ("unshare", "nsenter") if shutil.which(tool) is None]
    return f"no {', '.join(missing)} here (make peer)" if missing else None


class Stage:
    """The victim of a lab, its network and these programs; `run` does something there."""

    def __init__(self, lab: Lab, folder: Path, *names: str) -> None:
        self._lab = lab
        stage = folder / "stage"
        stage.mkdir()
        script = _STAGE.format(stage=stage, names=" ".join(names), peers=FOLDER.resolve(), root=ROOT)
        self._holder = lab.victim.popen(
            *("unshare", "--mount", "--propagation", "private", "sh", "-ec", script), stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"

    def popen(self, *argv: str, **options: object) -> subprocess.Popen[str]:
        """Start a command there; the lab ends it."""
        return self._lab.victim.popen(*self._enter(argv), **options)

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command there to its end and return all that it said."""
        done = self._lab.victim.run(*self._enter(argv), must_succeed=False)
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}: {said}"
        return said

    def status(self, *argv: str) -> int:
        """Run a command there and return its exit status."""
        return self._lab.victim.run(*self._enter(argv), must_succeed=False).returncode

    def _enter(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        return ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--wd=/", "env", path, *argv)
