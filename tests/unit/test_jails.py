"""Jails: what is counted, and when it is enough."""

import pytest

from correlator.counting.jails import Count, JailDefinition, Key, format_span
from correlator.model import SECOND, Block, Evidence
from tests.unit.jail_events import START, judge, make_event, make_jail


def test_the_first_probe_is_enough_by_default():
    """SCAN_TRIGGER 0: one probe and the source is denied."""
    decision = judge(make_jail(), make_event()).decision
    assert isinstance(decision, Block)
    assert (str(decision.source), decision.strikes, decision.ports) == ("192.0.2.9", 1, (1,))
    assert decision.until == START + 3600 * SECOND


def test_the_threshold_counts_to_its_number():
    """Two of three do nothing; the third decides, with all three as evidence."""
    jail = make_jail(threshold=3, span=60 * SECOND)
    assert judge(jail, make_event(port=1)).decision is None
    assert judge(jail, make_event(port=2, at=START + SECOND)).note == "2 of 3 strikes in 1m"
    decision = judge(jail, make_event(port=3, at=START + 2 * SECOND)).decision
    assert isinstance(decision, Block)
    assert [evidence.line for evidence in decision.evidence] == ["probe of 1", "probe of 2", "probe of 3"]


def test_distinct_ports_are_not_hits():
    """Ten knocks on one port are one port."""
    jail = make_jail(count=Count.DISTINCT, field="port", threshold=2)
    for second in range(10):
        assert judge(jail, make_event(port=7, at=START + second * SECOND)).decision is None
    assert isinstance(judge(jail, make_event(port=8, at=START + 10 * SECOND)).decision, Block)


def test_weights_add_up_and_repeats_count():
    """A line that was repeated three times counts three times its weight."""
    jail = make_jail(count=Count.WEIGHT, threshold=10)
    assert judge(jail, make_event(weight=3, count=3)).reach.measure == 9
    decision = judge(jail, make_event(weight=1)).decision
    assert isinstance(decision, Block)
    assert (decision.strikes, decision.unit) == (10, "points")


def test_an_ignored_source_leaves_no_strike():
    """What the ignore list names is not counted at all, so taking it off the list starts at zero."""
    jail = make_jail(threshold=2)
    verdict = judge(jail, make_event(), ignored="192.0.2.0/24 in portward.ignore")
    assert (verdict.decision, verdict.reach, len(jail.windows)) == (None, None, 0)
    assert verdict.note == "ignored: 192.0.2.0/24 in portward.ignore"


def test_a_denied_source_is_not_decided_again():
    """Lines that were on their way when the block came change nothing."""
    jail = make_jail()
    assert judge(jail, make_event(), denied=True).decision is None
    assert jail.counters.denied_already == 1


def test_the_same_evidence_gives_the_same_request():
    """After a crash the lines are read again, and the enforcer must know the request."""
    assert (
        judge(make_jail(), make_event()).decision.request == judge(make_jail(), make_event()).decision.request
    )


def test_spans_are_written_as_people_write_them():
    """The largest unit that divides it."""
    assert [format_span(s * SECOND) for s in (1, 90, 600, 3600, 86400, 604800)] == [
        "1s", "90s", "10m", "1h", "1d", "7d",
    ]  # fmt: skip


def test_a_line_without_the_key_or_the_counted_field_is_not_counted():
    """An absent field is no value of its own, and no key that strangers share."""
    assert judge(make_jail(key=Key.USER), make_event(user="")).note == "not counted: the line names no user"
    jail = make_jail(count=Count.DISTINCT, field="port", threshold=1)
    verdict = judge(jail, make_event(port=None))
    assert (verdict.decision, verdict.reach) == (None, None)
    assert (jail.counters.incomplete, jail.counters.strikes) == (1, 0)


def test_a_jails_weights_overrule_the_filters():
    """The pattern's own first, then its filter's; zero is not counted at all."""
    weights = {"sshd": 3, "sshd/invalid-user": 5, "sshd/banner": 0}
    jail = make_jail(count=Count.WEIGHT, threshold=100, weights=weights)
    reached = [
        judge(jail, make_event(kind=kind, weight=7, count=2)).reach.measure
        for kind in ("portsentry/scan", "sshd/failed", "sshd/invalid-user")
    ]
    assert reached == [14, 20, 30]
    assert judge(jail, make_event(kind="sshd/banner")).note == "not counted: its weight here is 0"


