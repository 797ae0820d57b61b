"""Several actions in one block: their order, each with its own ending, again, and back."""

from dataclasses import replace
from pathlib import Path

import pytest

from correlator.actions import Order
from correlator.enforcer import enforcement as enforcement_module
from correlator.enforcer.action import Ended, Ending, Result
from correlator.enforcer.deeds import MOST_BLIND_TRIES, MOST_TELLING, RETRY_AFTER
from correlator.enforcer.enforcement import Enforcement
from correlator.enforcer.never_block import NeverBlock
from correlator.enforcer.protocol import BlockRequest, DeedEvent, Event
from correlator.enforcer.records import Records
from correlator.model import SECOND, Micros, Outcome, OutcomeKind, parse_prefix
from correlator.settings import EnforcerSettings, Paths
from correlator.store.blocks import BlockStore
from tests.unit.enforcer_fakes import LATER, NOW, SOON, FakeBackend, own

DONE, FAILED = Result(Ending.DONE, "ran"), Result(Ending.FAILED, "exit status 1")


class FakeAction:
    """An action that ends when the test says so, or on the spot."""

    expires_by_itself = False

    def __init__(
        self, name: str, *, is_quick: bool = False, denies: bool = True, can_release: bool = True
    ) -> None:
        self.name = name
        self.says = ""
        self.is_quick = is_quick
        self.denies = denies
        self.can_release = can_release
        self.calls: list[str] = []
        self.open: list[Ended] = []
        self.ending = DONE
        self.names_port = False
        self.is_deadly = False

    def block(self, order: Order, now: Micros, ended: Ended, *, is_again: bool = False) -> None:
        """Take an order."""
        del now
        self._take(f"block {order.source}{' again' * is_again}", ended)

    def release(self, order: Order, now: Micros, ended: Ended) -> None:
        """Take an order back."""
        del now
        self._take(f"release {order.source}", ended)

    def trace(self, order: Order) -> str:
        """Tell what an order leaves behind."""
        return f"{order.source} {order.port}" if self.names_port else str(order.source)

    def end(self, result: Result = DONE) -> None:
        """Let the oldest call end."""
        self.open.pop(0)(result)

    def _take(self, call: str, ended: Ended) -> None:
        self.calls.append(call)
        if self.is_deadly:
            raise KeyboardInterrupt
        if self.is_quick:
            ended(self.ending)
        else:
            self.open.append(ended)


