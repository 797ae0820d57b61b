"""The enforcer on a real kernel: sets, drops, mends, restores, and SIGKILL at any moment."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from correlator.drill.lab import GATEWAY4, VICTIM4, VICTIM6, Lab
from correlator.enforcer.client import EnforcerClient
from correlator.enforcer.fields import MAX_LINE
from correlator.enforcer.nftables import NftablesBackend
from correlator.enforcer.protocol import (
    BlockRequest,
    ErrorAnswer,
    Mend,
    MendedEvent,
    OutcomeAnswer,
    OutcomeEvent,
    ReleasedAnswer,
    ReleaseRequest,
    StatusAnswer,
    StatusRequest,
    SyncedAnswer,
    SyncRequest,
    WatchingAnswer,
    WatchRequest,
)
from correlator.errors import BusyError, PortwardError, UnreachableError
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, parse_prefix
from correlator.settings import Paths
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockState, BlockStore, NewBlock
from correlator.store.history import read_history

pytestmark = pytest.mark.netns

STRANGER4 = "198.51.100.7"
STRANGER6 = "2001:db8:7::7"
HOUR: Micros = 3600 * SECOND
# Run in the victim's namespace: the enforcer with settings that a test chose.
PROGRAM = """
import json, sys
from pathlib import Path
from correlator.enforcer.service import run_enforcer
from correlator.errors import PortwardError
from correlator.settings import EnforcerSettings, Paths
told = json.loads(sys.argv[1])
paths = Paths(**{name: Path(path) for name, path in told.pop("paths").items()})
try:
    sys.exit(run_enforcer(EnforcerSettings(paths=paths, **told)))
except PortwardError as exc:
    print(exc, file=sys.stderr)
    sys.exit(exc.exit_status)
"""


class Running:
    """Enforcers in the victim's namespace, one after the other on the same files."""

    def __init__(self, lab: Lab, folder: Path, wait_until: Callable[..., None]) -> None:
        self.lab = lab
        self.paths = replace(
            Paths(),
            state=folder / "state",
            run=folder / "run",
            history=folder / "history",
            blocked=folder / "blocked",
            ignore=folder / "ignore",
        )
        self.output = folder / "output"
        self.wait_until = wait_until
        self.ids = 0
        self.process: subprocess.Popen[str] | None = None
        self.clients: list[EnforcerClient] = []

    def start(self, **settings: Any) -> EnforcerClient:
        """Start one and return a client of it, connected when it is ready."""
        self.process = self.popen(**settings)
        self.wait_until(self.is_ready, 20)
        return self.connect()

    def popen(self, **settings: Any) -> subprocess.Popen[str]:
        """Start one and wait for nothing."""
        paths = {
            name: str(getattr(self.paths, name)) for name in ("state", "run", "history", "blocked", "ignore")
        }
        told = json.dumps({"paths": paths, **settings})
        with self.output.open("a") as output:
            return self.lab.victim.popen(sys.executable, "-c", PROGRAM, told, stdout=output, stderr=output)

    def is_ready(self) -> bool:
        """Whether the enforcer takes requests."""
        assert self.process is not None
        assert self.process.poll() is None, self.output.read_text()
        with contextlib.suppress(PortwardError):
            EnforcerClient(self.paths.enforcer_socket).close()
            return True
        return False

    def connect(self) -> EnforcerClient:
        """Return a further client."""
        client = EnforcerClient(self.paths.enforcer_socket, timeout=30)
        self.clients.append(client)
        return client

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it and return its status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self) -> None:
        """End all connections; the lab ends the process."""
        for client in self.clients:
            client.close()

    def next_id(self) -> int:
        """Return a number not used before."""
        self.ids += 1
        return self.ids

    def block(
        self, client: EnforcerClient, source: str, lasts: Micros | None = HOUR, request: str = ""
    ) -> Outcome:
        """Ask for a block and return what became of it."""
        until = None if lasts is None else now() + lasts
        asked = BlockRequest(
            self.next_id(), request or f"{source}/{self.ids}", parse_prefix(source), "scan", until, 1, "TCP"
        )
        answer = client.ask(asked)
        assert isinstance(answer, OutcomeAnswer)
        return answer.outcome

    def sync(self, client: EnforcerClient) -> Mend:
        """Ask for a comparison and return what was mended."""
        answer = client.ask(SyncRequest(self.next_id()))
        assert isinstance(answer, SyncedAnswer)
        return answer.mend

    def nft(self, text: str) -> str:
        """Run a line of nft in the victim's namespace, as another hand would."""
        return self.lab.victim.run("nft", "-f", "-", text=text + "\n").stdout

    def kernel(self) -> dict[str, Micros | None]:
        """Return what the kernel holds, read by a socket of our own."""
        with self.lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
            listing = backend.list(now=now())
        assert listing.table == "intact"
        return {str(source): until for source, until in listing.elements.items()}

    def generation(self) -> int:
        """Return the ruleset's generation: every change moves it on."""
        with self.lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
            return backend._ask_generation()


