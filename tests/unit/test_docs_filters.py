"""docs/filters.md says what is so: its examples load and do what it shows, its table is that of the files."""

import re
import shlex
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.config.filters import load_filter
from correlator.matching.pattern_review import review_filter

GUIDE = (Path(__file__).parents[2] / "docs/filters.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```toml\n(.*?)```", GUIDE, re.DOTALL))


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_a_sound_filter(tmp_path, name):
    """It loads, its tests pass, and it raises no warning."""
    path = tmp_path / f"{name}.toml"
    path.write_text(EXAMPLES[name])
    definition, faults = load_filter(path)
    assert faults == []
    assert list(review_filter(definition)) == []


def test_the_commands_of_the_ten_minutes_print_what_is_shown(tmp_path, capsys, monkeypatch):
    """`filter test` and `explain`, on the example as it stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portward.toml").write_text(f'[paths]\nstate = "{tmp_path}"\n')
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/doorman.toml").write_text(EXAMPLES["doorman"])
    shown = re.findall(r"^    \$ portward (.*)\n((?:    (?!\$).*\n)+)", GUIDE, re.MULTILINE)
    assert [command.split()[0] for command, _output in shown] == ["filter", "explain"]
    for command, expected in shown:
        main([*shlex.split(command), "--config", str(tmp_path)])
        output = capsys.readouterr().out
        for line in expected.splitlines():
            assert line.strip() == "..." or line.removeprefix("    ") in output.splitlines()


def test_the_samples_of_the_guide_make_a_sound_draft(tmp_path, capsys):
    """As its second step says."""
    samples = re.search(r"\$ cat samples.txt\n((?:    Nov .*\n)+)", GUIDE)
    (tmp_path / "samples.txt").write_text(re.sub(r"(?m)^    ", "", samples.group(1)))
    assert main(["filter", "new", "--from", str(tmp_path / "samples.txt"), "doorman"]) == 0
    (tmp_path / "doorman.toml").write_text(capsys.readouterr().out)
    definition, faults = load_filter(tmp_path / "doorman.toml")
    assert faults == []
    assert list(review_filter(definition)) == []


def test_every_shipped_filter_is_listed_with_what_it_reads_and_its_defaults(tmp_path, capsys):
    """The table is what `portward filter list --markdown` prints; run it again where this fails."""
    (tmp_path / "portward.toml").write_text("")
    main(["filter", "list", "--markdown", "--config", str(tmp_path)])
    assert (
        GUIDE.partition("## All shipped filters")[2].partition("| filter |")[2]
        == (capsys.readouterr().out.partition("| filter |")[2])
    )
