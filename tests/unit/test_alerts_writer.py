"""Lines reach the alert log and syslog whole, and nothing outside makes writing them block or raise."""

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from correlator.alerts.stamps import Stamps
from correlator.alerts.trouble import Trouble
from correlator.alerts.writer import AlertLog, Syslog, Writer, say
from correlator.model import SECOND

AT = 1795357762_311584_999  # 2026-11-22T14:29:22.311584999Z


@pytest.fixture
def set_zone() -> Iterator[Callable[[str], None]]:
    """A function that changes the local time zone until the end of the test."""
    before = os.environ.get("TZ")

    def change(zone: str) -> None:
        os.environ["TZ"] = zone
        time.tzset()

    yield change
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    """A syslog daemon's socket at `log` in the folder of the test."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.setblocking(False)
        yield daemon


@pytest.fixture
def writer_for() -> Iterator[Callable[..., Writer]]:
    """A function that makes a writer into a folder, as host `vm`; closed after the test."""
    made = []

    def make(folder: Path, *, log: str = "alert.log", to_syslog: bool = True, echo: Any = None) -> Writer:
        syslog = Syslog(folder / "log") if to_syslog else None
        made.append(Writer(AlertLog(folder / log), syslog, echo=echo, host="vm"))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


@pytest.mark.parametrize(
    ("zone", "alert_log", "in_syslog"),
    [
        ("UTC0", "2026-11-22T14:29:22.311584+00:00", "Nov 22 14:29:22"),
        ("IST-5:30", "2026-11-22T19:59:22.311584+05:30", "Nov 22 19:59:22"),
        ("NST3:30", "2026-11-22T10:59:22.311584-03:30", "Nov 22 10:59:22"),
    ],
)
def test_stamps_are_local_time(
    set_zone: Callable[[str], None], zone: str, alert_log: str, in_syslog: str
) -> None:
    """With the zone's offset where the format has one, east and west."""
    set_zone(zone)
    stamps = Stamps()
    assert (stamps.alert_log(AT), stamps.syslog(AT)) == (alert_log, in_syslog)


def test_stamps_pad_and_move_on(set_zone: Callable[[str], None]) -> None:
    """The day with a space in syslog; the spelled second does not stick."""
    set_zone("UTC0")
    stamps = Stamps()
    july = 1783227600 * 10**9
    assert stamps.syslog(july) == "Jul  5 05:00:00"
    assert stamps.alert_log(july) == "2026-07-05T05:00:00.000000+00:00"
    assert stamps.alert_log(july + 10**9) == "2026-07-05T05:00:01.000000+00:00"


def test_one_line_in_both_places(
    writer_for: Callable[..., Writer], tmp_path: Path, syslog: socket.socket, set_zone: Callable[[str], None]
) -> None:
    """Byte for byte, and the log is for its owner and group only."""
    set_zone("UTC0")
    writer_for(tmp_path).write("attackalert: text", AT, 0)
    pid = os.getpid()
    expected = f"2026-11-22T14:29:22.311584+00:00 vm portsentry[{pid}]: attackalert: text\n"
    assert (tmp_path / "alert.log").read_text() == expected
    assert syslog.recv(999).decode() == f"<29>Nov 22 14:29:22 portsentry[{pid}]: attackalert: text"
    assert stat.S_IMODE((tmp_path / "alert.log").stat().st_mode) == 0o640


def test_line_feeds_in_syslog_stand_where_portsentry_sends_them(
    writer_for: Callable[..., Writer], tmp_path: Path, syslog: socket.socket
) -> None:
    """In the datagram, for start and stop and never for a probe; the alert log has one a line anyway."""
    writer = writer_for(tmp_path)
    said = [
        "adminalert: PortSentry 1.2 is starting.",
        "adminalert: Advanced mode will manually exclude port: 113 ",
        "attackalert: TCP SYN/Normal scan from host: 192.0.2.2/192.0.2.2 to TCP port: 1",
    ]
    for text in said:
        writer.write(text, AT, 0)
    datagrams = [syslog.recv(999).decode().split("]: ", 1)[1] for _ in said]
    assert datagrams == [said[0] + "\n", *said[1:]]
    assert texts(tmp_path / "alert.log") == said


def texts(path: Path) -> list[str]:
    """What the lines of a log say, without their headers."""
    found = [re.fullmatch(r"\S+ vm portsentry\[\d+\]: (.*)", line) for line in path.read_text().splitlines()]
    return [match[1] for match in found if match is not None]


def test_rotation_and_deletion_are_followed(writer_for: Callable[..., Writer], tmp_path: Path) -> None:
    """The next line goes to the file of that name, whatever became of the old one."""
    writer = writer_for(tmp_path, to_syslog=False)
    log, old = tmp_path / "alert.log", tmp_path / "alert.log.1"
    writer.write("one", AT, 0)
    log.rename(old)
    writer.write("two", AT, 0)
    log.unlink()
    writer.write("three", AT, 0)
    log.unlink()
    log.write_text("")
    writer.write("four", AT, 0)
    writer.reopen()
    writer.write("five", AT, 0)
    assert (texts(old), texts(log)) == (["one"], ["four", "five"])
    assert writer.log.trouble.failures == 0


