"""Whole lives of blocks with several actions: commands that take their time, fail, are undone by other hands.

Whatever happened (deaths at any step of ours, between any two writes), once all is quiet again the model,
the rows, the kernel, what each action holds and the blocked file say the same, and nobody was told twice.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from correlator.enforcer.disk import RETRY
from correlator.enforcer.enforcement import Enforcement
from correlator.enforcer.hosts_deny import spell_client
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.plans import Until, outlasts
from correlator.enforcer.protocol import BlockRequest
from correlator.enforcer.records import Records
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, Source, parse_prefix
from correlator.settings import EnforcerSettings, Paths
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockState, BlockStore
from correlator.store.deeds import DeedState
from tests.property.mortals import Commands, Fate, File, Firewall, MortalConnection
from tests.property.test_enforcer_life import MINUTE, OWN, START, Killed

TEXTS = ("198.51.100.1", "198.51.100.2", "198.51.100.0/24", "2001:db8::1")
SOURCES = st.sampled_from([parse_prefix(text) for text in TEXTS])
DENYING = ("nftables", "chain", "timer", "rule", "file")
FAKES = ("chain", "timer", "rule", "mail")
ACTIONS = st.lists(st.sampled_from((*DENYING, "mail")), min_size=1, max_size=4, unique=True).filter(
    lambda names: names != ["mail"]
)
DEATHS = st.none() | st.integers(0, 25)
FOREIGN = "ALL: 203.0.113.7\n"
AS_OURS = "ALL: 198.51.100.2\n"
"""What stood in hosts.deny before us, one line as ours would be: it is never ours, whenever we die."""


@dataclass(frozen=True)
class Believed:
    """What the model knows of one source."""

    until: Until
    actions: frozenset[str]


class Life(RuleBasedStateMachine):
    """Any sequence of what can happen to an enforcement with these actions."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.settings = EnforcerSettings(
            paths=replace(
                Paths(),
                state=path,
                run=path / "run",
                history=path / "history",
                blocked=path / "blocked",
                ignore=path / "none",
            )
        )
        (path / "run/enforcer").mkdir(parents=True)
        self.fate = Fate()
        self.backend = Firewall(self.fate)
        self.actions = {name: Commands(name, self.fate) for name in FAKES}
        self.hosts_deny = path / "hosts.deny"
        self.hosts_deny.write_text(FOREIGN + AS_OURS)
        self.file = File(self.hosts_deny, self.fate)
        self.now = START
        self.count = 0
        self.denied: dict[Source, Believed] = {}
        """The model: who is denied, until when, and in which ways at least."""
        self.named: dict[Source, set[str]] = {}
        """In which ways each source was ever asked to be denied."""
        self.releasing: dict[str, Source] = {}
        """What a release is about that has not come to its end, by request."""
        self.waiting: dict[str, BlockRequest] = {}
        """Requests that no action has carried out yet."""
        self.store: BlockStore | None = None
        self.start()

    def teardown(self) -> None:
        """All must come to rest, whatever the last step was."""
        self.settle()
        if self.store is not None:
            self.store.close()
        self.folder.cleanup()

    # The process

    def start(self) -> None:
        """Start on what the last life left; commands that ran are not heard of any more."""
        if self.store is not None:
            self.store.close()
        for action in self.actions.values():
            action.open.clear()
        opened = BlockStore.open(self.settings.paths.blocks_database)
        self.store = BlockStore(MortalConnection(opened._connection, self.fate))
        never = NeverBlock(
            self.settings, own=lambda: frozenset({OWN.packed}), routers=frozenset, name_servers=frozenset
        )
        self.records = Records(self.settings.paths, self.store, self.fail)
        self.enforcement = Enforcement(
            self.settings,
            backend=self.backend,
            store=self.store,
            never_block=never,
            records=self.records,
            announce=lambda _line, _event: None,
            actions={**self.actions, "file": self.file},
            clock=lambda: self.now,
        )
        self.enforcement.start(self.now)
        self.hear_what_the_dead_released()
        self.hear_what_the_dead_did()

    def come_back(self, death: int | None = None) -> None:
        """Start again; commands that ran went on meanwhile, or did not; the start may be a death too."""
        for action in self.actions.values():
            for call in action.open[::2]:
                if not action.is_failing:
                    call.effect()
        self.fate.steps_left = death
        try:
            self.start()
        except Killed:
            self.start()
        self.fate.steps_left = None
        for request in list(self.waiting.values()):
            self.ask(request)  # as the correlator does, which had no answer

    def mortally(self, work: Callable[[], None], death: int | None) -> bool:
        """Do something, or die in it and start again; return whether it was done."""
        self.fate.steps_left = death
        try:
            work()
        except Killed:
            self.come_back()
            return False
        finally:
            self.fate.steps_left = None
        return True

    def fail(self, text: str) -> None:
        """Nothing is complained of in this world but a full disk."""
        if "database or disk is full" not in text and "written again" not in text:
            raise AssertionError(text)

    # What can happen

    @rule(
        source=SOURCES,
        minutes=st.none() | st.integers(1, 4),
        actions=ACTIONS,
        port=st.integers(1, 2),
        death=DEATHS,
    )
    def block(
        self, source: Source, minutes: int | None, actions: list[str], port: int, death: int | None
    ) -> None:
        """Ask for a block; after a death it is asked for again, as the correlator does."""
        self.count += 1
        until = None if minutes is None else self.now + minutes * MINUTE
        request = BlockRequest(
            1, f"r{self.count}", source, "scan", until, port, "TCP", actions=tuple(actions)
        )
        self.waiting[request.request] = request
        self.named.setdefault(source, set()).update(actions)
        self.mortally(lambda: self.ask(request), death)

    @rule(source=SOURCES, death=DEATHS)
    def release(self, source: Source, death: int | None) -> None:
        """Release one source, also what is still waiting."""
        self.mortally(lambda: self.let_go(source), death)

    @rule(death=DEATHS)
    def release_all(self, death: int | None) -> None:
        """Release everybody."""
        self.mortally(lambda: self.let_go(None), death)

    @rule(times=st.integers(1, 4), which=st.integers(0, 7), death=DEATHS)
    def work(self, times: int, which: int, death: int | None) -> None:
        """Let what is due begin, and some commands end."""

        def go_on() -> None:
            for _ in range(times):
                self.enforcement.tend(self.now)
                busy = [action for action in self.actions.values() if action.open]
                if busy:
                    busy[which % len(busy)].end(which)

        self.mortally(go_on, death)

    @rule(seconds=st.integers(1, 200), death=DEATHS)
    def wait(self, seconds: int, death: int | None) -> None:
        """Time goes by."""
        self.pass_time(seconds * SECOND)
        self.mortally(lambda: self.enforcement.expire(self.now), death)

    @rule(seconds=st.integers(0, 200), death=DEATHS)
    def restart(self, seconds: int, death: int | None) -> None:
        """Die and start again some time later."""
        self.pass_time(seconds * SECOND)
        self.come_back(death)

    @rule(name=st.sampled_from((*FAKES, "file")))
    def break_or_mend(self, name: str) -> None:
        """From now on an action fails, or it works again."""
        action = self.file if name == "file" else self.actions[name]
        action.is_failing = not action.is_failing

    @rule(what=st.sampled_from(("nftables", "chain", "timer", "rule", "file")))
    def tamper(self, what: str) -> None:
        """Somebody takes away what an action has done."""
        if what == "nftables":
            self.backend.has_table, self.backend.elements = False, {}
        elif what == "file":
            self.hosts_deny.write_text(FOREIGN + AS_OURS)
        else:
            self.actions[what].held.clear()

    @rule(source=SOURCES)
    def plant(self, source: Source) -> None:
        """Somebody puts a source where all is ours."""
        chain = self.actions["chain"]
        if str(source) not in chain.held:
            chain.held[str(source)] = (source, None)
            chain.planted.add(str(source))

    @rule(room=st.none() | st.integers(0, 6))
    def fill_or_empty_the_disk(self, room: int | None) -> None:
        """From now on the disk takes so many writes and no more, or all again."""
        self.fate.room = room
        if room is None:
            self.pass_time(RETRY)
            self.enforcement.expire(self.now)

    @rule(death=DEATHS)
    def compare(self, death: int | None) -> None:
        """The comparison that comes at every interval."""
        self.mortally(lambda: self.enforcement.sync(self.now), death)

    @precondition(lambda self: self.count > 0)
    @rule()
    def settle(self) -> None:
        """Everything works again; in the end all agree."""
        if self.fate.room is not None:
            self.fate.room = None
            self.pass_time(RETRY)
        self.file.is_failing = False
        for action in self.actions.values():
            action.is_failing = False
        for _ in range(3):
            self.enforcement.sync(self.now)
            self.work_off()
        self.all_agree()

    # The model

    def ask(self, request: BlockRequest) -> None:
        """Make a request, and take the answer into the model, now or later."""
        outcome = self.enforcement.block(request, self.now, self.hear)
        if outcome is not None:
            self.hear(outcome)

    def hear(self, outcome: Outcome) -> None:
        """Take an answer: done is done from now on; exists must be true."""
        request = self.waiting.pop(outcome.request, None)
        if request is None:
            return  # asked twice, answered twice
        if outcome.kind is OutcomeKind.DONE:
            self.believe(request)
        elif outcome.kind is OutcomeKind.EXISTS:
            if outcome.request in self.requests():
                self.believe(request)  # asked again after a death
            ways: set[str] = set()
            for other, believed in self.denied.items():
                if other.covers(request.source) and outlasts(believed.until, request.until):
                    ways |= believed.actions
            assert ways.issuperset(set(request.actions) - {"mail"})
        elif outcome.kind is OutcomeKind.REFUSED:
            assert request.until is not None
            assert request.until <= self.now
        else:
            assert outcome.kind in (OutcomeKind.FAILED, OutcomeKind.RELEASED, OutcomeKind.EXPIRED)

    def believe(self, request: BlockRequest) -> None:
        """Take a request into the model that was carried out: nobody is denied shorter or in fewer ways."""
        source, until = request.source, request.until
        actions = frozenset(request.actions) - {"mail"}
        before = self.denied.get(source)
        if before is not None:
            until = before.until if outlasts(before.until, until) else until
            actions |= before.actions
        for block in self.enforcement.blocks():
            if block.request == request.request:
                # In more ways than were asked for: those of a block that was over before this one began.
                assert actions <= frozenset(block.actions) - {"mail"} <= self.named[source]
                actions = frozenset(block.actions) - {"mail"}
        self.denied[source] = Believed(until, actions)

    def let_go(self, source: Source | None) -> None:
        """Release in the model too: what is denied, and what waits to be."""
        sources = self.denied if source is None else {source} & self.denied.keys()
        blocks = self.enforcement.blocks()
        self.releasing = {block.request: block.source for block in blocks if block.source in sources}
        count = len(self.denied) if source is None else int(source in self.denied)
        assert self.enforcement.release(source, self.now) >= count
        for name in [name for name, asked in self.waiting.items() if source in (None, asked.source)]:
            del self.waiting[name]
        for other in list(self.denied) if source is None else [source]:
            self.denied.pop(other, None)
        self.releasing = {}

    def hear_what_the_dead_released(self) -> None:
        """Take a release into the model in which we died: it ended all that it was about, or nothing."""
        assert self.store is not None
        in_force, gone = self.requests(), []
        for name, source in self.releasing.items():
            row = self.store.find_request(name)
            is_written = row is not None and row.detail == "released on request"
            # or the disk would not take it, and it was kept beside
            if is_written or (self.fate.room is not None and name not in in_force):
                gone.append(source)
        assert len(gone) in (0, len(self.releasing)) or self.fate.room is not None
        for source in gone:
            self.denied.pop(source, None)
        self.releasing = {}

    def pass_time(self, micros: Micros) -> None:
        """Let the clock run; what the kernel and the timer hold is over by itself."""
        self.now += micros
        self.denied = {
            source: believed
            for source, believed in self.denied.items()
            if believed.until is None or believed.until > self.now
        }

    def believed(self) -> dict[Source, Until]:
        """Return whom the enforcement believes to be denied."""
        return {block.source: block.until for block in self.enforcement.blocks()}

    def requests(self) -> set[str]:
        """Return the requests in force."""
        return {block.request for block in self.enforcement.blocks()}

    def hear_what_the_dead_did(self) -> None:
        """Take into the model what was done before a death and never answered."""
        in_force = self.requests()
        for name in [name for name in self.waiting if name in in_force]:
            self.believe(self.waiting.pop(name))

    def work_off(self) -> None:
        """Let everything end that runs, and time pass until nothing is to be done any more."""
        assert self.store is not None
        for _ in range(500):
            self.enforcement.expire(self.now)
            self.enforcement.tend(self.now)
            busy = [action for action in self.actions.values() if action.open]
            for action in busy:
                action.end(0)
            due = self.store.deeds.next_due()
            if not busy and due is None:
                return
            if not busy and due is not None and due > self.now:
                self.pass_time(due - self.now)
        raise AssertionError("it does not come to rest")

    def swallowed(self, source: Source) -> bool:
        """True where a block of a wider prefix may have taken this one's place."""
        mine = self.denied[source]
        return any(
            other.covers(source)
            and other != source
            and outlasts(around.until, mine.until)
            and around.actions >= mine.actions
            for other, around in self.denied.items()
        )

    # What must hold

    @invariant()
    def belief_is_the_model(self) -> None:
        """Nobody is lost or let go early, nobody is denied that was not asked for or was let go."""
        believed = self.believed()
        assert len(self.enforcement) == len(believed)
        for source in list(self.denied):
            if source not in believed and self.swallowed(source):
                del self.denied[source]
        assert believed == {source: known.until for source, known in self.denied.items()}

    def all_agree(self) -> None:
        """At rest: model, rows, kernel, each action's holdings and the files."""
        self.belief_is_the_model()
        rows = {block.source: block for block in self.enforcement.blocks()}
        for name in DENYING:
            ours = {source for source, known in self.denied.items() if name in known.actions}
            held = self.held_by(name, rows)
            assert held == {source: self.denied[source].until for source in ours}, name
        assert set(self.actions["mail"].told.values()) <= {1}
        assert self.store is not None
        assert self.store.undecided() == ()
        assert self.waiting == {}
        numbers = {row.number for row in self.store.in_force()}
        assert self.store.count().get(BlockState.DONE, 0) == len(numbers) == len(self.denied)
        states = {DeedState.DONE, DeedState.EXISTS, DeedState.UNKNOWN}
        for row in self.store.since(0):
            found = {deed.state for deed in self.store.deeds.of(row.number)}
            assert found <= (states if row.number in numbers else set())
        self.records.write_history()
        self.records.write_blocked(self.enforcement.blocked_lines())
        lines = [str(line.source) for line in read_blocked_file(self.settings.paths.blocked)]
        assert sorted(lines) == sorted(map(str, self.denied))

    def held_by(self, name: str, rows: dict[Source, Any]) -> dict[Source, Until]:
        """Return what an action holds really; the model's end where it keeps none of its own."""
        if name == "nftables":
            return self.held_by_the_kernel()
        if name == "file":
            text = self.hosts_deny.read_text()
            assert text.startswith(FOREIGN + AS_OURS)
            lines = text.splitlines()
            found = [source for source in map(parse_prefix, TEXTS) if f"ALL: {spell_client(source)}" in lines]
            foreign = parse_prefix("198.51.100.2")
            if foreign not in self.denied or "file" not in self.denied[foreign].actions:
                found = [source for source in found if source != foreign]
            assert len(lines) == len(set(lines))
            return {source: self.denied[source].until if source in self.denied else None for source in found}
        held = self.actions[name].held
        if not any(name in known.actions for known in self.denied.values()):
            held = {trace: at for trace, at in held.items() if trace not in self.actions[name].planted}
        if name == "timer":
            return {source: until for source, until in held.values() if until is None or until > self.now}
        assert len({source for source, _ in held.values()}) == len(held)
        if name == "rule":
            assert set(held) == {f"{source} {rows[source].port}" for source, _ in held.values()}
        return {
            source: self.denied[source].until if source in self.denied else None
            for source, _ in held.values()
        }

    def held_by_the_kernel(self) -> dict[Source, Until]:
        """Return the model's blocks where each address is denied as long as the longest around it."""
        alive = self.backend.list(now=self.now).elements
        ours = {source: known for source, known in self.denied.items() if "nftables" in known.actions}
        for text in ("198.51.100.1", "198.51.100.2", "198.51.100.9", "2001:db8::1"):
            address = parse_prefix(text)
            held = [until for source, until in alive.items() if source.covers(address)]
            wanted = [known.until for source, known in ours.items() if source.covers(address)]
            assert _longest(held) == _longest(wanted), text
        return {source: known.until for source, known in ours.items()}


def _longest(ends: list[Until]) -> Until | bool:
    """Return the latest of some ends; False where there is none."""
    if not ends:
        return False
    return None if None in ends else max(end for end in ends if end is not None)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
