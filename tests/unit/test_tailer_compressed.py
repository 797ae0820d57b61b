"""A rotated file that was compressed: its rest is read, and what cannot be read is counted and said."""

import gzip
import os
import sys

import pytest

from correlator.tailers.file import FileTailer
from tests.unit.log_files import COMPRESSIONS, NOW, append, compress, copytruncate, have_read, read


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("is_copied", [False, True])
def test_the_rest_is_read_out_of_a_compressed_file(log, suffix, is_copied):
    """Rotated and compressed while we were stopped, one of them whole."""
    positions = have_read(log, "a\n").positions
    append(log, "b\n" * 100_000)
    for rotated, text in (("alert.log.2", "c\n"), ("alert.log.1", "d\n")):
        if is_copied:
            copytruncate(log, log.with_name(rotated))
        else:
            os.rename(log, log.with_name(rotated))
        compress(log.with_name(rotated), suffix)
        append(log, text)
    tailer = FileTailer(log, positions)
    chunks = tailer.read(NOW)
    got = next(chunks).data
    again = FileTailer(log, tailer.positions)
    assert got.decode() + read(again) == "b\n" * 100_000 + "c\nd\n"
    assert (again.losses, again.trouble) == (0, "")


@pytest.mark.parametrize("is_zstd", [False, True])
def test_a_rest_that_cannot_be_read_is_counted_and_said(log, is_zstd):
    """Gone, or compressed with what we cannot read: never in silence."""
    positions = have_read(log, "a\n").positions
    log.unlink()
    if is_zstd:
        log.with_name("alert.log.1.zst").write_bytes(b"(\xb5/\xfd")
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert read(tailer) == "b\n"
    assert (tailer.losses, tailer.lost_position) == (1, True)
    assert tailer.trouble == "lines may be lost: what came after byte 2 of a file that is gone"


def test_a_missed_file_that_cannot_be_read_is_counted_and_said(log):
    """The one that came and went while we were stopped was compressed with zstd."""
    positions = _miss_a_file(log)
    tailer = FileTailer(log, positions)
    assert read(tailer) == "b\n"
    assert tailer.trouble.startswith("lines may be lost: alert.log.1.zst cannot be read: ")


def test_zstd_without_its_library_is_said_with_what_to_do(log, monkeypatch):
    """The rest lies there, and a package would read it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    positions = _miss_a_file(log)
    assert FileTailer(log, positions).trouble == (
        "lines may be lost: alert.log.1.zst cannot be read:"
        " compressed with zstd, and python3-zstandard is not installed"
    )


def test_a_damaged_compressed_file_is_counted_and_said(log):
    """What can be read of it is read."""
    positions = have_read(log, "a\n").positions
    append(log, "".join(f"{number * 7919 % 100_003}\n" for number in range(400_000)))
    os.rename(log, log.with_name("alert.log.1"))
    packed = compress(log.with_name("alert.log.1"), ".gz")
    os.truncate(packed, packed.stat().st_size * 9 // 10)
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    assert read(tailer).startswith("0\n7919\n")
    assert tailer.losses == 1
    assert "damaged" in tailer.trouble


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_short_compressed_file_is_read_up_to_its_damage_and_no_half_line(log, suffix):
    """What stands before the damage is less than we read at once; an address cut short is somebody else's."""
    lines = "".join(f"{os.urandom(40).hex()}\n" for _ in range(4000))
    tailer = have_read(log, "a\n")
    positions = tailer.positions
    append(log, lines)
    os.rename(log, log.with_name("alert.log.1"))
    packed = compress(log.with_name("alert.log.1"), suffix)
    os.truncate(packed, packed.stat().st_size * 9 // 10)
    log.write_text("b\n")
    tailer = FileTailer(log, positions)
    got = read(tailer).removesuffix("b\n")
    assert got.endswith("\n")
    assert lines.startswith(got)
    assert tailer.losses == 1


def test_a_file_that_is_just_being_compressed_is_no_loss(log):
    """What it is compressed from is there until that is done; we hold it anyway."""
    tailer = have_read(log, "a\n")
    os.rename(log, log.with_name("alert.log.1"))
    log.with_name("alert.log.1.gz").write_bytes(gzip.compress(b"a\n")[:10])
    log.write_text("b\n")
    assert read(tailer) == "b\n"
    assert (tailer.losses, tailer.trouble) == (0, "")


def test_a_file_we_hold_is_no_loss_when_it_is_compressed_with_zstd(log):
    """It bears the time of what we hold, so it is that."""
    tailer = have_read(log, "a\n")
    status = log.stat()
    os.rename(log, log.with_name("alert.log.1"))
    packed = log.with_name("alert.log.1.zst")
    packed.write_bytes(b"(\xb5/\xfd")
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    log.with_name("alert.log.1").unlink()
    log.write_text("b\n")
    assert read(tailer) == "b\n"
    assert (tailer.losses, tailer.trouble) == (0, "")


def _miss_a_file(log):
    """Rotate a log twice behind our back, with a file between that is no sound zstd; return our place."""
    positions = have_read(log, "a\n").positions
    os.utime(log, (1, 1))
    os.rename(log, log.with_name("alert.log.2"))
    log.with_name("alert.log.1.zst").write_bytes(b"(\xb5/\xfd")
    log.write_text("b\n")
    return positions
