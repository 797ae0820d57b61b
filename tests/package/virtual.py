"""A Debian 12 on Debian's own kernel, in a virtual machine: started, asked, removed.

It has what a container has not: a kernel with AppArmor that runs nothing else, whose log reaches the journal,
and devices of every kind. Needs root and QEMU, which imitates the processor: that works everywhere, which
/dev/kvm does not (PORTWARD_PACKAGE_ACCELERATOR=kvm). It has no network but what a test makes inside; commands
go to it, and answers come back, through a virtio port.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.package import container

KERNEL_PACKAGES = ("linux-image-amd64", "udev", "kmod", "apparmor", "ufw")
_NO_USE = (
    "sound",
    *(f"drivers/{name}" for name in ("gpu", "media", "infiniband", "scsi", "usb", "iio", "staging")),
)
_PATIENCE = 300
"""Seconds until what should have happened is taken to have failed: the processor is an imitation."""
_QEMU = "qemu-system-x86_64"
_UNIT = """\
[Unit]
Description=carries out what the test outside asks for
After=dev-virtio\\x2dports-portward.device
[Service]
ExecStart=/usr/bin/python3 -I /root/agent.py
[Install]
WantedBy=multi-user.target
"""
_AGENT = """\
import json, os, subprocess, threading

port = os.open("/dev/virtio-ports/portward", os.O_RDWR)
one_at_a_time = threading.Lock()


def carry_out(asked):
    done = subprocess.run(
        asked["argv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        input=(asked["stdin"] or "").encode(),
        env={"PATH": "%s", "LC_ALL": "C.UTF-8"},
    )
    text = done.stdout.decode("utf-8", "backslashreplace")
    answer = json.dumps({"id": asked["id"], "status": done.returncode, "text": text}).encode() + b"\\n"
    with one_at_a_time:
        while answer:
            answer = answer[os.write(port, answer) :]


rest = b""
while True:
    *lines, rest = (rest + os.read(port, 65536)).split(b"\\n")
    for line in lines:
        threading.Thread(target=carry_out, args=(json.loads(line),)).start()
"""


def why_none() -> str | None:
    """Return why there can be no such machine here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in (_QEMU, "mke2fs", "mmdebstrap") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


def make_base(archive: Path) -> str | None:
    """Make the archive of a minimal Debian 12 with a kernel; return why it cannot be made.

    An initrd of the few modules that reach the disk is made and read in a fraction of the usual time.
    """
    folder = "$1/etc/initramfs-tools"
    few = f"printf 'virtio_pci\nvirtio_blk\next4\n' >{folder}/modules; echo MODULES=list >{folder}/conf.d/few"
    return container.make_base(
        archive,
        (*container.BASE_PACKAGES, *KERNEL_PACKAGES),
        (
            f"--essential-hook=mkdir -p {folder}/conf.d; {few}",
            *(f"--dpkgopt=path-exclude=/lib/modules/*/kernel/{name}/*" for name in _NO_USE),
        ),
    )


def make_disk(archive: Path, folder: Path, prepare: Callable[[Path], None]) -> None:
    """Make disk, kernel and initrd in `folder`, from the archive and what `prepare` adds to it."""
    root = container.unpack(archive, folder / "root")
    prepare(root)
    (root / "root/agent.py").write_text(_AGENT % container.PATH)
    units = root / "etc/systemd/system"
    (units / "agent.service").write_text(_UNIT)
    (units / "multi-user.target.wants/agent.service").symlink_to("../agent.service")
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), folder / name)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, folder / "disk", "3G"], check=True
    )
    shutil.rmtree(root)


@dataclass
class Started:
    """A command that runs inside; `communicate` waits for its end, as that of subprocess.Popen."""

    argv: tuple[str, ...]
    is_over: threading.Event = field(default_factory=threading.Event)
    returncode: int = -1
    stdout: str = ""

    def communicate(self):
        """Wait for its end, and return what it wrote; no second stream, as with the container's."""
        assert self.is_over.wait(_PATIENCE), f"{self.argv}: no answer"
        return self.stdout, None


class VirtualMachine:
    """A machine that boots from a disk, which stays as it is; `run` does something in it."""

    def __init__(self, disk: Path, folder: Path, wait_until) -> None:
        self.wait = functools.partial(wait_until, seconds=_PATIENCE)
        self._running: dict[int, Started] = {}
        self._last = 0
        self._console, self._complaints, port = folder / "console", folder / "complaints", folder / "port"
        accelerator = os.environ.get("PORTWARD_PACKAGE_ACCELERATOR", "tcg,thread=multi")
        options = (
            f"-accel {accelerator} -m 1024 -smp 2 -display none -nodefaults -no-reboot",
            f"-kernel {disk}/vmlinuz -initrd {disk}/initrd.img",
            f"-drive file={disk}/disk,format=raw,if=virtio,snapshot=on",
            f"-serial file:{self._console} -device virtio-rng-pci -device virtio-serial",
            f"-chardev socket,id=port,path={port},server=on,wait=off",
            "-device virtserialport,chardev=port,name=portward",
        )
        kernel = "root=/dev/vda rw console=ttyS0 quiet panic=-1"
        with self._complaints.open("w") as complaints:
            self._qemu = subprocess.Popen(
                [_QEMU, *" ".join(options).split(), "-append", kernel],
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=subprocess.STDOUT,
            )
        self._socket = socket.socket(socket.AF_UNIX)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        try:
            self.wait(lambda: self._connects(port), what="QEMU listens")
            self._listening.start()
            up = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
            assert up in ("running", "degraded"), up
        except BaseException:
            self.close()
            raise

    def run(self, *argv, check=True, stdin=None):
        """Run a command inside and return how it ended, output and complaints in one."""
        done = self.popen(*argv, stdin=stdin)
        done.communicate()
        assert not check or done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout}"
        return done

    def popen(self, *argv, stdin=None):
        """Start a command inside."""
        started = Started(tuple(map(str, argv)))
        self._last += 1
        self._running[self._last] = started
        asked = {"id": self._last, "argv": started.argv, "stdin": stdin}
        self._socket.sendall(json.dumps(asked).encode() + b"\n")
        return started

    def read(self, path) -> str:
        """Return what stands in a file inside."""
        return self.run("cat", path).stdout

    def write(self, path, text) -> None:
        """Write a file inside."""
        self.run("sh", "-c", 'cat >"$1"', "sh", path, stdin=text)

    def close(self) -> None:
        """Switch it off, and wait for its end; nothing of it is left but its console."""
        self._qemu.kill()
        self._qemu.wait()
        if self._listening.is_alive():
            self._listening.join()  # the port is closed with it
        self._socket.close()

    def _connects(self, port: Path) -> bool:
        assert self._qemu.poll() is None, self._complaints.read_text()
        try:
            self._socket.connect(str(port))
        except OSError:
            return False
        return True

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as answers:
            for line in answers:
                answer = json.loads(line)
                started = self._running.pop(answer["id"])
                started.returncode, started.stdout = answer["status"], answer["text"]
                started.is_over.set()
        for started in self._running.values():  # the machine is gone; nobody waits for it any longer
            started.stdout = "the machine has ended: " + self._console.read_text(errors="replace")[-3000:]
            started.is_over.set()
