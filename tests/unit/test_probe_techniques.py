"""Techniques are named as PortSentry names them, for every byte of flags."""

import pytest

from correlator.probe.techniques import name_technique

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))

KNOWN = {
    frozenset(): " TCP NULL scan",
    frozenset({FIN}): "TCP FIN scan",
    frozenset({SYN}): "TCP SYN/Normal scan",
    frozenset({FIN, URG, PSH}): "TCP XMAS scan",
    frozenset({FIN, URG, PSH, SYN}): "TCP XMAS scan",
}


@pytest.mark.parametrize("flags", range(256))
def test_every_byte_of_flags_has_portsentrys_name(flags: int) -> None:
    """ACK or RST: no probe. The five known sets: their names. The rest: spelled. ECE and CWR: nothing."""
    classic = frozenset(bit for bit in (FIN, SYN, RST, PSH, ACK, URG) if flags & bit)
    if classic & {ACK, RST}:
        expected = None
    elif classic in KNOWN:
        expected = KNOWN[classic]
    else:
        on = {bit: int(bit in classic) for bit in (SYN, FIN, PSH, URG)}
        expected = (
            f"Unknown Type: TCP Packet Flags: SYN: {on[SYN]} FIN: {on[FIN]} ACK: 0"
            f" PSH: {on[PSH]} URG: {on[URG]} RST: 0"
        )
    assert expected == name_technique(flags)


def test_sixty_four_of_the_256_are_probes() -> None:
    """The same number that PortSentry reported when all 256 were sent to it."""
    assert sum(name_technique(flags) is not None for flags in range(256)) == 64


def test_the_recorded_unknown_line() -> None:
    """The text that PortSentry wrote for SYN and FIN together."""
    expected = "Unknown Type: TCP Packet Flags: SYN: 1 FIN: 1 ACK: 0 PSH: 0 URG: 0 RST: 0"
    assert expected == name_technique(SYN | FIN)
