"""Files that turn up under another name, or were rotated away before anybody looked: each line once."""

import os
import time

import pytest

from correlator.model import SECOND
from correlator.tailers.birth import born_at
from correlator.tailers.let_go import LetGo
from correlator.tailers.opened import Position, open_file
from tests.unit.log_files import FIRST, compress


@pytest.fixture
def tick(site, wait_until):
    """Move the site's clock to the present, by which the kernel dates what is made from now on."""

    def call():
        site.now = time.time_ns() // 1000
        probe = site.folder / "probe"

        def is_later():
            probe.unlink(missing_ok=True)
            probe.touch()
            file = open_file(probe)
            birth = born_at(file.descriptor)
            file.close()
            if birth is None:
                pytest.skip("this file system does not keep when files were made")
            return birth >= site.now

        wait_until(is_later)

    return call


def _texts(got):
    return "".join(text for _name, text in got)


def _again(site, files, *, is_restarted):
    if is_restarted:
        site.start(files)


@pytest.mark.parametrize(
    ("files", "is_restarted"),
    [
        ({"log.*": ("samba",)}, False),
        ({"log.*": ("samba",)}, True),
        ({"log.smbd": ("samba",), "log.smbd.old": ("old",)}, False),
    ],
)
def test_a_log_renamed_to_what_is_read_too_is_not_read_twice(site, files, is_restarted):
    """As Samba does: log.smbd becomes log.smbd.old, in the place of the one before."""
    site.start(files)
    site.read()
    got = []
    for number in range(4):
        site.write("log.smbd", f"{number}\n")
        got += site.read(3)
        os.rename(site.folder / "log.smbd", site.folder / "log.smbd.old")
        site.write("log.smbd.old", f"{number}, late\n")
        for seconds in (3, 15, 3, 70):
            got += site.read(seconds)
            _again(site, files, is_restarted=is_restarted)
    assert _texts(got) == "".join(f"{number}\n{number}, late\n" for number in range(4))


@pytest.mark.parametrize("is_restarted", [False, True])
def test_rotated_logs_without_a_new_one_are_not_read_twice(site, is_restarted):
    """Of a writer that makes its log for a first line: until then nothing says that a.log.1 is a rotation."""
    files = {"*": ("app",)}
    site.start(files)
    site.read()
    got = []
    for number in range(3):
        site.write("a.log", f"{number}\n")
        for seconds in (3, 15, 3):
            got += site.read(seconds)
            _again(site, files, is_restarted=is_restarted)
        for old, new in (("a.log.2", "a.log.3"), ("a.log.1", "a.log.2"), ("a.log", "a.log.1")):
            if (site.folder / old).exists():
                os.rename(site.folder / old, site.folder / new)
        for seconds in (3, 15, 70):
            got += site.read(seconds)
            _again(site, files, is_restarted=is_restarted)
    assert _texts(got) == "0\n1\n2\n"


def test_a_log_of_two_names_goes_on_under_both_when_it_is_rotated(site):
    """A link to it, for the filters of another plan: neither name is a rotation."""
    site.write("a.log", "0\n")
    (site.folder / "b.log").symlink_to(site.folder / "a.log")
    site.start({"a.log": ("a",), "b.log": ("b",)})
    site.read()
    os.rename(site.folder / "a.log", site.folder / "a.log.1")
    site.write("a.log", "1\n")
    assert sorted(site.read(3)) == [("a.log", "1\n"), ("b.log", "1\n")]


def test_another_file_with_the_inode_of_one_that_was_read_is_read_from_its_start(tmp_path):
    """Inodes are given out again; it begins otherwise, or is shorter than what was read."""
    (tmp_path / "a").write_text(FIRST * 2)
    file = open_file(tmp_path / "a")
    known = LetGo()
    begun = FIRST[:64].encode()
    for head, offset, found in ((begun, 81, True), (b"y" * 64, 81, False), (begun, 999, False)):
        position = Position(file.device, file.inode, offset, head)
        known.note("/log/a", [position])
        assert known.find(file) == (position if found else None)
    again = LetGo()
    again.load(known.rows("/log/*"))
    assert (again.rows("/log/?"), again.rows("/log/b*")) == (known.rows("/log/*"), [])
    file.close()


@pytest.mark.parametrize("files", [{"logs/*.log": ("app",)}, {"logs/a.log": ("app",)}])
@pytest.mark.parametrize("rotated", [("a.log.2", "a.log.1"), ("a-20261101.log", "a-20261102.log")])
def test_what_was_rotated_away_before_it_was_looked_at_is_read_first(site, tick, files, rotated):
    """It was made since nothing was there; what lay there before, under such names, is old."""
    site.write("logs/a.log.7", "ancient\n")
    site.write("logs/b.log", "b\n")
    tick()
    site.start(files)
    site.read(0)
    for number, name in enumerate(rotated):
        site.write("logs/a.log", f"{number}\n")
        os.utime(site.folder / "logs/a.log", ns=(0, (site.now + (number + 1) * SECOND) * 1000))
        os.rename(site.folder / "logs/a.log", site.folder / "logs" / name)
    site.write("logs/a.log", "2\n")
    got = site.read(9)
    got += [*site.read(15), *site.read(70)]
    assert got == [("logs/a.log", f"{number}\n") for number in range(3)]


def test_what_may_be_older_than_our_last_look_is_left(site, tick):
    """Moved here from elsewhere, restored with its old times, or packed: nothing says when its lines came."""
    site.write("elsewhere", "moved\n")
    (site.folder / "logs").mkdir()
    tick()
    site.start({"logs/*.log": ("app",)})
    site.read(0)
    os.rename(site.folder / "elsewhere", site.folder / "logs/a.log.1")
    with (site.folder / "logs/a.log.1").open("a") as file:
        file.write("and written to\n")
    site.write("logs/a.log.2", "restored\n")
    os.utime(site.folder / "logs/a.log.2", (1, 1))
    site.write("logs/a.log.3", "packed\n")
    compress(site.folder / "logs/a.log.3", ".gz")
    site.write("logs/a.log", "new\n")
    assert site.read(9) == [("logs/a.log", "new\n")]
