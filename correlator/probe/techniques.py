"""Names what a probe's TCP flags say about its sender, in PortSentry's words.

Only the six classic flags count; ECE and CWR change nothing. Pure: a table of 256 names.
Source: PortSentry 1.2 as run with all 256 flag bytes (Debian 1.2-14).
"""

from __future__ import annotations

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
ACK = 0x10
URG = 0x20

UDP_TECHNIQUE = "UDP scan"
ACK_TECHNIQUE = "TCP ACK scan"
"""Ours, in the form of PortSentry's: ACK, window and Maimon scans alike, which its readers understand."""


def _name(flags: int) -> str | None:
    if flags & (ACK | RST):
        return None
    classic = flags & (FIN | SYN | PSH | URG)
    if not classic:
        return " TCP NULL scan"  # the space is PortSentry's: people's expressions expect two
    if classic & (FIN | URG | PSH) == FIN | URG | PSH:
        return "TCP XMAS scan"
    if classic == FIN:
        return "TCP FIN scan"
    if classic == SYN:
        return "TCP SYN/Normal scan"
    order = (("SYN", SYN), ("FIN", FIN), ("ACK", ACK), ("PSH", PSH), ("URG", URG), ("RST", RST))
    spelled = " ".join(f"{name}: {int(bool(flags & bit))}" for name, bit in order)
    return f"Unknown Type: TCP Packet Flags: {spelled}"


_NAMES = tuple(_name(flags) for flags in range(256))


def name_technique(flags: int) -> str | None:
    """Return PortSentry's name for a byte of TCP flags; None where ACK or RST is set: no probe."""
    return _NAMES[flags]