class Bench:
    """An enforcement with a fake firewall and fake actions, that can be started again on the same files."""

    def __init__(self, folder: Path) -> None:
        paths = replace(Paths(), state=folder, run=folder / "run")
        paths = replace(paths, history=folder / "history", blocked=folder / "blocked")
        self.settings = EnforcerSettings(paths=replace(paths, ignore=folder / "ignore"))
        self.backend = FakeBackend()
        self.slow = FakeAction("slow")
        self.other = FakeAction("other")
        self.file = FakeAction("file", is_quick=True)
        self.mail = FakeAction("mail", denies=False, can_release=False)
        self.now = NOW
        self.start()

    def start(self) -> None:
        """Start, or start again as after a kill: whatever ran is not heard of any more."""
        self.events: list[Event] = []
        self.lines: list[str] = []
        self.later: list[Outcome] = []
        actions = {action.name: action for action in (self.slow, self.other, self.file, self.mail)}
        for action in actions.values():
            action.open.clear()
        self.store = BlockStore.open(self.settings.paths.blocks_database)
        self.enforcement = Enforcement(
            self.settings,
            backend=self.backend,
            store=self.store,
            never_block=NeverBlock(self.settings, own=own, routers=frozenset, name_servers=frozenset),
            records=Records(self.settings.paths, self.store, lambda _text: None, clock=lambda: 0.0),
            announce=self.hear,
            actions=actions,
            clock=lambda: self.now,
        )
        self.enforcement.start(self.now)

    def hear(self, line: str, event: Event | None) -> None:
        """Take what is announced."""
        if event is None:
            self.lines.append(line)
        else:
            self.events.append(event)

    def block(
        self, *actions: str, source: str = "192.0.2.9", until: Micros | None = SOON, port: int = 1
    ) -> str:
        """Ask for a block; return how it ended, `later` where that is not known yet."""
        request = BlockRequest(
            1,
            f"{source}/{until}/{actions}",
            parse_prefix(source),
            "scan",
            until,
            port,
            "TCP",
            actions=actions,
        )
        outcome = self.enforcement.block(request, self.now, self.later.append)
        return "later" if outcome is None else f"{outcome.kind.value} {outcome.detail}".strip()

    def tend(self) -> None:
        """Let what is due begin."""
        self.enforcement.tend(self.now)

    @property
    def endings(self) -> list[tuple[str, str]]:
        """What watchers were told of actions."""
        return [(event.action, event.ending) for event in self.events if isinstance(event, DeedEvent)]

    @property
    def states(self) -> dict[str, str]:
        """The deeds of the newest block."""
        (row, *_) = self.store.since(0)
        return {deed.action: deed.state.value for deed in self.store.deeds.of(row.number)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A started enforcement with nothing denied."""
    return Bench(tmp_path)


def test_the_kernel_first_and_the_others_in_turn(bench: Bench) -> None:
    """The answer comes with the first; the next begins when the one before has ended."""
    assert bench.block("nftables", "slow", "mail") == "done"
    assert bench.slow.calls == []
    bench.tend()
    assert (bench.slow.calls, bench.mail.calls) == (["block 192.0.2.9"], [])
    bench.slow.end()
    bench.tend()
    assert bench.mail.calls == ["block 192.0.2.9"]
    bench.mail.end()
    assert bench.endings == [("slow", "done"), ("mail", "done")]
    assert bench.states == {"slow": "done", "mail": "done"}


def test_a_command_that_is_named_first_is_run_first(bench: Bench) -> None:
    """As KILL_RUN_CMD_FIRST wants it: the kernel denies when it has ended, well or not."""
    assert bench.block("mail", "nftables") == "later"
    bench.tend()
    assert bench.backend.elements == {}
    bench.mail.end(FAILED)
    bench.tend()
    assert list(map(str, bench.backend.elements)) == ["192.0.2.9"]
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE]


def test_one_that_fails_does_not_hide_the_others(bench: Bench) -> None:
    """Each has its own ending, and the failure is in the answer."""
    bench.file.ending = FAILED
    assert bench.block("file", "nftables", "slow") == "done exit status 1"
    bench.tend()
    bench.slow.end()
    assert bench.endings == [("file", "failed"), ("slow", "done")]
    assert len(bench.enforcement) == 1


def test_what_fails_is_tried_again_later_and_later(bench: Bench) -> None:
    """As long as the block is in force."""
    bench.block("nftables", "slow", until=None)
    for tries, pause in enumerate((*RETRY_AFTER, RETRY_AFTER[-1]), start=1):
        bench.tend()
        assert len(bench.slow.calls) == tries
        bench.slow.end(FAILED)
        bench.now += pause - 1
        bench.tend()
        assert len(bench.slow.calls) == tries
        bench.now += 1
    bench.tend()
    bench.slow.end()
    assert bench.states == {"slow": "done"}


def test_undoing_what_cannot_be_seen_is_given_up_after_a_day(bench: Bench) -> None:
    """A hand took the rule away, and its deletion fails for that reason: it must not be tried for ever."""
    bench.block("nftables", "slow", until=None)
    bench.tend()
    bench.slow.end()
    bench.enforcement.release(None, bench.now)
    started = bench.now
    for _ in range(MOST_BLIND_TRIES):
        bench.tend()
        bench.slow.end(FAILED)
        bench.now += RETRY_AFTER[-1]
    bench.tend()
    assert bench.slow.calls.count("release 192.0.2.9") == MOST_BLIND_TRIES
    assert bench.slow.open == []
    assert bench.enforcement.status()["failing"] == []
    assert bench.lines[-1].startswith(f"slow of 192.0.2.9 is given up after {MOST_BLIND_TRIES} tries")
    assert bench.now - started >= 24 * 3600 * SECOND


def test_a_command_that_failed_may_have_done_its_work(bench: Bench) -> None:
    """Killed at its time limit: the next try knows. What takes no time knows itself whether it did."""
    bench.file.ending = FAILED
    bench.block("nftables", "file", "slow", until=None)
    bench.tend()
    bench.slow.end(FAILED)
    bench.now += RETRY_AFTER[0]
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "block 192.0.2.9 again"]
    assert bench.file.calls == ["block 192.0.2.9", "block 192.0.2.9"]


def test_messages_that_hang_hold_up_no_denial(bench: Bench) -> None:
    """A mail server that is away: others are denied meanwhile, however many messages wait."""
    for number in range(100):
        bench.block("nftables", "mail", source=f"198.51.100.{number}")
    bench.tend()
    assert len(bench.mail.open) == MOST_TELLING
    bench.block("nftables", "slow")
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9"]
    told = 0
    while bench.mail.open:
        assert len(bench.mail.open) <= MOST_TELLING
        bench.mail.end()
        told += 1
        bench.tend()
    assert told == 100


def test_a_message_that_fails_is_not_sent_an_hour_late(bench: Bench) -> None:
    """Only what denies is tried again."""
    bench.block("nftables", "mail")
    bench.tend()
    bench.mail.end(FAILED)
    bench.now += 2 * 3600 * SECOND
    bench.tend()
    assert len(bench.mail.calls) == 1


@pytest.mark.parametrize("end", ["release", "expire"])
def test_what_was_done_is_undone_when_the_block_is_over(bench: Bench, end: str) -> None:
    """Released or expired; what only told somebody has nothing to undo."""
    bench.block("nftables", "file", "slow", "mail")
    for action in (bench.slow, bench.mail):
        bench.tend()
        action.end()
    if end == "release":
        assert bench.enforcement.release(parse_prefix("192.0.2.9"), bench.now) == 1
    else:
        bench.now = SOON
        bench.enforcement.expire(bench.now)
    bench.tend()
    bench.slow.end()
    bench.tend()
    assert bench.file.calls[-1] == bench.slow.calls[-1] == "release 192.0.2.9"
    assert bench.mail.calls == ["block 192.0.2.9"]
    assert bench.states == {}


def test_an_action_that_ends_after_its_block_is_undone(bench: Bench) -> None:
    """Released while the command still ran."""
    bench.block("nftables", "slow")
    bench.tend()
    bench.enforcement.release(None, bench.now)
    bench.slow.end()
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_an_undoing_that_fails_is_tried_again(bench: Bench) -> None:
    """Or the source would stay denied in silence."""
    bench.block("nftables", "file")
    bench.file.ending = FAILED
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.states == {"file": "ending"}
    bench.file.ending = DONE
    bench.now += RETRY_AFTER[0]
    bench.tend()
    assert bench.states == {}


def test_a_block_by_slow_actions_alone(bench: Bench) -> None:
    """In force with the first that denies; failed when all have failed, and the next strike may try again."""
    assert bench.block("slow", "other") == "later"
    assert bench.block("slow", "other") == "later"  # asked again meanwhile: nothing is done twice
    bench.tend()
    bench.slow.end(FAILED)
    assert bench.later == []
    bench.tend()
    bench.other.end()
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE] * 2
    assert len(bench.enforcement) == 1
    bench.later.clear()
    assert bench.block("other", source="192.0.2.10") == "later"
    bench.tend()
    bench.other.end(FAILED)
    assert [(outcome.kind, outcome.detail) for outcome in bench.later] == [
        (OutcomeKind.FAILED, "exit status 1")
    ]
    assert bench.block("other", source="192.0.2.10") == "later"


def test_a_longer_block_does_nothing_twice(bench: Bench) -> None:
    """What another action does already goes on; a message is sent again; nothing is undone."""
    bench.block("nftables", "file", "slow")
    bench.tend()
    bench.slow.end()
    assert bench.block("nftables", "slow", until=LATER) == "done"
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9"]
    assert bench.file.calls == ["block 192.0.2.9"]
    assert bench.states == {"slow": "done", "file": "done"}
    bench.enforcement.release(None, bench.now)
    bench.tend()
    bench.slow.end()
    bench.tend()
    assert bench.file.calls[-1] == bench.slow.calls[-1] == "release 192.0.2.9"


def test_another_way_of_denying_is_added(bench: Bench) -> None:
    """A source that is denied long enough, but not in all the ways that are wanted now."""
    bench.block("nftables", until=LATER)
    assert bench.block("file", until=SOON) == "done"
    assert bench.file.calls == ["block 192.0.2.9"]
    (block,) = bench.enforcement.blocks()
    assert block.until == LATER
    assert list(map(str, bench.backend.elements)) == ["192.0.2.9"]
    assert bench.block("file", "nftables", until=LATER - 1) == "exists"


def test_a_prefix_swallows_only_what_it_denies_in_all_ways(bench: Bench) -> None:
    """Else the line in the file would go, and nothing take its place."""
    bench.block("nftables", "file", source="198.51.100.9")
    assert bench.block("nftables", source="198.51.100.0/24", until=LATER) == "done"
    bench.tend()
    assert bench.file.calls == ["block 198.51.100.9"]
    assert len(bench.enforcement) == 2


def test_what_a_prefix_swallowed_does_not_outlive_it_in_the_kernel(bench: Bench) -> None:
    """Also where another action put the prefix in force, and the kernel comes after it."""
    bench.block("nftables", source="198.51.100.9", until=SOON)
    bench.block("file", "slow", "nftables", source="198.51.100.0/24", until=LATER)
    bench.tend()
    bench.slow.end()
    bench.tend()
    assert list(map(str, bench.backend.elements)) == ["198.51.100.0/24"]
    bench.enforcement.release(parse_prefix("198.51.100.0/24"), bench.now)
    assert bench.backend.elements == {}


@pytest.mark.parametrize("killed", ["before it began", "while it ran", "after it ended"])
def test_a_death_loses_and_doubles_nothing(bench: Bench, killed: str) -> None:
    """What was not begun begins; what ran is asked about; what had ended is left alone."""
    bench.block("nftables", "slow")
    if killed != "before it began":
        bench.tend()
    if killed == "after it ended":
        bench.slow.end()
    bench.start()
    bench.tend()
    first = "block 192.0.2.9"
    assert (
        bench.slow.calls
        == {
            "before it began": [first],
            "while it ran": [first, f"{first} again"],
            "after it ended": [first],
        }[killed]
    )
    if bench.slow.open:
        bench.slow.end()
    assert bench.states == {"slow": "done"}


def test_a_death_before_the_only_action_ended(bench: Bench) -> None:
    """The row stays open, and the correlator's next request hears of it."""
    bench.block("slow")
    bench.tend()
    bench.start()
    assert len(bench.enforcement) == 0
    bench.tend()
    assert bench.block("slow") == "later"
    bench.slow.end()
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE]
    assert len(bench.enforcement) == 1


