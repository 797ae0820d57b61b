"""All sources at once: what a pattern comes to mean, who reads what, and who never waits for whom."""

import os
import resource
import time

import pytest
from watchdog.events import FileSystemEvent

from correlator.model import SECOND
from correlator.tailers.globs import MOST_FILES, most_open
from correlator.tailers.piece import Piece
from correlator.tailers.plan import Plan
from correlator.tailers.sources import Sources
from correlator.tailers.stream import StreamTailer
from correlator.tailers.wake import Wake


class _Site:
    """Sources of a test with what they were told and told us; the clock stands until somebody moves it."""

    def __init__(self, folder):
        self.folder = folder
        self.now = time.time_ns() // 1000
        self.kept = {}
        self.routes = {}
        self.dropped = []
        self.sources = None

    def start(self, files, **plan):
        """Follow `files`, names below the test's folder and the filters that read them; as a restart does."""
        self.close()
        self.sources = Sources(
            self.plan(files, **plan),
            clock=lambda: self.now,
            recall=self.kept.get,
            follow=self.routes.__setitem__,
            drop=lambda origin, is_useless: self.dropped.append((self.short(origin), is_useless)),
            stream=plan.get("stream"),
        )

    def plan(self, files, alert_log="alert.log", stream=None):
        """Return a plan of these files."""
        del stream
        named = {f"{self.folder}/{name}": filters for name, filters in files.items()}
        return Plan(named, f"{self.folder}/{alert_log}", filters=("all",))

    def read(self, seconds=1):
        """Return what comes a while later, as (name, text), and keep the positions."""
        self.now += int(seconds * SECOND)
        got = []
        while True:
            got += [(self.short(arrived.origin), arrived.data.decode()) for arrived in self.sources.read()]
            if not self.sources.is_busy:
                break
        self.save()
        return got

    def save(self):
        """Write the positions down."""
        self.kept |= self.sources.unsaved()
        self.sources.mark_saved()

    def write(self, name, text):
        """Append to a file, made where it is not there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def short(self, origin):
        """Return an origin without the test's folder."""
        return origin.removeprefix(f"{self.folder}/")

    def readers(self):
        """Return who was told to read what."""
        return {self.short(origin): filters for origin, filters in self.routes.items()}

    def close(self):
        """Give everything back."""
        if self.sources is not None:
            self.sources.close()
            self.sources = None


@pytest.fixture
def site(tmp_path):
    """A site without sources yet."""
    made = _Site(tmp_path)
    yield made
    made.close()


def test_what_a_pattern_means_at_first_is_followed_and_what_it_means_later_is_read(site):
    """What lay there is not news; a file that appears is, from its first line."""
    site.write("a/access.log", "old\n")
    site.start({"*/access.log": ("web",)})
    site.write("a/access.log", "new\n")
    site.write("b/access.log", "first\n")
    assert site.read(3) == [("a/access.log", "new\n"), ("b/access.log", "first\n")]
    assert site.readers() == {"a/access.log": ("web",), "b/access.log": ("web",)}


def test_a_restart_reads_what_appeared_meanwhile(site):
    """The pattern was seen before, so what it means today and did not then is new."""
    site.write("a.log", "old\n")
    site.start({"*.log": ("web",)})
    assert site.read() == []
    site.close()
    site.write("a.log", "more\n")
    site.write("b.log", "first\n")
    site.start({"*.log": ("web",)})
    assert site.read() == [("a.log", "more\n"), ("b.log", "first\n")]


def test_a_rotation_within_a_pattern_is_read_once(site):
    """Under its first name, whatever the pattern says of the second."""
    site.write("access.log", "")
    site.start({"access*": ("web",)})
    site.read()
    site.write("access.log", "a\n")
    os.rename(site.folder / "access.log", site.folder / "access-20260101.log")
    site.write("access-20260101.log", "b\n")
    site.write("access.log", "c\n")
    assert site.read(3) == [("access.log", "a\nb\n"), ("access.log", "c\n")]
    assert site.read(60) == []
    assert list(site.readers()) == ["access.log"]


def test_a_file_with_two_names_is_read_once_by_whoever_reads_either(site):
    """A link in one pattern, the file in the other."""
    site.write("real/a.log", "")
    (site.folder / "link").mkdir()
    (site.folder / "link/a.log").symlink_to(site.folder / "real/a.log")
    site.start({"link/*.log": ("by-link",), "real/*.log": ("by-name",)})
    site.write("real/a.log", "a\n")
    assert [text for _origin, text in site.read()] == ["a\n"]
    assert [set(filters) for filters in site.readers().values()] == [{"by-link", "by-name"}]