def now() -> Micros:
    """Return the time."""
    return time.time_ns() // 1000


@pytest.fixture
def running(lab: Lab, tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[Running]:
    """Enforcers to start in the lab."""
    made = Running(lab, tmp_path, wait_until)
    yield made
    made.close()


def can_connect(lab: Lab, source: str, destination: str, port: int) -> bool:
    """Return whether a TCP connection from that source is made within a moment."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with lab.scanner.entered(), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((source, 0))
        probe.settimeout(0.3)
        return probe.connect_ex((destination, port)) == 0


@pytest.fixture
def service(lab: Lab) -> Iterator[socket.socket]:
    """A service in the victim, for both versions."""
    with lab.victim.entered():
        listening = socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    with listening:
        yield listening


@pytest.mark.parametrize(
    ("stranger", "blocked", "victim"),
    [
        (STRANGER4, STRANGER4, VICTIM4),
        (STRANGER4, "198.51.100.0/24", VICTIM4),
        (STRANGER6, STRANGER6, VICTIM6),
        (STRANGER6, "2001:db8:7::/64", VICTIM6),
    ],
)
@pytest.mark.usefixtures("service")
def test_a_blocked_source_is_not_answered_until_released(
    running: Running, lab: Lab, stranger: str, blocked: str, victim: str
) -> None:
    """Single addresses and prefixes of both versions, on real packets; nobody else is touched."""
    port = 22
    neighbour = stranger.replace(".100.7", ".200.7").replace(":7::7", ":8::7")
    lab.add_scanner_address(stranger, neighbour)
    client = running.start()
    assert can_connect(lab, stranger, victim, port)
    assert running.block(client, blocked).kind is OutcomeKind.DONE
    assert not can_connect(lab, stranger, victim, port)
    assert can_connect(lab, neighbour, victim, port)
    answer = client.ask(ReleaseRequest(running.next_id(), parse_prefix(blocked)))
    assert answer == ReleasedAnswer(running.ids, 1)
    assert can_connect(lab, stranger, victim, port)


def test_an_established_connection_dies(running: Running, lab: Lab, service: socket.socket) -> None:
    """The drop stands before connection tracking: who is in is thrown out."""
    lab.add_scanner_address(STRANGER4)
    # As on a host with a stateful firewall, which lets established connections through.
    running.nft(
        "table inet other { chain input { type filter hook input priority 0; policy accept;"
        " ct state established accept; }; }"
    )
    client = running.start()
    with lab.scanner.entered():
        stranger = socket.create_connection((VICTIM4, 22), source_address=(STRANGER4, 0), timeout=5)
    accepted, _ = service.accept()
    with stranger, accepted:
        accepted.settimeout(5)
        stranger.sendall(b"before")
        assert accepted.recv(100) == b"before"
        running.block(client, STRANGER4)
        stranger.sendall(b"after")
        accepted.settimeout(0.3)
        with pytest.raises(TimeoutError):
            accepted.recv(100)


def test_elements_carry_the_remaining_time(running: Running) -> None:
    """The kernel ends a block by itself; an extension really moves the end, to for ever and back from it."""
    client = running.start()
    running.block(client, STRANGER4, 100 * SECOND)
    running.block(client, "203.0.113.0/24", 100 * SECOND)
    running.block(client, "203.0.114.9", None)
    found = running.kernel()
    for source in (STRANGER4, "203.0.113.0/24"):
        until = found[source]
        assert until is not None
        assert abs(until - now() - 100 * SECOND) < 2 * SECOND
    assert found["203.0.114.9"] is None
    running.block(client, STRANGER4, 500 * SECOND)
    running.block(client, "203.0.113.0/24", None)
    found = running.kernel()
    until = found[STRANGER4]
    assert until is not None
    assert abs(until - now() - 500 * SECOND) < 2 * SECOND
    assert found["203.0.113.0/24"] is None
    assert len(client.blocks()) == 3


def test_a_block_expires_in_kernel_belief_and_file(running: Running) -> None:
    """When its time is over it is gone everywhere, a watcher hears of it, and the history keeps it."""
    client = running.start()
    watcher = running.connect()
    assert watcher.ask(WatchRequest(1)) == WatchingAnswer(1)
    outcome = running.block(client, STRANGER4, SECOND // 2, request="a")
    heard: list[OutcomeKind] = []

    def has_expired() -> bool:
        heard.extend(event.outcome.kind for event in watcher.receive() if isinstance(event, OutcomeEvent))
        return OutcomeKind.EXPIRED in heard

    running.wait_until(has_expired)
    assert heard == [OutcomeKind.DONE, OutcomeKind.EXPIRED]
    assert outcome.until is not None
    assert now() >= outcome.until
    running.wait_until(lambda: running.kernel() == {})
    running.wait_until(lambda: read_blocked_file(running.paths.blocked) == ())
    assert [str(line.source) for line in read_history(running.paths.history)] == [STRANGER4]


def test_a_longer_prefix_inside_a_shorter_one(running: Running) -> None:
    """Real intervals do not overlap; pieces and their restoring must be right on the kernel, too."""
    client = running.start()
    running.block(client, "203.0.113.0/24", HOUR)
    running.block(client, "203.0.113.64/26", 2 * HOUR)
    running.block(client, "203.0.113.80", None)
    assert sorted(running.kernel()) == [
        "203.0.113.0/26",
        "203.0.113.128/25",
        "203.0.113.64/26",
        "203.0.113.80",
    ]
    client.ask(ReleaseRequest(running.next_id(), parse_prefix("203.0.113.64/26")))
    assert sorted(running.kernel()) == ["203.0.113.0/24", "203.0.113.80"]
    running.block(client, "203.0.112.0/23", None)
    assert sorted(running.kernel()) == ["203.0.112.0/23"]
    assert running.sync(client) == Mend("intact")
    assert "mended" not in running.output.read_text()


@pytest.mark.parametrize(
    ("damage", "table"),
    [
        ("flush ruleset", "missing"),
        ("delete table inet portward", "missing"),
        ("flush chain inet portward prerouting", "altered"),
        ("insert rule inet portward prerouting accept", "altered"),
        ("delete element inet portward source4 { 198.51.100.7 }", "intact"),
        ("add element inet portward source6 { 2001:db8::99 }", "intact"),
        ("add table inet portward { flags dormant; }", "altered"),
        ("add chain inet portward prerouting { policy drop; }", "altered"),
        (
            "flush set inet portward prefix4\nadd element inet portward prefix4 { 203.0.113.9-203.0.113.20 }",
            "intact",
        ),
    ],
)
def test_another_hand_is_mended(running: Running, damage: str, table: str) -> None:
    """Whatever was done to our table, the next comparison makes it right and says so."""
    client = running.start()
    running.block(client, STRANGER4)
    running.block(client, "203.0.113.0/24")
    before = running.kernel()
    assert running.sync(client) == Mend("intact")
    running.nft(damage)
    watcher = running.connect()
    watcher.ask(WatchRequest(1))
    mend = running.sync(client)
    assert mend.table == table
    assert mend.is_needed
    assert running.kernel().keys() == before.keys()
    assert running.sync(client) == Mend("intact")
    running.wait_until(lambda: f"mended table={table}" in running.output.read_text())
    assert [event.mend for event in watcher.receive() if isinstance(event, MendedEvent)] == [mend]


def test_a_deleted_rule_is_mended_without_being_told(running: Running) -> None:
    """The periodic comparison finds by the ruleset's generation that there is something to read."""
    client = running.start(sync_every=SECOND // 10)
    running.block(client, STRANGER4)
    generation = running.generation()
    handle = running.lab.victim.run("nft", "-a", "list", "chain", "inet", "portward", "prerouting").stdout
    line = next(line for line in handle.splitlines() if "@source4" in line)
    running.nft(f"delete rule inet portward prerouting handle {line.rpartition(' ')[2]}")
    running.wait_until(lambda: "mended table=altered restored=1" in running.output.read_text())
    assert list(running.kernel()) == [STRANGER4]
    assert running.generation() == generation + 2


def test_sighup_compares_at_once(running: Running) -> None:
    """As a reload does; the ignore file is read again as well."""
    client = running.start()
    running.block(client, STRANGER4)
    running.block(client, "203.0.113.5")
    running.nft("flush ruleset")
    running.paths.ignore.write_text("203.0.113.0/24\n")
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    running.wait_until(lambda: "mended table=missing restored=1" in running.output.read_text())
    assert list(running.kernel()) == [STRANGER4]
    assert [str(block.source) for block in client.blocks()] == [STRANGER4]


def test_the_table_waits_for_the_first_block_unless_enforcing(running: Running) -> None:
    """An installation that only observes leaves the host's rules alone."""
    running.start()
    assert "portward" not in running.lab.victim.run("nft", "list", "tables").stdout
    running.kill(signal.SIGTERM)
    running.start(is_enforcing=True)
    assert running.kernel() == {}


def test_own_address_and_gateway_are_never_blocked(running: Running) -> None:
    """Asked of the real kernel of that namespace."""
    client = running.start()
    for source, why in (
        (VICTIM4, "this host's own address"),
        (VICTIM6, "this host's own address"),
        (GATEWAY4, "a gateway of this host"),
    ):
        outcome = running.block(client, source)
        assert (outcome.kind, outcome.detail) == (OutcomeKind.REFUSED, f"{source} is {why}")
    assert running.block(client, "192.0.2.0/24").kind is OutcomeKind.REFUSED


def test_sigterm_leaves_the_blocks_in_force_and_the_next_start_touches_nothing(running: Running) -> None:
    """A restart has no gap: not one transaction is made where kernel and rows agree."""
    client = running.start()
    running.block(client, STRANGER4)
    running.block(client, "2001:db8:7::/64", None)
    assert running.kill(signal.SIGTERM) == 0
    assert not running.paths.enforcer_socket.exists()
    before = running.generation()
    assert sorted(running.kernel()) == [STRANGER4, "2001:db8:7::/64"]
    client = running.start()
    assert running.generation() == before
    assert [str(block.source) for block in client.blocks()] == [STRANGER4, "2001:db8:7::/64"]
    assert running.output.read_text().splitlines()[-1] == "started table=intact added=0 removed=0 refreshed=0"


def test_fifty_thousand_blocks_are_restored_in_one_batch(running: Running) -> None:
    """As after a reboot: one transaction, exact ends, and requests are answered soon after."""
    running.paths.state.mkdir()
    store = BlockStore.open(running.paths.blocks_database)
    base = now()
    sources = [f"10.{index >> 8 & 255}.{index & 255}.{index >> 16}" for index in range(40_000)]
    sources += [f"2001:db9:{index:x}::/64" for index in range(10_000)]
    store._connection.execute("BEGIN")
    for index, source in enumerate(sources):
        until = None if index % 10 == 0 else base + HOUR + index * SECOND
        row = NewBlock(f"r{index}", parse_prefix(source), "scan", base, until, 1, "TCP", "", ("nftables",))
        number = store.request(row)
        store._connection.execute(
            "UPDATE blocks SET state = 'done', is_in_history = 1 WHERE number = ?", (number,)
        )
    store._connection.execute("COMMIT")
    store.close()
    before, started = running.generation(), now()
    client = running.start(is_enforcing=True)
    assert running.generation() == before + 1
    found = running.kernel()
    took = now() - started  # a timeout runs from when nft has carried it in: so much later it may end
    assert len(found) == 50_000
    assert found[sources[0]] is None
    until = found[sources[44_444]]
    assert until is not None
    assert abs(until - base - HOUR - 44_444 * SECOND) < took + SECOND
    assert len(client.blocks()) == 50_000
    mend = running.sync(client)
    assert (mend.table, mend.added, mend.removed) == ("intact", 0, 0)
    assert len(read_blocked_file(running.paths.blocked)) == 50_000


def test_blocks_of_any_length_are_restored(running: Running) -> None:
    """An hour and a week, thirty days, to the last that may be asked for; all at once, and some hundreds."""
    client = running.start()
    days = (1, 2, 7, 30, 365, 36_500, 136_000)
    for number, length in enumerate(days):
        running.block(client, f"203.0.113.{number}", length * 24 * HOUR)
        running.block(client, f"198.51.{number}.0/24", length * 24 * HOUR)
    before = running.kernel()
    running.nft("flush ruleset")
    assert running.sync(client).added == 2 * len(days)
    found = running.kernel()
    assert found.keys() == before.keys()
    assert all(abs((found[source] or 0) - (before[source] or 0)) < 5 * SECOND for source in before)
    for number in range(600):
        running.block(client, f"203.1.{number >> 8}.{number & 255}", 7 * 24 * HOUR)
    running.nft("flush set inet portward source4")
    assert running.sync(client).added == 600 + len(days)
    assert len(running.kernel()) == 600 + 2 * len(days)


def test_killed_at_any_moment_nothing_is_lost_and_nothing_doubled(running: Running) -> None:
    """Forty lives, each killed among requests under way; what was not answered is asked again.

    At the end kernel, belief, rows, history and the blocked file agree with what was asked, each once.
    """
    chance = random.Random(20_261_123)  # noqa: S311 -- the same deaths in every run, nothing secret
    asked: dict[str, BlockRequest] = {}
    waiting: dict[str, BlockRequest] = {}
    settled: Counter[str] = Counter()
    client = running.start(is_enforcing=True)
    lives = 40
    for life in range(lives):
        for _ in range(chance.randrange(1, 25)):
            number = len(asked)
            source = parse_prefix(
                chance.choice(
                    [
                        f"203.{number >> 8}.{number & 255}.9",
                        f"2001:db9:{number:x}::1",
                        f"2001:db9:{number:x}::/64",
                    ]
                )
            )
            until = chance.choice([None, now() + HOUR + number * SECOND])
            request = BlockRequest(0, f"r{number}", source, "scan", until, number, "TCP", "why")
            asked[request.request] = waiting[request.request] = request
        for request in waiting.values():
            client.send(replace(request, id=running.next_id()))
        enough = 0 if life % 8 == 0 else chance.randrange(len(waiting) + 1)
        heard = 0
        while heard < enough:
            for answer in client.receive():
                assert isinstance(answer, OutcomeAnswer)
                heard += 1
                settled[answer.outcome.kind.value] += 1
                del waiting[answer.outcome.request]
        if chance.random() < 0.5:
            spin_until = time.perf_counter() + chance.random() * 0.004
            while time.perf_counter() < spin_until:
                pass
        assert running.kill() == -signal.SIGKILL
        client = running.start(is_enforcing=True)
    for request in list(waiting.values()):
        answer = client.ask(replace(request, id=running.next_id()))
        assert isinstance(answer, OutcomeAnswer)
        assert answer.outcome.kind in {OutcomeKind.DONE, OutcomeKind.EXISTS}
    assert settled.keys() <= {"done", "exists"}
    assert settled["done"] > lives
    expected = {str(request.source): request.until for request in asked.values()}
    assert {str(block.source): block.until for block in client.blocks()} == expected
    assert len(client.blocks()) == len(expected)
    found = running.kernel()
    assert found.keys() == expected.keys()
    assert all((found[source] is None) == (until is None) for source, until in expected.items())
    assert running.kill(signal.SIGTERM) == 0
    store = BlockStore.open(running.paths.blocks_database)
    assert Counter(row.state for row in store.since(0)) == {BlockState.DONE: len(expected)}
    store.close()
    ports = Counter(line.port for line in read_history(running.paths.history))
    assert ports == Counter(request.port for request in asked.values())
    blocked = Counter(str(line.source) for line in read_blocked_file(running.paths.blocked))
    assert blocked == Counter(expected.keys())


def test_a_second_enforcer_is_refused(running: Running) -> None:
    """Two would undo each other's work; the message names the one that runs."""
    running.start()
    assert running.process is not None
    second = running.popen()
    assert second.wait(20) == BusyError.exit_status
    assert f"another enforcer runs here already, process {running.process.pid}" in running.output.read_text()
    assert running.is_ready()


def test_a_user_who_is_not_allowed_is_turned_away(running: Running) -> None:
    """The kernel says who asks; the file mode alone is not trusted."""
    running.start()
    path = running.paths.enforcer_socket
    assert path.stat().st_mode & 0o777 == 0o660
    path.chmod(0o666)
    for folder in path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1000).decode())"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert json.loads(done.stdout or "{}").get("detail") == "this user may not ask", done.stderr
    assert "user nobody was turned away" in running.output.read_text()


