"""Names of senders from real name servers, friendly, hostile and silent: lines never wait for one."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSRR

from correlator.drill.lab import SCANNER4, SCANNER6, VICTIM6, Lab
from correlator.drill.scanner import Scanner

pytestmark = pytest.mark.netns

WaitUntil = Callable[..., None]
LINE = "attackalert: TCP SYN/Normal scan from host: {}/{} to TCP port: {}"
OPTIONS = '{"resolve_names": True}'


def private(folder: Path, **files: str) -> tuple[str, ...]:
    """What runs a command with these files in /etc in place of the host's."""
    mounts = []
    for name, text in files.items():
        (folder / name).write_text(text)
        mounts.append(f"mount --bind {folder / name} /etc/{name.replace('_', '.')}")
    script = " && ".join([*mounts, 'exec "$@"'])
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")


@contextmanager
def name_server(lab: Lab, names: dict[str, bytes]) -> Iterator[list[str]]:
    """Serve these names for what is asked, from the scanner; gives what was asked."""
    with lab.scanner.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((SCANNER4, 53))
    asked: list[str] = []

    def serve() -> None:
        while True:
            data, client = server.recvfrom(4096)
            if not data:
                return
            question = DNS(data)
            asked.append(question.qd.qname.decode().rstrip("."))
            answer = DNS(id=question.id, qr=1, ra=1, qd=question.qd)
            if asked[-1] in names:
                answer.an = DNSRR(rrname=question.qd.qname, type="PTR", ttl=60, rdata=names[asked[-1]])
            else:
                answer.rcode = 3
            server.sendto(bytes(answer), client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with lab.scanner.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (SCANNER4, 53))
        thread.join()
        server.close()


def reversed_name(address: str) -> str:
    """What a name server is asked for an IPv4 address."""
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


FROM_DNS = {"nsswitch_conf": "hosts: files dns\n", "hosts": "", "resolv_conf": f"nameserver {SCANNER4}\n"}