def test_a_file_that_is_gone_is_forgotten_after_a_while(site):
    """Logs with a date in their name would pile up; a minute is left for a writer that still has it open."""
    site.write("1.log", "")
    site.start({"*.log": ("web",)})
    site.read()
    with (site.folder / "1.log").open("a") as file:
        os.unlink(site.folder / "1.log")
        assert site.read(3) == []
        file.write("late\n")
    assert site.read(3) == [("1.log", "late\n")]
    assert site.dropped == []
    site.read(61)
    assert site.dropped == [("1.log", True)]
    assert not site.sources.is_of_use(f"{site.folder}/1.log")


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


def test_other_filters_go_on_where_the_ones_before_were(site):
    """A reload: what stays keeps its place, what goes is dropped, what is new starts at its end."""
    for name in ("kept.log", "gone.log", "new.log"):
        site.write(name, "old\n")
    site.start({"kept.log": ("one",), "gone.log": ("one",)})
    site.read()
    for name in ("kept.log", "gone.log", "new.log"):
        site.write(name, "while it was read anew\n")
    site.sources.update(site.plan({"kept.log": ("two",), "new.log": ("two",), "*.txt": ("two",)}))
    assert site.dropped == [("gone.log", True)]
    assert site.sources.routes[f"{site.folder}/kept.log"] == ("two",)
    site.write("new.log", "new\n")
    assert sorted(site.read()) == [("kept.log", "while it was read anew\n"), ("new.log", "new\n")]


def test_standard_input_is_for_every_filter_and_its_end_ends_us(site):
    """A pipe beside the files."""
    reading, writing = os.pipe()
    site.start({}, stream=StreamTailer(reading))
    os.write(writing, b"a\n")
    assert site.read() == [("stdin", "a\n")]
    assert (site.readers(), site.sources.is_over) == ({"stdin": ("all",)}, False)
    os.close(writing)
    assert (site.read(), site.sources.is_over) == ([], True)
    os.close(reading)


def test_each_source_tells_what_is_wrong_with_it(site):
    """What `portward sources` shows: where we are, what came, and what cannot be read."""
    site.write("a.log", "")
    (site.folder / "folder").mkdir()
    site.start({"a.log": ("one",), "folder": ("one",), "none.log": ("two",), "*.txt": ("two",)})
    site.read()
    site.write("a.log", "1\n2\n")
    site.read()
    site.write("a.log", "unread\n")
    told = {site.short(row["origin"]): row for row in site.sources.describe(site.now)}
    rows = {name: (row["kind"], row["state"], row["trouble"]) for name, row in told.items()}
    assert rows == {
        "a.log": ("file", "following", ""),
        "folder": ("file", "refused", "a folder, expected a file"),
        "none.log": ("file", "waiting", "not there"),
        "*.txt": ("pattern", "waiting", "nothing matches"),
    }
    expected = {"offset": 4, "backlog": 7, "rate": 2, "last_at": site.now, "filters": ["one"]}
    assert {name: told["a.log"][name] for name in expected} == expected


def test_only_files_to_which_something_happened_are_looked_at_between_polls(site, wait_until):
    """Watchdog names the file, `fstat` says what came; the rest is looked at twice a second."""
    site.start({"a/x.log": ("one",), "b/x.log": ("one",), "a/y.log": ("one",)})
    for name in ("a/x.log", "b/x.log", "a/y.log"):
        site.write(name, "1\n")
    assert len(site.read()) == 3
    site.sources.wake.start()
    site.write("a/x.log", "2\n")
    got = []
    wait_until(lambda: got.extend(site.read(0)) or got)
    assert got == [("a/x.log", "2\n")]
    site.sources.wake.take_changed()
    for name in ("b/x.log", "a/y.log"):
        site.sources._followed[f"{site.folder}/{name}"].tailer.read = lambda _now: pytest.fail("looked at")
    site.write("a/x.log", "3\n")
    got.clear()
    wait_until(lambda: got.extend(site.read(0)) or got)
    assert got == [("a/x.log", "3\n")]


@pytest.mark.parametrize(("link", "target"), [("current.log", "today.log"), ("current.log", "far/away.log")])
def test_a_link_is_read_when_what_it_leads_to_changes(site, wait_until, link, target):
    """Events name the file, not the link; also in a folder where nothing is followed."""
    site.write(target, "0\n")
    (site.folder / link).symlink_to(target)
    site.start({link: ("one",)})
    site.write(target, "1\n")
    assert site.read() == [(link, "1\n")]
    site.sources.wake.start()
    site.write(target, "2\n")
    got = []
    wait_until(lambda: got.extend(site.read(0)) or got)
    assert got == [(link, "2\n")]


