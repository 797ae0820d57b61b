"""The correlator as a process: every kind of source at once, and other filters and jails while it runs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from correlator.cli import main
from correlator.config.site import load_site
from correlator.lines.syslog import format_instant
from tests import journald as real
from tests.site_folders import paths_table

FILTER = """
identifiers = ["knockd"]
files       = [{files}]
{journal}
[[pattern]]
name  = "knock"
regex = '''^knock from (?P<source>\\S+)$'''
"""
JAIL = '[jail.knocks]\nfilters = ["knock"]\nthreshold = {threshold}\nspan = "1h"\n'
TRUSTED = f'journal = ["_UID={os.geteuid()}"]'
WHY_NO_JOURNAL = real.why_none()


class _Correlator:
    """The process, its configuration, and what it said."""

    def __init__(self, folder, wait_until):
        self.folder = folder
        self.log = folder / "knock.log"
        self.process = None
        self._wait_until = wait_until
        for name in ("filters", "run", "state", "jails.d"):
            (folder / name).mkdir()
        self.log.write_text("")
        self.configure()

    def configure(self, threshold=3, journal="off", files='"{folder}/knock.log"', key="journal = []"):
        """Write all files anew."""
        (self.folder / "portward.toml").write_text(
            f'[correlator]\njournal = "{journal}"\n'
            + paths_table(self.folder)
            + JAIL.format(threshold=threshold)
        )
        text = FILTER.format(files=files.format(folder=self.folder), journal=key)
        (self.folder / "filters/knock.toml").write_text(text)

    def start(self, *arguments, **settings):
        """Start it and wait until it reads."""
        with (self.folder / "said").open("a") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "correlator", "correlate", "--config", str(self.folder), *arguments],
                stdout=said,
                stderr=subprocess.STDOUT,
                **settings,
            )
        self._wait_until(lambda: self.status().get("pid") == self.process.pid, what="it reads")

    def stop(self):
        """End it, and return its exit status."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return self.process.wait(10)

    def status(self):
        """Return what it left about itself."""
        try:
            return json.loads((self.folder / "run/correlator/correlator.json").read_text())
        except (OSError, ValueError):
            return {}

    def said(self):
        """Return the lines it printed."""
        return (self.folder / "said").read_text().splitlines()

    def knock(self, *addresses, log=None):
        """Write a line for each address."""
        stamp = format_instant(time.time_ns() // 1000).replace("Z", "+00:00")
        with (log or self.log).open("a") as file:
            file.write("".join(f"{stamp} vm knockd[7]: knock from {address}\n" for address in addresses))

    def await_decision(self, address):
        """Wait until it decided on an address, and return the line."""
        found = []

        def is_decided():
            found[:] = [line for line in self.said() if line.startswith(f"observe source={address} ")]
            return found

        self._wait_until(is_decided, what=f"decision on {address}; said {self.said()}")
        return found[0]

    def reload(self, *arguments):
        """Run `portward reload` and return its exit status."""
        return main(["reload", "--config", str(self.folder), *arguments])


@pytest.fixture
def correlator(tmp_path, wait_until):
    """A correlator that was not started yet; it ends with the test."""
    made = _Correlator(tmp_path, wait_until)
    yield made
    if made.process is not None:
        made.stop()


def test_it_writes_down_which_filters_passed_their_tests(correlator, wait_until):
    """The next start believes it; readable for nobody but its group, as the rest of its state."""
    file = correlator.folder / "state/correlator/proved.json"
    correlator.start()
    wait_until(file.exists, what="the proofs are written")
    assert file.stat().st_mode & 0o7777 == 0o640
    assert len(json.loads(file.read_text())["passed"]) == 1
    assert not load_site(correlator.folder).proofs.is_news


def test_a_reload_keeps_windows_and_places(correlator, capsys):
    """Two knocks before, one after: together they are three, and none is read twice."""
    correlator.start()
    correlator.knock("192.0.2.9", "192.0.2.9", "192.0.2.8")
    correlator._wait_until(lambda: correlator.status()["sources"][0].get("events", 0) == 3)
    (correlator.folder / "jails.d/more.toml").write_text(JAIL.format(threshold=9).replace("knocks", "more"))
    assert correlator.reload() == 0
    assert capsys.readouterr().out == "done\n"
    assert [jail["jail"] for jail in correlator.status()["jails"]] == ["knocks", "more"]
    correlator.knock("192.0.2.9")
    assert " jail=knocks strikes=3 " in correlator.await_decision("192.0.2.9")
    assert correlator.status()["sources"][0].get("events", 0) >= 3
    assert "reload done filters=1 jails=2" in correlator.said()


def test_a_lowered_threshold_decides_on_what_waits(correlator):
    """The strikes were brought over, so the new jail judges them."""
    correlator.start()
    correlator.knock("192.0.2.9", "192.0.2.9")
    correlator._wait_until(lambda: correlator.status()["sources"][0].get("events", 0) == 2)
    correlator.configure(threshold=2)
    assert correlator.reload() == 0
    assert " strikes=2 " in correlator.await_decision("192.0.2.9")


def test_a_faulty_configuration_is_said_and_the_old_one_stays(correlator, capsys):
    """What runs is better than what somebody is in the middle of editing."""
    correlator.start()
    (correlator.folder / "filters/knock.toml").write_text("patern = 1\n")
    assert correlator.reload() == 78
    printed = capsys.readouterr()
    assert printed.out == "refused: everything stays as it was\n"
    assert "knock.toml:1: patern: got 1, expected no such key (did you mean 'pattern'?)" in printed.err
    assert any(line.startswith("reload refused faults=") for line in correlator.said())
    correlator.knock("192.0.2.9", "192.0.2.9", "192.0.2.9")
    correlator.await_decision("192.0.2.9")


def test_other_paths_need_a_restart(correlator, capsys):
    """The database and the sockets stay where they are."""
    correlator.start()
    path = correlator.folder / "portward.toml"
    path.write_text(path.read_text().replace(f'"{correlator.folder}/ignore"', '"/elsewhere"'))
    assert correlator.reload() == 78
    assert "paths: got other paths, expected the paths that we started with" in capsys.readouterr().err


def test_settings_of_the_others_are_named(correlator, capsys):
    """The enforcer and the probe read theirs when they start."""
    correlator.start()
    path = correlator.folder / "portward.toml"
    path.write_text(path.read_text() + '[enforcer]\nnever_block = ["192.0.2.0/24"]\n')
    assert correlator.reload() == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "the enforcer reads its settings at its start: restart it to have the new ones"
    ]
    correlator.knock("192.0.2.9", "192.0.2.9", "192.0.2.9")
    correlator._wait_until(lambda: correlator.status()["jails"][0]["ignored"] == 3)