def test_a_member_of_the_sockets_group_may_look_and_change_nothing(running: Running) -> None:
    """With the packaged set-up that is adm: whoever may read the logs may read who is blocked."""
    client = running.start()
    running.block(client, STRANGER4)
    path = running.paths.enforcer_socket
    for folder in path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(0); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); file = s.makefile('rwb', 0)\n"
        "for line in sys.argv[2:]: file.write(line.encode() + b'\\n');"
        " print(file.readline().decode(), end='')"
    )
    asked = (
        '{"id":1,"verb":"list"}',
        '{"id":2,"verb":"release"}',
        '{"id":3,"verb":"block","source":"192.0.2.77","request":"x","reason":"y"}',
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(path), *asked],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["answer"] for answer in answers] == ["blocks", "error", "error"], done
    assert {str(block.source) for block in client.blocks()} == {STRANGER4}


def test_nonsense_is_answered_and_too_long_a_line_ends_the_connection(running: Running) -> None:
    """Nothing that is sent stops the enforcer, or grows it."""
    client = running.start()
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(os.fspath(running.paths.enforcer_socket))
        rude.settimeout(10)
        rude.sendall(b'\xff\x00\n{"id":7,"verb":"block","source":"x","request":"a"}\n')
        answers = [json.loads(line) for line in rude.makefile("rb").readlines(1)]
        assert answers[0]["answer"] == "error"
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(os.fspath(running.paths.enforcer_socket))
        rude.settimeout(10)
        with contextlib.suppress(BrokenPipeError):
            rude.sendall(b"x" * (MAX_LINE * 4))
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := rude.recv(4096):
                received += data
        assert b"expected at most 65536" in received
    assert running.block(client, STRANGER4).kind is OutcomeKind.DONE