def test_a_name_server_gives_names_and_hostile_ones_are_not_used(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    """The first line of a sender has its address, later ones its name; both IP versions, asked once each."""
    told = {
        "192.0.2.10": b"scanner.example.net.",
        "192.0.2.11": b"evil/10.0.0.1;$(id).example.",
        "192.0.2.12": b"10.0.0.1.",
        "192.0.2.13": b"a\nattackalert: forged.example.",
        "192.0.2.14": b"\xff\xfe\x1b[31m.example.",
        "192.0.2.15": b".".join([b"y" * 60] * 4) + b".",
    }
    sources = [*told, "192.0.2.16"]
    served = {reversed_name(address): name for address, name in told.items()}
    served[socket.inet_pton(socket.AF_INET6, SCANNER6).hex()[::-1].replace("", ".")[1:-1] + ".ip6.arpa"] = (
        b"six.example.net."
    )
    probe = start_probe(OPTIONS, *private(tmp_path, **FROM_DNS))
    with name_server(lab, served) as asked:
        for source in sources:
            scanner.send_tcp(25, source=source)
        scanner.send_tcp(25, destination=VICTIM6)
        wait_until(lambda: len(asked) == 8 and probe.status().get("names_known") == 3, what="all looked up")
        for source in sources:
            scanner.send_tcp(26, source=source)
        scanner.send_tcp(26, destination=VICTIM6)
        settle(probe)
        assert len(asked) == len(set(asked))
    names = {
        "192.0.2.10": "scanner.example.net",
        "192.0.2.15": ".".join(["y" * 60] * 4),
        SCANNER6: "six.example.net",
    }
    everybody = [*sources, SCANNER6]
    assert sorted(probe.alerts()) == sorted(
        [
            *(LINE.format(source, source, 25) for source in everybody),
            *(LINE.format(names.get(source, source), source, 26) for source in everybody),
        ]
    )


def test_names_of_the_hosts_file_are_cleaned_too(
    *,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    """PortSentry wrote `evil/10.0.0.1;$(id)` as it stood."""
    hosts = "192.0.2.10 friend\n192.0.2.11 evil/10.0.0.1;$(id)\n192.0.2.12 10.0.0.1\n192.0.2.13 \x1b[31m\n"
    files = {"nsswitch_conf": "hosts: files\n", "hosts": hosts}
    probe = start_probe(OPTIONS, *private(tmp_path, **files))
    sources = [f"192.0.2.{number}" for number in range(10, 15)]
    for source in sources:
        scanner.send_tcp(25, source=source)
    wait_until(lambda: probe.status().get("names_known") == 1)
    for source in sources:
        scanner.send_tcp(26, source=source)
    settle(probe)
    names = {"192.0.2.10": "friend"}
    assert [text for text in probe.alerts() if text.endswith(" 26")] == [
        LINE.format(names.get(source, source), source, 26) for source in sources
    ]


def test_a_name_server_that_never_answers_costs_no_line_and_no_time(
    *,
    lab: Lab,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    """Every line is written while lookups wait; what is too much is left out; it ends when told to."""
    probe = start_probe(OPTIONS, *private(tmp_path, **FROM_DNS))
    with lab.scanner.entered():
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with silent:
        silent.bind((SCANNER4, 53))
        silent.settimeout(10)
        scanner.send_tcp(25, source="192.0.2.10")
        assert b"in-addr" in silent.recv(4096)
        sources = [f"198.51.100.{number}" for number in range(1, 101)]
        for source in sources:
            scanner.send_tcp(25, source=source)
        settle(probe)
        assert probe.alerts()[1:] == [LINE.format(source, source, 25) for source in sources]
        wait_until(lambda: probe.status().get("names_left_out"))
        child = _child_of(probe, wait_until)
        assert probe.stop()[0] == 0
        wait_until(lambda: not Path(f"/proc/{child}").exists(), what="the other process gone")


def test_the_other_process_may_do_nothing_and_may_die(
    *,
    start_probe: Callable[..., Any],
    scanner: Scanner,
    settle: Callable[[Any], None],
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    """It has no right and no packet socket; without it there are no names, and all lines."""
    probe = start_probe(OPTIONS, *private(tmp_path, nsswitch_conf="hosts: files\n", hosts="192.0.2.10 a\n"))
    child = _child_of(probe, wait_until)
    scanner.send_tcp(25, source="192.0.2.10")
    wait_until(lambda: probe.status().get("names_known") == 1)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{child}/status").read_text().splitlines()
        if "\t" in line
    )
    assert [status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")] == ["0" * 16] * 5
    held = {os.readlink(link).partition(":")[0] for link in Path(f"/proc/{child}/fd").iterdir()}
    # in a changed root the kernel names the null device by its place outside
    assert {name if not name.endswith("/dev/null") else "null" for name in held} <= {"socket", "pipe", "null"}
    assert sum(os.readlink(link).startswith("socket") for link in Path(f"/proc/{child}/fd").iterdir()) == 1
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    for source in ("192.0.2.10", "192.0.2.11"):
        scanner.send_tcp(26, source=source)
    settle(probe)
    assert probe.alerts()[1:] == [LINE.format("a", "192.0.2.10", 26), LINE.format(*["192.0.2.11"] * 2, 26)]


def test_the_probe_stays_small_with_names(start_probe: Callable[..., Any], wait_until: WaitUntil) -> None:
    """Both processes under 20 MiB."""
    probe = start_probe(OPTIONS)
    for process in (probe.child.pid, _child_of(probe, wait_until)):
        assert _resident(process) < 20 * 1024


def test_without_names_there_is_no_other_process(start_probe: Callable[..., Any]) -> None:
    """The default."""
    probe = start_probe()
    assert Path(f"/proc/{probe.child.pid}/task/{probe.child.pid}/children").read_text() == ""


def _child_of(probe: Any, wait_until: WaitUntil) -> int:
    children = Path(f"/proc/{probe.child.pid}/task/{probe.child.pid}/children")
    wait_until(children.read_text, what="the other process there")
    return int(children.read_text())


def _resident(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