def test_a_death_between_a_release_and_its_undoing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row had ended, the line was still there."""
    bench.block("nftables", "file")
    monkeypatch.setattr(bench.store.deeds, "end", _die)
    with pytest.raises(KeyboardInterrupt):
        bench.enforcement.release(None, bench.now)
    bench.start()
    bench.tend()
    assert bench.file.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_a_death_while_an_action_of_a_released_block_ran(bench: Bench) -> None:
    """It may have been carried out: it is undone at the next start, not forgotten."""
    bench.block("nftables", "slow")
    bench.tend()
    bench.enforcement.release(None, bench.now)
    bench.start()
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


@pytest.mark.parametrize("name", ["file", "slow"])
def test_a_block_right_after_a_release_is_not_undone_by_it(bench: Bench, name: str) -> None:
    """First the old line goes, then the new one comes; never the other way round."""
    action = {"file": bench.file, "slow": bench.slow}[name]
    bench.block("nftables", name)
    bench.tend()
    if action.open:
        action.end()
    bench.enforcement.release(None, bench.now)
    assert bench.block("nftables", name, until=LATER) == "done"
    for _ in range(2):
        bench.tend()
        if action.open:
            action.end()
    assert action.calls == ["block 192.0.2.9", "release 192.0.2.9", "block 192.0.2.9"]
    assert bench.states == {name: "done"}


def test_a_new_block_takes_over_what_could_not_be_undone(bench: Bench) -> None:
    """Or the next try to undo it, an hour later, would take away what is wanted again."""
    bench.block("nftables", "slow")
    bench.tend()
    bench.slow.end()
    bench.enforcement.release(None, bench.now)
    bench.tend()
    bench.slow.end(FAILED)
    bench.block("nftables", "slow", until=None)
    bench.tend()
    bench.slow.end()
    bench.now += 2 * 3600 * SECOND
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9", "block 192.0.2.9 again"]


def test_two_blocks_of_one_source_do_the_same_thing_once(bench: Bench) -> None:
    """Two jails, neither answered yet: the second takes over, and nothing is undone below it."""
    assert bench.block("slow", until=SOON) == "later"
    assert bench.block("slow", until=LATER) == "later"
    bench.tend()
    bench.slow.end()
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9"]
    assert [block.until for block in bench.enforcement.blocks()] == [LATER]
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_a_longer_block_that_names_another_port_undoes_the_first_ones_rule(bench: Bench) -> None:
    """KILL_ROUTE with $PORT$: what undoes the second rule does not undo the first."""
    bench.slow.names_port = True
    bench.block("nftables", "slow")
    bench.tend()
    bench.slow.end()
    bench.block("nftables", "slow", until=LATER, port=2)
    for _ in range(2):
        bench.tend()
        bench.slow.end()
    assert sorted(bench.slow.calls) == ["block 192.0.2.9", "block 192.0.2.9", "release 192.0.2.9"]
    assert bench.states == {"slow": "done"}


def test_a_longer_block_renews_what_carries_its_own_end(bench: Bench) -> None:
    """An entry of ipset would else expire with the first block."""
    bench.slow.expires_by_itself = True
    bench.block("nftables", "slow")
    bench.tend()
    bench.slow.end()
    bench.block("nftables", "slow", until=LATER)
    bench.tend()
    bench.slow.end()
    assert bench.slow.calls == ["block 192.0.2.9", "block 192.0.2.9 again"]
    assert bench.states == {"slow": "done"}


def test_the_kernel_denies_on_when_a_block_that_it_carried_out_second_is_extended(bench: Bench) -> None:
    """KILL_RUN_CMD_FIRST: undoing the first block's part must not take the longer one's element."""
    bench.block("mail", "nftables")
    bench.tend()
    bench.mail.end()
    bench.tend()
    assert bench.block("nftables", until=LATER) == "done"
    bench.tend()
    assert bench.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.backend.elements == {}


def test_a_block_that_comes_in_force_late_shortens_no_longer_one(bench: Bench) -> None:
    """Two jails: the slow, short one ends after the quick, long one, and both hold together."""
    assert bench.block("slow", until=SOON) == "later"
    bench.tend()
    assert bench.block("nftables", until=LATER) == "done"
    bench.slow.end()
    (block,) = bench.enforcement.blocks()
    assert (block.until, set(block.actions)) == (LATER, {"slow", "nftables"})
    assert bench.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert (bench.slow.calls[-1], bench.backend.elements) == ("release 192.0.2.9", {})


def test_a_command_that_ends_late_ends_no_block(bench: Bench) -> None:
    """BLOCK_UDP="2" beside BLOCK_TCP="1": what only tells somebody takes nobody's place."""
    assert bench.block("mail", until=SOON) == "later"
    bench.tend()
    assert bench.block("nftables", "file", until=LATER) == "done"
    bench.mail.end()
    bench.tend()
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE]
    (block,) = bench.enforcement.blocks()
    assert (block.until, block.actions) == (LATER, ("nftables", "file"))
    assert bench.file.calls == ["block 192.0.2.9"]


