"""What is done to log files by those who write and rotate them, for tests of the tailers."""

import bz2
import gzip
import lzma
import os
import shutil
import time

from correlator.tailers.file import FileTailer

NOW = time.time_ns() // 1_000
"""The kernel stamps files by its own clock, so the tests follow it."""
FIRST = "x" * 80 + "\n"
"""A first line that is longer than the first bytes that are remembered."""
COMPRESSIONS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
try:
    import zstandard
except ImportError:
    pass
else:
    COMPRESSIONS[".zst"] = zstandard.ZstdCompressor().compress


def append(path, text):
    """Write more of a log."""
    with path.open("a") as file:
        file.write(text)


def read(tailer, now=NOW):
    """Return as text what a tailer hands out at `now`."""
    return b"".join(chunk.data for chunk in tailer.read(now)).decode()


def compress(path, suffix):
    """Compress a rotated file as logrotate does: the old one goes, its times stay."""
    status = path.stat()
    packed = path.with_name(path.name + suffix)
    packed.write_bytes(COMPRESSIONS[suffix](path.read_bytes()))
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()
    return packed


def copytruncate(path, rotated):
    """Rotate a file as logrotate does for a writer that keeps it open."""
    shutil.copyfile(path, rotated)
    os.truncate(path, 0)


def have_read(log, text):
    """Return a tailer that has read `text`."""
    log.write_text(text)
    tailer = FileTailer(log, from_start=True)
    read(tailer)
    return tailer


def configure_olddir(tmp_path, olddir):
    """Tell logrotate where rotated files go; return the folder of its configuration."""
    folder = tmp_path / "etc/logrotate.d"
    folder.mkdir(parents=True)
    (folder / "app").write_text(f"{tmp_path}/*.log {{\n  daily\n  olddir {olddir}\n  # olddir /nowhere\n}}\n")
    return tmp_path / "etc"
