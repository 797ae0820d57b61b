"""The drill and `run` when they are disturbed: nothing is left behind, and nothing stops without a reason."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import correlator
from correlator.drill.rig import Rig, wait_for

ROOT = Path(correlator.__file__).resolve().parent.parent
MOMENTS = 20


def _processes_with(text):
    """Return the command lines of the processes that have this text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_drill_interrupted_at_any_moment_leaves_nothing(tmp_path, number):
    """No process and no file, whether it was just starting, in the middle, or at its end."""
    moments = random.Random(number)  # noqa: S311  which moments matters to nobody
    for _ in range(MOMENTS):
        drill = subprocess.Popen(
            [sys.executable, "-P", "-m", "correlator", "drill"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            drill.wait(moments.choice([0.1, 0.5, 1.5]) * moments.uniform(0.2, 1.0))
        drill.send_signal(number)
        story, complaint = drill.communicate(timeout=30)
        assert "correlator" not in complaint, complaint
        # before our first line runs, Python itself may complain of Ctrl-C
        is_early = number == signal.SIGINT and drill.returncode == 1 and "KeyboardInterrupt" in complaint
        has_ended = drill.returncode == 0 and "proved  release" in story  # it was on its way out
        assert is_early or has_ended or drill.returncode in (130, -number)
        assert list(tmp_path.iterdir()) == []
        assert wait_for(lambda: not _processes_with(str(tmp_path)), 10), _processes_with(str(tmp_path))


@pytest.mark.netns
def test_a_killed_run_leaves_no_file(lab, tmp_path):
    """Its notification socket has no place in the file system."""
    place = tmp_path / "tmp"
    place.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(place)
    try:
        with Rig(lab, tmp_path) as rig:
            rig._process.kill()
            rig._process.wait()
            assert wait_for(lambda: not rig.process_ids(), 10)
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
    assert list(place.iterdir()) == []


@pytest.mark.netns
def test_a_hangup_ends_neither_run_nor_its_children(lab, tmp_path):
    """It is passed on to those who open and read their files anew then."""
    with Rig(lab, tmp_path) as rig:
        before = rig.process_ids()
        rig._process.send_signal(signal.SIGHUP)
        rig.kill("correlate")
        assert wait_for(lambda: "restarting process=correlator" in rig.printed(), 10)
        assert wait_for(lambda: len(rig.process_ids()) == 3, 10)
        assert rig._process.poll() is None
        for name in ("probe", "enforce"):
            assert rig.process_ids()[name] == before[name]
        assert rig.stop() == 0


@pytest.mark.netns
def test_run_goes_on_when_nobody_reads_it(lab, tmp_path):
    """Its reader goes away, a child dies: the child is started again, and the end has status 0."""
    rig = Rig(lab, tmp_path)
    process = lab.victim.popen(
        *rig._command("run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    for line in process.stdout:
        if line.startswith("ready "):
            break
    process.stdout.close()
    for name in ("correlate", "probe", "enforce", "correlate"):
        rig.kill(name)
        assert wait_for(lambda: len(rig.process_ids()) == 3, 20)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.netns
def test_a_run_that_cannot_start_does_not_end_with_0_when_nobody_reads_it(lab, tmp_path):
    """A real failure keeps its status."""
    rig = Rig(lab, tmp_path)
    (tmp_path / "run").write_text("no folder")
    process = lab.victim.popen(
        *rig._command("run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    process.stdout.close()
    assert process.wait(20) == 74