@pytest.mark.parametrize("everybody", [False, True])
def test_a_block_that_is_not_in_force_yet_is_released(bench: Bench, everybody: bool) -> None:
    """Whoever released it would else find it blocked a moment later."""
    bench.block("slow")
    bench.tend()
    source = None if everybody else parse_prefix("192.0.2.9")
    assert bench.enforcement.release(source, bench.now) == 1
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.RELEASED]
    bench.slow.end()
    bench.tend()
    assert len(bench.enforcement) == 0
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_who_is_ignored_while_an_action_runs_is_not_blocked(bench: Bench) -> None:
    """The list is asked again before the block comes in force, and what was done is undone."""
    bench.block("slow")
    bench.tend()
    bench.settings.paths.ignore.write_text("192.0.2.9\n")
    bench.slow.end()
    bench.tend()
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.REFUSED]
    assert len(bench.enforcement) == 0
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_a_command_alone_that_fails_is_not_run_at_every_probe(bench: Bench) -> None:
    """BLOCK_TCP="2": PortSentry does not look at the exit status; ours says it, and counts it as told."""
    assert bench.block("mail") == "later"
    bench.tend()
    bench.mail.end(FAILED)
    assert [(outcome.kind, outcome.detail) for outcome in bench.later] == [
        (OutcomeKind.DONE, "exit status 1")
    ]
    assert bench.block("mail", until=SOON - 1) == "exists"


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_short_block_that_comes_late_does_not_cut_a_long_one(bench: Bench, *, is_killed: bool) -> None:
    """Its command took its time, and meanwhile the source was denied for longer."""
    assert bench.block("slow", until=SOON) == "later"
    bench.tend()
    assert bench.block("nftables", "file", until=LATER) == "done"
    bench.slow.end()
    if is_killed:
        bench.start()
    (block,) = bench.enforcement.blocks()
    assert (block.until, set(block.actions)) == (LATER, {"slow", "nftables", "file"})
    assert bench.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    bench.tend()
    assert bench.slow.calls == bench.file.calls == ["block 192.0.2.9"]
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.slow.calls[-1] == bench.file.calls[-1] == "release 192.0.2.9"


