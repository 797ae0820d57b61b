"""Fail2ban's folder in place: its jails run in our correlator, and an edit there counts by itself."""

import json
import signal
import subprocess
import sys
import time

import pytest

JAIL_CONF = """\
[DEFAULT]
enabled = true
filter = x
action = iptables[name=x]
logpath = {folder}/x*.log
maxretry = {maxretry}
findtime = 1h
ignoreip = 192.0.2.1
[x]
[other]
enabled = false
"""
FILTER = "[Definition]\nprefregex = ^ srv x: <F-CONTENT>.+</F-CONTENT>$\nfailregex = ^{word} from <HOST>$\n"


class _Running:
    """A correlator whose portward.toml names a Fail2ban's folder, and what it said."""

    def __init__(self, folder, wait_until):
        self.folder = folder
        self.log = folder / "x1.log"
        self.log.write_text("")
        self._wait_until = wait_until
        for name in ("etc/filter.d", "run", "state", "alert"):
            (folder / name).mkdir(parents=True)
        paths = "".join(f'{name} = "{folder}/{name}"\n' for name in ("state", "run", "syslog", "ignore"))
        (folder / "portward.toml").write_text(
            f'fail2ban = "{folder}/etc"\n[correlator]\njournal = "off"\n'
            f'[paths]\nalert_log = "{folder}/alert/log"\n{paths}'
        )
        self.configure()
        with (folder / "said").open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "correlator", "correlate", "--config", str(folder)],
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self.status().get("pid") == self.process.pid, what="it reads")

    def configure(self, *, maxretry=2, word="fail"):
        """Write Fail2ban's files anew."""
        (self.folder / "etc/jail.conf").write_text(JAIL_CONF.format(folder=self.folder, maxretry=maxretry))
        (self.folder / "etc/filter.d/x.conf").write_text(FILTER.format(word=word))

    def status(self):
        """Return what it left about itself."""
        found = list((self.folder / "run").rglob("correlator.json"))
        try:
            return json.loads(found[0].read_text()) if found else {}
        except ValueError:
            return {}

    def fail(self, *addresses, word="fail"):
        """Write a line for each address, with the date that Fail2ban's filter has to find."""
        stamp = time.strftime("%b %d %H:%M:%S")
        with self.log.open("a") as file:
            file.write("".join(f"{stamp} srv x: {word} from {address}\n" for address in addresses))

    def decided(self, address):
        """Wait until it decided on an address, and return the line."""
        found = []

        def look():
            lines = (self.folder / "said").read_text().splitlines()
            found[:] = [line for line in lines if line.startswith(f"observe source={address} ")]
            return found

        self._wait_until(look, what=f"decision on {address}")
        return found[0]

    def reloads(self):
        """Return how often it has read its site anew."""
        return self.status().get("reload", {}).get("count", 0)


@pytest.fixture
def running(tmp_path, wait_until):
    """A correlator that reads already; it ends with the test."""
    made = _Running(tmp_path, wait_until)
    yield made
    made.process.send_signal(signal.SIGTERM)
    assert made.process.wait(10) == 0


def test_a_jail_of_fail2ban_decides_here(running):
    """Its log is a pattern, its filter reads the line's own date, its ignore list holds."""
    running.fail("192.0.2.1", "192.0.2.1", "192.0.2.9", "192.0.2.9")
    assert " jail=x strikes=2 span=3600s" in running.decided("192.0.2.9")
    assert "source=192.0.2.1 " not in (running.folder / "said").read_text()


def test_an_edit_of_its_files_counts_by_itself(running, wait_until):
    """Whoever edits Fail2ban's files knows nothing of a reload of ours."""
    running.configure(maxretry=1, word="refused")
    wait_until(lambda: running.reloads() == 1, what="a reload")
    running.fail("192.0.2.8", word="refused")
    assert " strikes=1 " in running.decided("192.0.2.8")


def test_a_broken_edit_changes_nothing(running, wait_until):
    """What somebody is in the middle of writing must not end what runs."""
    running.configure(word="(")
    wait_until(lambda: running.reloads() == 1, what="a refused reload")
    assert "failregex 1" in str(running.status()["reload"]["problems"])
    running.fail("192.0.2.7", "192.0.2.7")
    assert " jail=x " in running.decided("192.0.2.7")
