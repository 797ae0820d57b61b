"""The classic BPF programs that decide in the kernel which packets the probe is woken for.

Pure: ports in, program bytes out. The programs are for a cooked packet socket (SOCK_DGRAM), where
offset 0 is the IP header. They may pass too much and must never pass too little: `packets` looks again.
What cannot be judged because it is cut short is dropped (an out-of-range load ends the program with 0).
Invariant: established TCP traffic (ACK set) never reaches Python.
Source: linux/filter.h, linux/bpf_common.h; RFC 791, RFC 8200 section 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from correlator.probe.packets import (
    AUTHENTICATION,
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    MAX_EXTENSIONS,
    ROUTING,
    TCP,
    UDP,
)
from correlator.probe.techniques import ACK, RST, SYN

PortRanges = tuple[tuple[int, int], ...]
MOST_RANGES = 50
"""Ranges of ports that one check compares; a conditional jump goes over 255 instructions at most."""

LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
LOAD_HALF_X, LOAD_BYTE_X = 0x48, 0x50  # at X + k
LOAD_LENGTH = 0x80  # how many bytes of the packet arrived
LOAD_MEMORY, STORE = 0x60, 0x02
SET_X, SET_X_HEADER_LENGTH = 0x01, 0xB1  # the latter: X = 4 * (byte & 15)
A_TO_X, X_TO_A = 0x07, 0x87
ADD, ADD_X, SHIFT_LEFT, AND = 0x04, 0x0C, 0x64, 0x54
JUMP, IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT = 0x05, 0x15, 0x25, 0x35, 0x45
IF_AT_LEAST_X = 0x3D
RETURN = 0x06

_ANCILLARY = 0xFFFFF000
PROTOCOL = _ANCILLARY + 0
PACKET_TYPE = _ANCILLARY + 4  # 0 is PACKET_HOST: to our hardware address
DEVICE_TYPE = _ANCILLARY + 28
_ARPHRD_LOOPBACK = 772
OUTGOING = 4  # PACKET_OUTGOING: our own
_ETHERTYPE_IPV4, _ETHERTYPE_IPV6 = 0x0800, 0x86DD

WHOLE = 0xFFFF
"""Bytes kept of a probe: its checksum covers all of them, and IPv6 extension headers may be 2 KiB each."""
HEADERS = 80
"""Bytes kept of an answer: the longest IPv4 header and a TCP header."""

_INSTRUCTION = struct.Struct("=HBBI")


class Op(NamedTuple):
    """One instruction; jumps name labels, and a conditional jump without one goes on below."""

    code: int
    k: int = 0
    then: str = ""
    otherwise: str = ""


Statement = Op | str
"""An instruction, or a label for the instruction after it."""


def assemble(statements: Iterable[Statement]) -> bytes:
    """Return the program with its labels turned into forward distances.

    Raises: ValueError for a conditional jump over more than 255 instructions (use JUMP), KeyError for
    an unknown label.
    """
    ops: list[Op] = []
    labels: dict[str, int] = {}
    for statement in statements:
        if isinstance(statement, str):
            labels[statement] = len(ops)
        else:
            ops.append(statement)
    program = bytearray()
    for position, op in enumerate(ops):

        def distance(label: str, position: int = position) -> int:
            return labels[label] - position - 1 if label else 0

        if op.code == JUMP:
            program += _INSTRUCTION.pack(op.code, 0, 0, distance(op.then))
            continue
        then, otherwise = distance(op.then), distance(op.otherwise)
        if not (0 <= then <= 255 and 0 <= otherwise <= 255):
            raise ValueError(f"instruction {position}: jump of {then} or {otherwise}, expected 0 to 255")
        program += _INSTRUCTION.pack(op.code, then, otherwise, op.k)
    return bytes(program)


REJECT_ALL = assemble([Op(RETURN, 0)])


def build_filter(version: int, tcp: PortRanges, udp: PortRanges) -> bytes:
    """Return the program for IPv4 (4) or IPv6 (6): probes of ports in these inclusive, ascending ranges.

    Empty: that protocol is not watched. At most `MOST_RANGES` each.
    """
    if not tcp and not udp:
        return REJECT_ALL
    walk = _walk_ipv6() if version == 6 else _walk_ipv4()
    return assemble([*_for_this_host(), *_demand_whole(version), *walk, *_judge_transport(tcp, udp)])


def build_answer_filter(tcp: PortRanges) -> bytes:
    """Return the program for what shows hidden scans of these ports; for a socket of all protocols.

    Passed are, of our own packets from these ports, a RST without ACK (what a closed port says to a segment
    with ACK), a SYN (a client of ours uses the port) and a SYN with ACK (somebody serves it), and of others'
    a SYN with ACK to these ports: the answer to somebody who forged our address, and the one kind of ACK that
    a stranger's error sends us.
    IPv6 extension headers are not followed: our kernel puts none in front of a RST.
    """
    if not tcp:
        return REJECT_ALL
    return assemble(
        [
            Op(LOAD_WORD, DEVICE_TYPE),
            Op(IF_EQUAL, _ARPHRD_LOOPBACK, "drop"),
            Op(LOAD_WORD, PROTOCOL),
            Op(IF_EQUAL, _ETHERTYPE_IPV4, "four"),
            Op(IF_EQUAL, _ETHERTYPE_IPV6, "six", "drop"),
            "four",
            *_walk_ipv4(),
            Op(IF_EQUAL, TCP, "tcp", "drop"),
            "six",
            Op(SET_X, 40),
            Op(LOAD_BYTE, 6),
            Op(IF_EQUAL, TCP, "tcp", "drop"),
            "drop",
            Op(RETURN, 0),
            "tcp",
            Op(LOAD_WORD, PACKET_TYPE),
            Op(IF_EQUAL, OUTGOING, "out"),
            Op(IF_EQUAL, 0, "in", "drop other"),
            "out",
            Op(LOAD_BYTE_X, 13),
            Op(AND, SYN | ACK | RST),
            Op(IF_EQUAL, SYN | ACK, "is ours"),
            Op(IF_ANY_BIT, ACK, "drop other"),
            Op(IF_ANY_BIT, RST | SYN, "is ours", "drop other"),
            "in",
            Op(LOAD_BYTE_X, 13),
            Op(AND, SYN | ACK),
            Op(IF_EQUAL, SYN | ACK, "is theirs"),
            "drop other",
            Op(RETURN, 0),
            "is theirs",
            Op(JUMP, then="theirs"),
            "is ours",
            *judge_port("ours", 0, tcp, HEADERS),
            "theirs",
            *judge_port("theirs", 2, tcp, HEADERS),
        ]
    )


def _for_this_host() -> list[Statement]:
    return [
        Op(LOAD_WORD, PACKET_TYPE),
        Op(IF_EQUAL, 0, "", "not ours"),
        Op(LOAD_WORD, DEVICE_TYPE),
        Op(IF_EQUAL, _ARPHRD_LOOPBACK, "not ours", "ours"),
        "not ours",
        Op(RETURN, 0),
        "ours",
    ]


def _demand_whole(version: int) -> list[Statement]:
    """Drop what states more bytes than arrived: our kernel throws it away, and no host answers it.

    Whatever is handed over to us may be cut once more; here alone is known what arrived.
    """
    length = [Op(LOAD_HALF, 4), Op(ADD, 40)] if version == 6 else [Op(LOAD_HALF, 2)]
    return [
        *length,
        Op(A_TO_X),
        Op(LOAD_LENGTH),
        Op(IF_AT_LEAST_X, then="whole"),
        Op(RETURN, 0),
        "whole",
    ]


def _walk_ipv4() -> list[Statement]:
    """Leave the protocol in A and the transport header's offset in X."""
    return [
        Op(LOAD_HALF, 6),
        Op(IF_ANY_BIT, 0x1FFF, "drop"),
        Op(SET_X_HEADER_LENGTH, 0),
        Op(LOAD_BYTE, 9),
    ]