def test_a_short_block_that_denies_in_the_kernel_late_does_not_cut_a_long_one(bench: Bench) -> None:
    """KILL_RUN_CMD_FIRST took its time, and another jail was faster."""
    assert bench.block("mail", "nftables", until=SOON) == "later"
    bench.tend()
    assert bench.block("nftables", until=LATER) == "done"
    bench.mail.end()
    bench.tend()
    assert bench.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE]


def test_what_was_done_before_is_not_done_again_behind_a_command(bench: Bench) -> None:
    """A longer block that begins with something slow; what denies already does not wait for it."""
    bench.block("nftables", "slow")
    bench.tend()
    bench.slow.end()
    assert bench.block("mail", "other", "slow", until=LATER) == "done"
    assert bench.backend.elements == {parse_prefix("192.0.2.9"): LATER}
    for action in (bench.mail, bench.other):
        bench.tend()
        action.end()
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9"]
    assert bench.states == {"mail": "done", "other": "done", "slow": "done"}


def test_what_was_interrupted_is_undone_though_it_was_not_tried_again(bench: Bench) -> None:
    """Killed while a command ran, and the block was over before the command had its turn again."""
    bench.block("nftables", "slow")
    bench.tend()
    bench.start()
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_what_was_interrupted_is_not_undone_under_the_longer_block(bench: Bench) -> None:
    """Killed while a line was added: the next block finds it there, and the first must not take it away."""
    bench.block("nftables", "slow", "file")
    bench.tend()
    bench.slow.end()
    bench.file.is_deadly = True
    with pytest.raises(KeyboardInterrupt):
        bench.tend()
    bench.file.is_deadly = False
    bench.start()
    bench.block("file", "nftables", "slow", until=LATER)
    bench.tend()
    calls = ["block 192.0.2.9", "block 192.0.2.9 again"]
    assert bench.file.calls == calls
    assert bench.states == {"file": "done", "slow": "done"}
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.file.calls == [*calls, "release 192.0.2.9"]