def test_half_a_line_of_a_crash_does_not_swallow_ours(
    writer_for: Callable[..., Writer], tmp_path: Path
) -> None:
    """A line starts on its own line."""
    (tmp_path / "alert.log").write_bytes(b"2026 half a li")
    writer_for(tmp_path, to_syslog=False).write("whole", AT, 0)
    assert texts(tmp_path / "alert.log") == ["whole"]


def test_a_full_disk_is_said_once_and_its_end_once(
    writer_for: Callable[..., Writer],
    tmp_path: Path,
    syslog: socket.socket,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On standard error and in syslog; every lost line is counted."""
    log = tmp_path / "alert.log"
    writer = writer_for(tmp_path, log="/dev/full")
    for number in range(3):
        writer.write(f"lost {number}", AT, number)
    writer.log.path = str(log)
    writer.write("kept", AT, 9)
    complaint = "adminalert: ERROR: Cannot write to alert log /dev/full: No space left on device"
    relief = "adminalert: alert log /dev/full works again, 3 lines were lost"
    assert capfd.readouterr().err.splitlines() == [complaint, relief]
    assert texts(log) == ["kept", relief]
    said = [syslog.recv(999).decode().split("]: ", 1)[1] for _ in range(6)]
    assert said == ["lost 0", complaint, "lost 1", "lost 2", "kept", relief]
    assert writer.log.trouble.failures == 3


def test_a_link_is_not_written_through(writer_for: Callable[..., Writer], tmp_path: Path) -> None:
    """The folder is the probe's user's; whoever took that over must not have root write anywhere."""
    target = tmp_path / "target"
    target.write_text("theirs\n")
    log = tmp_path / "alert.log"
    log.symlink_to(target)
    writer = writer_for(tmp_path, to_syslog=False)
    writer.write("lost", AT, 0)
    assert target.read_text() == "theirs\n"
    assert writer.log.trouble.failures == 1
    log.unlink()
    writer.write("kept", AT, 1)
    assert texts(log)[0] == "kept"


def test_a_line_cut_by_a_full_disk_is_ended_first(tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts a write short as a nearly full disk does; the next line stands alone."""
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from correlator.alerts.writer import AlertLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = AlertLog(Path(sys.argv[1])); log.write(b'x' * 9 + b'\\n', 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))\n"
        "print(log.write(b'y' * 9 + b'\\n', 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (999, resource.RLIM_INFINITY))\n"
        "print(log.write(b'z' * 9 + b'\\n', 0))\n"
    )
    log = tmp_path / "alert.log"
    ended = subprocess.run([sys.executable, "-c", program, log], capture_output=True, text=True, check=True)
    assert log.read_text().splitlines() == ["x" * 9, "y" * 5, "z" * 9]
    assert ended.stdout.splitlines() == [
        f"adminalert: ERROR: Cannot write to alert log {log}: No space left on device",
        f"adminalert: alert log {log} works again, 1 lines were lost",
    ]


def test_a_missing_folder_and_a_fifo_do_not_stop_us(
    writer_for: Callable[..., Writer], tmp_path: Path
) -> None:
    """Nor does a FIFO that nobody reads make opening it wait."""
    writer = writer_for(tmp_path, log="missing/alert.log", to_syslog=False)
    writer.write("lost", AT, 0)
    assert writer.log.trouble.failures == 1
    os.mkfifo(tmp_path / "fifo")
    fifo = writer_for(tmp_path, log="fifo", to_syslog=False)
    for _ in range(2000):
        fifo.write("x" * 100, AT, 0)
    assert fifo.log.trouble.failures > 0


