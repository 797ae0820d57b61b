"""What is so of blocks with several actions, whatever happened: a model, and all that is held against it."""

from dataclasses import dataclass
from typing import Any

from hypothesis.stateful import invariant

from correlator.enforcer.hosts_deny import spell_client
from correlator.enforcer.plans import Until, outlasts
from correlator.enforcer.protocol import BlockRequest
from correlator.model import Micros, Outcome, OutcomeKind, Source, parse_prefix
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockState
from correlator.store.deeds import DeedState
from tests.property.enforcer_lives import EnforcerLife, longest
from tests.property.mortals import Commands, Fate, File, Firewall

TEXTS = ("198.51.100.1", "198.51.100.2", "198.51.100.0/24", "2001:db8::1")
DENYING = ("nftables", "chain", "timer", "rule", "file")
FAKES = ("chain", "timer", "rule", "mail")
FOREIGN = "ALL: 203.0.113.7\n"
AS_OURS = "ALL: 198.51.100.2\n"
"""What stood in hosts.deny before us, one line as ours would be: it is never ours, whenever we die."""


@dataclass(frozen=True)
class Believed:
    """What the model knows of one source."""

    until: Until
    actions: frozenset[str]


class ActionModel(EnforcerLife):
    """Who is denied by definition, by what and until when; and what the last life may have done unheard."""

    def __init__(self) -> None:
        super().__init__()
        (self.path / "run/enforcer").mkdir(parents=True)
        self.fate = Fate()
        self.backend = Firewall(self.fate)
        self.actions = {name: Commands(name, self.fate) for name in FAKES}
        self.hosts_deny = self.path / "hosts.deny"
        self.hosts_deny.write_text(FOREIGN + AS_OURS)
        self.file = File(self.hosts_deny, self.fate)
        self.denied: dict[Source, Believed] = {}
        """The model: who is denied, until when, and in which ways at least."""
        self.named: dict[Source, set[str]] = {}
        """In which ways each source was ever asked to be denied."""
        self.releasing: dict[str, Source] = {}
        """What a release is about that has not come to its end, by request."""
        self.waiting: dict[str, BlockRequest] = {}
        """Requests that no action has carried out yet."""

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
            assert longest(held) == longest(wanted), text
        return {source: known.until for source, known in ours.items()}
