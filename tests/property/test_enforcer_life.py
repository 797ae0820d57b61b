"""Whole lives of an enforcement: any requests, expiries, other hands, and deaths at any step.

The model says by definition who is denied until when. After every step belief, rows, firewall and the
blocked file are held against it, and at the end the history has each carried-out block once. (Of two
blocks of one source in one second, whose lines are the same, a death may leave one line.)
"""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from correlator.enforcer.plans import Until, outlasts
from correlator.enforcer.protocol import BlockRequest
from correlator.model import SECOND, Micros, OutcomeKind, Source, parse_prefix
from correlator.store.blocked import read_blocked_file
from correlator.store.blocks import BlockStore
from correlator.store.history import read_history
from tests.enforcer_fakes import OWN
from tests.property.enforcer_lives import MINUTE, EnforcerLife, longest
from tests.property.mortals import Killed, MortalBackend

TEXTS = (
    *("198.51.100.1", "198.51.100.2", "198.51.100.130"),
    *("198.51.100.0/24", "198.51.100.0/25", "198.51.100.128/25", "198.51.0.0/16"),
    *("2001:db8::1", "2001:db8::/64", "2001:db8::/48", "192.0.2.1"),
)
SOURCES = st.sampled_from([parse_prefix(text) for text in TEXTS])
ENDS = st.none() | st.integers(1, 4)


class Life(EnforcerLife):
    """Any sequence of what can happen to an enforcement."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = MortalBackend()
        self.denied: dict[Source, tuple[str, Until]] = {}
        """The model: who is denied, by which request, until when."""
        self.carried_out: Counter[tuple[str, Micros]] = Counter()
        self.start()

    def teardown(self) -> None:
        """Look at the history of the whole life."""
        self.restart()
        found = Counter((str(line.source), line.at) for line in read_history(self.settings.paths.history))
        assert found.keys() == self.carried_out.keys()
        assert found <= self.carried_out
        super().teardown()

    def start(self) -> None:
        """Start on what the last life left."""
        self.close_store()
        self.begin(BlockStore.open(self.settings.paths.blocks_database))

    @rule(
        source=SOURCES,
        minutes=ENDS,
        death=st.sampled_from([None, None, "before", "after"]),
    )
    def block(self, source: Source, minutes: int | None, death: str | None) -> None:
        """Ask for a block; the process may die on the way, and is then started and asked again."""
        self.count += 1
        until = None if minutes is None else self.now + minutes * MINUTE
        request = BlockRequest(1, f"r{self.count}", source, "scan", until, 1, "TCP")
        expected = self.expect(source, until)
        self.backend.death = death
        try:
            outcome = self.enforcement.block(request, self.now)
        except Killed:
            self.start()
            self.believe(request)
            assert self.enforcement.block(request, self.now).kind is OutcomeKind.EXISTS
            return
        self.backend.death = None
        assert outcome.kind is expected
        if outcome.kind is OutcomeKind.DONE:
            self.believe(request)
            again = self.enforcement.block(request, self.now)
            assert (again.kind, again.until) == (OutcomeKind.EXISTS, until)

    @rule(source=SOURCES, death=st.sampled_from([None, "before", "after"]))
    def release(self, source: Source, death: str | None) -> None:
        """Release one source; a death on the way does not bring it back."""
        self.backend.death = death
        try:
            assert self.enforcement.release(source, self.now) == (source in self.denied)
        except Killed:
            self.start()
        self.backend.death = None
        self.denied.pop(source, None)

    @rule()
    def release_all(self) -> None:
        """Release everybody."""
        assert self.enforcement.release(None, self.now) == len(self.denied)
        self.denied.clear()

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds: int) -> None:
        """Time goes by; the firewall ends its elements by itself."""
        self.now += seconds * SECOND
        self.enforcement.expire(self.now)
        self.forget_what_is_over()

    @rule(seconds=st.integers(0, 200))
    def restart(self, seconds: int = 0) -> None:
        """Die and start again some time later."""
        self.now += seconds * SECOND
        self.start()
        self.forget_what_is_over()

    @rule()
    def flush_by_another_hand(self) -> None:
        """Somebody flushes all rules; the next comparison mends them."""
        self.backend.flush()
        self.enforcement.sync(self.now)

    @invariant()
    def belief_is_the_model(self) -> None:
        """Belief, rows and the blocked file say what the model says."""
        assert {
            block.source: (block.request, block.until) for block in self.enforcement.blocks()
        } == self.denied
        assert len(self.enforcement) == len(self.denied)
        self.records.write_history()
        self.records.write_blocked(self.enforcement.blocked_lines())
        found = [line.source for line in read_blocked_file(self.settings.paths.blocked)]
        assert sorted(map(str, found)) == sorted(map(str, self.denied))
        assert self.store is not None
        assert self.store.undecided() == ()

    @invariant()
    def fact_is_belief(self) -> None:
        """Each address is denied in the firewall exactly as long as the longest block around it."""
        alive = self.backend.list(now=self.now).elements
        for text in (
            "198.51.100.1",
            "198.51.100.2",
            "198.51.100.130",
            "198.51.7.7",
            "2001:db8::1",
            "2001:db8:0:1::",
        ):
            address = parse_prefix(text)
            believed = [until for source, (_, until) in self.denied.items() if source.covers(address)]
            held = [until for source, until in alive.items() if source.covers(address)]
            assert longest(held) == longest(believed)
        assert len(alive) == 0 or self.denied

    def expect(self, source: Source, until: Until) -> OutcomeKind:
        """Return by definition what a request comes to."""
        if source.covers(OWN):
            return OutcomeKind.REFUSED
        around = [end for other, (_, end) in self.denied.items() if other.covers(source)]
        return OutcomeKind.EXISTS if any(outlasts(end, until) for end in around) else OutcomeKind.DONE

    def believe(self, request: BlockRequest) -> None:
        """Take a carried-out request into the model."""
        self.carried_out[(str(request.source), self.now - self.now % SECOND)] += 1
        for other, (_, end) in list(self.denied.items()):
            if request.source.covers(other) and outlasts(request.until, end):
                del self.denied[other]
        self.denied[request.source] = (request.request, request.until)

    def forget_what_is_over(self) -> None:
        """Take out of the model what is over by now."""
        self.denied = {
            source: (request, until)
            for source, (request, until) in self.denied.items()
            if until is None or until > self.now
        }


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