def test_a_dead_syslog_is_said_once_and_tried_once_a_second(
    writer_for: Callable[..., Writer], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lines go on into the alert log; when syslog is back it gets lines again, within a second."""
    writer = writer_for(tmp_path)
    assert writer.syslog is not None
    writer.write("one", AT, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.settimeout(5)
        writer.write("two", AT, SECOND - 1)
        assert writer.syslog.trouble.failures == 2
        writer.write("three", AT, SECOND)
        assert daemon.recv(999).endswith(b": three")
    (tmp_path / "log").unlink()
    complaint = f"adminalert: ERROR: Cannot write to syslog {tmp_path}/log: No such file or directory"
    relief = f"adminalert: syslog {tmp_path}/log works again, 2 lines were lost"
    assert capfd.readouterr().err.splitlines() == [complaint, relief]
    assert texts(tmp_path / "alert.log") == ["one", complaint, "two", "three", relief]


def test_a_restarted_syslog_loses_no_line(writer_for: Callable[..., Writer], tmp_path: Path) -> None:
    """The line that finds the old socket dead goes to the new one."""
    writer = writer_for(tmp_path)
    for number in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(str(tmp_path / "log"))
            daemon.settimeout(5)
            writer.write(f"line {number}", AT, number * 2 * SECOND)
            assert daemon.recv(999).endswith(f": line {number}".encode())
        (tmp_path / "log").unlink()


@pytest.mark.usefixtures("syslog")
def test_a_full_syslog_queue_never_blocks(writer_for: Callable[..., Writer], tmp_path: Path) -> None:
    """A daemon that does not read costs lines in syslog and none in the alert log."""
    writer = writer_for(tmp_path)
    for _ in range(2000):
        writer.write("flood", AT, 0)
    assert writer.syslog is not None
    assert writer.syslog.trouble.failures > 0
    assert writer.is_waiting
    assert texts(tmp_path / "alert.log").count("flood") == 2000


def test_a_burst_reaches_syslog_whole_and_in_order(
    writer_for: Callable[..., Writer], tmp_path: Path, syslog: socket.socket
) -> None:
    """Its queue holds ten; the rest waits here until the daemon reads."""
    writer = writer_for(tmp_path)
    sent = [f"line {number}" for number in range(300)]
    for text in sent:
        writer.write(text, AT, 0)
    found = []
    while len(found) < len(sent):
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(syslog.recv(999).decode().split("]: ", 1)[1])
        writer.flush(AT, 0)
    assert found == sent
    assert writer.syslog is not None
    assert (writer.is_waiting, writer.syslog.trouble.failures) == (False, 0)


def test_the_last_lines_wait_for_a_slow_syslog(
    writer_for: Callable[..., Writer], tmp_path: Path, syslog: socket.socket
) -> None:
    """A probe that cannot start says so in more lines than the queue holds, and then ends."""
    writer = writer_for(tmp_path)
    for number in range(60):
        writer.write(f"line {number}", AT, 0)
    assert writer.is_waiting
    syslog.settimeout(10)
    found: list[str] = []

    def read() -> None:
        while len(found) < 60:
            found.append(syslog.recv(999).decode().split("]: ", 1)[1])

    reader = threading.Thread(target=read)
    reader.start()
    writer.close()
    reader.join()
    assert found == [f"line {number}" for number in range(60)]


@pytest.mark.usefixtures("syslog")
def test_a_stuck_syslog_does_not_keep_us_from_ending(
    writer_for: Callable[..., Writer], tmp_path: Path
) -> None:
    """It is given up, and its lines with it."""
    writer = writer_for(tmp_path)
    for _ in range(60):
        writer.write("line", AT, 0)
    writer.close()
    assert writer.is_waiting


def test_lines_that_wait_for_a_dying_syslog_are_counted(
    writer_for: Callable[..., Writer], tmp_path: Path
) -> None:
    """Each one is lost; one sentence says so."""
    writer = writer_for(tmp_path)
    assert writer.syslog is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        for _ in range(300):
            writer.write("flood", AT, 0)
    (tmp_path / "log").unlink()
    writer.flush(AT, SECOND)
    assert not writer.is_waiting
    assert 0 < writer.syslog.trouble.failures < 300
    assert sum("ERROR" in text for text in texts(tmp_path / "alert.log")) == 1


def test_echo_goes_to_standard_output(
    writer_for: Callable[..., Writer], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As it is to be shown, from the alert log's stamp and the text."""
    writer = writer_for(tmp_path, to_syslog=False, echo=lambda stamp, text: f"{text} at {stamp}")
    writer.write("attackalert: text", AT, 0)
    stamp = (tmp_path / "alert.log").read_text().split()[0]
    assert capfd.readouterr().out == f"attackalert: text at {stamp}\n"
    assert writer.unshown == 0


def test_a_reader_that_is_stuck_or_gone_is_passed_over() -> None:
    """A full pipe and a closed one: false, at once."""
    reading, writing = os.pipe()
    while say(writing, "x" * 400):
        pass
    os.close(reading)
    assert not say(writing, "nobody")
    os.close(writing)
    assert not say(writing, "closed")


def test_a_way_that_fails_in_turns_is_said_once_a_minute() -> None:
    """The complaint must not become the flood, and no lost line is forgotten in the sum."""
    trouble = Trouble("it")
    said = []
    for number in range(200):
        now = number * SECOND
        said += [trouble.failed("full", now), trouble.failed("full", now), trouble.worked(), trouble.worked()]
    complaint = "adminalert: ERROR: Cannot write to it: full"
    first = "adminalert: it works again, 2 lines were lost"
    later = "adminalert: it works again, 120 lines were lost"
    assert [text for text in said if text] == [complaint, first] + [complaint, later] * 3
    assert (trouble.failures, trouble.is_failing) == (400, False)