def test_without_a_correlator_there_is_nothing_to_reload(correlator, capsys):
    """A lock file that nobody holds is no process, whatever number stands in it."""
    (correlator.folder / "run/correlator").mkdir(parents=True)
    (correlator.folder / "run/correlator/correlator.lock").write_text("1\n")
    assert correlator.reload() == 69
    assert "no correlator runs here" in capsys.readouterr().err


def test_sources_shows_each_source_and_what_nobody_can_read(correlator, capsys):
    """Position, rate, filters; and the exit status says whether something needs a look."""
    correlator.configure(files='"{folder}/knock.log", "{folder}/*.more"')
    correlator.start()
    correlator.knock("192.0.2.9")
    correlator._wait_until(lambda: correlator.status()["sources"][0]["offset"] > 0)
    assert main(["sources", "--config", str(correlator.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["state"]) for row in told["sources"]] == [
        ("file", "following"),
        ("pattern", "waiting"),
    ]
    assert (told["sources"][0]["rate"], told["sources"][0]["filters"]) == (1, ["knock"])
    assert main(["sources", "--config", str(correlator.folder)]) == 0
    assert "nothing matches" in capsys.readouterr().out
    correlator.log.rename(correlator.folder / "away")
    correlator.configure(files='"{folder}/none.log"')
    assert correlator.reload() == 0
    capsys.readouterr()
    assert main(["sources", "--config", str(correlator.folder)]) == 1
    assert "filter knock reads nothing now" in capsys.readouterr().out


def test_a_pipe_is_read_to_its_end(correlator):
    """Lines with a header, as `journalctl -f` or `tail -F` give them; the end of the pipe is ours."""
    correlator.start("--stdin", stdin=subprocess.PIPE)
    stamp = format_instant(time.time_ns() // 1000).replace("Z", "+00:00")
    line = f"{stamp} vm knockd[7]: knock from 192.0.2.9\n"
    correlator.process.stdin.write(line.encode() * 3)
    correlator.process.stdin.flush()
    correlator.await_decision("192.0.2.9")
    correlator.process.stdin.write(b"the end")
    correlator.process.stdin.close()
    assert correlator.process.wait(10) == 0


def test_bare_messages_are_read_as_the_programs(correlator):
    """`--as`: no header is sought in them, whatever they imitate; without `--stdin` it means nothing."""
    correlator.start("--stdin", "--as", "knockd", stdin=subprocess.PIPE)
    forged = "2026-11-22T14:29:22+00:00 vm knockd[7]: knock from 192.0.2.8\n"
    correlator.process.stdin.write((forged * 3 + "knock from 192.0.2.9\n" * 3).encode())
    correlator.process.stdin.close()
    assert correlator.process.wait(10) == 0
    assert [line.split()[1] for line in correlator.said() if line.startswith("observe")] == [
        "source=192.0.2.9"
    ]
    with pytest.raises(SystemExit) as refused:
        main(["correlate", "--as", "knockd"])
    assert refused.value.code == 2


@pytest.mark.skipif(WHY_NO_JOURNAL is not None, reason=WHY_NO_JOURNAL or "")
def test_the_journal_and_files_are_read_at_once(correlator, tmp_path):
    """One process, one window: two knocks in the file and one in the journal; a restart repeats none."""
    with real.Journald(tmp_path / "journald") as journald:
        journald.settle()
        correlator.configure(journal=journald.folder, key=TRUSTED)
        correlator.start()
        journald.write("knock from 192.0.2.9", SYSLOG_IDENTIFIER="knockd")
        journald.write("knock from 192.0.2.9", SYSLOG_IDENTIFIER="stranger")
        correlator._wait_until(lambda: _row(correlator, "journal").get("events") == 1)
        assert correlator.stop() == 0
        correlator.knock("192.0.2.9")
        correlator.start()
        correlator.knock("192.0.2.9")
        assert " strikes=3 " in correlator.await_decision("192.0.2.9")
        row = _row(correlator, "journal")
        assert (row["state"], row["filters"], row["trouble"]) == ("following", ["knock"], "")


def test_who_logged_in_pays_for_what_his_account_tries_with_sudo(correlator):
    """A followed auth.log: sshd lets ops in, sudo tells of wrong passwords, and the address is decided on."""
    log = correlator.folder / "auth.log"
    correlator.configure()
    shipped = (Path(__file__).parents[2] / "filters/sudo.toml").read_text()
    own = re.sub(r"(?m)^files .*", f'files = ["{log}"]', shipped)
    (correlator.folder / "filters/sudo.toml").write_text(own)
    settings = correlator.folder / "portward.toml"
    settings.write_text('enabled = ["sudo"]\n' + settings.read_text())
    log.write_text("")
    correlator.start()
    wrong = "sudo:      ops : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/id"
    lines = (
        "sshd[70]: Accepted publickey for bob from 192.0.2.8 port 4 ssh2: ED25519 SHA256:abc",
        "sshd[71]: Accepted publickey for ops from 192.0.2.9 port 4 ssh2: ED25519 SHA256:abc",
        *(wrong,) * 3,
    )
    for line in lines:
        stamp = format_instant(time.time_ns() // 1000).replace("Z", "+00:00")
        with log.open("a") as file:
            file.write(f"{stamp} vm {line}\n")
    assert " jail=sudo strikes=36 " in correlator.await_decision("192.0.2.9")
    assert not [line for line in correlator.said() if "192.0.2.8" in line]


def test_a_log_whose_name_is_no_utf8_is_read_like_any_other(correlator):
    """A client of Samba's names its log; a restart goes on in it where it was."""
    correlator.configure(files='"{folder}/logs/*"')
    logs = correlator.folder / "logs"
    logs.mkdir()
    correlator.start()
    log = Path(os.fsdecode(os.fsencode(logs) + b"/caf\xe9"))
    log.write_text(f"{format_instant(time.time_ns() // 1000)} vm knockd: knock from 192.0.2.9\n" * 2)
    correlator._wait_until(lambda: _row(correlator, str(log)).get("events") == 2)
    assert correlator.stop() == 0
    correlator.start()
    with log.open("a") as file:
        file.write(f"{format_instant(time.time_ns() // 1000)} vm knockd: knock from 192.0.2.9\n")
    assert " strikes=3 " in correlator.await_decision("192.0.2.9")


def _row(correlator, origin):
    return next((row for row in correlator.status()["sources"] if row["origin"] == origin), {})


def test_the_watchdog_hears_from_a_correlator_that_works(correlator, tmp_path):
    """A unit with WatchdogSec restarts whoever falls silent: READY first, then WATCHDOG again and again."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify.sock"))
    listener.settimeout(20)
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify.sock"), "WATCHDOG_USEC": "200000"}
    correlator.start(env=environment)
    heard = [listener.recv(999) for _ in range(4)]
    listener.close()
    assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