def test_a_client_that_never_reads_is_dropped_and_nobody_else_notices(running: Running) -> None:
    """Its answers pile up to a bound; then it is not read from, and in the end it is gone."""
    client = running.start()
    for index in range(200):
        running.block(client, f"203.0.113.{index}")
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(os.fspath(running.paths.enforcer_socket))
        lazy.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                lazy.sendall(b'{"id":1,"verb":"list"}\n' * 1000)
        # Thousands of lists were asked for; they wait, and others have their turn.
        assert running.block(client, STRANGER4).kind is OutcomeKind.DONE
        running.wait_until(lambda: clients(client, running) == 1, 30)


def test_at_most_so_many_clients(running: Running) -> None:
    """One too many is told so and turned away; when one leaves there is room again."""
    running.start()
    held = [running.connect() for _ in range(31)]
    extra = running.connect()
    running.wait_until(lambda: has_answer(extra, ErrorAnswer(None, "at most 32 clients at once")))
    with pytest.raises(UnreachableError):
        extra.ask(StatusRequest(2))
    held.pop().close()
    running.wait_until(lambda: clients(held[0], running) == 31)
    running.connect().ask(StatusRequest(1))


def test_root_finds_a_place_whatever_an_allowed_user_does(running: Running) -> None:
    """A correlator taken over must not keep the administrator from releasing himself."""
    client = running.start(allowed_users=["nobody"])
    path = running.paths.enforcer_socket
    path.chmod(0o666)
    for folder in path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); held = []\n"
        "for _ in range(200):\n"
        "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)\n"
        "print(sum(b'at most' in s.recv(99) for s in held[60:]), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["/usr/bin/python3", "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "140\n"
        assert clients(client, running) == 28
        others = [running.connect() for _ in range(4)]
        for other in others:
            assert running.block(other, STRANGER4).kind in (OutcomeKind.DONE, OutcomeKind.EXISTS)
        crowd.communicate()


def test_capabilities_are_only_what_nftables_needs(running: Running) -> None:
    """Root's other powers are given up for good, for nft as well."""
    running.start()
    assert running.process is not None
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    sets = {
        line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")
    }
    assert set(sets.values()) == {1 << 12}


def test_what_nft_says_stands_in_the_error(running: Running) -> None:
    """Standard error of a tool is never discarded."""
    with running.lab.victim.entered(), contextlib.closing(NftablesBackend()) as backend:
        backend.check()
        backend._nft = "/nonexistent/nft"
        with pytest.raises(PortwardError, match=r"^nft -f -: cannot be started: No such file"):
            backend.restore([], now=now())
        backend._nft = None
        with pytest.raises(PortwardError, match=r"exit status 1: .*syntax error"):
            backend.run("nonsense")


def clients(client: EnforcerClient, running: Running) -> int:
    """Return how many clients the enforcer has."""
    answer = client.ask(StatusRequest(running.next_id()))
    assert isinstance(answer, StatusAnswer)
    return int(answer.status["clients"])


def has_answer(client: EnforcerClient, expected: ErrorAnswer) -> bool:
    """Return whether exactly that came by now."""
    answers = client.receive()
    assert answers in ([], [expected])
    return bool(answers)
