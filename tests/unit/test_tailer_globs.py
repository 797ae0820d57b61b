"""Which files a pattern means, and what it says of those it cannot see."""

import os

import pytest

from correlator.tailers.globs import expand_pattern


@pytest.fixture
def tree(tmp_path):
    """The function that makes files below a folder, each younger than the one before."""

    def make(*names):
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a\n")
            os.utime(path, (number, number))
        return tmp_path

    return make


def _names(expansion, folder):
    return [path.removeprefix(f"{folder}/") for path in expansion.paths]


def test_a_pattern_means_files_in_any_part_of_the_path(tree):
    """Folders that match are no logs, and a hidden one has to be named."""
    root = tree(
        "a/access.log", "b/access.log", "b/error.log", ".c/access.log", "d/e/access.log", "f/access.log/x"
    )
    assert _names(expand_pattern(f"{root}/*/access.log"), root) == ["a/access.log", "b/access.log"]
    assert _names(expand_pattern(f"{root}/.[a-z]/*.log"), root) == [".c/access.log"]


def test_what_logrotate_made_of_a_log_is_no_log(tree):
    """Its lines were read under their first name; a file that only looks alike is read."""
    root = tree(
        *("a.log", "a.log.1", "a.log.2.gz", "a-20260101.log", "a.log-20260102", "b-20260101.log"),
        *("c.log.zst", "worker.1.log"),
    )
    assert _names(expand_pattern(f"{root}/*log*"), root) == ["a.log", "b-20260101.log", "worker.1.log"]


def test_of_too_many_the_youngest_are_followed_and_that_is_said(tree):
    """Bounded, and never in silence."""
    root = tree(*(f"{number}.log" for number in range(5)))
    expansion = expand_pattern(f"{root}/*.log", most=2)
    assert _names(expansion, root) == ["3.log", "4.log"]
    assert (expansion.matched, expansion.trouble) == (
        5,
        "5 files match: the 2 that were written to last are followed",
    )


def test_nothing_matches_is_said(tree):
    """A folder that is not there is no more than that."""
    for pattern in ("nowhere/*.log", "*.log", "*/a/b.log"):
        expansion = expand_pattern(f"{tree('a/b.txt')}/{pattern}")
        assert (expansion.paths, expansion.state, expansion.trouble) == ((), "waiting", "nothing matches")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@pytest.mark.parametrize(("mode", "pattern"), [(0o711, "a/*.log"), (0o600, "?/b.log"), (0o744, "a/*.log")])
def test_a_folder_that_keeps_us_out_is_named(tree, mode, pattern):
    """Not let in to list it, or listed and not let in to its files: both are silent in a shell."""
    root = tree("a/b.log")
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    (root / "a").chmod(mode)
    os.seteuid(65534)
    try:
        expansion = expand_pattern(f"{root}/{pattern}")
    finally:
        os.seteuid(0)
    assert (expansion.paths, expansion.state) == ((), "refused")
    assert expansion.trouble == f"permission denied: {root}/a"


def test_a_link_that_leads_nowhere_is_not_followed(tree):
    """It may be made right later; then it matches."""
    root = tree("a.log")
    (root / "b.log").symlink_to(root / "c")
    assert _names(expand_pattern(f"{root}/*.log"), root) == ["a.log"]