def test_what_carries_its_own_end_is_renewed_when_the_first_one_has_ended(bench: Bench) -> None:
    """Two commands at once about one source: the shorter end would win when its command ends last."""
    bench.slow.expires_by_itself = True
    bench.block("nftables", "slow")
    bench.tend()
    bench.block("nftables", "slow", until=LATER)
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9"]
    bench.slow.end()
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "block 192.0.2.9 again"]
    bench.slow.end()
    assert bench.states == {"slow": "done"}


@pytest.mark.parametrize("name", ["slow", "file"])
def test_what_was_interrupted_and_then_failed_is_undone(bench: Bench, name: str) -> None:
    """Killed when it had done its work, and its tool broke: a block given up leaves nothing behind."""
    assert bench.block("other", name) == "later"
    bench.tend()
    bench.other.end(FAILED)
    bench.file.is_deadly = name == "file"
    try:
        bench.tend()
    except KeyboardInterrupt:
        bench.file.is_deadly = False
    bench.start()
    assert bench.block("other", name) == "later"
    bench.file.ending = FAILED
    bench.tend()
    if name == "slow":
        bench.slow.end(FAILED)
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.FAILED]
    assert "exit status 1" in bench.later[0].detail
    bench.tend()
    action = bench.slow if name == "slow" else bench.file
    assert action.calls == ["block 192.0.2.9", "block 192.0.2.9 again", "release 192.0.2.9"]


