"""Who is at the other end of a connection, and what they may ask; the kernel says it, nobody else.

Root, the enforcer's own user and `allowed_users` may ask anything. The members of the socket's group may look
(`list`, `status`, `watch`): with the packaged set-up that is adm, whose members read the logs anyway.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from correlator.enforcer import protocol

MOST_LOOKERS = 8
"""Of those who may only look at once: the correlator must always find a place."""
KEPT_FOR_ROOT = 4
"""Places that nobody else gets: whoever locked himself out must be able to release himself, whatever the
correlator does."""
_PEER = struct.Struct("=iii")
_LOOKS = (protocol.ListRequest, protocol.StatusRequest, protocol.WatchRequest)


@dataclass(frozen=True, slots=True)
class Peer:
    """A user, and whether they may change anything."""

    name: str
    may_look: bool
    may_change: bool
    is_root: bool = False

    def may_ask(self, request: protocol.Request) -> bool:
        """True where this user may make this request."""
        return self.may_change or (self.may_look and isinstance(request, _LOOKS))


def find_peer(connected: socket.socket, *, allowed: AbstractSet[str], group: int) -> Peer:
    """Return who connected; `group` is the number of the group whose members may look.

    Source: unix(7), SO_PEERCRED: the user at the time of connect().
    """
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _process, user_id, main_group = _PEER.unpack(packed)
    if user_id == 0:
        return Peer("root", may_look=True, may_change=True, is_root=True)
    if user_id == os.geteuid():
        return Peer(str(user_id), may_look=True, may_change=True)
    try:
        name = pwd.getpwuid(user_id).pw_name
    except KeyError:
        return Peer(str(user_id), may_look=group == main_group, may_change=False)
    if name in allowed:
        return Peer(name, may_look=True, may_change=True)
    # the list of somebody's groups may be asked of another host: not for those who come most
    return Peer(name, may_look=group in {main_group, *os.getgrouplist(name, main_group)}, may_change=False)
