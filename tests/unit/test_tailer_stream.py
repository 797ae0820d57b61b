"""Lines from a pipe, and the count of the last minute."""

import os

import pytest

from correlator.model import SECOND
from correlator.tailers.meter import Meter
from correlator.tailers.stream import StreamTailer


@pytest.fixture
def pipe():
    """A tailer of a pipe, and the end to write to."""
    reading, writing = os.pipe()
    yield StreamTailer(reading), writing
    os.close(reading)


def _read(tailer):
    return [(chunk.offset, chunk.data) for chunk in tailer.read(7)]


def test_whole_lines_come_and_the_end_ends_it(pipe):
    """A half line waits; the last one needs no line feed; then it is over."""
    tailer, writing = pipe
    assert _read(tailer) == []
    os.write(writing, b"one\ntw")
    assert _read(tailer) == [(0, b"one\n")]
    os.write(writing, b"o\nthree")
    assert _read(tailer) == [(4, b"two\n")]
    assert (tailer.state, tailer.is_ready) == ("following", False)
    os.close(writing)
    assert _read(tailer) == [(8, b"three\n")]
    assert (tailer.state, tailer.is_ready) == ("over", False)


def test_a_carriage_return_ends_a_line_too(pipe):
    """A container with a terminal ends its lines so; one within a line stays."""
    tailer, writing = pipe
    os.write(writing, b"one\r\nt\rwo\r")
    assert _read(tailer) == [(0, b"one\n")]
    os.write(writing, b"\nthree\r\n")
    assert _read(tailer) == [(5, b"t\rwo\nthree\n")]


def test_nuls_before_a_line_are_none_of_it(pipe):
    """What `tail --follow` passes on of a log that was truncated under its writer."""
    tailer, writing = pipe
    os.write(writing, b"\0\0one\n\0two\0\nthree\n")
    assert _read(tailer) == [(0, b"one\ntwo\0\nthree\n")]


def test_a_line_without_end_is_skipped_and_counted(pipe):
    """Whoever feeds the pipe cannot fill our memory."""
    tailer, writing = pipe
    got = []
    for _ in range(6):
        os.write(writing, b"x" * 60_000)
        got += _read(tailer)
    os.write(writing, b"tail\nnext\n")
    got += _read(tailer)
    os.close(writing)
    assert got == [(360_005, b"next\n")]
    assert tailer.long_lines == 1


def test_a_file_in_the_place_of_a_pipe_is_read_in_pieces(tmp_path):
    """`portward correlate --stdin < FILE`: others get their turn between the pieces."""
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 200_000)
    descriptor = os.open(path, os.O_RDONLY)
    tailer = StreamTailer(descriptor, "sshd")
    chunks = list(tailer.read(7))
    assert 0 < sum(len(chunk.data) for chunk in chunks) < 1_000_000
    assert {(chunk.identifier, chunk.is_live) for chunk in chunks} == {("sshd", False)}
    while not tailer.is_over:
        chunks += tailer.read(7)
    os.close(descriptor)
    assert b"".join(chunk.data for chunk in chunks) == path.read_bytes()


def test_the_meter_counts_the_last_minute():
    """Exactly a minute old is out; a clock that is set back loses nothing and invents nothing."""
    meter = Meter()
    assert meter.a_minute(0) == 0
    meter.note(100 * SECOND, 5)
    meter.note(130 * SECOND, 7)
    assert meter.a_minute(159 * SECOND) == 12
    assert meter.a_minute(160 * SECOND) == 7
    meter.note(90 * SECOND, 1)
    assert meter.a_minute(161 * SECOND) == 8
    assert meter.a_minute(190 * SECOND) == 0
