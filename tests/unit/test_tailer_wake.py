"""What makes us look at a source at once: events that name a file, and none that only readers cause."""

import os

import pytest
from watchdog.events import FileSystemEvent

from correlator.tailers.wake import Wake


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
