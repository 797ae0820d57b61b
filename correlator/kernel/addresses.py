"""Our host's own addresses and gateways, asked from the kernel's routing tables.

Whoever asks decides how often; nothing is cached here. Source: rtnetlink(7).
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from correlator.kernel.netlink import NLM_F_DUMP, NetlinkSocket, read_attributes

_RTM_GETADDR = 22
_RTM_GETROUTE = 26
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_RTA_GATEWAY = 5
_ADDRESS_HEADER = struct.Struct("=BBBBI")
_ROUTE_HEADER = struct.Struct("=BBBBBBBBI")


def own_addresses() -> frozenset[bytes]:
    """Return every address of this network namespace, packed (4 or 16 bytes)."""
    found = set()
    with NetlinkSocket(socket.NETLINK_ROUTE) as netlink:
        request = _ADDRESS_HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        for message in netlink.ask(_RTM_GETADDR, request, flags=NLM_F_DUMP, what="own addresses"):
            attributes = read_attributes(message.payload, _ADDRESS_HEADER.size)
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed is not None:
                found.add(packed)
    return frozenset(found)


def gateways() -> frozenset[bytes]:
    """Return every next hop of the routing tables, packed (4 or 16 bytes)."""
    found = set()
    with NetlinkSocket(socket.NETLINK_ROUTE) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _ROUTE_HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for message in netlink.ask(_RTM_GETROUTE, request, flags=NLM_F_DUMP, what="gateways"):
                packed = read_attributes(message.payload, _ROUTE_HEADER.size).get(_RTA_GATEWAY)
                if packed is not None:
                    found.add(packed)
    return frozenset(found)


def resolvers(path: str = "/etc/resolv.conf") -> frozenset[bytes]:
    """Return the name servers that resolv.conf lists, packed; none where the file is not there."""
    found = set()
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            words = [line.split() for line in lines]
    except OSError:
        return frozenset()
    for parts in words:
        if len(parts) >= 2 and parts[0] == "nameserver":
            try:
                found.add(ipaddress.ip_address(parts[1].partition("%")[0]).packed)
            except ValueError:
                continue
    return frozenset(found)
