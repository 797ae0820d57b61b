"""What several unit tests share: started things on fakes and files, and files that are not there yet."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from correlator.cli import main
from tests.site_folders import paths_table
from tests.unit.command_loop import Loop
from tests.unit.enforcer_bench import Bench, CarrierBench
from tests.unit.tailed_site import TailedSite


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A started enforcement with nothing denied."""
    return Bench(tmp_path)


@pytest.fixture
def carrier(tmp_path: Path) -> CarrierBench:
    """The same with actions of several kinds."""
    return CarrierBench(tmp_path)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop with commands in it, and nothing of them left afterwards."""
    made = Loop()
    yield made
    made.runner.close()
    assert list(made.selector.get_map()) == []
    made.selector.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log file that is not there yet."""
    return tmp_path / "alert.log"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TailedSite]:
    """A site without sources yet."""
    made = TailedSite(tmp_path)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration whose paths are all in the test's folder."""
    (tmp_path / "portward.toml").write_text(
        paths_table(tmp_path) + '[jail.portscan]\nfilters = ["portsentry"]\n'
    )
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command with that configuration; returns status, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, "--config", str(folder)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def explain_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, Any]]]:
    """A function of a filter's file and lines that returns what `explain` answers to each of them."""

    def call(path: Path, *lines: str) -> list[dict[str, Any]]:
        text = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert main(["explain", "--json", "--filter", str(path), "-"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call
