"""Manual pages and completions are made of the program's own tables, and are sound."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
SHELLS = {
    "bash": ("portward.bash", "-n"),
    "zsh": ("_portward", "-n"),
    "fish": ("portward.fish", "--no-execute"),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder with every page."""
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, ROOT / "docs/man/render.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def completions(tmp_path_factory):
    """The folder with the completion of each shell."""
    pytest.importorskip("shtab")
    folder = tmp_path_factory.mktemp("completion")
    subprocess.run([sys.executable, ROOT / "docs/completion.py", folder], check=True)
    return folder


def commands():
    """The names of all commands."""
    return set(next(action.choices for action in build_parser()._actions if action.dest == "command"))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "docs/man").glob("*.[158]")))
def test_a_page_is_shown_without_warnings(pages, name):
    """There is nothing that groff would warn of, and no line of ours is left in it."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("needs man and groff")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    done = subprocess.run(
        ["man", "--warnings", "--local-file", str(pages / name)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert not re.search(r"^@[A-Z]+", (pages / name).read_text(), re.MULTILINE)


def test_every_command_has_its_options_on_a_page(pages):
    """Whatever the program takes can be looked up."""
    text = "".join((ROOT / "docs/man" / path.name).read_text() for path in pages.iterdir())
    assert {words.split()[0] for words in re.findall(r"^@OPTIONS (.+)$", text, re.MULTILINE)} == commands()


def test_pages_that_are_named_are_there(pages):
    """No SEE ALSO into nowhere, and every page is reached from portward(1)."""
    there = {path.name for path in pages.iterdir()}
    for page in pages.iterdir():
        named = re.findall(r"^\.BR (portward\S*) \((\d)\)", page.read_text(), re.MULTILINE)
        found = {f"{name}.{section}".replace("\\", "") for name, section in named}
        assert found <= there, page.name
        if page.name == "portward.1":
            assert found == there - {"portward.1"}


def test_the_settings_page_holds_the_shipped_file(pages):
    """Each key with its default, as it is installed."""
    keys = re.findall(r"^#?(\w+) +=", (ROOT / "correlator/config/portward.toml").read_text(), re.MULTILINE)
    text = (pages / "portward.toml.5").read_text()
    assert [key for key in keys if not re.search(rf"^#?{key} +=", text, re.MULTILINE)] == []


@pytest.mark.parametrize(("page", "reader"), [("portward-jail.5", "jails"), ("portward-filter.5", "filters")])
def test_a_files_page_holds_every_key(page, reader):
    """Whatever is read from the top of a jail or a filter is told of."""
    code = (ROOT / f"correlator/config/{reader}.py").read_text()
    keys = set(re.findall(r"\btable\.\w+\(\s*\"(\w+)\"", code))
    told = set(re.findall(r"\w+", (ROOT / "docs/man" / page).read_text()))
    assert len(keys) > 5
    assert keys - told == set()


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_a_completion_is_sound_and_knows_every_command(completions, shell):
    """The shell itself parses it."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    name, check = SHELLS[shell]
    done = subprocess.run([shell, check, completions / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = (completions / name).read_text()
    assert {command for command in commands() if not re.search(rf"\b{command}\b", text)} == set()


def test_bash_completes_a_command_and_its_options(completions):
    """As somebody types it."""
    ask = 'source "$1"; COMP_WORDS=(portward {words}); COMP_CWORD={at}; _portward; echo "${{COMPREPLY[@]}}"'
    for words, at, expected in (
        ("ena", 1, ["enable"]),
        ("enforce --li", 2, ["--lift"]),
        ("filter ''", 2, ["--help", "-h", "list", "new", "test"]),
        ("explain --input ''", 3, ["jsonl", "text"]),
        ("explain --filter ''", 3, []),
    ):
        text = ask.format(words=words, at=at)
        done = subprocess.run(
            ["bash", "-c", text, "bash", completions / "portward.bash"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(done.stdout.split()) == expected, done.stderr


def test_fish_completes_a_command_and_its_options(completions):
    """As somebody types it."""
    if shutil.which("fish") is None:
        pytest.skip("needs fish")
    for typed, expected in (
        ("portward ena", ["enable"]),
        ("portward filter li", ["list"]),
        ("portward enforce --li", ["--lift"]),
    ):
        ask = f'source {completions / "portward.fish"}; complete --do-complete "{typed}"'
        done = subprocess.run(["fish", "--private", "-c", ask], capture_output=True, text=True, check=True)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == expected, done.stderr
