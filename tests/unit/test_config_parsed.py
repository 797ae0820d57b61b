"""What the TOML of filters says is kept by its digest; nothing stale and no other's word is believed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.config import filter_shelf
from correlator.config.filters import define_filter
from correlator.config.parsed import ParsedTexts, dump_parsed
from correlator.config.reader import File

FILTERS = sorted((Path(__file__).parents[2] / "filters").glob("*.toml"))
TEXT = b'description = "what it says"\n'
LIE = {"description": "a lie"}


def _lying(file, *texts):
    """Write that each of these texts says something else, which shows whether it was believed."""
    file.write_text("".join(f"{hashlib.sha256(text).hexdigest()}{json.dumps(LIE)}\n" for text in texts))
    file.chmod(0o640)
    return file


def _read(folder, text, *files):
    """Return what a file of this text says, with files of what is known."""
    path = folder / "knock.toml"
    path.write_bytes(text)
    faults = []
    read = File(path, faults, known=ParsedTexts(*files).find)
    assert faults == []
    return read.root


def test_a_known_text_is_not_parsed_again(tmp_path):
    """Only by a lie can be seen that it was not."""
    assert _read(tmp_path, TEXT, _lying(tmp_path / "parsed", TEXT)) == LIE


@pytest.mark.parametrize("text", [TEXT + b"\n", TEXT[:-1], TEXT.replace(b"w", b"W"), b""])
def test_any_other_text_is_parsed(tmp_path, text):
    """One byte that changed, and what was known of the text before it is not looked at."""
    assert _read(tmp_path, text, _lying(tmp_path / "parsed", TEXT)) != LIE


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o777])
def test_a_file_that_others_may_write_is_not_believed(tmp_path, mode):
    """Else whoever may write there decides what filters say."""
    file = _lying(tmp_path / "parsed", TEXT)
    file.chmod(mode)
    assert _read(tmp_path, TEXT, file) == {"description": "what it says"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_believed(tmp_path):
    """Root takes nobody's word but root's."""
    file = _lying(tmp_path / "parsed", TEXT)
    os.chown(file, 65534, 65534)
    assert _read(tmp_path, TEXT, file) == {"description": "what it says"}


def test_only_a_plain_file_is_believed(tmp_path):
    """A link may point at anything; a pipe would hold us up."""
    _lying(tmp_path / "real", TEXT)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", "nowhere"):
        assert _read(tmp_path, TEXT, tmp_path / name) != LIE, name


@pytest.mark.parametrize("value", ["", "{", "[]", "1", "null", '{"description": ', "[" * 100_000])
def test_a_torn_or_foreign_line_is_not_believed(tmp_path, value):
    """It makes a start slower, never wrong."""
    file = tmp_path / "parsed"
    file.write_text(hashlib.sha256(TEXT).hexdigest() + value + "\n")
    file.chmod(0o600)
    assert _read(tmp_path, TEXT, file) == {"description": "what it says"}


@pytest.mark.parametrize(
    "text", ["at = 2026-11-30", "at = 08:00:00", "x = nan", f"x = 0x{'f' * 5000}", "[x", "\udcff"]
)
def test_what_json_cannot_say_is_not_kept(text):
    """Dates, numbers that are none, numbers without end, and what is no TOML are left to who parses them."""
    assert list(dump_parsed([text.encode("utf-8", "surrogateescape"), TEXT])) == list(dump_parsed([TEXT]))


def test_shipped_filters_are_the_same_known_or_parsed(tmp_path):
    """All of them are kept, and what is kept defines the same filter."""
    made = [sys.executable, "-m", "correlator.config.parsed", str(FILTERS[0].parent)]
    file = tmp_path / "parsed"
    file.write_bytes(subprocess.run(made, capture_output=True, check=True).stdout)
    file.chmod(0o644)
    known = ParsedTexts(file)
    for path in FILTERS:
        assert known.find(path.read_bytes()) is not None, path.stem
        parsed, kept = (File(path, [], known=find) for find in (lambda _data: None, known.find))
        assert repr(kept.root) == repr(parsed.root), path.stem  # `==` calls 1 and true the same
        assert define_filter(kept) == define_filter(parsed), path.stem


def test_the_shelf_asks_what_was_made_where_it_is_built(tmp_path, monkeypatch):
    """A site's file of a known text is not parsed either; one that differs is."""
    text = b'description = "d"\nidentifiers = ["d"]\n'
    lie = _lying(tmp_path / "parsed", text)
    monkeypatch.setattr(filter_shelf, "built_file", lambda _name: lie)
    for name, data in (("known", text), ("changed", text + b"#")):
        (tmp_path / f"{name}.toml").write_bytes(data)
    shelf = filter_shelf.FilterShelf(tmp_path)
    assert [len(shelf.read(name)[1]) for name in ("known", "changed")] == [1, 1]  # no pattern in either
    assert [shelf.may_read(name, "d") for name in ("known", "changed")] == [False, True]
