"""A pattern that means more files than may be open: the youngest are followed, the others looked at."""

import os
import resource

from correlator.tailers.globs import MOST_FILES, most_open


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
