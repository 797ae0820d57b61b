"""Whose a connection is equals its definition under any interleaving; forged names fill no memory."""

from hypothesis import given
from hypothesis import strategies as st

from correlator.lines.syslog import Header
from correlator.matching.filter_definition import ConnectionDefinition, FilterDefinition, PatternDefinition
from correlator.matching.filters import Filter, Unreadable
from correlator.matching.patterns import Line
from correlator.model import SECOND, Event, Evidence

NOW = 10**15
PATIENCE = 2 * SECOND
LIFETIME = 3600 * SECOND
NAMES = st.sampled_from(["1", "2", "11", "x", "", "2" * 64, "2" * 65])
PROCESSES = st.sampled_from(["7", "8", ""])
ORIGINS = st.sampled_from(["/log/a", "/log/b"])
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])
PAUSES = st.sampled_from([0, 1, SECOND, PATIENCE, PATIENCE + 1, LIFETIME - 1, LIFETIME])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "tell", "wrong", "over", "noise"]),
        ORIGINS,
        PROCESSES,
        NAMES,
        ADDRESSES,
        PAUSES,
    ),
    max_size=40,
)


def _filter(*, begins_late):
    connection = ConnectionDefinition(
        begins=r"^c(?P<connection>\w*) from (?P<source>[0-9a-f.:]+)$",
        tells=r"^c(?P<connection>\w*) is (?P<user>.*)$",
        ends=r"^c(?P<connection>\w*) over$",
        begins_late=begins_late,
    )
    wrong = PatternDefinition("wrong", r"^c(?P<connection>\w*) wrong$")
    return Filter(
        FilterDefinition("x", "", "test", frozenset({"d"}), (), (wrong,), connections=(connection,))
    )


def _line(kind, key, address, at, number):
    origin, process, name = key
    body = {
        "begin": f"c{name} from {address}",
        "tell": f"c{name} is user{number} from {address}",
        "wrong": f"c{name} wrong",
        "over": f"c{name} over",
        "noise": f"x c{name} from {address}",
    }[kind]
    return Line(Header("", "vm", "d", process, body), Evidence(at, origin, number, body))


class _Model:
    """Every beginning that ever was, and every line that waits: no bound, no order but that of the lines."""

    def __init__(self, *, begins_late):
        self.begins_late = begins_late
        self.begun = {}
        self.waiting = {}

    def take(self, kind, key, address, at, number):
        """Return {number of a failure: its source, or None where it is nobody's}."""
        found = {}
        for waited, (since, numbers) in tuple(self.waiting.items()):
            if at - since > PATIENCE:
                found |= dict.fromkeys(numbers)
                del self.waiting[waited]
        if not (key[1] or key[2]) or len(key[2]) > 64:
            return found | ({number: None} if kind == "wrong" else {})
        address_of, seen = self.begun.get(key, ("", -LIFETIME))
        is_known = address_of != "" and at - seen < LIFETIME
        match kind:
            case "begin":
                self.begun[key] = (address, at)
                found |= dict.fromkeys(self.waiting.pop(key, (0, ()))[1], address)
            case "over":
                self.begun.pop(key, None)
            case "wrong" | "tell" if is_known:
                self.begun[key] = (address_of, at)
                found |= {number: address_of} if kind == "wrong" else {}
            case "wrong" | "tell" if self.begins_late:
                numbers = self.waiting.setdefault(key, (at, []))[1]
                numbers += [number] * (kind == "wrong")
            case "wrong":
                found[number] = None
        return found


@given(STEPS, st.booleans())
def test_a_failure_is_that_of_the_connection_it_names(steps, begins_late):
    """Under any interleaving of logs, processes, names that come back, ends, pauses and late beginnings."""
    filter_, model = _filter(begins_late=begins_late), _Model(begins_late=begins_late)
    at = NOW
    for number, (kind, origin, process, name, address, pause) in enumerate(steps):
        at += pause
        answers = (filter_.read(_line(kind, (origin, process, name), address, at, number)), *filter_.late)
        found = {
            answer.evidence.offset: str(answer.source) if isinstance(answer, Event) else None
            for answer in answers
            if answer is not None
        }
        expected = model.take(kind, (origin, process, name), address, at, number)
        assert found == expected
        assert sum(answer is not None for answer in answers) == len(expected)


@given(st.lists(st.tuples(st.sampled_from(["begin", "tell", "wrong"]), st.integers(0, 2000)), max_size=200))
def test_forged_names_fill_no_memory_and_no_line_is_lost(steps):
    """Each failure is an event or shown as unreadable, or still waits, and few wait."""
    filter_ = _filter(begins_late=True)
    answered = failures = 0
    for number, (kind, name) in enumerate(steps):
        for copy in range(40):
            line = _line(kind, ("/log/a", "7", f"{name}{copy}"), "192.0.2.1", NOW, number)
            answers = (filter_.read(line), *filter_.late)
            failures += kind == "wrong"
            answered += sum(isinstance(answer, Event | Unreadable) for answer in answers)
    connections = filter_._connections
    waiting = sum(len(waiting.held) for waiting in connections._waiting.values())
    assert answered + waiting == failures
    assert len(connections._waiting) <= 256
    assert len(connections._known) <= 10_000
