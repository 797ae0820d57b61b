"""From the probe through a real rsyslog to the correlator, in each form that rsyslog writes to files."""

import json
import os
import sys
import time

import pytest

from tests.peers import rsyslog as peer
from tests.site_folders import paths_table

pytestmark = [pytest.mark.netns, pytest.mark.skipif(not peer.is_there(), reason="no rsyslog: see make peer")]
SETTINGS = """
[correlator]
journal = "off"
[jail.scan]
filters = ["traditional", "iso", "rfc5424"]
threshold = 1
span = "1h"
"""
FILTER = """
identifiers = ["portsentry"]
files       = ["{log}"]
claims      = "attackalert: "
[[pattern]]
name  = "scan"
regex = '''^attackalert: TCP \\S+ scan from host: \\S+/(?P<source>[0-9a-f.:]+) to TCP port: (?P<port>\\d+)$'''
"""


@pytest.fixture
def rsyslog(tmp_path):
    """A running rsyslog on the socket that the test's probe writes to."""
    with peer.Rsyslog(tmp_path, tmp_path / "log") as made:
        yield made


@pytest.fixture
def said(lab, rsyslog, tmp_path, wait_until):
    """A correlator that reads each of rsyslog's files; the function returns its decisions so far."""
    folder = tmp_path / "site"
    for name in ("filters", "run", "state"):
        (folder / name).mkdir(parents=True)
    for form, log in rsyslog.logs.items():
        (folder / f"filters/{form}.toml").write_text(FILTER.format(log=log))
    (folder / "portward.toml").write_text(paths_table(folder) + SETTINGS)
    with (folder / "said").open("w") as output:
        process = lab.victim.popen(
            *(sys.executable, "-m", "correlator", "correlate", "--config", str(folder)), stdout=output
        )
    status = folder / "run/correlator/correlator.json"
    wait_until(status.exists)

    def decisions():
        lines = [line.split() for line in (folder / "said").read_text().splitlines()]
        return [(line[1], line[3], line[5]) for line in lines if line[0] == "observe"]

    decisions.status = lambda: json.loads(status.read_text())
    yield decisions
    process.terminate()
    process.wait(10)


def _decision(source, port):
    return (f"source={source}", "strikes=1", f"ports={port}")


@pytest.mark.usefixtures("rsyslog")
def test_a_probe_is_understood_in_each_form(start_probe, scanner, said, wait_until):
    """A real SYN, the probe's line to /dev/log, rsyslog's files: one probe, and the same one twice more."""
    start_probe()
    scanner.send_tcp(79)
    wait_until(lambda: said() == [_decision("192.0.2.2", 79)], what=f"a decision; {said()}")
    wait_until(lambda: (_count(said, "events"), _count(said, "duplicates")) == (1, 2))
    assert _count(said, "skewed", "unreadable") == 0


def test_a_rotation_by_rsyslog_loses_nothing(rsyslog, said, wait_until):
    """Renamed, rsyslog goes on in the old file until it is told; then in the new one."""
    _send(rsyslog, _scan("192.0.2.5", 1))
    expected = [_decision("192.0.2.5", 1)]
    wait_until(lambda: said() == expected)
    for log in rsyslog.logs.values():
        os.rename(log, f"{log}.1")
    _send(rsyslog, _scan("192.0.2.6", 2))
    expected.append(_decision("192.0.2.6", 2))
    wait_until(lambda: said() == expected)
    rsyslog.reopen()
    wait_until(lambda: _send(rsyslog, "nothing") or all(log.exists() for log in rsyslog.logs.values()))
    _send(rsyslog, _scan("192.0.2.7", 3))
    expected.append(_decision("192.0.2.7", 3))
    wait_until(lambda: said() == expected)
    assert [row["losses"] for row in said.status()["sources"]] == [0, 0, 0]


def test_what_a_stranger_sends_through_it_stays_one_line(rsyslog, said, wait_until):
    """A line feed, NUL, ESC, bytes that are no text: rsyslog writes them out, and no second line is read."""
    stamp = time.strftime("%b %e %H:%M:%S")
    forged = f"<29>{stamp} portsentry[7]: attackalert: \n{stamp} vm portsentry[7]: {_scan('192.0.2.8', 4)}"
    rsyslog.send(forged.encode())
    rsyslog.send(f"<29>{stamp} portsentry[7]: attackalert: ".encode() + b"\xe9\x00\x1b\xff")
    _send(rsyslog, _scan("192.0.2.9", 5))
    wait_until(lambda: said() == [_decision("192.0.2.9", 5)])
    wait_until(lambda: [row.get("unreadable") for row in said.status()["sources"]] == [2, 2, 2])


def _count(said, *names):
    return sum(row.get(name, 0) for row in said.status()["sources"] for name in names)


def _scan(source, port):
    return f"attackalert: TCP SYN/Normal scan from host: a/{source} to TCP port: {port}"


def _send(rsyslog, text):
    rsyslog.send(f"<29>{time.strftime('%b %e %H:%M:%S')} portsentry[7]: {text}\n".encode())