def test_filters_of_one_jail_add_up():
    """Two failed logins and a probed port are three strikes."""
    jail = make_jail(threshold=3)
    assert judge(jail, make_event(kind="sshd/failed")).decision is None
    assert judge(jail, make_event(kind="portsentry/scan", spoofable=True)).decision is None
    assert isinstance(judge(jail, make_event(kind="sshd/failed")).decision, Block)


def test_all_of_wants_evidence_of_each_kind_within_the_span():
    """Any number of strikes of one kind is not enough; the other kind has to be as young."""
    jail = make_jail(all_of=("sshd", "portsentry/scan"), threshold=2, span=60 * SECOND)
    for second in range(5):
        verdict = judge(jail, make_event(kind="sshd/failed", at=START + second * SECOND))
    assert (verdict.decision, verdict.note) == (None, "5 of 2 strikes in 1m, nothing of portsentry/scan")
    late = START + 64 * SECOND
    assert judge(jail, make_event(kind="portsentry/scan", at=late)).decision is None
    assert judge(jail, make_event(kind="portsentry/connect", at=late)).decision is None
    assert isinstance(judge(jail, make_event(kind="sshd/failed", at=late)).decision, Block)


def test_only_what_has_one_of_the_values_counts():
    """Each field that is named must have one of its values; a line that does not tell it does not count."""
    jail = make_jail(only={"signature": frozenset({"1000001", "2010935"}), "priority": frozenset({"1"})})
    others = [{"signature": "1000001"}, {"signature": "1000001", "priority": "2"}, {"priority": "1"}, {}]
    assert [judge(jail, make_event(**fields)).decision for fields in others] == [None] * 4
    assert judge(jail, make_event(**others[1])).note == "not counted: priority is 2"
    assert judge(jail, make_event()).note == "not counted: signature is not said"
    assert isinstance(judge(jail, make_event(signature="2010935", priority="1")).decision, Block)


def test_the_evidence_of_a_decision_is_bounded_in_lines_and_length():
    """The newest lines are kept, and the last one however long it is."""
    jail = make_jail(threshold=100)
    for number in range(99):
        judge(jail, make_event(port=number, at=START + number))
    evidence = judge(jail, make_event(port=99, at=START + 99)).decision.evidence
    assert [item.line for item in evidence] == [f"probe of {port}" for port in range(80, 100)]
    long = [
        make_event(at=START + n)._replace(evidence=Evidence(START + n, "o", n, "y" * 9000))
        for n in range(200, 300)
    ]
    evidence = [judge(jail, event) for event in long][-1].decision.evidence
    assert [item.offset for item in evidence] == [299]


def test_a_line_later_than_two_spans_still_decides_alone():
    """A log that is read after another one may hold what is enough by itself."""
    jail = make_jail(span=SECOND)
    judge(jail, make_event("192.0.2.8"))
    late = judge(jail, make_event("192.0.2.8", at=START - 60 * SECOND)).decision
    assert (late.at, len(late.evidence)) == (START - 60 * SECOND, 1)
    waiting = make_jail(span=SECOND, threshold=2)
    judge(waiting, make_event())
    assert judge(waiting, make_event(at=START - 60 * SECOND)).decision is None


@pytest.mark.parametrize(
    ("settings", "unit"),
    [
        ({"threshold": 5}, "strikes"),
        ({"threshold": 1}, "strike"),
        ({"threshold": 5, "count": Count.WEIGHT}, "points"),
        ({"threshold": 5, "count": Count.DISTINCT, "field": "port"}, "ports"),
        ({"threshold": 5, "count": Count.DISTINCT, "field": "status"}, "statuses"),
    ],
)
def test_what_is_counted_has_a_name(settings, unit):
    """So `explain` can say `3 of 5 ports in 1m`."""
    assert JailDefinition("x", "", ("f",), **settings).unit == unit
