"""The command line as a process: what it cannot read or write is one line and a status, never a trace."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import correlator
from correlator.cli import run as run_command
from correlator.model import SECOND, Block, parse_prefix
from correlator.store.state import State, StateReader

LINE = (
    b"Nov 22 14:29:22 vm portsentry[71]: attackalert: TCP SYN/Normal scan from host: \xff\x009.9/9 "
    b"to TCP port: 1\n"
)
ROOT = Path(correlator.__file__).resolve().parent.parent
NOBODY = 65534


@pytest.fixture
def spawn(folder):
    """Run a command as a process of its own: `spawn("why", "::1", redirect=">&-")`."""
    program = (sys.executable, "-P", "-m", "correlator")

    def call(*arguments, redirect="", prefix=(), where=folder, text=True, **options):
        return subprocess.run(
            [
                *prefix,
                "sh",
                "-c",
                f'exec "$@" {redirect}',
                "sh",
                *program,
                *arguments,
                "--config",
                str(where),
            ],
            capture_output=True,
            text=text,
            check=False,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            **options,
        )

    return call


@pytest.fixture
def open_folder(folder):
    """The same configuration where another user can reach it."""
    with tempfile.TemporaryDirectory(prefix="portward-test-") as place:
        Path(place).chmod(0o755)
        text = (folder / "portward.toml").read_text().replace(str(folder), place)
        (Path(place) / "portward.toml").write_text(text)
        for name in ("state", "run"):
            (Path(place) / name).mkdir()
        yield Path(place)


# Root without its right over files: another user might not even reach the interpreter in this checkout.
POWERLESS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--no-new-privs")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def _assert_one_line(done, status, *words):
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    for word in words:
        assert word in done.stderr


@needs_root
@pytest.mark.parametrize(
    ("command", "locked", "status"),
    [
        (["history"], "state", 77),
        (["why", "198.51.100.9"], "state", 77),
        (["explain", "x"], "state", 77),
        (["correlate"], "run", 77),
        (["enforce"], "run", 77),
        (["check"], "filters", 77),
        (["explain", "x"], "filters", 77),
        (["status"], "portward.toml", 78),
        (["status"], ".", 78),
        (["check"], "ignore", 1),
        (["check"], "jails.d", 1),
    ],
)
def test_what_may_not_be_read_is_one_line(spawn, open_folder, command, locked, status):
    """Who has no right to it gets a sentence that names the file, and a status of sysexits."""
    (open_folder / "filters").mkdir()
    (open_folder / "jails.d").mkdir()
    (open_folder / "ignore").write_text("")
    os.chown(open_folder / locked, NOBODY, NOBODY)
    (open_folder / locked).chmod(0)
    try:
        done = spawn(*command, prefix=POWERLESS, where=open_folder)
    finally:
        (open_folder / locked).chmod(0o700)
    named = "portward.toml" if locked == "." else locked
    _assert_one_line(done, status, "ermission denied", str(open_folder / named))


@pytest.mark.parametrize("content", [b"", b"no database " * 400])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["why", "198.51.100.9"], "correlator/correlator.sqlite"),
        (["explain", "x"], "correlator/correlator.sqlite"),
        (["history"], "blocks.sqlite"),
    ],
)
def test_a_damaged_database_is_one_line(spawn, folder, command, name, content):
    """Status 74 and the file, where it is empty or none at all."""
    (folder / "state/correlator").mkdir(parents=True)
    (folder / "state" / name).write_bytes(content)
    _assert_one_line(spawn(*command), 74, f"{name}: cannot be read")


@pytest.mark.parametrize("command", ["check", "status", "history"])
@pytest.mark.parametrize(
    ("redirect", "reason"), [("> /dev/full", "No space left"), (">&-", "standard output is closed")]
)
def test_output_that_cannot_be_written_is_one_line(spawn, command, redirect, reason):
    """A full disk or no standard output: status 74."""
    _assert_one_line(spawn(command, redirect=redirect), 74, f"portward {command}: ", reason)


def test_a_reader_who_has_seen_enough_is_no_failure(spawn):
    """As in `portward check | head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = spawn("check", redirect=f"> /proc/self/fd/{write}", pass_fds=[write])
    os.close(write)
    assert done.stderr.count("Traceback") == 0


def test_explain_without_standard_input_says_so(spawn):
    """Status 66 (EX_NOINPUT)."""
    _assert_one_line(spawn("explain", "-", redirect="<&-"), 66, "standard input is closed")


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_explain_takes_any_bytes(spawn, as_json):
    """What is no UTF-8 is shown escaped, and JSON stays JSON."""
    done = spawn("explain", "-", *as_json, input=LINE, text=False)
    assert done.stderr == b""
    assert b"\\udcff" in done.stdout
    if as_json:
        assert json.loads(done.stdout.decode())["kind"] == "explain"


def test_an_interruption_at_any_moment_is_no_traceback(folder):
    """Also while modules are being imported: status 130, or whatever the command had to say."""
    command = [sys.executable, "-P", "-c", _SLOW_IMPORT, "why", "198.51.100.9", "--config", str(folder)]
    for module in ("argparse", "correlator.errors", "correlator.cli.why", "correlator.store.state"):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "MODULE": module},
        )
        assert (done.returncode, done.stderr) == (130, ""), module


_SLOW_IMPORT = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["MODULE"]:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("correlator", run_name="__main__")
"""


def test_decisions_of_a_source_are_found_by_look_up(tmp_path):
    """Covering both ways, newest first; and for one address without reading all rows."""
    state = State(tmp_path / "x")
    texts = ["192.0.2.9", "192.0.2.0/24", "192.0.0.0/16", "0.0.0.0/0", "192.0.3.1", "2001:db8::1"]
    texts += ["2001:db8::/64", "::/0", "192.0.2.9"]
    state.record(positions={}, decisions=[_block(text, at) for at, text in enumerate(texts)])
    state.close()
    with contextlib.closing(StateReader(tmp_path / "x")) as reader:

        def found(text, most=1000):
            return [kept.at for kept in reader.decisions(source=parse_prefix(text), most=most)]

        assert found("192.0.2.9") == [8, 3, 2, 1, 0]
        assert found("192.0.2.9", 2) == [8, 3]
        assert found("192.0.2.10") == [3, 2, 1]
        assert found("192.0.2.0/23") == [8, 4, 3, 2, 1, 0]
        assert found("2001:db8::1") == [7, 6, 5]
        assert found("2001:db8:1::/48") == [7]
        assert [kept.at for kept in reader.decisions(most=3)] == [8, 7, 6]
        plans = []
        reader._database.set_trace_callback(plans.append)
        found("192.0.2.9")
        reader._database.set_trace_callback(None)
        for query in plans:
            plan = reader._database.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
            assert not [row for row in plan if row[3].startswith("SCAN")]


def _block(text, at):
    return Block(
        request=f"{text}:{at}",
        source=parse_prefix(text),
        jail="portscan",
        at=at,
        until=None,
        strikes=1,
        span=SECOND,
        ports=(),
        port=0,
        protocol="",
        is_spoofable=False,
        is_observed=False,
        actions=("nftables",),
        evidence=(),
    )


def test_only_our_own_children_are_believed_to_be_ready():
    """The socket of `run` has no file and no permissions: any user may speak to it, none is heard."""
    receiver, address = run_command._notification_socket()
    said = ["sh", "-c", "sleep 60"]
    with receiver, subprocess.Popen(said) as process:
        child = run_command._Child("probe", [], process=process)
        supervisor = run_command._Supervisor([child], receiver, address, 0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1", "\0" + address[1:])
            supervisor._hear()
            assert not child.is_ready
            child.process = _Named(os.getpid())
            stranger.sendto(b"READY=1", "\0" + address[1:])
            supervisor._hear()
            assert child.is_ready
        process.kill()
        supervisor.selector.close()


class _Named:
    def __init__(self, pid):
        self.pid = pid