def test_what_may_stand_and_fails_holds_up_none_that_comes_after(bench: Bench) -> None:
    """It is shown as failed, and tried again later."""
    bench.block("nftables", "slow", "other")
    bench.tend()
    bench.start()
    bench.tend()
    bench.slow.end(FAILED)
    bench.tend()
    assert bench.other.calls == ["block 192.0.2.9"]
    (block,) = bench.enforcement.blocks()
    assert block.endings == ("done", "failed", "under way")
    assert [(one["action"], one["is_over"]) for one in bench.enforcement.status()["failing"]] == [
        ("slow", False)
    ]
    bench.other.end()
    bench.now += RETRY_AFTER[1]
    bench.tend()
    bench.slow.end()
    assert bench.slow.calls == ["block 192.0.2.9", *["block 192.0.2.9 again"] * 2]
    assert bench.states == {"other": "done", "slow": "done"}


def test_what_carries_its_own_end_is_undone_though_it_was_not_renewed(bench: Bench) -> None:
    """Released before the longer block had renewed it: the entry of the first would stay."""
    bench.slow.expires_by_itself = True
    bench.block("nftables", "slow")
    bench.tend()
    bench.slow.end()
    bench.block("nftables", "slow", until=LATER)
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_an_action_that_is_gone_from_the_settings_is_said_and_left(bench: Bench) -> None:
    """We cannot know how to undo it any more."""
    bench.block("nftables", "file")
    del bench.enforcement._carrier._actions["file"]
    bench.enforcement.release(None, bench.now)
    bench.tend()
    assert bench.states == {}
    assert bench.block("file", source="192.0.2.10").startswith("refused no such action: file; there is: mail")


def test_an_empty_list_of_actions_is_never_asked_for(bench: Bench) -> None:
    """The protocol refuses it; here it would put nothing in force."""
    assert bench.block(source="192.0.2.10").startswith("failed")


def _die(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_an_ending_waits_for_the_disk_and_is_told_then(bench: Bench) -> None:
    """It does not stay as running until the next start, and nothing is begun or undone twice meanwhile."""
    assert bench.block("slow", "other") == "later"
    bench.tend()
    full = "CREATE TEMP TRIGGER full BEFORE INSERT ON deeds BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    bench.store._connection.execute(full)
    bench.slow.end()
    for _ in range(20):
        bench.tend()
    assert (bench.later, bench.endings, bench.other.calls) == ([], [], [])
    assert bench.states == {"slow": "running", "other": "asked"}
    bench.store._connection.execute("DROP TRIGGER full")
    bench.now += 5 * SECOND
    bench.tend()
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE]
    assert bench.endings == [("slow", "done")]
    bench.other.end()
    assert bench.states == {"slow": "done", "other": "done"}


