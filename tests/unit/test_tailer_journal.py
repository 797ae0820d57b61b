"""Following the journal of a real journald: no entry lost, none twice, no writer believed about himself."""

import itertools
import os
import time
from pathlib import Path

import pytest

from correlator.model import JOURNAL, SECOND
from correlator.tailers.journal import JournalPosition, JournalTailer, Wanted
from tests import journald as real

ALL = Wanted(None, frozenset({"_TRANSPORT", "_UID", "_PID"}))
WHY_NONE = real.why_none()
pytestmark = pytest.mark.skipif(WHY_NONE is not None, reason=WHY_NONE or "")
pytest.importorskip("systemd.journal", reason="python3-systemd is not installed")


@pytest.fixture
def daemon(tmp_path):
    """A journald that has written its own first entries."""
    with real.Journald(tmp_path / "journald") as made:
        made.settle()
        yield made


@pytest.fixture
def follow(daemon):
    """The function that makes a tailer of the daemon's journal; all are closed with the test."""
    made = []

    def make(positions=None, wanted=ALL):
        made.append(JournalTailer(daemon.folder, wanted, positions))
        return made[-1]

    yield make
    for tailer in made:
        tailer.close()


@pytest.fixture
def collect(wait_until):
    """The function that returns the bodies of the next `count` entries that tests wrote."""

    def read(tailer, count, identifier="test"):
        found = []

        def is_there():
            found.extend(
                entry
                for entries in tailer.read(time.time_ns() // 1000)
                for entry in entries.entries
                if entry.identifier == identifier
            )
            return len(found) >= count

        wait_until(is_there, what=f"{count} entries")
        assert len(found) == count
        return found

    return read


def _bodies(entries):
    return [entry.body for entry in entries]


def _write(daemon, *bodies):
    for body in bodies:
        daemon.write(body, SYSLOG_IDENTIFIER="test")


def test_it_starts_at_the_end_and_reads_what_comes(daemon, follow, collect):
    """Old entries are not news; all that come later are, the first of them too."""
    _write(daemon, "old")
    collect(follow([]), 1)
    tailer = follow()
    _write(daemon, "a", "b", "c")
    assert _bodies(collect(tailer, 3)) == ["a", "b", "c"]


def test_an_entry_says_who_wrote_it(daemon, follow, collect):
    """What the writer claims, and beside it what journald knows."""
    tailer = follow()
    daemon.write_syslog("<29>Jul 25 10:35:06 test[6521]: attackalert: x")
    (entry,) = collect(tailer, 1)
    assert (entry.identifier, entry.pid, entry.body) == ("test", "6521", "attackalert: x")
    assert dict(entry.fields) == {"_TRANSPORT": "syslog", "_UID": str(os.geteuid()), "_PID": str(os.getpid())}
    assert abs(entry.at - time.time_ns() // 1000) < 60 * SECOND
    assert entry.host == os.uname().nodename


def test_a_writer_cannot_be_the_kernel(daemon, follow, collect):
    """Neither by its identifier nor by sending the trusted field himself."""
    tailer = follow()
    daemon.write("IN=eth0 SRC=192.0.2.9", SYSLOG_IDENTIFIER="kernel", _TRANSPORT="kernel", _UID="7")
    daemon.write_syslog("<4>kernel: IN=eth0 SRC=192.0.2.9")
    forged = collect(tailer, 2, "kernel")
    assert [entry.fields["_TRANSPORT"] for entry in forged] == ["journal", "syslog"]
    assert {entry.fields["_UID"] for entry in forged} == {str(os.geteuid())}


def test_a_message_of_several_lines_is_one_line(daemon, follow, collect):
    """A forged second line stays within the first, written as rsyslog writes it."""
    tailer = follow()
    _write(daemon, "one\nJul 25 10:35:07 h kernel: two\x1b[0m\ttab\n")
    assert _bodies(collect(tailer, 1)) == ["one#012Jul 25 10:35:07 h kernel: two#033[0m\ttab"]


def test_the_end_of_a_line_is_none_of_a_message(daemon, follow, collect):
    """Whatever its program ends lines with."""
    tailer = follow()
    for end in ("", "\n", "\r", "\r\n"):
        _write(daemon, f"one{end}")
    assert _bodies(collect(tailer, 4)) == ["one"] * 4


def test_bytes_that_are_no_text_are_kept(daemon, follow, collect):
    """What is not UTF-8 is read as it is from a file; NUL is written out."""
    tailer = follow()
    _write(daemon, b"caf\xe9 \xff\x00 \xc3\xa9")
    assert _bodies(collect(tailer, 1)) == ["caf\udce9 \udcff#000 é"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_what_people_write_is_read_too(daemon, follow, collect):
    """Journald gives each of them a file; one that appears while we follow belongs to the journal as well."""
    tailer = follow()
    _write(daemon, "a")
    daemon.write_as(1234, "b")
    daemon.settle()
    _write(daemon, "c")
    found = collect(tailer, 3)
    assert [(entry.body, entry.fields["_UID"]) for entry in found] == [("a", "0"), ("b", "1234"), ("c", "0")]
    assert [path.name for path in daemon.files()] == ["system.journal", "user-1234.journal"]


def test_who_gives_no_name_goes_by_his_command(daemon, follow, collect):
    """So do programs whose output systemd sends to the journal without an identifier."""
    tailer = follow()
    daemon.write("nameless")
    assert _bodies(collect(tailer, 1, Path("/proc/self/comm").read_text().strip())) == ["nameless"]


def test_only_what_is_wanted_is_fetched(daemon, follow, collect):
    """Other programs' entries cost a look and are not handed out; the position moves over them."""
    tailer = follow(wanted=Wanted(frozenset({"test"}), frozenset()))
    daemon.write("other", SYSLOG_IDENTIFIER="cron")
    _write(daemon, "mine")
    (entry,) = collect(tailer, 1)
    assert (entry.body, dict(entry.fields)) == ("mine", {})
    assert tailer.scanned >= 2


def test_a_restart_goes_on_where_it_was(daemon, follow, collect):
    """The cursor brings back what was written while nobody read; that is not live."""
    first = follow()
    _write(daemon, "a")
    collect(first, 1)
    _write(daemon, "b", "c")
    daemon.settle()
    again = follow(first.positions)
    (entries,) = again.read(time.time_ns() // 1000)
    assert (_bodies(entries.entries)[:2], entries.is_live, entries.origin) == (["b", "c"], False, JOURNAL)
    _write(daemon, "d")
    assert _bodies(collect(again, 1)) == ["d"]
    assert again.losses == 0


def test_rotation_loses_nothing(daemon, follow, collect):
    """While it is followed, and while nobody reads."""
    tailer = follow()
    expected = []
    for number in range(5):
        _write(daemon, f"before {number}")
        daemon.rotate()
        _write(daemon, f"after {number}")
        expected += [f"before {number}", f"after {number}"]
        if number == 2:
            tailer = follow(tailer.positions)
    assert _bodies(collect(tailer, 10)) == expected
    assert tailer.trouble == ""


def test_vacuum_while_it_is_followed_loses_nothing_that_was_read(daemon, follow, collect):
    """The file under the reader goes; the next entries come."""
    tailer = follow()
    _write(daemon, "a")
    assert _bodies(collect(tailer, 1)) == ["a"]
    daemon.rotate()
    daemon.vacuum()
    _write(daemon, "b")
    assert _bodies(collect(tailer, 1)) == ["b"]


def test_a_cursor_that_was_vacuumed_does_not_bring_everything_back(daemon, follow, collect):
    """The library goes to the head of all for an unknown cursor; the time of the entry is gone to instead."""
    tailer = follow()
    _write(daemon, "a")
    collect(tailer, 1)
    daemon.rotate()
    _write(daemon, "b")
    collect(follow(tailer.positions), 1)
    daemon.vacuum()
    again = follow(tailer.positions)
    assert _bodies(collect(again, 1)) == ["b"]
    assert again.losses == 1
    assert again.trouble == "entries may be lost: the journal begins after what we read last"


def test_a_loss_is_said_where_older_files_are_still_there(daemon, follow, collect):
    """Users' files are kept longer than the system's: the journal then begins long before our position."""
    tailer = follow()
    _write(daemon, "long ago")
    collect(tailer, 1)
    daemon.rotate()
    kept = set(daemon.files())
    _write(daemon, "a")
    collect(tailer, 1)
    _write(daemon, "never read")
    daemon.rotate()
    for path in daemon.files():
        if "@" in path.name and path not in kept and b"never read" in path.read_bytes():
            path.unlink()
    _write(daemon, "b")
    again = follow(tailer.positions)
    assert _bodies(collect(again, 1)) == ["b"]
    assert again.losses == 1
    assert "the entry that we read last is there no more" in again.trouble


@pytest.mark.parametrize("cursor", ["s=0;i=1;b=0;m=0;t=0;x=0", "nonsense", ""])
def test_an_unknown_cursor_is_replaced_by_its_time(daemon, follow, collect, cursor):
    """Another machine's, another library's: nothing that was read comes again, and nothing is lost."""
    tailer = follow()
    _write(daemon, "a")
    (entry,) = collect(tailer, 1)
    _write(daemon, "b")
    again = follow([JournalPosition(cursor, entry.at)])
    assert _bodies(collect(again, 1)) == ["b"]
    assert again.losses == 0


def test_nothing_was_there_is_not_never_seen(tmp_path, collect):
    """A journal that begins while we wait for it is read from its first entry, and so after a restart."""
    tailer = JournalTailer(tmp_path / "journald/log/journal", ALL)
    assert (list(tailer.read(SECOND)), tailer.trouble) == ([], "not there")
    with real.Journald(tmp_path / "journald") as daemon:
        _write(daemon, "a")
        assert _bodies(collect(tailer, 1)) == ["a"]
        assert tailer.trouble == ""
        tailer.close()
        again = JournalTailer(daemon.folder, ALL, [])
        assert _bodies(collect(again, 1)) == ["a"]
        again.close()


def test_a_journal_in_another_place_of_the_same_name_is_opened(tmp_path, collect, wait_until):
    """Journald's folder was removed and made again: a reader that held on to the old one would be deaf."""
    base = tmp_path / "journald"
    with real.Journald(base) as daemon:
        tailer = JournalTailer(daemon.folder, ALL)
        _write(daemon, "a")
        assert _bodies(collect(tailer, 1)) == ["a"]
    base.rename(tmp_path / "away")
    with real.Journald(base) as daemon:
        _write(daemon, "b")
        late = itertools.count(time.time_ns() // 1000, 60 * SECOND)
        bodies = []

        def is_there():
            bodies.extend(entry.body for entries in tailer.read(next(late)) for entry in entries.entries)
            return "b" in bodies

        wait_until(is_there)
        assert "a" not in bodies
        tailer.close()


def test_news_are_known_before_journald_tells(daemon, follow, wait_until):
    """A poll of the files themselves: asking twice takes nothing away, and reading takes all."""
    tailer = follow()
    assert not tailer.has_news()
    _write(daemon, "a")
    wait_until(tailer.has_news)
    assert tailer.has_news()
    ((entry,),) = (entries.entries for entries in tailer.read(1))
    assert entry.body == "a"
    assert not tailer.has_news()


def test_fifty_thousand_entries_come_in_pieces_and_in_order(daemon, follow, wait_until):
    """Signals and other sources get their turn between pieces, and a kill between two repeats none."""
    _write(daemon, "first")
    count = 50_000
    for number in range(count):
        _write(daemon, str(number))
    _write(daemon, "last")
    tailers, found, pieces = [follow([])], [], 0

    def is_over():
        nonlocal pieces
        for entries in tailers[-1].read(1):
            pieces += 1
            found.extend(entry.body for entry in entries.entries if entry.identifier == "test")
            if pieces == 10:
                tailers.append(follow(tailers[-1].positions))
                break
        return found[-1:] == ["last"]

    wait_until(is_over)
    assert found == ["first", *map(str, range(count)), "last"]
    assert pieces > 50


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_journal_we_may_not_read_is_trouble_and_not_empty(daemon, tmp_path):
    """To the library it is an empty one; who is outside the group must be told."""
    _write(daemon, "a")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        tailer = JournalTailer(daemon.folder, ALL, [])
        os.write(writing, f"{len(list(tailer.read(1)))} {tailer.trouble}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as said:
        assert said.read() == (
            "0 permission denied for 1 of 1 journal files: expected a member of the group systemd-journal"
        )


def test_without_python_systemd_it_says_so(daemon, monkeypatch):
    """Files go on; PyPI's other `python-systemd`, which has no journal, is no better than none."""
    monkeypatch.setitem(__import__("sys").modules, "systemd", None)
    tailer = JournalTailer(daemon.folder, ALL)
    assert list(tailer.read(1)) == []
    assert tailer.trouble == "python3-systemd is not installed (systemd-python on PyPI)"
