"""Whole lives of blocks with several actions: commands that take their time, fail, are undone by others."""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from correlator.enforcer.disk import RETRY
from correlator.enforcer.protocol import BlockRequest
from correlator.model import SECOND, Source, parse_prefix
from correlator.store.blocks import BlockStore
from tests.property.action_model import AS_OURS, DENYING, FAKES, FOREIGN, TEXTS, ActionModel
from tests.property.enforcer_lives import MINUTE
from tests.property.mortals import Killed, MortalConnection

SOURCES = st.sampled_from([parse_prefix(text) for text in TEXTS])
ACTIONS = st.lists(st.sampled_from((*DENYING, "mail")), min_size=1, max_size=4, unique=True).filter(
    lambda names: names != ["mail"]
)
DEATHS = st.none() | st.integers(0, 25)


class ActionLife(ActionModel):
    """Any sequence of what can happen to an enforcement with these actions."""

    def __init__(self) -> None:
        super().__init__()
        self.start()

    def teardown(self) -> None:
        """All must come to rest, whatever the last step was."""
        self.settle()
        super().teardown()

    # The process

    def start(self) -> None:
        """Start on what the last life left; commands that ran are not heard of any more."""
        self.close_store()
        for action in self.actions.values():
            action.open.clear()
        opened = BlockStore.open(self.settings.paths.blocks_database)
        self.begin(
            BlockStore(MortalConnection(opened._connection, self.fate)),
            actions={**self.actions, "file": self.file},
            clock=lambda: self.now,
        )
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
            self.backend.flush()
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