def test_what_is_undone_on_a_full_disk_is_undone_once(bench: Bench) -> None:
    """The command is not run again and again, for want of a line that says it was."""
    bench.block("nftables", "slow")
    bench.tend()
    bench.slow.end()
    bench.enforcement.release(parse_prefix("192.0.2.9"), bench.now)
    full = "CREATE TEMP TRIGGER full BEFORE DELETE ON deeds BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    bench.store._connection.execute(full)
    bench.tend()
    bench.slow.end()
    for _ in range(20):
        bench.now += SECOND
        bench.tend()
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]
    bench.store._connection.execute("DROP TRIGGER full")
    bench.now += 5 * SECOND
    bench.tend()
    assert bench.states == {}
    assert bench.slow.calls == ["block 192.0.2.9", "release 192.0.2.9"]


def test_more_actions_than_may_run_at_once_survive_a_full_disk(bench: Bench) -> None:
    """One that could not be begun takes nobody's place."""
    for number in range(20):
        bench.block("nftables", "slow", source=f"198.51.100.{number}", until=None)
    full = "CREATE TEMP TRIGGER full BEFORE INSERT ON deeds BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    bench.store._connection.execute(full)
    for _ in range(20):
        bench.now += 5 * SECOND
        bench.tend()
    assert bench.slow.calls == []
    assert (bench.enforcement.pause(bench.now) or 0) > 0
    bench.store._connection.execute("DROP TRIGGER full")
    bench.now += 5 * SECOND
    for _ in range(20):
        bench.tend()
        while bench.slow.open:
            bench.slow.end()
    assert len(bench.slow.calls) == 20


def test_a_trace_that_could_not_be_undone_is_nobodys_until_the_next_block_has_it(bench: Bench) -> None:
    """A block that takes it over and fails itself must not leave it without anybody who undoes it."""
    bench.block("file")
    bench.file.ending = FAILED
    bench.enforcement.release(parse_prefix("192.0.2.9"), bench.now)
    bench.tend()
    assert bench.block("file", until=LATER).startswith("failed")
    bench.file.ending = DONE
    bench.now += RETRY_AFTER[-1]
    bench.tend()
    assert bench.file.calls[-2:] == ["block 192.0.2.9 again", "release 192.0.2.9"]


def test_so_many_blocks_wait_for_their_actions_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for blocks by a command that hangs must not fill memory and disk."""
    monkeypatch.setattr(enforcement_module, "MOST_PENDING", 2)
    assert [bench.block("slow", source=f"198.51.100.{number}") for number in range(3)] == [
        "later",
        "later",
        "failed 2 blocks wait for their actions already",
    ]
    bench.tend()
    bench.slow.end()
    assert bench.block("slow", source="198.51.100.2") == "later"


def test_the_list_says_how_far_each_action_has_come(bench: Bench) -> None:
    """In the order of the actions; what only tells somebody has told."""
    bench.block("nftables", "file", "slow", "mail", until=None)
    (block,) = bench.enforcement.blocks()
    assert block.endings == ("done", "done", "under way", "under way")
    bench.tend()
    bench.slow.end(FAILED)
    bench.tend()
    bench.mail.end()
    (block,) = bench.enforcement.blocks()
    assert block.endings == ("done", "done", "failed", "told")
    (failing,) = bench.enforcement.status()["failing"]
    assert (failing["source"], failing["action"], failing["is_over"]) == ("192.0.2.9", "slow", False)


def test_a_request_that_waits_is_asked_again_on_a_full_disk_and_waits_on(bench: Bench) -> None:
    """It has its row already: a second one beside it would end the first when the disk takes it."""
    assert bench.block("slow") == "later"
    full = "CREATE TEMP TRIGGER full BEFORE INSERT ON blocks BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    bench.store._connection.execute(full)
    assert bench.block("nftables", until=LATER).startswith("done not written down yet")
    assert bench.block("slow") == "later"
    bench.store._connection.execute("DROP TRIGGER full")
    bench.now += 5 * SECOND
    for _ in range(3):
        bench.tend()
    bench.slow.end()
    assert [outcome.kind for outcome in bench.later] == [OutcomeKind.DONE] * 2
    (block,) = bench.enforcement.blocks()
    assert set(block.actions) == {"nftables", "slow"}
