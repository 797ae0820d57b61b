"""All sources at once: what a pattern comes to mean, who reads what, and what a reload leaves alone."""

import os

import pytest

from correlator.tailers.stream import StreamTailer


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


@pytest.mark.parametrize("file", ["logs/a.log", "logs/*.log"])
def test_of_a_log_that_nobody_read_for_a_while_only_what_is_new_is_read(site, file):
    """Its filter was disabled, and is enabled again: by its path or by a pattern."""
    site.write("logs/a.log", "0\n")
    site.start({file: ("app",)})
    site.write("logs/a.log", "1\n")
    assert site.read(3) == [("logs/a.log", "1\n")]
    site.sources.update(site.plan({}))
    site.write("logs/a.log", "2\n")
    assert site.read(3) == []
    site.sources.update(site.plan({file: ("app",)}))
    site.write("logs/a.log", "3\n")
    assert site.read(3) == [("logs/a.log", "3\n")]


@pytest.fixture
def nobody(site):
    """Run something as a user whom nothing below the test's folder belongs to."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    for folder in (site.folder, *site.folder.parents[:2]):
        folder.chmod(0o755)

    def call(what, *arguments):
        os.seteuid(65534)
        try:
            return what(*arguments)
        finally:
            os.seteuid(0)

    return call


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("shut", ["logs/app/a.log", "logs/app"])
@pytest.mark.parametrize("file", ["logs/app/a.log", "logs/*/a.log"])
def test_of_a_log_that_we_were_kept_from_only_what_is_new_is_read(site, nobody, file, shut, is_restarted):
    """Whoever gives us the right later does not want its old lines counted, which may have no date."""
    site.write("logs/app/a.log", "old\nhalf a ")
    (site.folder / shut).chmod(0o700)
    nobody(site.start, {file: ("app",)})
    assert nobody(site.read, 3) == []
    (site.folder / shut).chmod(0o755)
    if is_restarted:
        nobody(site.start, {file: ("app",)})
    assert nobody(site.read, 3) == []
    site.write("logs/app/a.log", "line\nnew\n")
    got = nobody(site.read, 3)
    assert got in ([("logs/app/a.log", "new\n")], [("logs/app/a.log", "half a line\nnew\n")])
    site.write("logs/more/a.log", "another\n")
    assert nobody(site.read, 3) == ([("logs/more/a.log", "another\n")] if "*" in file else [])
