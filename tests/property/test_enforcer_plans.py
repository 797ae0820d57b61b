"""Belief against its definition, and the changes of the kernel against what the kernel would then hold."""

import ipaddress
import json
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.enforcer.fields import RequestError
from correlator.enforcer.plans import Belief, Until, flatten, kernel_view, outlasts, plan_change
from correlator.enforcer.protocol import Answer, Event, Request, parse_answer, parse_request
from correlator.model import Source

CALM = settings(deadline=None)  # a busy machine is no fault of the code

# A small corner of the addresses, so that prefixes often nest.
SOURCES = st.builds(
    lambda low, length: Source(ipaddress.ip_network((0xC0000200 + low, length), strict=False)),
    st.integers(0, 255),
    st.integers(24, 32),
)
ENDS = st.none() | st.integers(1, 4)
BLOCKS = st.dictionaries(SOURCES, ENDS, max_size=12)


def ends_by_address(blocks: dict[Source, Until]) -> dict[int, Until]:
    """Return, by definition, when each single address is no longer denied."""
    found: dict[int, Until] = {}
    for source, until in blocks.items():
        for address in source.network:
            number = int(address)
            if number not in found or not outlasts(found[number], until):
                found[number] = until
    return found


def read(parse: Callable[[bytes], object], data: bytes) -> object:
    """Return what was parsed, or the error, which must be one line fit to be shown."""
    try:
        return parse(data)
    except RequestError as exc:
        assert str(exc).isprintable()  # noqa: PT017 -- either way is right
        return exc


@CALM
@given(BLOCKS)
def test_pieces_do_not_overlap_and_deny_the_same(blocks: dict[Source, Until]) -> None:
    """The kernel's pieces deny exactly what the prefixes deny, each address once, equally long."""
    flat = flatten(blocks)
    assert sum(piece.network.num_addresses for piece in flat) == len(ends_by_address(flat))
    assert ends_by_address(flat) == ends_by_address(blocks)


@CALM
@given(BLOCKS, BLOCKS, st.sets(SOURCES, max_size=4))
def test_a_change_leads_to_the_view(
    blocks: dict[Source, Until], put: dict[Source, Until], drop: set[Source]
) -> None:
    """The kernel ends with what the new belief wants, and nothing overlaps on the way."""
    before = Belief(blocks.items())
    after = Belief({**{source: end for source, end in blocks.items() if source not in drop}, **put}.items())
    change = plan_change(before, put, drop)
    kernel = kernel_view(before)
    for source in change.remove:
        assert source in kernel
        del kernel[source]
    for source, until in change.add:
        assert source.is_single or not any(
            source.network.overlaps(other.network) for other in kernel if not other.is_single
        )
        kernel[source] = until
    assert kernel == kernel_view(after)


@CALM
@given(st.lists(st.tuples(SOURCES, ENDS, st.booleans()), max_size=30))
def test_belief_finds_what_a_walk_finds(steps: list[tuple[Source, Until, bool]]) -> None:
    """Wider and narrower sources are those that a walk over everything finds, after any puts and drops."""
    belief = Belief()
    model: dict[Source, Until] = {}
    for source, until, is_put in steps:
        if is_put:
            belief.put(source, until)
            model[source] = until
        else:
            belief.drop(source)
            model.pop(source, None)
        assert dict(belief.items()) == model
        assert set(belief.covering(source)) == {
            other for other in model if other.covers(source) and other != source
        }
        assert set(belief.within(source)) == {
            other for other in model if source.covers(other) and other != source
        }


@CALM
@given(
    st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_a_request_or_an_error_of_the_protocol(data: bytes) -> None:
    """Nothing else comes out of the one door that strangers may knock at."""
    assert isinstance(read(parse_request, data), Request | RequestError)
    assert isinstance(read(parse_answer, data), Answer | Event | RequestError)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("192.0.2.9")
KEYS = st.sampled_from(
    ["id", "verb", "request", "source", "jail", "until", "port", "protocol", "reason", "actions", "all", "x"]
)


@CALM
@given(
    st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3), max_size=11),
    st.sampled_from(["block", "release", "list", "status", "sync", "watch", "x"]),
    st.integers(0, 5),
)
def test_any_object_is_a_request_or_an_error_of_the_protocol(
    fields: dict[str, object], verb: str, id_: int
) -> None:
    """The same for lines that come near a request."""
    data = json.dumps({"id": id_, "verb": verb, "source": "192.0.2.9", "request": "a", **fields}).encode()
    assert isinstance(read(parse_request, data), Request | RequestError)
