"""Who pays is an address that the account's own login line named, under any interleaving; bounds hold."""

from hypothesis import given
from hypothesis import strategies as st

from correlator.lines.syslog import Header, format_instant
from correlator.matching.filter_definition import FilterDefinition, LoginDefinition, PatternDefinition
from correlator.matching.filter_tests import make_line
from correlator.matching.filters import Filter
from correlator.matching.patterns import Line
from correlator.model import SECOND, Chunk, Event, Evidence
from correlator.reading import Reader

NOW = 10**15
DAY = 86_400 * SECOND
AFTERWARDS = 600 * SECOND
ACCOUNTS = st.sampled_from(["ops", "op", "bob", "x" * 64, "x" * 65])
PROCESSES = st.sampled_from(["7", "8", "9", ""])
PLACES = st.sampled_from([("/log/a", "vm"), ("/log/b", "vm"), ("/log/a", "other")])
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])
PAUSES = st.sampled_from([0, 1, SECOND, AFTERWARDS - 1, AFTERWARDS, DAY - AFTERWARDS, DAY - 1, DAY])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "end", "fail", "fail", "forged", "noise"]),
        PLACES,
        PROCESSES,
        ACCOUNTS,
        ADDRESSES,
        PAUSES,
    ),
    max_size=40,
)


def _filter():
    login = LoginDefinition(
        frozenset({"gated"}),
        r"^(?P<account>\w+) came from (?P<source>[0-9a-f.:]+)$",
        r"^(?P<account>\w+) left$",
    )
    wrong = PatternDefinition("wrong", r"^(?P<account>\w+) failed(?: .*)?$")
    return Filter(
        FilterDefinition("x", "", "test", frozenset({"doord", "gated"}), (), (wrong,), logins=(login,))
    )


def _line(step, at):
    kind, place, process, account, address = step
    program, body = {
        "begin": ("gated", f"{account} came from {address}"),
        "end": ("gated", f"{account} left"),
        "fail": ("doord", f"{account} failed {account} came from {address}"),
        "forged": ("doord", f"{account} came from {address}"),
        "noise": ("gated", f"x {account} came from {address}"),
    }[kind]
    return Line(Header("", place[1], program, process, body), Evidence(at, place[0], 0, body))


class _Model:
    """Every login that ever was, by place and process: no bound, no index."""

    def __init__(self):
        self.logins = {}

    def take(self, step, at):
        """Return who pays."""
        kind, place, process, account, address = step
        key = (place, process)
        if kind == "begin" and process and len(account) <= 64:
            self.logins[key] = [account, address, at, None]
        elif kind == "end" and key in self.logins and self.logins[key][0] == account:
            login = self.logins[key]
            if login[3] is None:
                login[3] = at
        elif kind == "fail":
            addresses = {
                from_where
                for (where, _process), (who, from_where, began, ended) in self.logins.items()
                if where == place and who == account and at - began < DAY
                if ended is None or at - ended < AFTERWARDS
            }
            return addresses.pop() if len(addresses) == 1 else None
        return None


@given(STEPS)
def test_who_pays_is_whom_all_logins_of_the_account_name(steps):
    """Under any interleaving of logs, hosts, processes that come back, ends, pauses and forged text."""
    filter_, model = _filter(), _Model()
    named: dict[tuple[tuple[str, str], str], set[str]] = {}
    at = NOW
    for *step, pause in steps:
        at += pause
        answer = filter_.read(_line(step, at))
        kind, place, _process, account, address = step
        if kind == "begin":
            named.setdefault((place, account), set()).add(address)
        expected = model.take(step, at)
        assert answer is None or isinstance(answer, Event)  # nothing is counted as unreadable
        assert (None if answer is None else str(answer.source)) == expected
        assert expected is None or expected in named[(place, account)]


@given(STEPS, st.lists(st.integers(1, 12), min_size=1, max_size=8), st.booleans())
def test_lines_that_wait_change_nothing(steps, cuts, is_reloaded):
    """Read in chunks of any size, in which lines about logins wait, as line by line; over reloads too."""
    alone, filter_ = _filter(), _filter()
    reader = Reader({"x": filter_}, routes={"/log/a": ["x"]}, max_line=8192)
    texts, expected, found, at = [], [], [], NOW
    for *step, pause in steps:
        at += pause // SECOND * SECOND
        header = _line(step, at).header
        pid = f"[{header.pid}]" if header.pid else ""
        texts.append(f"{format_instant(at)} {header.host} {header.identifier}{pid}: {header.body}\n".encode())
        answer = alone.read(make_line(texts[-1].decode()[:-1], arrived=at, origin="/log/a"))
        expected += [] if answer is None else [(answer.at, str(answer.source))]
    offset = 0
    while texts:
        size = cuts[len(texts) % len(cuts)]
        data = b"".join(texts[:size])
        del texts[:size]
        chunk = Chunk("/log/a", offset, data, at + DAY, is_live=False)
        found += [(event.at, str(event.source)) for event in reader.read(chunk)]
        offset += len(data)
        if is_reloaded:
            known, filter_ = filter_, _filter()
            before, reader = reader, Reader({"x": filter_}, routes={"/log/a": ["x"]}, max_line=8192)
            reader.succeed(before)
            filter_.succeed(known)
    assert found == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "end"]), st.integers(0, 300), st.integers(0, 3)), max_size=60
    )
)
def test_the_books_agree_and_are_bounded(steps):
    """Of an account 64 logins are known; each is in the book of its account, and in no other."""
    filter_ = _filter()
    logins = filter_._connections
    for kind, number, account in steps:
        for copy in range(40):
            step = (kind, ("/log/a", "vm"), f"{number}-{copy}", f"u{account}", "192.0.2.1")
            filter_.read(_line(step, NOW + number))
    of_accounts = [(process, login) for book in logins._of.values() for process, login in book.items()]
    assert dict(of_accounts) == dict(logins._known)
    assert len(of_accounts) == len(logins._known) <= 4 * 64
    assert logins._ended.keys() <= logins._known.keys()
    assert all(0 < len(book) <= 64 for book in logins._of.values())
