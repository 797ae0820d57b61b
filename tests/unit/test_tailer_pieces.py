"""How much is read at once: nobody waits long for another source, and a kill repeats nothing."""

import pytest

from correlator.model import SECOND
from correlator.tailers.piece import Piece


def test_a_long_backlog_keeps_nobody_waiting(site):
    """Between two pieces of it, the alert log is read; and the other source gets its turn before its end."""
    site.write("big.log", "")
    site.start({"big.log": ("web",), "small.log": ("web",), "alert.log": ("scan",)})
    site.write("big.log", "x" * 99 + "\n")
    site.read()
    site.write("big.log", ("y" * 99 + "\n") * 50_000)
    site.write("small.log", "s\n")
    order = []
    site.now += SECOND
    while not order or site.sources.is_busy:
        for arrived in site.sources.read():
            order.append(site.short(arrived.origin))
            if len(order) == 2:
                site.write("alert.log", "scan\n")
    assert order[:4] == ["big.log", "big.log", "alert.log", "big.log"]
    assert order.index("small.log") < len(order) - 5
    assert order.count("big.log") > 10


def test_a_kill_between_two_pieces_repeats_nothing(site):
    """Positions are as of the piece that was handed out last."""
    site.start({"big.log": ("web",)})
    site.read()
    site.write("big.log", "".join(f"{number}\n" for number in range(200_000)))
    site.now += SECOND
    pieces = site.sources.read()
    first = next(pieces).data
    site.save()
    site.start({"big.log": ("web",)})
    again = "".join(text for _origin, text in site.read())
    assert first.decode() + again == (site.folder / "big.log").read_text()


def test_a_log_that_costs_much_gives_smaller_pieces(site):
    """So the alert log, and a signal, never wait longer than a few hundredths of a second for it."""
    site.start({"busy.log": ("busy",)})
    lines = "".join(f"line {number:06}\n" for number in range(100_000))
    site.write("busy.log", lines)
    site.now += SECOND
    costs_a_byte, sizes, text = 10, [], b""  # microseconds: a hundred bytes a millisecond
    while not sizes or site.sources.is_busy:
        for arrived in site.sources.read():
            sizes.append(len(arrived.data))
            text += arrived.data
            site.now += costs_a_byte * len(arrived.data)
        costs_a_byte = 0 if len(text) > 200_000 else costs_a_byte
    assert text.decode() == lines
    assert max(sizes[:20]) * 10 < SECOND // 10
    assert max(sizes) > 200_000  # and what costs nothing comes in large ones again


def test_lines_that_take_a_pattern_to_its_limit_come_one_by_one(site):
    """Somebody who found the slow pattern of a site must not hide a scan behind a few lines."""
    site.start({"slow.log": ("slow",)})
    site.write("slow.log", "".join(f"{number:0100}\n" for number in range(300)))
    counts = []
    while not counts or site.sources.is_busy:
        site.now += SECOND
        for arrived in site.sources.read():
            counts.append(arrived.data.count(b"\n"))
            site.now += counts[-1] * SECOND // 20
    assert sum(counts) == 300
    assert max(counts[3:]) <= 3


@pytest.mark.parametrize(
    ("took", "sizes"),
    [
        ([0, 0, 0, 0], [16, 32, 64, 100, 100]),
        ([0, 0, SECOND, 0], [16, 32, 64, 2, 4]),
        ([0, 0, SECOND // 20, SECOND // 50], [16, 32, 64, 25, 25]),
        ([-SECOND, SECOND], [16, 32, 2]),
    ],
)
def test_pieces_grow_while_they_are_cheap_and_shrink_at_once(took, sizes):
    """Between least and most; a clock that is set back only makes them grow."""
    piece = Piece(2, 16, 100)
    got = [piece.size]
    for each in took:
        piece.note(each)
        got.append(piece.size)
    assert got == sizes
