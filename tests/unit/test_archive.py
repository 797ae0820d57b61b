"""Whole logs, packed in every way: all lines, once, and whatever is damaged or too long is said."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.errors import MissingToolError
from correlator.model import JOURNAL
from correlator.tailers.archive import Archive, _ZstdStream

ROOT = Path(__file__).parents[2]
TEXT = b"".join(b"line %06d of a log\n" % number for number in range(120_000))


def _zstd(data):
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("zstd is not installed")
    return subprocess.run([program, "-q"], input=data, capture_output=True, check=True).stdout


PACK = {"log": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": _zstd}


@pytest.fixture
def read(tmp_path):
    """Write bytes and read them back: the joined text, and the archive."""

    def call(data, name="x.log"):
        (tmp_path / name).write_bytes(data)
        archive = Archive(str(tmp_path / name))
        chunks = list(archive.chunks())
        assert archive.position == archive.size or archive.trouble
        archive.close()
        at = 0
        for chunk in chunks:
            assert chunk.data.endswith(b"\n")
            assert chunk.offset >= at
            assert not chunk.is_live
            at = chunk.offset + len(chunk.data)
        return chunks, archive

    return call


@pytest.mark.parametrize("kind", PACK)
def test_a_packed_log_is_read_whole(read, kind):
    """Whatever packed it, and under whatever name."""
    for name in (f"x.{kind}", "renamed"):
        chunks, archive = read(PACK[kind](TEXT), name)
        assert b"".join(chunk.data for chunk in chunks) == TEXT
        assert (archive.trouble, archive.long_lines) == ("", 0)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_two_packed_logs_behind_one_another_are_one(read, kind):
    """`cat a.gz b.gz > c.gz` is a good file."""
    half = len(TEXT) // 2
    chunks, archive = read(PACK[kind](TEXT[:half]) + PACK[kind](TEXT[half:]))
    assert b"".join(chunk.data for chunk in chunks) == TEXT
    assert archive.trouble == ""


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_damaged_log_is_read_as_far_as_it_goes_and_said(read, kind):
    """Cut short in the middle: no silence about what is missing."""
    noise = b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(60_000))
    packed = PACK[kind](noise)
    chunks, archive = read(packed[: len(packed) // 2])
    got = b"".join(chunk.data for chunk in chunks)
    assert noise.startswith(got[:-1])
    assert archive.trouble.startswith("damaged after byte ")


def test_the_last_line_needs_no_line_feed(read):
    """It gets one; an empty file has no line."""
    chunks, _archive = read(b"one\ntwo")
    assert [(chunk.offset, chunk.data) for chunk in chunks] == [(0, b"one\n"), (4, b"two\n")]
    assert read(b"")[0] == []


def test_a_line_that_does_not_end_is_skipped_and_counted(read):
    """It must not fill our memory; what stands around it is read."""
    long = b"x" * 3_000_000
    chunks, archive = read(b"before\n" + long + b"\nafter\n" + long)
    assert b"".join(chunk.data for chunk in chunks) == b"before\nafter\n"
    assert chunks[-1].offset == 7 + len(long) + 1
    assert archive.long_lines == 2


@pytest.mark.parametrize("kind", PACK)
def test_nuls_before_a_line_are_none_of_it(read, kind):
    """Copied and truncated under its writer's feet, a log has holes; one of any size is no line."""
    data = b"\0" * 3_000_000 + b"one\ntwo\n" + b"\0" * 500_000 + b"three\n\0\0four\0\n" + b"\0" * 9
    chunks, archive = read(PACK[kind](data))
    assert b"".join(chunk.data for chunk in chunks) == b"one\ntwo\nthree\nfour\0\n"
    assert [data[chunk.offset :][: len(chunk.data)] for chunk in chunks] == [chunk.data for chunk in chunks]
    assert archive.long_lines == 0


@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_a_short_damaged_log_is_read_up_to_the_damage_and_no_half_line(read, kind):
    """What stands before the damage is less than we read at once; an address cut short is somebody else's."""
    noise = b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(8_000))
    packed = PACK[kind](noise)
    chunks, archive = read(packed[: len(packed) * 9 // 10])
    got = b"".join(chunk.data for chunk in chunks)
    assert noise.startswith(got)
    assert (got[-1:], archive.trouble[:7]) == (b"\n", "damaged")


def test_the_year_is_that_of_the_files_last_change(tmp_path):
    """A stamp without a year is read as of then."""
    (tmp_path / "old").write_bytes(b"x\n")
    os.utime(tmp_path / "old", (10**9, 10**9))
    archive = Archive(str(tmp_path / "old"))
    assert [chunk.arrived for chunk in archive.chunks()] == [10**15]
    archive.close()


def test_standard_input_is_read_through_a_pipe():
    """Packed or not; how long it is nobody knows."""
    code = (
        "import hashlib, sys\n"
        "from correlator.tailers.archive import Archive\n"
        "archive = Archive('-')\n"
        "text = b''.join(chunk.data for chunk in archive.chunks())\n"
        "print(archive.origin, archive.size, archive.position, hashlib.sha256(text).hexdigest())\n"
    )
    for data in (TEXT, gzip.compress(TEXT)):
        run = subprocess.run(
            [sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=ROOT
        )
        assert run.stdout.decode().split() == ["stdin", "0", "0", hashlib.sha256(TEXT).hexdigest()]


def test_without_zstd_it_is_said_what_to_install(tmp_path, monkeypatch):
    """One line names the file and the packages."""
    (tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(
        MissingToolError, match=r"x\.zst: compressed with zstd.*install zstd, or python3-zstandard"
    ):
        Archive(str(tmp_path / "x.zst"))


def test_the_library_unpacks_zstd_too_and_misses_no_end():
    """Where the program is not there; its own stream would end in silence."""
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(TEXT) * 2

    def read(data):
        stream = _ZstdStream(io.BytesIO(data), zstandard.ZstdDecompressor().decompressobj)
        return b"".join(iter(lambda: stream.read(1 << 16), b""))

    assert read(packed) == TEXT * 2
    with pytest.raises(EOFError):
        read(packed[:-5])


def test_a_folder_is_no_log(tmp_path):
    """The error names it."""
    with pytest.raises(IsADirectoryError):
        Archive(str(tmp_path))


def test_a_journal_file_is_known_by_its_first_bytes(tmp_path):
    """Its origin is the journal, so that filters know its entries by their fields."""
    (tmp_path / "x").write_bytes(b"LPKSHHRH" + bytes(300))
    archive = Archive(str(tmp_path / "x"))
    assert (archive.is_journal, archive.origin) == (True, JOURNAL)
    assert list(archive.chunks()) == []
    assert archive.trouble != ""
    archive.close()
