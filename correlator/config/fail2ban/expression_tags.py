"""Puts expressions in place of the tags that stand for addresses and captures: `<HOST>`, `<F-USER>...`.

Source: Fail2ban 1.0.2 of Debian, as run: users' filters mean only what they mean with these.
"""

from __future__ import annotations

import itertools
import re

_IPV4 = r"(?:\d{1,3}\.){3}\d{1,3}"
_IPV6 = r"(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):)"
_IP4 = rf"(?:::f{{4,6}}:)?(?P<ip4>{_IPV4})"
_IP6 = rf"(?P<ip6>{_IPV6})"
_DNS = r"(?P<dns>[\w\-.^_]*\w)"
_ADDR = rf"\[?(?:{_IP4}|{_IP6})\]?"
_CIDR = r"(?P<cidr>\d+)"
_TAGS = {
    "<IP4>": _IP4,
    "<F-IP4/>": _IP4,
    "<IP6>": _IP6,
    "<F-IP6/>": _IP6,
    "<DNS>": _DNS,
    "<F-DNS/>": _DNS,
    "<ADDR>": _ADDR,
    "<F-ADDR/>": _ADDR,
    "<CIDR>": _CIDR,
    "<F-CIDR/>": _CIDR,
    "<SUBNET>": rf"\[?(?:{_IP4}|{_IP6})(?:/{_CIDR})?\]?",
    "<F-SUBNET/>": rf"\[?(?:{_IP4}|{_IP6})(?:/{_CIDR})?\]?",
    "<F-ID/>": r"(?P<fid>\S+)",
    "<F-PORT/>": r"(?P<fport>\w+)",
}
_ANY_ADDRESS = rf"(?:{_ADDR}|{_DNS})"
_SKIP_LINES = "<SKIPLINES>"
_TAG = re.compile(r"<(?:/?F-[A-Z0-9_\-]+/?|[A-Z0-9]+)>")
_CAPTURE = re.compile(r"<F-([A-Z0-9_\-]+)>")
_CAPTURE_END = re.compile(r"</F-([A-Z0-9_\-]+)>")
_NAMES = {"ID": "fid", "PORT": "fport"}
# (?:(?i)x) and ((?i)x): a flag at the head of a group is the group's own
_FLAG_IN_GROUP = re.compile(r"(?<!\\)\((?:\?:)?\(\?([a-zA-Z]+)\)")


def expand_expression(expression: str, *, takes_names: bool = True) -> str:
    """Return the expression with its tags replaced; without `takes_names` `<HOST>` is an address alone."""
    numbers = itertools.count()
    opened: set[str] = set()

    def replace(found: re.Match[str]) -> str:
        tag = found[0]
        if tag == "<HOST>":
            return _ANY_ADDRESS if takes_names else _ADDR
        if tag == _SKIP_LINES:
            return rf"\n(?P<skiplines{next(numbers)}>(?:(?:.*\n)*?))"
        if tag in _TAGS:
            return _TAGS[tag]
        if capture := _CAPTURE.fullmatch(tag):
            opened.add(capture[1])
            return f"(?P<{_NAMES.get(capture[1], capture[1].lower())}>"
        if (end := _CAPTURE_END.fullmatch(tag)) and end[1] in opened:
            return ")"
        return tag

    return _FLAG_IN_GROUP.sub(r"(?\1:", _TAG.sub(replace, expression))
