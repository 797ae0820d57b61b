"""A filter's tests run once for its text and our code; whatever could lie about that is not believed."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from correlator.config import proofs
from correlator.config.filters import load_filter
from correlator.config.proofs import Proofs
from correlator.config.site import load_site

SOUND = """
identifiers = ["knockd"]
[[pattern]]
name  = "knock"
regex = '^knock from ${source}$'
[[test]]
line   = "Nov 22 14:29:22 vm knockd[7]: knock from 192.0.2.1"
expect = { source = "192.0.2.1" }
"""
FAILING = SOUND.replace('source = "192.0.2.1"', 'source = "192.0.2.2"')


def _known(file, *texts, **changes):
    """Write a file of proofs for filters called `knock` of these texts, failing ones too."""
    digests = [hashlib.sha256(f"knock\0{text}".encode()).hexdigest() for text in texts]
    value = {"engine": proofs.engine_digest(), "passed": digests, **changes}
    file.write_text(json.dumps(value))
    file.chmod(0o640)
    return file


def _load(folder, text, *files):
    path = folder / "knock.toml"
    path.write_text(text)
    return load_filter(path, proofs=Proofs(*files))


def test_a_proved_text_is_not_tried_again(tmp_path):
    """Only by a proof that is a lie can be seen that the tests were left out."""
    definition, faults = _load(tmp_path, FAILING, _known(tmp_path / "proved", FAILING))
    assert faults == []
    assert definition.is_proved


def test_any_other_text_is_tried(tmp_path):
    """One character that changed, and its tests run."""
    file = _known(tmp_path / "proved", SOUND)
    definition, faults = _load(tmp_path, FAILING, file)
    assert definition is None
    assert "source='192.0.2.1'" in str(faults[0])


def test_a_proof_is_for_the_name_too(tmp_path):
    """Another filter with the same text has its own jail and its own files: it is tried by itself."""
    (tmp_path / "other.toml").write_text(FAILING)
    file = _known(tmp_path / "proved", FAILING)
    assert load_filter(tmp_path / "other.toml", proofs=Proofs(file))[0] is None


def test_what_passed_is_written_and_what_failed_is_not(tmp_path):
    """Nothing is said of a filter that failed: it is tried at every start."""
    known = Proofs()
    for name, text in (("sound", SOUND), ("failing", FAILING)):
        (tmp_path / f"{name}.toml").write_text(text)
        load_filter(tmp_path / f"{name}.toml", proofs=known)
    assert known.is_news
    assert len(json.loads(known.dump())["passed"]) == 1


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o777])
def test_a_file_that_others_may_write_is_not_believed(tmp_path, mode):
    """Else whoever may write there decides which filters need no test."""
    file = _known(tmp_path / "proved", FAILING)
    file.chmod(mode)
    assert _load(tmp_path, FAILING, file)[0] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_believed(tmp_path):
    """Root does not take the correlator's word for it."""
    file = _known(tmp_path / "proved", FAILING)
    os.chown(file, 65534, 65534)
    assert _load(tmp_path, FAILING, file)[0] is None


def test_only_a_plain_file_is_believed(tmp_path):
    """A link may point at anything; a pipe would hold us up."""
    _known(tmp_path / "real", FAILING)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", "nowhere"):
        assert _load(tmp_path, FAILING, tmp_path / name)[0] is None, name


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"engine": 1, "passed": [1, null, "x"]}', "\0" * (1 << 21)]
)
def test_garbage_is_no_proof(tmp_path, text):
    """A torn or foreign file makes a start slower, never wrong."""
    file = tmp_path / "proved"
    file.write_text(text)
    file.chmod(0o600)
    assert _load(tmp_path, FAILING, file)[0] is None


def test_proofs_of_another_engine_are_not_believed(tmp_path):
    """What passed with other code, another Python or another `regex` may fail with this one."""
    file = _known(tmp_path / "proved", FAILING, engine="0" * 64)
    assert _load(tmp_path, FAILING, file)[0] is None


def test_the_engines_digest_covers_all_that_loading_a_filter_imports():
    """A module outside of the digest that changes what a test says would leave old proofs standing."""
    code = (
        "import sys, correlator.config.filters\n"
        "print(*(getattr(m, '__file__', None) for n, m in sys.modules.items() if n.startswith('correlator')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folders = {os.path.dirname(path) for path in done.stdout.split()}
    covered = {str(proofs._PACKAGE / folder) for folder in proofs._DECIDING}
    assert {folder.rstrip("/") for folder in folders} <= {folder.rstrip("/") for folder in covered}


def test_a_second_start_tries_nothing(tmp_path):
    """The site reads what its correlator wrote, and has no news for it."""
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/knock.toml").write_text(SOUND)
    (tmp_path / "portward.toml").write_text(f'enabled = ["knock"]\n[paths]\nstate = "{tmp_path}/state"\n')
    first = load_site(tmp_path)
    file = first.paths.correlator_proofs
    file.parent.mkdir(parents=True)
    file.write_bytes(first.proofs.dump())
    file.chmod(0o640)
    second = load_site(tmp_path)
    assert (first.proofs.is_news, second.proofs.is_news) == (True, False)
    assert second.filters["knock"].is_proved


def test_shipped_filters_are_proved_where_the_package_is_built(tmp_path):
    """The command that the package's rules run writes what a start believes."""
    (tmp_path / "knock.toml").write_text(SOUND)
    command = [sys.executable, "-m", "correlator.config.proofs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "proved.json").write_bytes(done.stdout)
    known = Proofs(tmp_path / "proved.json")
    load_filter(tmp_path / "knock.toml", proofs=known)
    assert not known.is_news
    (tmp_path / "knock.toml").write_text(FAILING)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