@pytest.mark.parametrize("renamed", ["x.log.1", "x.log-20261130", "x-20261130.log"])
def test_what_a_renamed_file_still_gets_is_read_at_once(site, wait_until, renamed):
    """Its writer has it open under its old name: the event names the new one."""
    site.start({"x.log": ("one",)})
    site.write("x.log", "1\n")
    assert len(site.read()) == 1
    site.sources.wake.start()
    os.rename(site.folder / "x.log", site.folder / renamed)
    site.write("x.log", "")
    site.read()
    site.sources.wake.take_changed()
    site.write(renamed, "2\n")
    got = []
    wait_until(lambda: got.extend(site.read(0)) or got)
    assert got == [("x.log", "2\n")]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("modified", {"/log", "/log/a.log"}), ("opened", set()), ("closed_no_write", set())],
)
def test_who_only_reads_a_log_wakes_nobody(kind, expected):
    """Newer watchdogs tell of readers too, and we are one."""
    event = FileSystemEvent("/log/a.log")
    event.event_type = kind
    wake = Wake()
    wake.dispatch(event)
    assert wake.take_changed() == expected
    wake.close()


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


def _too_many(site):
    """Lay down more files than one pattern may follow, the last ones youngest; return the oldest name."""
    for number in range(MOST_FILES + 10):
        site.write(f"many/{number:04}.log", "old\n")
        os.utime(site.folder / f"many/{number:04}.log", ns=(0, number * 10**9))
    return "many/0000.log"


def test_of_a_file_that_lay_there_unfollowed_only_what_comes_is_read(site):
    """Its old lines may be years old and have no date: counted now, they would block for nothing."""
    oldest = _too_many(site)
    site.start({"many/*.log": ("app",)})
    assert site.read(60) == []
    site.write(oldest, "new\n")
    assert site.read(60) == [(oldest, "new\n")]


def test_a_file_in_its_place_is_read_from_its_start(site):
    """Another inode is another file, however long."""
    oldest = _too_many(site)
    site.start({"many/*.log": ("app",)})
    site.read(60)
    site.write("other", "a longer line\n")
    os.rename(site.folder / "other", site.folder / oldest)
    assert site.read(60) == [(oldest, "a longer line\n")]


def test_a_line_more_in_a_watched_folder_is_no_reason_to_list_it(site, wait_until):
    """In a folder of thousands of files that would cost more than reading all of them."""
    oldest = _too_many(site)
    site.start({"many/*.log": ("app",)})
    site.sources.wake.start()
    youngest = f"many/{MOST_FILES + 9:04}.log"
    site.write(youngest, "one\n")
    assert site.read(60) == [(youngest, "one\n")]  # from now on its folder is watched
    site.write(oldest, "two\n")
    wait_until(lambda: f"{site.folder}/many" in site.sources.wake._changed)
    assert site.read(0.01) == []
    site.write("many/born.log", "three\n")
    wait_until(lambda: f"{site.folder}/many" in site.sources.wake._changed)
    assert ("many/born.log", "three\n") in site.read(0.01)


def test_a_file_keeps_its_readers_while_it_is_rotated(site):
    """Between rename and creation no pattern means it: what is read then is judged all the same."""
    site.start({"*.log": ("app",)})
    site.write("x.log", "1\n")
    assert site.read(3) == [("x.log", "1\n")]
    os.rename(site.folder / "x.log", site.folder / "x.log.1")
    site.write("x.log.1", "2\n")
    assert site.read(3) == [("x.log", "2\n")]
    assert site.readers()["x.log"] == ("app",)
    site.write("x.log", "3\n")
    assert site.read(0.6) == [("x.log", "3\n")]
    assert site.readers()["x.log"] == ("app",)


def test_files_beyond_the_limit_of_descriptors_are_not_opened_and_that_is_said(site, monkeypatch):
    """Else the next thing that cannot be opened is our own database."""
    for number in range(40):
        site.write(f"a/{number}.log", "")
        site.write(f"b/{number}.log", "")
    assert most_open() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4
    monkeypatch.setattr("correlator.tailers.sources.most_open", lambda: 60)
    site.start({"a/*.log": ("app",), "b/*.log": ("app",)})
    site.read(30)
    told = {site.short(row["origin"]): row["trouble"] for row in site.sources.describe(site.now)}
    assert told["a/*.log"] == ""
    assert told["b/*.log"] == "40 files match: the 20 that were written to last are followed"


def test_a_reload_while_a_file_is_rotated_forgets_nothing(site):
    """Between rename and creation no pattern means it; its place and its readers must be there afterwards."""
    site.start({"*.log": ("app",)})
    site.write("x.log", "1\n")
    assert site.read(3) == [("x.log", "1\n")]
    site.write("x.log", "2\n")
    os.rename(site.folder / "x.log", site.folder / "x.log.1")
    site.sources.update(site.plan({"*.log": ("app", "more"), "y/*.log": ("app",)}))
    site.write("x.log", "3\n")
    assert site.read(3) == [("x.log", "2\n"), ("x.log", "3\n")]
    assert site.readers()["x.log"] == ("app", "more")
    site.sources.update(site.plan({"y/*.log": ("app",)}))
    assert ("x.log", True) in site.dropped