def _walk_ipv6() -> list[Statement]:
    """Do the same over extension headers; there are no loops in BPF, so each step is written out."""
    statements: list[Statement] = [Op(SET_X, 40), Op(LOAD_BYTE, 6)]
    for depth in range(MAX_EXTENSIONS):
        options, fragment, authentication = (f"{name} {depth}" for name in ("options", "fragment", "ah"))
        reject, later, found, following = (f"{name} {depth}" for name in ("no", "later", "found", "next"))
        statements += [
            Op(IF_EQUAL, TCP, found),
            Op(IF_EQUAL, UDP, found),
            Op(IF_EQUAL, HOP_BY_HOP, options),
            Op(IF_EQUAL, ROUTING, options),
            Op(IF_EQUAL, DESTINATION_OPTIONS, options),
            Op(IF_EQUAL, FRAGMENT, fragment),
            Op(IF_EQUAL, AUTHENTICATION, authentication, reject),
            found,
            Op(JUMP, then="transport"),
            reject,
            Op(RETURN, 0),
            fragment,
            Op(LOAD_HALF_X, 2),
            Op(IF_ANY_BIT, 0xFFF8, later),
            *_step([Op(X_TO_A), Op(ADD, 8)]),
            Op(JUMP, then=following),
            later,
            Op(RETURN, 0),
            authentication,
            *_step([Op(LOAD_BYTE_X, 1), Op(ADD, 2), Op(SHIFT_LEFT, 2), Op(ADD_X)]),
            Op(JUMP, then=following),
            options,
            *_step([Op(LOAD_BYTE_X, 1), Op(ADD, 1), Op(SHIFT_LEFT, 3), Op(ADD_X)]),
            following,
        ]
    return statements


def _step(length: list[Op]) -> list[Op]:
    """Move X by what `length` leaves in A, and put the next header's number in A."""
    return [Op(LOAD_BYTE_X, 0), Op(STORE, 0), *length, Op(A_TO_X), Op(LOAD_MEMORY, 0)]


def _judge_transport(tcp: PortRanges, udp: PortRanges) -> list[Statement]:
    flags: list[Statement] = [
        Op(LOAD_BYTE_X, 13),
        Op(IF_ANY_BIT, ACK | RST, "", "tcp flags"),
        Op(RETURN, 0),
        "tcp flags",
    ]
    return [
        "transport",
        Op(IF_EQUAL, TCP, "tcp" if tcp else "drop"),
        Op(IF_EQUAL, UDP, "is udp" if udp else "drop", "drop"),
        "drop",
        Op(RETURN, 0),
        "is udp",
        Op(JUMP, then="udp"),
        *(["tcp", *flags, *judge_port("tcp", 2, tcp, WHOLE)] if tcp else []),
        "udp",
        *judge_port("udp", 2, udp, WHOLE),
    ]


def judge_port(name: str, at: int, ports: PortRanges, kept: int) -> list[Statement]:
    """Return what keeps `kept` bytes where the port at X + `at` is in the ranges, and ends the program."""
    statements: list[Statement] = [Op(LOAD_HALF_X, at)]
    for index, (lowest, highest) in enumerate(ports):
        statements += [
            Op(IF_AT_LEAST, lowest, "", f"{name} no"),
            Op(IF_GREATER, highest, f"{name} {index}", f"{name} pass"),
            f"{name} {index}",
        ]
    return [*statements, f"{name} no", Op(RETURN, 0), f"{name} pass", Op(RETURN, kept)]
