"""Says what a probe would have written about the packets of a capture file, with their own times.

Nothing is written to any log. Two readings: the first learns whose ports answered (what answered is a
service, or a client of ours, and no probe's target) and which addresses are ours; the second judges. A
connect mode opens ports, and a capture shows none: only stealth and advanced modes say something here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from correlator.attackalert import format_left_out
from correlator.errors import CaptureFileError
from correlator.probe.answers import Answers, Segment, read_segment
from correlator.probe.capture_file import Captured, read_capture
from correlator.probe.packets import TCP, UDP, Packet, parse_packet, state_length
from correlator.probe.sockets import Taker
from correlator.probe.soundness import is_unfinished
from correlator.probe.techniques import ACK, RST, SYN
from correlator.probe.watch import Counters, Watch, is_impossible
from correlator.settings import ProbeSettings

_MOST_ADDRESSES = 100_000
"""Addresses and flows counted to find our own: it is among the first, whatever a flood brings later."""


class Line(NamedTuple):
    """One line, and when the packet came that it is about: nanoseconds since 1970."""

    at: int
    text: str


class Survey(NamedTuple):
    """What the first reading learns."""

    own: frozenset[bytes]
    busy: frozenset[tuple[int, int]]
    """Protocol and port of whatever answered or asked from one of our addresses."""


def survey_capture(path: Path, own: Collection[bytes] = ()) -> Survey:
    """Return whose addresses and which ports are ours; without `own`, the address in most packets is.

    Raises: CaptureFileError for a file that cannot be read.
    """
    seen: dict[int, Counter[bytes]] = {4: Counter(), 6: Counter()}
    asked: set[tuple[bytes, int, bytes, int]] = set()
    first_asked: Counter[bytes] = Counter()
    busy = set()
    for captured in read_capture(path):
        packet = parse_packet(captured.version, captured.data, len(captured.data))
        if packet is None:
            continue
        if packet.protocol == UDP or packet.flags & (SYN | ACK) == SYN | ACK:
            busy.add((packet.source, packet.protocol, packet.source_port))
        counted = seen[captured.version]
        for address in (packet.source, packet.destination):
            if not is_impossible(address) and (address in counted or len(counted) < _MOST_ADDRESSES):
                counted[address] += 1
        there = (packet.source, packet.source_port, packet.destination, packet.destination_port)
        if (*there[2:], *there[:2]) not in asked and len(asked) < _MOST_ADDRESSES and there not in asked:
            asked.add(there)
            first_asked[packet.destination] += 1
    # a capture of one scan has both ends in every packet: ours is the one that was spoken to first
    guessed = {
        max(counted, key=lambda address: (counted[address], first_asked[address]))
        for counted in seen.values()
        if counted
    }
    ours = frozenset(own or guessed)
    return Survey(ours, frozenset((protocol, port) for address, protocol, port in busy if address in ours))


def replay_capture(
    path: Path,
    settings: ProbeSettings,
    survey: Survey,
    counters: Counters | None = None,
    is_ignored: Callable[[bytes], bool] = lambda _source: False,
) -> Iterator[Line]:
    """Yield the lines in the order of the file, and count in `counters` what became of its packets.

    Hosts that are ignored today leave no line; names are not looked up.
    Raises: CaptureFileError for a file that cannot be read, or where no mode watches packets.
    """

    def find_taker(packet: Packet, _device: str) -> Taker:
        known = (packet.protocol, packet.destination_port) in survey.busy
        return Taker.PEER if known else Taker.NOBODY

    watch = Watch(settings, find_taker, is_ignored)
    watch.own_addresses = survey.own
    watch.counters = watch.counters if counters is None else counters
    if settings.compat:
        busy = {each: [port for protocol, port in survey.busy if protocol == each] for each in (TCP, UDP)}
        watch.watch_without_a_list(busy)
    if not watch.watched_ranges(TCP) and not watch.watched_ranges(UDP):
        raise CaptureFileError(f"modes {' '.join(settings.modes)}: expected one that watches packets")
    sees_hidden = settings.hidden_scans and not settings.compat
    answers = Answers(watch.judge_answered, watch.in_use[TCP].mark_used, watch.note_served)
    now = 0
    at = 0
    for captured in read_capture(path):
        at = captured.at
        now = max(now, at // 1000)  # files are not always in order; the limit needs time that is
        yield from _sum_up(watch, at, now)
        packet = parse_packet(captured.version, captured.data, len(captured.data))
        if packet is None or captured.size < state_length(captured.data):
            continue
        if packet.protocol == UDP or not packet.flags & (ACK | RST):
            data = captured.data
            is_verified = is_unfinished(packet, data)
            yield from (
                Line(at, text) for text in watch.judge(packet, "", now, data, is_verified=is_verified)
            )
        if sees_hidden:
            yield from _judge_answer(answers, captured, survey.own, now)
    if at:
        yield from _sum_up(watch, at, now + 1_000_000)


def _judge_answer(answers: Answers, captured: Captured, own: frozenset[bytes], now: int) -> Iterator[Line]:
    segment = read_segment(captured.data, len(captured.data))
    if segment is None:
        return
    is_ours = segment.source in own and _is_telling(segment)
    is_theirs = segment.destination in own and segment.flags & (SYN | ACK) == SYN | ACK
    if is_ours or is_theirs:
        for text in answers.judge(segment, "", now, is_ours=is_ours):
            yield Line(captured.at, text)


def _is_telling(segment: Segment) -> bool:
    """True for what the kernel filter would pass of our own packets."""
    return bool(segment.flags & (RST | SYN)) and not segment.flags & ACK


def _sum_up(watch: Watch, at: int, now: int) -> Iterator[Line]:
    left_out = watch.limit.take_left_out(now)
    if left_out:
        yield Line(at, format_left_out(left_out, watch.limit.limit))
